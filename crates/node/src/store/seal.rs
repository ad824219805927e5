//! Encryption of single records.
//!
//! ```text
//! subkey of a use = HKDF-SHA256(storage key; salt "fdrtd storage, version 2", info: the use)      a use is a kind of records, "meta" or "backup"
//! key of a record = BLAKE3(subkey of its kind; the record's random salt)
//! ```

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, MAX_TAG_LEN, Nonce, UnboundKey};
use ring::hkdf;
use zeroize::{Zeroize, Zeroizing};

use super::{StorageKey, StoreError};

const SALT_LEN: usize = 32;
const HKDF_SALT: &[u8] = b"fdrtd storage, version 2";

/// The key of one use: two uses never share one.
pub(super) fn subkey(key: &StorageKey, of: &str) -> Result<StorageKey, StoreError> {
    let mut subkey = Zeroizing::new([0; 32]);
    hkdf::Salt::new(hkdf::HKDF_SHA256, HKDF_SALT)
        .extract(&key[..])
        .expand(&[of.as_bytes()], hkdf::HKDF_SHA256)
        .and_then(|output| output.fill(&mut subkey[..]))
        .map_err(|_| StoreError::Sealing)?;
    Ok(subkey)
}

/// Salt, ciphertext and tag.
pub(super) fn seal(key: &StorageKey, kind: &str, id: &str, bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
    seal_under(&subkey(key, kind)?, kind, id, bytes)
}

/// The plain bytes; `None` when they were sealed under another key or name, or were changed.
pub(super) fn open(key: &StorageKey, kind: &str, id: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    open_under(&subkey(key, kind).ok()?, kind, id, sealed)
}

/// What version 1 of the schema holds: there all kinds shared the storage key itself.
pub(super) fn open_version_1(key: &StorageKey, kind: &str, id: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    open_under(key, kind, id, sealed)
}

/// As version 1 of the schema was written.
#[cfg(test)]
pub(super) fn seal_version_1(key: &StorageKey, kind: &str, id: &str, bytes: &[u8]) -> Vec<u8> {
    #[allow(clippy::unwrap_used)]
    seal_under(key, kind, id, bytes).unwrap()
}

fn seal_under(key: &StorageKey, kind: &str, id: &str, bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
    let mut salt = [0_u8; SALT_LEN];
    getrandom::fill(&mut salt).map_err(|_| StoreError::Sealing)?;
    // Room for everything from the start: the plain bytes are encrypted where they stand, and no copy of them stays behind.
    let mut sealed = Vec::with_capacity(SALT_LEN + bytes.len() + MAX_TAG_LEN);
    sealed.extend_from_slice(&salt);
    sealed.extend_from_slice(bytes);
    let tag = record_key(key, &salt).and_then(|record_key| {
        record_key
            .seal_in_place_separate_tag(once(), Aad::from(bound_to(kind, id)), &mut sealed[SALT_LEN..])
            .map_err(|_| StoreError::Sealing)
    });
    match tag {
        Ok(tag) => {
            sealed.extend_from_slice(tag.as_ref());
            Ok(sealed)
        }
        Err(error) => {
            sealed.zeroize();
            Err(error)
        }
    }
}

fn open_under(key: &StorageKey, kind: &str, id: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (salt, ciphertext) = sealed.split_at_checked(SALT_LEN)?;
    let record_key = record_key(key, salt).ok()?;
    let mut bytes = Zeroizing::new(ciphertext.to_vec());
    let length = record_key
        .open_in_place(once(), Aad::from(bound_to(kind, id)), &mut bytes)
        .ok()?
        .len();
    bytes.truncate(length);
    Some(bytes)
}

fn record_key(key: &StorageKey, salt: &[u8]) -> Result<LessSafeKey, StoreError> {
    let derived = Zeroizing::new(*blake3::keyed_hash(key, salt).as_bytes());
    UnboundKey::new(&AES_256_GCM, &*derived)
        .map(LessSafeKey::new)
        .map_err(|_| StoreError::Sealing)
}

/// The nonce may be constant: a fresh salt makes a key that seals one record and nothing else.
fn once() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

/// Kinds hold no zero byte, so different pairs give different bytes.
fn bound_to(kind: &str, id: &str) -> Vec<u8> {
    [kind.as_bytes(), &[0], id.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn key(byte: u8) -> StorageKey {
        Zeroizing::new([byte; 32])
    }

    #[test]
    fn what_is_sealed_opens_under_its_key_and_name_only() {
        for bytes in [&b""[..], b"4711", &[7; 100_000]] {
            let sealed = seal(&key(1), "kv", "a", bytes).unwrap();
            assert_eq!(open(&key(1), "kv", "a", &sealed).unwrap().as_slice(), bytes);
            assert!(open(&key(2), "kv", "a", &sealed).is_none());
            assert!(open(&key(1), "kv", "b", &sealed).is_none());
            assert!(open(&key(1), "result", "a", &sealed).is_none());
        }
    }

    #[test]
    fn every_use_has_a_key_of_its_own() {
        let uses = ["kv", "task", "trust", "meta", "backup", ""];
        let mut keys: Vec<_> = uses.map(|of| *subkey(&key(1), of).unwrap()).to_vec();
        keys.push([1; 32]);
        keys.push(*subkey(&key(2), "kv").unwrap());
        for (index, one) in keys.iter().enumerate() {
            assert!(!keys[..index].contains(one));
        }
        // HKDF as RFC 5869 has it, computed by another implementation (Python's hmac).
        let known = "7234a22944361994d92047f65ef8828b76ae46e730264e76992d5e23ec691302";
        assert_eq!(data_encoding::HEXLOWER.encode(&keys[0]), known);
    }

    #[test]
    fn version_1_is_another_sealing() {
        let old = seal_version_1(&key(1), "kv", "a", b"4711");
        assert_eq!(open_version_1(&key(1), "kv", "a", &old).unwrap().as_slice(), b"4711");
        assert!(open(&key(1), "kv", "a", &old).is_none());
        let new = seal(&key(1), "kv", "a", b"4711").unwrap();
        assert!(open_version_1(&key(1), "kv", "a", &new).is_none());
    }

    #[test]
    fn every_changed_bit_and_every_cut_is_noticed() {
        let sealed = seal(&key(1), "kv", "a", b"4711").unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut damaged = sealed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&key(1), "kv", "a", &damaged).is_none(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(open(&key(1), "kv", "a", &sealed[..length]).is_none(), "length {length}");
        }
    }

    #[test]
    fn equal_bytes_are_sealed_differently_and_do_not_show() {
        let first = seal(&key(1), "kv", "a", b"a private value").unwrap();
        assert_ne!(first, seal(&key(1), "kv", "a", b"a private value").unwrap());
        assert!(!first.windows(7).any(|part| part == b"private"));
    }
}
