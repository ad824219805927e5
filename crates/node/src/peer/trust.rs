//! Which URLs are contacted and which key is expected where.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{PeerConfig, error::PeerError, traffic::Standing};
use crate::{
    identity::{PeerKey, Shown},
    rotation::Succession,
    url::NodeUrl,
};

/// How a peer's key becomes known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trust {
    /// On first use: the key that a URL shows first is remembered, and a change is an error. Pinned keys come first.
    #[default]
    Tofu,
    /// Only the configured keys.
    Pinned,
}

/// URLs whose keys are remembered from their first use, at most; and successions.
const MAX_KNOWN: usize = 10_000;

/// Where this node has the key of a URL from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The configuration.
    Configured,
    /// Its operator's command.
    Pinned,
    /// The URL itself, when it was used first.
    FirstUse,
}

/// A URL and the key that belongs to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Known {
    /// The URL.
    pub url: NodeUrl,
    /// The key. For what is told by [`super::Peers::known`] the one that counts now, else the one that was learnt.
    pub key: PeerKey,
    /// Where it is from.
    pub source: Source,
    /// When it was learnt, in seconds since 1970, if that is known.
    pub since: Option<u64>,
}

/// What a node has learnt in earlier lives.
#[derive(Clone, Default, Debug)]
pub struct Memory {
    /// Keys that were pinned by command or remembered at first use.
    pub known: Vec<Known>,
    /// Keys and those that came after them.
    pub successions: Vec<(PeerKey, PeerKey)>,
}

/// What a URL's identity was worth.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Met {
    /// As expected.
    Known,
    /// First use.
    New,
    /// The node has a new key, and the old one says so. What was not known before.
    Succeeded(Vec<Succession>),
}

/// Rules for URLs, and the keys that belong to them.
#[derive(Debug)]
pub(super) struct Book {
    trust: Trust,
    allow_plain_http: bool,
    /// Empty: any URL. A prefix that is not a URL allows nothing.
    allow_urls: Option<Vec<NodeUrl>>,
    /// Where the node itself is reached: whoever names another path there reaches nothing that he does not reach anyway.
    own_servers: Vec<NodeUrl>,
    configured: HashMap<NodeUrl, PeerKey>,
    /// Pinned by command, or remembered.
    known: HashMap<NodeUrl, (PeerKey, Source, Option<u64>)>,
    /// Keys that are not used any more, each with the one after it. No loops.
    successors: HashMap<PeerKey, PeerKey>,
}

impl Book {
    pub(super) fn new(config: &PeerConfig, memory: Memory) -> Self {
        let prefixes = config.allow_urls.iter().filter_map(|text| {
            NodeUrl::parse(text)
                .inspect_err(|error| tracing::warn!(%error, "an entry of the allowed peer URLs is ignored"))
                .ok()
        });
        let mut book = Self {
            trust: config.trust,
            allow_plain_http: config.allow_plain_http,
            allow_urls: (!config.allow_urls.is_empty()).then(|| prefixes.collect()),
            own_servers: config.own_servers.clone(),
            configured: config.pinned.iter().cloned().collect(),
            known: HashMap::new(),
            successors: HashMap::new(),
        };
        for Known {
            url,
            key,
            source,
            since,
        } in memory.known
        {
            book.known.insert(url, (key, source, since));
        }
        for (old, new) in memory.successions {
            book.succeed(old, new);
        }
        for (url, key) in &book.configured {
            let current = book.current(*key);
            if current != *key {
                tracing::warn!(%url, key = %current, "the configured key of a peer has been succeeded: write the new one under [[peers]]");
            }
        }
        book
    }

    /// Whether this node may open a connection to `url` at all, as far as its text tells.
    pub(super) fn check_url(&self, url: &NodeUrl) -> Result<(), PeerError> {
        if !url.is_tls() && !self.allow_plain_http && !url.is_loopback() {
            return Err(PeerError::Url(format!(
                "{url} is not encrypted; plain http to other machines must be allowed in the configuration"
            )));
        }
        match &self.allow_urls {
            Some(prefixes) if !prefixes.iter().any(|prefix| url.is_under(prefix)) => Err(PeerError::Url(format!(
                "{url} is not among the allowed peer URLs of this node"
            ))),
            _ => Ok(()),
        }
    }

    /// Whether the operator has named `url`: then it may lead into a private network.
    pub(super) fn is_named(&self, url: &NodeUrl) -> bool {
        let pinned = self
            .known
            .get(url)
            .is_some_and(|(_, source, _)| *source == Source::Pinned);
        let under = |prefix: &NodeUrl| url.is_under(prefix);
        self.configured.contains_key(url)
            || pinned
            || self
                .allow_urls
                .as_ref()
                .is_some_and(|prefixes| prefixes.iter().any(under))
            || self.own_servers.iter().any(under)
    }

    /// The key that is expected at `url`, or `None` if it may be asked for.
    pub(super) fn expected(&self, url: &NodeUrl) -> Result<Option<PeerKey>, PeerError> {
        match (self.configured.get(url), self.known.get(url), self.trust) {
            (Some(key), _, _) | (None, Some((key, Source::Pinned, _)), _) => Ok(Some(self.current(*key))),
            (None, _, Trust::Pinned) => Err(PeerError::NotPinned),
            (None, known, Trust::Tofu) => Ok(known.map(|(key, _, _)| self.current(*key))),
        }
    }

    /// Whether a connection to the node `key` may be opened under `url`.
    pub(super) fn check_peer(&self, url: &NodeUrl, key: PeerKey) -> Result<(), PeerError> {
        self.check_url(url)?;
        match self.expected(url)? {
            Some(expected) if expected != key => Err(PeerError::KeyChanged { expected, found: key }),
            _ => Ok(()),
        }
    }

    /// Whether the node `key` may connect to this one. Its URL is not known then.
    pub(super) fn welcomes(&self, key: &PeerKey) -> bool {
        let pinned = self.known.values().filter(|(_, source, _)| *source == Source::Pinned);
        let mut listed = self.configured.values().chain(pinned.map(|(key, _, _)| key));
        let listed = self.trust != Trust::Pinned || listed.any(|listed| self.current(*listed) == *key);
        // Whoever comes with a key that has been succeeded has found or stolen it.
        listed && !self.successors.contains_key(key)
    }

    /// How well the node `key` is known.
    pub(super) fn standing(&self, key: &PeerKey) -> Standing {
        let pinned = self.known.values().filter(|(_, source, _)| *source == Source::Pinned);
        let mut named = self.configured.values().chain(pinned.map(|(key, _, _)| key));
        if named.any(|named| self.current(*named) == *key) {
            Standing::Named
        } else if self.known.values().any(|(known, _, _)| self.current(*known) == *key) {
            Standing::Found
        } else {
            Standing::Stranger
        }
    }

    /// Takes note of the identity that `url` showed.
    pub(super) fn meet(&mut self, url: &NodeUrl, shown: &Shown, now: u64) -> Result<Met, PeerError> {
        let expected = self.expected(url)?;
        if expected == Some(shown.key) {
            return Ok(Met::Known);
        }
        let changed = |expected| {
            Err(PeerError::KeyChanged {
                expected,
                found: shown.key,
            })
        };
        for link in &shown.chain {
            if let Some(known) = self.successors.get(&link.old).filter(|known| **known != link.new) {
                return Err(PeerError::KeyForked {
                    old: link.old,
                    known: *known,
                    found: link.new,
                });
            }
        }
        if self.successors.contains_key(&shown.key) {
            return changed(expected.unwrap_or_else(|| self.current(shown.key)));
        }
        let Some(expected) = expected else {
            return self.remember(url, shown.key, now);
        };
        let Some(from) = shown.chain.iter().position(|link| link.old == expected) else {
            return changed(expected);
        };
        let links = &shown.chain[from..];
        // Whoever was met at first use could change its key for ever; those that the operator has named are few.
        let named = self.is_named(url);
        if !named && self.successors.len() + links.len() > MAX_KNOWN {
            return Err(PeerError::Url(format!(
                "this node remembers {MAX_KNOWN} successions of keys and takes no more; its operator can pin the key of {url}"
            )));
        }
        for link in links {
            self.succeed(link.old, link.new);
        }
        Ok(Met::Succeeded(links.to_vec()))
    }

    /// Remembers a key that the operator has compared. The answer is the key that counts: a successor of it may be known.
    pub(super) fn pin(&mut self, url: &NodeUrl, key: PeerKey, now: u64) -> Result<PeerKey, PinError> {
        if self.configured.contains_key(url) {
            return Err(PinError::Configured);
        }
        let full = !self.known.contains_key(url) && self.known.len() >= MAX_KNOWN;
        if full {
            return Err(PinError::Full);
        }
        let current = self.current(key);
        self.known.insert(url.clone(), (current, Source::Pinned, Some(now)));
        Ok(current)
    }

    /// Forgets what was pinned by command or remembered. That a key was succeeded is not forgotten.
    pub(super) fn forget(&mut self, url: &NodeUrl) -> Result<Known, PinError> {
        if self.configured.contains_key(url) {
            return Err(PinError::Configured);
        }
        let (key, source, since) = self.known.remove(url).ok_or(PinError::Unknown)?;
        Ok(Known {
            url: url.clone(),
            key: self.current(key),
            source,
            since,
        })
    }

    /// All URLs with the keys that count now; the configured ones first, each by its name.
    pub(super) fn all(&self) -> Vec<Known> {
        let configured = self
            .configured
            .iter()
            .map(|(url, key)| (url, *key, Source::Configured, None));
        let known = self.known.iter().filter(|(url, _)| !self.configured.contains_key(url));
        let known = known.map(|(url, (key, source, since))| (url, *key, *source, *since));
        let all = configured.chain(known).map(|(url, key, source, since)| Known {
            url: url.clone(),
            key: self.current(key),
            source,
            since,
        });
        let mut all: Vec<Known> = all.collect();
        all.sort_by(|a, b| (a.source != Source::Configured, &a.url).cmp(&(b.source != Source::Configured, &b.url)));
        all
    }

    /// The last successor of `key`, or itself.
    fn current(&self, key: PeerKey) -> PeerKey {
        let mut current = key;
        while let Some(next) = self.successors.get(&current) {
            current = *next;
        }
        current
    }

    /// The first successor of a key stays, and there are no loops.
    fn succeed(&mut self, old: PeerKey, new: PeerKey) {
        if self.current(new) != old {
            self.successors.entry(old).or_insert(new);
        }
    }

    fn remember(&mut self, url: &NodeUrl, key: PeerKey, now: u64) -> Result<Met, PeerError> {
        // Clients name the URLs, and one server can show its key under any number of them.
        if self.known.len() >= MAX_KNOWN {
            return Err(PeerError::Url(format!(
                "this node remembers the keys of {MAX_KNOWN} URLs and takes no more at first use; its operator can pin the key of {url}"
            )));
        }
        self.known.insert(url.clone(), (key, Source::FirstUse, Some(now)));
        Ok(Met::New)
    }
}

/// Why what is known of a URL cannot be changed by command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinError {
    /// It is in the configuration.
    Configured,
    /// Nothing is known of it.
    Unknown,
    /// There is no room.
    Full,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::identity::Identity;

    fn url(text: &str) -> NodeUrl {
        NodeUrl::parse(text).unwrap()
    }

    const A: PeerKey = PeerKey::from_bytes([1; 32]);
    const B: PeerKey = PeerKey::from_bytes([2; 32]);

    fn book_of(config: PeerConfig, known: Vec<(NodeUrl, PeerKey)>) -> Book {
        let known = known.into_iter().map(|(url, key)| Known {
            url,
            key,
            source: Source::FirstUse,
            since: None,
        });
        let memory = Memory {
            known: known.collect(),
            ..Memory::default()
        };
        Book::new(&config, memory)
    }

    fn shown(key: PeerKey) -> Shown {
        Shown { key, chain: vec![] }
    }

    /// What a node shows whose keys were those with these seeds, one after the other.
    fn rotated(seeds: &[u8]) -> Shown {
        let identity = |seed: u8| Identity::from_seed(&[seed; 32]);
        let pairs = seeds.windows(2).zip(1..);
        Shown {
            key: identity(*seeds.last().unwrap()).key(),
            chain: pairs
                .map(|(pair, serial)| Succession::make(&identity(pair[0]), &identity(pair[1]), serial, serial))
                .collect(),
        }
    }

    fn key(seed: u8) -> PeerKey {
        Identity::from_seed(&[seed; 32]).key()
    }

    fn refused(book: &Book, text: &str) -> bool {
        matches!(book.check_url(&url(text)), Err(PeerError::Url(_)))
    }

    #[test]
    fn plain_http_stays_on_this_machine() {
        let book = book_of(PeerConfig::default(), vec![]);
        assert!(!refused(&book, "http://127.0.0.1:8000") && !refused(&book, "https://a.example"));
        assert!(refused(&book, "http://a.example") && refused(&book, "http://10.0.0.1"));
        let open = book_of(
            PeerConfig {
                allow_plain_http: true,
                ..PeerConfig::default()
            },
            vec![],
        );
        assert!(!refused(&open, "http://a.example"));
    }

    #[test]
    fn only_allowed_prefixes() {
        let allowing = |allow_urls: &[&str]| {
            let config = PeerConfig {
                allow_plain_http: true,
                allow_urls: allow_urls.iter().map(|text| (*text).to_owned()).collect(),
                ..PeerConfig::default()
            };
            book_of(config, vec![])
        };
        let book = allowing(&["https://a.example/x", "nonsense"]);
        assert!(!refused(&book, "https://a.example/x/1"));
        assert!(refused(&book, "https://a.example") && refused(&book, "https://b.example/x"));
        let nothing = allowing(&["nonsense"]);
        assert!(
            refused(&nothing, "https://a.example"),
            "a misspelt list must not allow everything"
        );
    }

    #[test]
    fn pinned_comes_before_remembered() {
        let home = url("https://a.example");
        let book = book_of(
            PeerConfig {
                pinned: vec![(home.clone(), A)],
                ..PeerConfig::default()
            },
            vec![(home.clone(), B)],
        );
        assert_eq!(book.expected(&home), Ok(Some(A)));
        assert_eq!(
            book.check_peer(&home, B),
            Err(PeerError::KeyChanged { expected: A, found: B })
        );
    }

    #[test]
    fn pinned_only_refuses_the_rest() {
        let other = url("https://b.example");
        let book = book_of(
            PeerConfig {
                trust: Trust::Pinned,
                pinned: vec![(url("https://a.example"), A)],
                ..PeerConfig::default()
            },
            vec![(other.clone(), B)],
        );
        assert_eq!(book.expected(&other), Err(PeerError::NotPinned));
        assert_eq!(book.check_peer(&other, B), Err(PeerError::NotPinned));
        assert_eq!(book.check_peer(&url("https://a.example"), A), Ok(()));
        assert!(
            book.welcomes(&A) && !book.welcomes(&B),
            "a remembered key is no pinned one"
        );
    }

    #[test]
    fn first_uses_are_bounded() {
        let mut book = book_of(PeerConfig::default(), vec![]);
        let numbered = |i: usize| url(&format!("https://a.example/{i}"));
        for i in 0..MAX_KNOWN {
            assert_eq!(book.meet(&numbered(i), &shown(A), 0), Ok(Met::New));
        }
        assert!(matches!(
            book.meet(&numbered(MAX_KNOWN), &shown(A), 0),
            Err(PeerError::Url(_))
        ));
        assert_eq!(
            book.meet(&numbered(0), &shown(A), 0),
            Ok(Met::Known),
            "those that are known stay so"
        );
        assert!(book.welcomes(&B));
    }

    #[test]
    fn first_use_counts() {
        let home = url("https://a.example");
        let mut book = book_of(PeerConfig::default(), vec![]);
        assert_eq!(book.meet(&home, &shown(A), 0), Ok(Met::New));
        assert_eq!(book.meet(&home, &shown(A), 0), Ok(Met::Known));
        assert_eq!(
            book.meet(&home, &shown(B), 0),
            Err(PeerError::KeyChanged { expected: A, found: B })
        );
        assert_eq!(book.expected(&home), Ok(Some(A)));
    }

    #[test]
    fn what_the_operator_names_is_named() {
        let config = PeerConfig {
            pinned: vec![(url("https://a.example/1"), A)],
            allow_urls: vec!["https://b.example/x".to_owned()],
            own_servers: vec![url("https://own.example")],
            ..PeerConfig::default()
        };
        let mut book = book_of(config, vec![(url("https://c.example"), B)]);
        for text in [
            "https://a.example/1",
            "https://b.example/x/y",
            "https://own.example/public2",
        ] {
            assert!(book.is_named(&url(text)), "{text}");
        }
        for text in [
            "https://a.example",
            "https://a.example/1/2",
            "https://b.example",
            "https://c.example",
            "https://own.example:8443",
            "https://own.example.evil.org",
        ] {
            assert!(!book.is_named(&url(text)), "{text}");
        }
        book.pin(&url("https://c.example"), B, 0).unwrap();
        assert!(book.is_named(&url("https://c.example")));
    }

    #[test]
    fn pins_by_command_count_until_they_are_forgotten() {
        let (configured, home) = (url("https://a.example"), url("https://b.example"));
        let config = PeerConfig {
            trust: Trust::Pinned,
            pinned: vec![(configured.clone(), A)],
            ..PeerConfig::default()
        };
        let mut book = book_of(config, vec![]);
        assert_eq!(book.meet(&home, &shown(B), 0), Err(PeerError::NotPinned));
        assert_eq!(book.pin(&configured, B, 7), Err(PinError::Configured));
        assert_eq!(book.forget(&configured), Err(PinError::Configured));
        assert_eq!(book.pin(&home, B, 7), Ok(B));
        assert!(book.welcomes(&B));
        assert_eq!(book.expected(&home), Ok(Some(B)));
        let told = |known: &Known| (known.url.to_string(), known.key, known.source, known.since);
        assert_eq!(
            book.all().iter().map(told).collect::<Vec<_>>(),
            [
                (configured.to_string(), A, Source::Configured, None),
                (home.to_string(), B, Source::Pinned, Some(7))
            ]
        );
        assert_eq!(book.forget(&home).map(|known| known.key), Ok(B));
        assert_eq!(book.forget(&home), Err(PinError::Unknown));
        assert!(!book.welcomes(&B));
    }

    #[test]
    fn a_new_key_is_taken_on_the_word_of_the_old_one() {
        for known in [1, 2] {
            let home = url("https://a.example");
            let mut book = book_of(PeerConfig::default(), vec![(home.clone(), key(known))]);
            let now = rotated(&[1, 2, 3]);
            let taken = book.meet(&home, &now, 0);
            assert!(
                matches!(&taken, Ok(Met::Succeeded(links)) if links.len() == usize::from(3 - known)),
                "{taken:?}"
            );
            assert_eq!(book.expected(&home), Ok(Some(key(3))));
            assert_eq!(book.meet(&home, &now, 0), Ok(Met::Known));
            assert!(book.welcomes(&key(3)) && !book.welcomes(&key(known)) && !book.welcomes(&key(2)));
        }
    }

    #[test]
    fn configured_and_pinned_keys_are_succeeded_as_well() {
        let (a, b) = (url("https://a.example"), url("https://b.example"));
        let config = PeerConfig {
            trust: Trust::Pinned,
            pinned: vec![(a.clone(), key(1))],
            ..PeerConfig::default()
        };
        let mut book = Book::new(&config, Memory::default());
        book.pin(&b, key(5), 0).unwrap();
        assert!(matches!(book.meet(&a, &rotated(&[1, 2]), 0), Ok(Met::Succeeded(_))));
        assert!(matches!(book.meet(&b, &rotated(&[5, 6]), 0), Ok(Met::Succeeded(_))));
        assert!(book.welcomes(&key(2)) && book.welcomes(&key(6)) && !book.welcomes(&key(1)) && !book.welcomes(&key(5)));
        // After a restart the file still says the old key.
        let memory = Memory {
            known: vec![],
            successions: vec![(key(1), key(2))],
        };
        let again = Book::new(&config, memory);
        assert_eq!(again.expected(&a), Ok(Some(key(2))));
        assert!(again.welcomes(&key(2)) && !again.welcomes(&key(1)));
    }

    #[test]
    fn an_old_key_is_worth_nothing_afterwards() {
        let (home, other) = (url("https://a.example"), url("https://b.example"));
        let mut book = book_of(PeerConfig::default(), vec![(home.clone(), key(1))]);
        book.meet(&home, &rotated(&[1, 2]), 0).unwrap();
        let changed = |expected, found| {
            Err(PeerError::KeyChanged {
                expected: key(expected),
                found: key(found),
            })
        };
        // Played back, with and without what it once had, here and elsewhere.
        for place in [&home, &other] {
            assert_eq!(book.meet(place, &shown(key(1)), 0), changed(2, 1));
            assert_eq!(book.meet(place, &rotated(&[9, 1]), 0), changed(2, 1));
        }
        // A second successor, made with the stolen key.
        let forked = Err(PeerError::KeyForked {
            old: key(1),
            known: key(2),
            found: key(3),
        });
        for place in [&home, &other] {
            assert_eq!(book.meet(place, &rotated(&[1, 3]), 0), forked);
            assert_eq!(book.meet(place, &rotated(&[1, 3, 4]), 0), forked);
        }
        assert_eq!(book.expected(&home), Ok(Some(key(2))));
        assert_eq!(book.expected(&other), Ok(None));
        assert_eq!(
            book.pin(&other, key(1), 0),
            Ok(key(2)),
            "a pin leads to the key that counts"
        );
        // Forgetting the URL does not bring it back.
        book.forget(&home).unwrap();
        assert_eq!(book.meet(&home, &shown(key(1)), 0), changed(2, 1));
        assert_eq!(
            book.meet(&home, &shown(key(3)), 0),
            Ok(Met::New),
            "a key of its own is first use"
        );
    }

    #[test]
    fn a_chain_that_leads_elsewhere_changes_nothing() {
        let home = url("https://a.example");
        let mut book = book_of(PeerConfig::default(), vec![(home.clone(), key(1))]);
        for shown in [shown(key(2)), rotated(&[3, 2]), rotated(&[3, 4, 2])] {
            let changed = PeerError::KeyChanged {
                expected: key(1),
                found: key(2),
            };
            assert_eq!(book.meet(&home, &shown, 0), Err(changed));
        }
        assert!(book.welcomes(&key(1)) && book.welcomes(&key(3)));
        // Loops in what was stored are not followed for ever.
        let memory = Memory {
            known: vec![],
            successions: vec![(A, B), (B, A), (A, A)],
        };
        assert_eq!(Book::new(&PeerConfig::default(), memory).current(A), B);
    }
}
