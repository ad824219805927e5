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
use crate::problem::Problem;
use crate::rotation::now;
use crate::services::Principal as Caller;
use crate::store::{Store, StoreError};
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

/// What is known from earlier lives.
pub(crate) fn load(store: &Store) -> Result<Memory, StoreError> {
    let mut memory = Memory::default();
    for record in store.load(TRUST)?.records {
        let read = serde_json::from_slice(&record.bytes).ok().or_else(|| {
            let key = std::str::from_utf8(&record.bytes).ok()?.parse().ok()?;
            Some(TrustRecord {
                key,
                source: Source::FirstUse,
                since: None,
            })
        });
        if let (Ok(url), Some(TrustRecord { key, source, since })) = (NodeUrl::parse(&record.id), read) {
            memory.known.push(Known {
                url,
                key,
                source,
                since,
            });
        }
    }
    for record in store.load(SUCCESSION)?.records {
        if let (Ok(old), Ok(read)) = (
            record.id.parse(),
            serde_json::from_slice::<SuccessionRecord>(&record.bytes),
        ) {
            memory.successions.push((old, read.new));
        }
    }
    Ok(memory)
}

/// Keeps what is learnt.
pub(crate) fn keep(store: Store, audit: Audit) -> impl Fn(News<'_>) + Send + Sync {
    move |news| {
        // What a peer showed, nobody has asked for: the peer itself is named.
        let by = |key: &PeerKey| Principal::new(&format!("peer:{}", key.fingerprint()), Role::Viewer);
        match news {
            News::FirstUse { url, key, since } => {
                audit.note(&by(&key), "peer.first-use", None, &json!({"url": url, "key": key}));
                write(put_trust(&store, url, key, Source::FirstUse, Some(since)));
            }
            News::Succeeded { url, links } => {
                for link in links {
                    let detail =
                        json!({"url": url, "old": link.old, "new": link.new, "serial": link.serial, "time": link.time});
                    audit.note(&by(&link.new), "peer.succeeded", None, &detail);
                    let record = SuccessionRecord {
                        new: link.new,
                        succession: link.encode(),
                    };
                    let bytes = serde_json::to_vec(&record).unwrap_or_default();
                    write(store.put(SUCCESSION, link.old.to_string(), bytes, FOR_EVER));
                }
            }
        }
    }
}

fn write(written: impl Future<Output = Result<(), StoreError>> + Send + 'static) {
    tokio::spawn(async move {
        if written.await.is_err() {
            tracing::error!("what is known of a peer could not be stored");
        }
    });
}

fn put_trust(
    store: &Store,
    url: &NodeUrl,
    key: PeerKey,
    source: Source,
    since: Option<u64>,
) -> impl Future<Output = Result<(), StoreError>> + Send + use<> {
    let bytes = serde_json::to_vec(&TrustRecord { key, source, since }).unwrap_or_default();
    store.put(TRUST, url.to_string(), bytes, FOR_EVER)
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
        let written = put_trust(&context.store, url, known.key, known.source, known.since);
        written.await.map_err(|_| storage_failed())?;
        let detail = json!({"url": url, "key": known.key});
        context.audit.noted(who, "peer.pin", None, &detail).await?;
        let mut shown = self.known_shown(&known);
        shown["pinned"] = true.into();
        Ok(shown)
    }

    /// Forgets the key of a URL.
    pub(crate) async fn peer_forgotten(&self, who: &Caller, url: &NodeUrl) -> Result<Value, Problem> {
        let known = self.peers().forget_url(url).map_err(|error| cannot(error, url))?;
        let context = self.simon.tasks().context();
        context.bases.forget(&known.key);
        let deleted = context.store.delete(TRUST, url.to_string());
        deleted.await.map_err(|_| storage_failed())?;
        let detail = json!({"url": url, "key": known.key});
        context.audit.noted(who, "peer.forget", None, &detail).await?;
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

fn storage_failed() -> Problem {
    Problem::internal(
        "STORAGE_FAILED",
        "the node could not write to its storage",
        "tell the node's operator",
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::identity::Identity;
    use crate::rotation::Succession;
    use crate::store::tests::Scratch;

    #[tokio::test]
    async fn what_was_learnt_is_known_in_the_next_life() {
        let scratch = Scratch::new();
        let url = |text: &str| NodeUrl::parse(text).unwrap();
        let (old, new) = (Identity::from_seed(&[1; 32]), Identity::from_seed(&[2; 32]));
        {
            let store = scratch.open();
            // As the first versions wrote it.
            let before = old.key().to_string().into_bytes();
            store
                .put(TRUST, "https://a.example".to_owned(), before, FOR_EVER)
                .await
                .unwrap();
            store
                .put(TRUST, "https://b.example".to_owned(), b"nonsense".to_vec(), FOR_EVER)
                .await
                .unwrap();
            let keep = keep(store.clone(), Audit::default());
            keep(News::FirstUse {
                url: &url("https://c.example"),
                key: old.key(),
                since: 7,
            });
            let links = [Succession::make(&old, &new, 1, 1)];
            keep(News::Succeeded {
                url: &url("https://a.example"),
                links: &links,
            });
            put_trust(&store, &url("https://d.example"), new.key(), Source::Pinned, Some(8))
                .await
                .unwrap();
            store.flush().await.unwrap();
        }
        let mut memory = load(&scratch.open()).unwrap();
        memory.known.sort_by(|a, b| a.url.cmp(&b.url));
        let told = |known: &Known| (known.url.to_string(), known.key, known.source, known.since);
        assert_eq!(
            memory.known.iter().map(told).collect::<Vec<_>>(),
            [
                ("https://a.example".to_owned(), old.key(), Source::FirstUse, None),
                ("https://c.example".to_owned(), old.key(), Source::FirstUse, Some(7)),
                ("https://d.example".to_owned(), new.key(), Source::Pinned, Some(8)),
            ]
        );
        assert_eq!(memory.successions, [(old.key(), new.key())]);
    }
}
