//! Who belongs together, and with whom one computes.

use std::collections::BTreeSet;

use crate::identity::PeerKey;
use crate::url::NodeUrl;

/// What this node's owner has written down about organisations.
#[derive(Clone, Debug, Default)]
pub struct Organisations {
    own: Option<String>,
    peers: Vec<(NodeUrl, PeerKey, String)>,
}

/// Another party, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub struct Other<'a> {
    /// Where it is.
    pub url: &'a NodeUrl,
    /// Its key; not known yet if it is `None`.
    pub key: Option<PeerKey>,
}

fn plain(name: &str) -> String {
    name.trim().to_lowercase()
}

impl Organisations {
    /// This node's own, and those of peers.
    pub fn new(own: Option<&str>, peers: impl Iterator<Item = (NodeUrl, PeerKey, String)>) -> Organisations {
        Organisations {
            own: own.map(plain),
            peers: peers.map(|(url, key, name)| (url, key, plain(&name))).collect(),
        }
    }

    /// The organisation of a party: by its key if that is known, else by its URL.
    fn of(&self, other: &Other<'_>) -> Option<&str> {
        let same =
            |(url, key, _): &&(NodeUrl, PeerKey, String)| other.key.map_or(url == other.url, |known| known == *key);
        self.peers.iter().find(same).map(|(_, _, name)| name.as_str())
    }

    /// How many organisations take part, this node's included.
    ///
    /// Those of which nothing is written down count as one together, whatever their number: another host name, or another key, costs nothing.
    pub fn count(&self, others: &[Other<'_>]) -> usize {
        let names: BTreeSet<Option<&str>> = others.iter().map(|other| self.of(other)).collect();
        let of_own = self.own.as_deref().is_some_and(|own| names.contains(&Some(own)));
        names.len() + usize::from(!of_own)
    }

    /// Whether a party is among `allowed` URLs, keys and organisations. `None` if that depends on its key, which is not known yet.
    pub fn allows(&self, allowed: &BTreeSet<String>, other: &Other<'_>) -> Option<bool> {
        let url = other.url.to_string();
        let fits = |entry: &String| {
            let base = entry.trim_end_matches('/');
            let below = url.strip_prefix(base);
            let by_url = below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            let by_key = other.key.is_some_and(|key| entry.parse() == Ok(key));
            by_url || by_key || self.of(other).is_some_and(|name| name == plain(entry))
        };
        if allowed.iter().any(fits) {
            return Some(true);
        }
        let keys = || allowed.iter().any(|entry| entry.parse::<PeerKey>().is_ok());
        if other.key.is_none() && keys() {
            None
        } else {
            Some(false)
        }
    }
}
