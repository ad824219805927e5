//! What a node keeps about its peers from one life to the next, and what its operator does about them.

use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::audit::Audit;
use crate::fingerprint::Expected;
use crate::identity::PeerKey;
use crate::node::Node;
use crate::peer::{Known, Memory, News, PeerError, PinError, Source};
use crate::principal::{Principal, Role};
use crate::problem::{Problem, quoted};
use crate::rotation::{Succession, now};
use crate::services::Principal as Caller;
use crate::store::{Record, Store, StoreError, Write};
use crate::url::NodeUrl;

/// Kind of the records of keys that were pinned by command or remembered at first use; their names are the URLs.
const TRUST: &str = "trust";
/// Kind of the records of keys that are not used any more; their names are the keys.
const SUCCESSION: &str = "succession";
const FOR_EVER: u64 = u64::MAX >> 1;

/// A record of [`TRUST`]. Older ones hold the key alone, as text.
#[derive(Serialize, Deserialize)]
struct TrustRecord {
    key: PeerKey,
    source: Source,
    since: Option<u64>,
}

/// A record of [`SUCCESSION`].
#[derive(Serialize, Deserialize)]
struct SuccessionRecord {
    new: PeerKey,
    /// With both signatures, for whoever asks later why.
    succession: String,
}

/// Why what is known of the peers cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// The storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something of it cannot be read.
    #[error(
        "what this node knows of its peers' keys cannot be read ({0}), so another key could be trusted in the place of a pinned or succeeded one: restore the data directory from a backup"
    )]
    Unreadable(String),
}

/// What is known from earlier lives. Blocks: for the start of the node only.
///
/// # Errors
/// A store that cannot be read, or records that cannot. Of a record that is sealed for good nobody can tell whether it was a pinned key, and without a
/// succession the old key would be welcome again: a node that has forgotten whom it trusts must not trust anew.
pub(crate) fn load(store: &Store) -> Result<Memory, LoadError> {
    let mut memory = Memory::default();
    for record in records(store, TRUST)? {
        let unreadable = || LoadError::Unreadable(format!("the record of {}", quoted(&record.id)));
        let url = NodeUrl::parse(&record.id).map_err(|_| unreadable())?;
        let TrustRecord { key, source, since } = read_trust(&record.bytes).ok_or_else(unreadable)?;
        memory.known.push(Known {
            url,
            key,
            source,
            since,
        });
    }
    for record in records(store, SUCCESSION)? {
        let unreadable = || LoadError::Unreadable(format!("the succession of {}", quoted(&record.id)));
        let old = record.id.parse().map_err(|_| unreadable())?;
        let read: SuccessionRecord = serde_json::from_slice(&record.bytes).map_err(|_| unreadable())?;
        memory.successions.push((old, read.new));
    }
    Ok(memory)
}

fn records(store: &Store, kind: &'static str) -> Result<Vec<Record>, LoadError> {
    let loaded = store.load(kind)?;
    match loaded.unreadable {
        0 => Ok(loaded.records),
        count => {
            let what = format!("records of {kind} that cannot be decrypted: {count}");
            Err(LoadError::Unreadable(what))
        }
    }
}

fn read_trust(bytes: &[u8]) -> Option<TrustRecord> {
    serde_json::from_slice(bytes).ok().or_else(|| {
        let key = std::str::from_utf8(bytes).ok()?.parse().ok()?;
        Some(TrustRecord {
            key,
            source: Source::FirstUse,
            since: None,
        })
    })
}

/// Keeps what is learnt.
pub(crate) fn keep(store: Store, audit: Audit) -> impl Fn(News<'_>) + Send + Sync {
    move |news| {
        // What a peer showed, nobody has asked for: the peer itself is named.
        let by = |key: &PeerKey| Principal::new(&format!("peer:{}", key.fingerprint()), Role::Viewer);
        match news {
            News::FirstUse { url, key, since } => {
                let entry = audit.entry(&by(&key), "peer.first-use", None, &json!({"url": url, "key": key}));
                let known = Known {
                    url: url.clone(),
                    key,
                    source: Source::FirstUse,
                    since: Some(since),
                };
                written(store.commit(put_trust(&known).noting([entry])));
            }
            News::Succeeded { url, links } => {
                for link in links {
                    let detail =
                        json!({"url": url, "old": link.old, "new": link.new, "serial": link.serial, "time": link.time});
                    let entry = audit.entry(&by(&link.new), "peer.succeeded", None, &detail);
                    written(store.commit(put_succession(link).noting([entry])));
                }
            }
        }
    }
}

fn written(queued: impl Future<Output = Result<(), StoreError>> + Send + 'static) {
    tokio::spawn(async move {
        if let Err(error) = queued.await {
            tracing::error!(%error, "what is known of a peer could not be stored");
        }
    });
}

/// Beyond the quota: clients that fill the storage must not make the node forget whom it trusts. How much is learnt is bounded elsewhere.
fn put_trust(known: &Known) -> Write {
    let record = TrustRecord {
        key: known.key,
        source: known.source,
        since: known.since,
    };
    let bytes = serde_json::to_vec(&record).unwrap_or_default();
    Write::put(TRUST, known.url.to_string(), bytes, FOR_EVER).beyond_the_quota()
}

/// The same.
fn put_succession(link: &Succession) -> Write {
    let record = SuccessionRecord {
        new: link.new,
        succession: link.encode(),
    };
    let bytes = serde_json::to_vec(&record).unwrap_or_default();
    Write::put(SUCCESSION, link.old.to_string(), bytes, FOR_EVER).beyond_the_quota()
}

impl Node {
    /// `GET {base}/peers`.
    pub(crate) fn peers_shown(&self) -> Value {
        let peers = self.peers();
        let mut strangers = peers.connected();
        let mut shown: Vec<Value> = Vec::new();
        for known in peers.known() {
            strangers.retain(|key| *key != known.key);
            shown.push(self.known_shown(&known));
        }
        for key in strangers {
            let mut stranger = self.key_shown(&key);
            stranger["url"] = Value::Null;
            stranger["known"] = "connected".into();
            stranger["since"] = Value::Null;
            stranger["organisation"] = Value::Null;
            shown.push(stranger);
        }
        json!({"trust": self.config.trust, "peers": shown})
    }

    /// What the node at `url` shows, for the operator to compare. Nothing is remembered.
    pub(crate) async fn peer_asked(&self, url: &NodeUrl) -> Result<Value, Problem> {
        let key = self
            .peers()
            .look_up_named(url)
            .await
            .map_err(|error| refused(&error, url))?;
        let mut shown = self.key_shown(&key);
        shown["url"] = json!(url);
        shown["pinned"] = false.into();
        Ok(shown)
    }

    /// Pins the key of a URL. Of a fingerprint the node itself is asked which key has it.
    pub(crate) async fn peer_pinned(&self, who: &Caller, url: &NodeUrl, expected: &Expected) -> Result<Value, Problem> {
        let key = match expected {
            Expected::Key(key) => *key,
            Expected::Short(_) => {
                return Err(Problem::input(
                    "PEER_KEY_UNUSABLE",
                    "the short fingerprint is too short to pin a key by",
                    "give the key itself, or the fingerprint in digits: fdrtd identity shows both at that node",
                ));
            }
            Expected::Spoken(_) => {
                let found = self
                    .peers()
                    .look_up_named(url)
                    .await
                    .map_err(|error| refused(&error, url))?;
                if !expected.is(&found) {
                    return Err(Problem::peer(
                        "PEER_KEY_CHANGED",
                        format!(
                            "the node at {url} has the fingerprint {}, not the given one",
                            found.spoken()
                        ),
                        "check the digits; if they are right, somebody else answers there",
                    ));
                }
                found
            }
        };
        if key == self.peers().own_key() {
            return Err(refused(&PeerError::Myself, url));
        }
        let known = self.peers().pin(url, key).map_err(|error| cannot(error, url))?;
        let context = self.simon.tasks().context();
        let detail = json!({"url": url, "key": known.key});
        let entry = context.audit.entry(who, "peer.pin", None, &detail);
        context.store.commit(put_trust(&known).noting([entry])).await?;
        let mut shown = self.known_shown(&known);
        shown["pinned"] = true.into();
        Ok(shown)
    }

    /// Forgets the key of a URL.
    pub(crate) async fn peer_forgotten(&self, who: &Caller, url: &NodeUrl) -> Result<Value, Problem> {
        let known = self.peers().forget_url(url).map_err(|error| cannot(error, url))?;
        let context = self.simon.tasks().context();
        context.bases.forget(&known.key);
        let detail = json!({"url": url, "key": known.key});
        let entry = context.audit.entry(who, "peer.forget", None, &detail);
        let deleted = Write::delete(TRUST, url.to_string()).noting([entry]);
        context.store.commit(deleted).await?;
        Ok(self.known_shown(&known))
    }

    fn known_shown(&self, known: &Known) -> Value {
        let mut shown = self.key_shown(&known.key);
        let configured = self.config.peers.iter().find(|peer| peer.url == known.url);
        shown["url"] = json!(known.url);
        shown["known"] = json!(known.source);
        shown["since"] = json!(known.since);
        shown["organisation"] = json!(configured.and_then(|peer| peer.organisation.as_ref()));
        if configured.is_some_and(|peer| peer.key != known.key) {
            shown["configured_key"] = json!(configured.map(|peer| peer.key));
        }
        shown
    }

    fn key_shown(&self, key: &PeerKey) -> Value {
        let status = self.peers().status(*key);
        let heard = status
            .last_heard
            .map(|at| now().saturating_sub(Instant::now().saturating_duration_since(at).as_secs()));
        json!({
            "key": key,
            "fingerprint": key.fingerprint(),
            "spoken": key.spoken(),
            "connected": status.connected,
            "last_heard": heard,
        })
    }
}

fn refused(error: &PeerError, url: &NodeUrl) -> Problem {
    Problem::peer(error.code(), format!("{url}: {error}"), error.hint_at(url))
}

fn cannot(error: PinError, url: &NodeUrl) -> Problem {
    match error {
        PinError::Configured => Problem::state(
            "PEER_CONFIGURED",
            format!("the key of {url} is in the configuration of this node"),
            "change it there, under [[peers]], and restart the node",
        ),
        PinError::Unknown => Problem::unknown(
            "PEER_UNKNOWN",
            format!("this node knows no key of {url}"),
            "fdrtd peers list shows the URLs as they are known",
        ),
        PinError::Full => Problem::too_many(
            "QUOTA",
            "this node knows as many peers as it can keep",
            "forget some of them first: fdrtd peers forget",
        ),
    }
}

#[cfg(test)]
mod tests;
