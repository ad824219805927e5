//! The audit as a chain: every entry holds the hash of the one before it and is signed by the node. Pure: what keeps it is the [`store`](crate::store), what
//! writes it is the [`audit`](crate::audit).
//!
//! ```text
//! hash      = BLAKE3("fdrtd 2026-11 audit entry, version 1"; previous, seq, time, key, who, action, task, detail)      texts with their lengths
//! signature = Ed25519(key; "fdrtd audit v1" 0x00, hash)
//! ```
//! Whoever changes, removes, adds or swaps an entry breaks the chain there. Only the node's key makes entries, so an owner can write another history with
//! it; whoever has an exported copy sees where it parts from the first one. A tail that is cut off can be noticed by such a copy only.

use std::fmt;
use std::sync::Arc;

use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::identity::{Identity, PeerKey, base32, unbase32};

const HASH_CONTEXT: &str = "fdrtd 2026-11 audit entry, version 1";
const SIGNATURE_LABEL: &[u8] = b"fdrtd audit v1\0";
/// The action with which a key announces the one that follows it, in the member `key` of its detail. It is the last entry that the old key signs,
/// unless the rotation was cut off there.
pub const ROTATION: &str = "identity.rotate";

/// Longest text, most members, and deepest nesting of a detail; what is longer is cut, and says so.
const LONGEST_TEXT: usize = 200;
const MOST_MEMBERS: usize = 70;
const DEEPEST: usize = 6;
/// Longest detail in all.
const LONGEST_DETAIL: usize = 8 << 10;

/// What is to be entered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Seconds since 1970.
    pub time: u64,
    /// Who did it.
    pub who: String,
    /// A stable word such as `task.create`.
    pub action: &'static str,
    /// The task's id, if it is about one.
    pub task: Option<String>,
    /// Public things only.
    pub detail: Value,
}

impl Note {
    /// With everything cut to a length that is fit for a log: names in it are chosen by clients and peers.
    pub fn new(time: u64, who: &str, action: &'static str, task: Option<String>, detail: &Value) -> Note {
        let mut detail = bounded(detail, 0);
        if detail.to_string().len() > LONGEST_DETAIL {
            detail = serde_json::json!({"cut": true});
        }
        Note {
            time,
            who: cut(who),
            action,
            task,
            detail,
        }
    }
}

/// One entry. As JSON it is one line of an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Counts from 1.
    pub seq: u64,
    /// Seconds since 1970, by the node's clock.
    pub time: u64,
    /// Who did it.
    pub who: String,
    /// What was done.
    pub action: String,
    /// The task's id, if it is about one.
    pub task: Option<String>,
    /// More about it.
    pub detail: Value,
    /// Hash of the entry before; zeros for the first.
    pub previous: Hash,
    /// Hash of this one.
    pub hash: Hash,
    /// Who signed it.
    pub key: PeerKey,
    /// Over the hash.
    #[serde(with = "signature_text")]
    pub signature: [u8; 64],
}

/// A hash; as text 52 characters of base32.
#[derive(Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hash(pub [u8; 32]);

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base32(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> String {
        hash.to_string()
    }
}

impl TryFrom<String> for Hash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Hash, &'static str> {
        unbase32(&text).map(Hash).ok_or("a hash has 52 characters of base32")
    }
}

mod signature_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::identity::{base32, unbase32};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8; 64], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&base32(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 64], D::Error> {
        let text = String::deserialize(deserializer)?;
        unbase32(&text).ok_or_else(|| D::Error::custom("a signature has 103 characters of base32"))
    }
}

impl Entry {
    fn computed_hash(&self) -> Hash {
        let mut hasher = blake3::Hasher::new_derive_key(HASH_CONTEXT);
        hasher.update(&self.previous.0);
        hasher.update(&self.seq.to_le_bytes());
        hasher.update(&self.time.to_le_bytes());
        hasher.update(self.key.as_bytes());
        let detail = self.detail.to_string();
        let present = [u8::from(self.task.is_some())];
        hasher.update(&present);
        for text in [&self.who, &self.action, self.task.as_deref().unwrap_or(""), &detail] {
            hasher
                .update(&(text.len() as u64).to_le_bytes())
                .update(text.as_bytes());
        }
        Hash(*hasher.finalize().as_bytes())
    }

    fn signature_holds(&self) -> bool {
        VerifyingKey::from_bytes(self.key.as_bytes()).is_ok_and(|key| {
            let signature = Signature::from_bytes(&self.signature);
            key.verify_strict(&signed_text(&self.hash), &signature).is_ok()
        })
    }

    /// The key that follows this entry's, if it says so.
    fn announces(&self) -> Option<PeerKey> {
        let key = (self.action == ROTATION).then(|| self.detail["key"].as_str())??;
        key.parse().ok()
    }
}

fn signed_text(hash: &Hash) -> Vec<u8> {
    [SIGNATURE_LABEL, &hash.0].concat()
}

/// The end of the chain, where it grows.
#[derive(Clone)]
pub struct Chain {
    identity: Arc<Identity>,
    seq: u64,
    head: Hash,
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chain({} entries)", self.seq)
    }
}

impl Chain {
    /// After so many entries, the last of which has this hash.
    pub fn new(identity: Arc<Identity>, seq: u64, head: Hash) -> Chain {
        Chain { identity, seq, head }
    }

    /// The next entry; it counts from now on as the last one.
    pub fn append(&mut self, note: &Note) -> Entry {
        let mut entry = Entry {
            seq: self.seq + 1,
            time: note.time,
            who: note.who.clone(),
            action: note.action.to_owned(),
            task: note.task.clone(),
            detail: note.detail.clone(),
            previous: self.head,
            hash: Hash::default(),
            key: self.identity.key(),
            signature: [0; 64],
        };
        entry.hash = entry.computed_hash();
        entry.signature = self.identity.sign(&signed_text(&entry.hash));
        self.seq = entry.seq;
        self.head = entry.hash;
        entry
    }

    /// How many entries there are, and the hash of the last one.
    pub fn head(&self) -> (u64, Hash) {
        (self.seq, self.head)
    }
}

/// Where a chain is broken, and how.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {seq}: {what}")]
pub struct Broken {
    /// The place in the chain.
    pub seq: u64,
    /// What is wrong there.
    pub what: String,
}

/// Goes through a chain from its first entry.
#[derive(Clone, Debug, Default)]
pub struct Verifier {
    key: Option<PeerKey>,
    seq: u64,
    head: Hash,
    next_key: Option<PeerKey>,
}

impl Verifier {
    /// `key` is the one that must have signed the first entry; without one whoever signed it is believed, and told.
    pub fn new(key: Option<PeerKey>) -> Verifier {
        Verifier {
            key,
            ..Verifier::default()
        }
    }

    /// Takes the next entry.
    ///
    /// # Errors
    /// [`Broken`]: the chain up to here is whole, and this entry does not continue it.
    pub fn take(&mut self, entry: &Entry) -> Result<(), Broken> {
        let seq = self.seq + 1;
        let broken = |what: String| Err(Broken { seq, what });
        if entry.seq > seq {
            return broken(format!("missing: the next one there has the number {}", entry.seq));
        }
        if entry.seq < seq {
            return broken(format!("an entry numbered {} stands in its place", entry.seq));
        }
        if entry.previous != self.head {
            return broken("does not follow the entry before it: one of the two was exchanged".to_owned());
        }
        if entry.computed_hash() != entry.hash {
            return broken("its content is not what its hash says: it was changed".to_owned());
        }
        let expected = self.next_key.or(self.key).unwrap_or(entry.key);
        // A rotation may have been cut off after it was announced: then the old key goes on, and the chain is not that of the new one.
        if entry.key != expected && self.key != Some(entry.key) {
            return broken(format!(
                "signed by the key {} instead of {}, which has named no other",
                entry.key.fingerprint(),
                expected.fingerprint()
            ));
        }
        if !entry.signature_holds() {
            return broken(format!("the signature of {} does not hold", entry.key.fingerprint()));
        }
        *self = Verifier {
            key: Some(entry.key),
            seq,
            head: entry.hash,
            next_key: entry.announces(),
        };
        Ok(())
    }

    /// How many entries were whole, and the hash of the last one.
    pub fn head(&self) -> (u64, Hash) {
        (self.seq, self.head)
    }

    /// The key that signed the last entry.
    pub fn key(&self) -> Option<PeerKey> {
        self.key
    }

    /// Whether the chain is that of this key: it signed the last entry, or is named by it as the next one.
    pub fn is_of(&self, key: PeerKey) -> bool {
        self.key == Some(key) || self.next_key == Some(key)
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST_TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn bounded(value: &Value, depth: usize) -> Value {
    match value {
        Value::String(text) => cut(text).into(),
        Value::Array(_) | Value::Object(_) if depth >= DEEPEST => "…".into(),
        Value::Array(list) => {
            let mut kept: Vec<Value> = list
                .iter()
                .take(MOST_MEMBERS)
                .map(|value| bounded(value, depth + 1))
                .collect();
            if list.len() > MOST_MEMBERS {
                kept.push("…".into());
            }
            kept.into()
        }
        Value::Object(members) => {
            let kept = members.iter().take(MOST_MEMBERS);
            let mut kept: serde_json::Map<String, Value> = kept
                .map(|(name, value)| (cut(name), bounded(value, depth + 1)))
                .collect();
            if members.len() > MOST_MEMBERS {
                kept.insert("…".to_owned(), true.into());
            }
            kept.into()
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests;
