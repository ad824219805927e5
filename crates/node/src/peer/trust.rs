//! Which URLs are contacted and which key is expected where.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::error::PeerError;
use crate::{identity::PeerKey, url::NodeUrl};

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

/// URLs whose keys are remembered from their first use, at most.
const MAX_KNOWN: usize = 10_000;

/// Rules for URLs, and the keys that belong to them.
#[derive(Debug)]
pub(super) struct Book {
    trust: Trust,
    allow_plain_http: bool,
    /// Empty: any URL. A prefix that is not a URL allows nothing.
    allow_urls: Option<Vec<NodeUrl>>,
    pinned: HashMap<NodeUrl, PeerKey>,
    known: HashMap<NodeUrl, PeerKey>,
}

impl Book {
    pub(super) fn new(
        trust: Trust,
        allow_plain_http: bool,
        allow_urls: &[String],
        pinned: &[(NodeUrl, PeerKey)],
        known: Vec<(NodeUrl, PeerKey)>,
    ) -> Self {
        let prefixes = allow_urls.iter().filter_map(|text| {
            NodeUrl::parse(text)
                .inspect_err(|error| tracing::warn!(%error, "an entry of the allowed peer URLs is ignored"))
                .ok()
        });
        Self {
            trust,
            allow_plain_http,
            allow_urls: (!allow_urls.is_empty()).then(|| prefixes.collect()),
            pinned: pinned.iter().cloned().collect(),
            known: known.into_iter().collect(),
        }
    }

    /// Whether this node may open a connection to `url` at all.
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

    /// The key that is expected at `url`, or `None` if it may be asked for.
    pub(super) fn expected(&self, url: &NodeUrl) -> Result<Option<PeerKey>, PeerError> {
        match (self.pinned.get(url), self.trust) {
            (Some(key), _) => Ok(Some(*key)),
            (None, Trust::Pinned) => Err(PeerError::NotPinned),
            (None, Trust::Tofu) => Ok(self.known.get(url).copied()),
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
        self.trust != Trust::Pinned || self.pinned.values().any(|pinned| pinned == key)
    }

    /// Remembers the key that `url` showed. True if that is news.
    pub(super) fn remember(&mut self, url: &NodeUrl, key: PeerKey) -> Result<bool, PeerError> {
        match self.expected(url)? {
            Some(expected) if expected != key => Err(PeerError::KeyChanged { expected, found: key }),
            Some(_) => Ok(false),
            // Clients name the URLs, and one server can show its key under any number of them.
            None if self.known.len() >= MAX_KNOWN => Err(PeerError::Url(format!(
                "this node remembers the keys of {MAX_KNOWN} URLs and takes no more at first use; its operator can pin the key of {url}"
            ))),
            None => {
                self.known.insert(url.clone(), key);
                Ok(true)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn url(text: &str) -> NodeUrl {
        NodeUrl::parse(text).unwrap()
    }

    const A: PeerKey = PeerKey::from_bytes([1; 32]);
    const B: PeerKey = PeerKey::from_bytes([2; 32]);

    fn refused(book: &Book, text: &str) -> bool {
        matches!(book.check_url(&url(text)), Err(PeerError::Url(_)))
    }

    #[test]
    fn plain_http_stays_on_this_machine() {
        let book = Book::new(Trust::Tofu, false, &[], &[], vec![]);
        assert!(!refused(&book, "http://127.0.0.1:8000") && !refused(&book, "https://a.example"));
        assert!(refused(&book, "http://a.example") && refused(&book, "http://10.0.0.1"));
        let open = Book::new(Trust::Tofu, true, &[], &[], vec![]);
        assert!(!refused(&open, "http://a.example"));
    }

    #[test]
    fn only_allowed_prefixes() {
        let allowed = ["https://a.example/x".to_owned(), "nonsense".to_owned()];
        let book = Book::new(Trust::Tofu, true, &allowed, &[], vec![]);
        assert!(!refused(&book, "https://a.example/x/1"));
        assert!(refused(&book, "https://a.example") && refused(&book, "https://b.example/x"));
        let nothing = Book::new(Trust::Tofu, true, &["nonsense".to_owned()], &[], vec![]);
        assert!(
            refused(&nothing, "https://a.example"),
            "a misspelt list must not allow everything"
        );
    }

    #[test]
    fn pinned_comes_before_remembered() {
        let home = url("https://a.example");
        let book = Book::new(Trust::Tofu, false, &[], &[(home.clone(), A)], vec![(home.clone(), B)]);
        assert_eq!(book.expected(&home), Ok(Some(A)));
        assert_eq!(
            book.check_peer(&home, B),
            Err(PeerError::KeyChanged { expected: A, found: B })
        );
    }

    #[test]
    fn pinned_only_refuses_the_rest() {
        let other = url("https://b.example");
        let book = Book::new(
            Trust::Pinned,
            false,
            &[],
            &[(url("https://a.example"), A)],
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
        let mut book = Book::new(Trust::Tofu, false, &[], &[], vec![]);
        let numbered = |i: usize| url(&format!("https://a.example/{i}"));
        for i in 0..MAX_KNOWN {
            assert_eq!(book.remember(&numbered(i), A), Ok(true));
        }
        assert!(matches!(book.remember(&numbered(MAX_KNOWN), A), Err(PeerError::Url(_))));
        assert_eq!(
            book.remember(&numbered(0), A),
            Ok(false),
            "those that are known stay so"
        );
        assert!(book.welcomes(&B));
    }

    #[test]
    fn first_use_counts() {
        let home = url("https://a.example");
        let mut book = Book::new(Trust::Tofu, false, &[], &[], vec![]);
        assert_eq!(book.remember(&home, A), Ok(true));
        assert_eq!(book.remember(&home, A), Ok(false));
        assert_eq!(
            book.remember(&home, B),
            Err(PeerError::KeyChanged { expected: A, found: B })
        );
        assert_eq!(book.expected(&home), Ok(Some(A)));
    }
}
