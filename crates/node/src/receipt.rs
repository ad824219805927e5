//! The receipt of a task: the same at all parties, signed by each of them.
//!
//! ```text
//! salt        = BLAKE3("fdrtd 2026-11 receipt salt, version 1"; task, every party's nonce of the session)
//! commitment  = BLAKE3("fdrtd 2026-11 receipt commitment, version 1"; salt, the result in one form)
//! id          = BLAKE3("fdrtd 2026-11 receipt, version 1"; version, task, description, keys, rules, commitment)
//! signature_i = Ed25519(key of party i; "fdrtd receipt v1" 0x00, i, id)
//! ```
//! **What a party learns from it: nothing new.** Description, keys, rules, nonces and result are known to every party when the result is confirmed, so each computes
//! the id alone; what travels is a signature of it. Nonces travel inside the encrypted channels only, so nobody but the parties knows the salt, and without it
//! the id tells nothing of the result. Whoever is given the salt can test guesses of the result: that is what it is for, and hand it over accordingly.
//!
//! A signature names its party's place, so one cannot be passed off as another's. Results that not all have confirmed have no receipt.

use ed25519_dalek::{Signature, VerifyingKey};
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::chain::Hash;
use crate::descriptor::Descriptor;
use crate::identity::{Identity, PeerKey, base32, unbase32};

/// Version of the form.
pub const VERSION: u64 = 1;

const SALT_CONTEXT: &str = "fdrtd 2026-11 receipt salt, version 1";
const COMMITMENT_CONTEXT: &str = "fdrtd 2026-11 receipt commitment, version 1";
const ID_CONTEXT: &str = "fdrtd 2026-11 receipt, version 1";
const LABEL: &[u8] = b"fdrtd receipt v1\0";
/// Longest receipt that is read.
pub const MAX_BYTES: usize = 256 << 10;

/// See the [module](self).
#[derive(Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The text that all parties have agreed on.
    description: String,
    task: [u8; 16],
    keys: Vec<PeerKey>,
    rules: String,
    commitment: Hash,
    /// Absent from a receipt that was handed on without.
    salt: Option<Zeroizing<[u8; 32]>>,
    id: Hash,
    signatures: Vec<Option<[u8; 64]>>,
}

impl std::fmt::Debug for Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Receipt({}, {} of {})",
            self.id,
            self.signed().len(),
            self.keys.len()
        )
    }
}

impl Receipt {
    /// Of a confirmed result (JSON text). `rules` is the text of the rules in force, `nonces` are those of the session, both bound into its id.
    pub fn new(
        descriptor: &Descriptor,
        keys: Vec<PeerKey>,
        rules: String,
        nonces: impl Iterator<Item = [u8; 32]>,
        result: &str,
    ) -> Receipt {
        let task = *descriptor.task.as_bytes();
        let mut hasher = blake3::Hasher::new_derive_key(SALT_CONTEXT);
        hasher.update(&task);
        for nonce in nonces {
            hasher.update(&nonce);
        }
        let salt = Zeroizing::new(*hasher.finalize().as_bytes());
        let mut receipt = Receipt {
            description: descriptor.text(),
            task,
            signatures: vec![None; keys.len()],
            keys,
            rules,
            commitment: commitment(&salt, result),
            salt: Some(salt),
            id: Hash::default(),
        };
        receipt.id = receipt.computed_id();
        receipt
    }

    fn computed_id(&self) -> Hash {
        let mut hasher = blake3::Hasher::new_derive_key(ID_CONTEXT);
        hasher.update(&VERSION.to_le_bytes()).update(&self.task);
        for text in [&self.description, &self.rules] {
            hasher
                .update(&(text.len() as u64).to_le_bytes())
                .update(text.as_bytes());
        }
        hasher.update(&(self.keys.len() as u64).to_le_bytes());
        for key in &self.keys {
            hasher.update(key.as_bytes());
        }
        hasher.update(&self.commitment.0);
        Hash(*hasher.finalize().as_bytes())
    }

    /// What all parties know it by.
    pub fn id(&self) -> Hash {
        self.id
    }

    /// The parties' keys.
    pub fn keys(&self) -> &[PeerKey] {
        &self.keys
    }

    /// The parties that have signed it.
    pub fn signed(&self) -> Vec<usize> {
        let all = self.signatures.iter().enumerate();
        all.filter(|(_, signature)| signature.is_some())
            .map(|(party, _)| party)
            .collect()
    }

    /// Whether all have.
    pub fn complete(&self) -> bool {
        self.signatures.iter().all(Option::is_some)
    }

    /// Whether that party has.
    pub fn has(&self, party: usize) -> bool {
        self.signature(party).is_some()
    }

    /// That party's signature.
    pub fn signature(&self, party: usize) -> Option<&[u8; 64]> {
        self.signatures.get(party)?.as_ref()
    }

    /// Signs it as party `me`.
    pub fn sign(&mut self, me: usize, identity: &Identity) {
        let signature = identity.sign(&signed_text(me, &self.id));
        if let Some(place) = self.signatures.get_mut(me) {
            *place = Some(signature);
        }
    }

    /// Takes a party's signature if it is one of this receipt; tells whether it was news.
    pub fn countersign(&mut self, party: usize, signature: &[u8; 64]) -> bool {
        if self.has(party) || !self.holds(party, signature) {
            return false;
        }
        self.signatures[party] = Some(*signature);
        true
    }

    fn holds(&self, party: usize, signature: &[u8; 64]) -> bool {
        let key = self
            .keys
            .get(party)
            .and_then(|key| VerifyingKey::from_bytes(key.as_bytes()).ok());
        key.is_some_and(|key| {
            let signature = Signature::from_bytes(signature);
            key.verify_strict(&signed_text(party, &self.id), &signature).is_ok()
        })
    }

    /// As JSON. `with_salt` lets whoever reads it test whether a result belongs to it.
    pub fn shown(&self, with_salt: bool) -> Value {
        let signatures = self.signatures.iter();
        json!({
            "fdrtd_receipt": VERSION,
            "id": self.id,
            "task": uuid::Uuid::from_bytes(self.task),
            "description": self.description,
            "keys": self.keys,
            "rules": self.rules,
            "commitment": self.commitment,
            "salt": self.salt.as_ref().filter(|_| with_salt).map(|salt| base32(&salt[..])),
            "signatures": signatures.map(|signature| signature.map(|bytes| base32(&bytes))).collect::<Vec<_>>(),
            "complete": self.complete(),
        })
    }

    /// From what [`Receipt::shown`] gave. Nothing is verified but the form.
    ///
    /// # Errors
    /// What is not as it should be.
    pub fn parse(text: &str) -> Result<Receipt, String> {
        let form = |error: serde_json::Error| format!("this is not a receipt: {error}");
        if text.len() > MAX_BYTES {
            return Err(format!("a receipt has at most {MAX_BYTES} bytes"));
        }
        let value: Value = serde_json::from_str(text).map_err(form)?;
        match value["fdrtd_receipt"].as_u64() {
            Some(VERSION) => {}
            Some(version) => {
                return Err(format!(
                    "this is a receipt of version {version}, this program knows {VERSION}"
                ));
            }
            None => return Err("this is not a receipt: it has no member fdrtd_receipt".to_owned()),
        }
        let said: Said = serde_json::from_value(value).map_err(form)?;
        let bytes = |text: &str| unbase32(text).ok_or("a signature has 103 characters of base32".to_owned());
        let signatures = said
            .signatures
            .iter()
            .map(|text| text.as_deref().map(bytes).transpose());
        let salt = said
            .salt
            .as_deref()
            .map(|text| unbase32(text).ok_or("a salt has 52 characters of base32"));
        Ok(Receipt {
            description: said.description,
            task: *said.task.as_bytes(),
            keys: said.keys,
            rules: said.rules,
            commitment: said.commitment,
            salt: salt.transpose()?.map(Zeroizing::new),
            id: said.id,
            signatures: signatures.collect::<Result<_, _>>()?,
        })
    }

    /// What is wrong with it; nothing, if it is what all parties have signed. With a `result` also whether it belongs to that.
    pub fn problems(&self, result: Option<&str>) -> Vec<String> {
        let mut problems = Vec::new();
        match self.descriptor() {
            None => problems.push("the description is not that of a task".to_owned()),
            Some(descriptor) => {
                if *descriptor.task.as_bytes() != self.task {
                    problems.push("the description is that of another task".to_owned());
                }
                if descriptor.nodes.len() != self.keys.len() {
                    problems.push("there are not as many keys as parties".to_owned());
                }
            }
        }
        if self.signatures.len() != self.keys.len() {
            problems.push("there are not as many signatures as parties".to_owned());
        }
        if self
            .keys
            .iter()
            .enumerate()
            .any(|(index, key)| self.keys[..index].contains(key))
        {
            problems.push("a key stands twice in it".to_owned());
        }
        if self.computed_id() != self.id {
            problems.push("its content is not what its id says: it was changed".to_owned());
        }
        for party in 0..self.keys.len() {
            match self.signature(party) {
                None => problems.push(format!("party {party} has not signed")),
                Some(signature) if !self.holds(party, signature) => {
                    problems.push(format!("the signature of party {party} does not hold"));
                }
                Some(_) => {}
            }
        }
        match (result, &self.salt) {
            (Some(_), None) => {
                problems.push("it has no salt: whether the result belongs to it cannot be told".to_owned())
            }
            (Some(result), Some(salt)) if commitment(salt, inner(result)) != self.commitment => {
                problems.push("the result is another one than that of the receipt".to_owned());
            }
            _ => {}
        }
        problems
    }

    /// What was computed, and where.
    pub fn descriptor(&self) -> Option<Descriptor> {
        serde_json::from_str(&self.description).ok()
    }

    /// The rules that were in force.
    pub fn rules(&self) -> &str {
        &self.rules
    }
}

/// A receipt as JSON.
#[derive(Deserialize)]
struct Said {
    id: Hash,
    task: uuid::Uuid,
    description: String,
    keys: Vec<PeerKey>,
    rules: String,
    commitment: Hash,
    salt: Option<String>,
    signatures: Vec<Option<String>>,
}

fn signed_text(party: usize, id: &Hash) -> Vec<u8> {
    let place = [u8::try_from(party).unwrap_or(u8::MAX)];
    [LABEL, &place, &id.0].concat()
}

/// Programs write the same JSON in several ways, so one of them is hashed.
fn commitment(salt: &[u8; 32], result: &str) -> Hash {
    let parsed: Result<Value, _> = serde_json::from_str(result);
    let canonical = Zeroizing::new(parsed.map_or_else(|_| result.to_owned(), |value| value.to_string()));
    let mut hasher = blake3::Hasher::new_derive_key(COMMITMENT_CONTEXT);
    hasher.update(salt).update(canonical.as_bytes());
    Hash(*hasher.finalize().as_bytes())
}

/// Of what a client was given, the part that the parties have computed; or the whole, if it is that already.
fn inner(result: &str) -> &str {
    #[derive(Deserialize)]
    struct Whole<'a> {
        #[serde(rename = "inputs")]
        _inputs: u64,
        #[serde(borrow)]
        result: &'a serde_json::value::RawValue,
    }
    serde_json::from_str::<Whole>(result).map_or(result, |whole| whole.result.get())
}

#[cfg(test)]
mod tests;
