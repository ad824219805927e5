//! A new key for a node: the old key signs who comes after it, and peers that know the old one follow.
//!
//! Every succession is signed by both keys: by the old one, so that nobody else can name a successor, and by the new one, so that nobody can be named who
//! does not agree. The successions of a node make a chain, of which the last few are kept beside its key and shown with its identity. A peer that has
//! seen a key succeeded takes neither that key nor another successor of it any more: who has stolen an old key gains nothing afterwards.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ed25519_dalek::{Signature, VerifyingKey};

use crate::audit::Audit;
use crate::chain::ROTATION;
use crate::identity::{Identity, IdentityError, KEY_FILE, PeerKey, base32, random_seed, unbase32, write_private};
use crate::principal::Principal;
use crate::store;

/// Name of the chain's file in the data directory.
pub const CHAIN_FILE: &str = "identity.chain";
/// Longest chain that is kept, shown and taken.
pub const MAX_CHAIN: usize = 8;

const BY_OLD: &[u8] = b"fdrtd key succession v1, by the old key\0";
const BY_NEW: &[u8] = b"fdrtd key succession v1, by the new key\0";

/// "After `old` comes `new`", signed by both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Succession {
    /// The key that is not used any more.
    pub old: PeerKey,
    /// The key that takes its place.
    pub new: PeerKey,
    /// Counts the successions of a node.
    pub serial: u64,
    /// Seconds since 1970, as the node's clock told them.
    pub time: u64,
    by_old: [u8; 64],
    by_new: [u8; 64],
}

impl Succession {
    /// Length of the encoded form.
    pub const LENGTH: usize = 32 + 32 + 8 + 8 + 64 + 64;

    /// Both sign.
    #[must_use]
    pub fn make(old: &Identity, new: &Identity, serial: u64, time: u64) -> Self {
        let mut made = Self {
            old: old.key(),
            new: new.key(),
            serial,
            time,
            by_old: [0; 64],
            by_new: [0; 64],
        };
        made.by_old = old.sign(&made.signed_text(BY_OLD));
        made.by_new = new.sign(&made.signed_text(BY_NEW));
        made
    }

    /// Checks both signatures.
    ///
    /// # Errors
    /// [`IdentityError::Succession`].
    pub fn verify(&self) -> Result<(), IdentityError> {
        for (key, label, signature) in [(self.old, BY_OLD, &self.by_old), (self.new, BY_NEW, &self.by_new)] {
            let key = VerifyingKey::from_bytes(key.as_bytes()).map_err(|_| IdentityError::Succession)?;
            key.verify_strict(&self.signed_text(label), &Signature::from_bytes(signature))
                .map_err(|_| IdentityError::Succession)?;
        }
        Ok(())
    }

    /// As text: base32.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut bytes = Vec::with_capacity(Self::LENGTH);
        bytes.extend_from_slice(self.old.as_bytes());
        bytes.extend_from_slice(self.new.as_bytes());
        bytes.extend_from_slice(&self.serial.to_le_bytes());
        bytes.extend_from_slice(&self.time.to_le_bytes());
        bytes.extend_from_slice(&self.by_old);
        bytes.extend_from_slice(&self.by_new);
        base32(&bytes)
    }

    /// The inverse of [`Succession::encode`]; nothing is verified yet.
    ///
    /// # Errors
    /// [`IdentityError::Succession`].
    pub fn decode(text: &str) -> Result<Self, IdentityError> {
        fn part<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], IdentityError> {
            let (part, rest) = bytes.split_first_chunk::<N>().ok_or(IdentityError::Succession)?;
            *bytes = rest;
            Ok(*part)
        }
        let bytes: [u8; Self::LENGTH] = unbase32(text).ok_or(IdentityError::Succession)?;
        let mut rest = &bytes[..];
        Ok(Self {
            old: PeerKey::from_bytes(part(&mut rest)?),
            new: PeerKey::from_bytes(part(&mut rest)?),
            serial: u64::from_le_bytes(part(&mut rest)?),
            time: u64::from_le_bytes(part(&mut rest)?),
            by_old: part(&mut rest)?,
            by_new: part(&mut rest)?,
        })
    }

    fn signed_text(&self, label: &[u8]) -> Vec<u8> {
        let (serial, time) = (self.serial.to_le_bytes(), self.time.to_le_bytes());
        [label, self.old.as_bytes(), self.new.as_bytes(), &serial, &time].concat()
    }
}

/// Checks that `chain` is one unbroken line of successions, none twice, that ends at `last`. An empty one is.
///
/// # Errors
/// [`IdentityError::Succession`].
pub fn verify_chain(chain: &[Succession], last: PeerKey) -> Result<(), IdentityError> {
    if chain.len() > MAX_CHAIN || chain.last().is_some_and(|link| link.new != last) {
        return Err(IdentityError::Succession);
    }
    let follows = |pair: &[Succession]| {
        pair[0].new == pair[1].old
            && pair[0].serial.checked_add(1) == Some(pair[1].serial)
            && pair[0].time <= pair[1].time
    };
    let mut keys: Vec<PeerKey> = chain.iter().map(|link| link.old).chain([last]).collect();
    keys.sort_unstable();
    keys.dedup();
    if !chain.windows(2).all(follows) || keys.len() != chain.len() + 1 {
        return Err(IdentityError::Succession);
    }
    chain.iter().try_for_each(Succession::verify)
}

/// Gives the node in `directory`, which must not run, a new key. Whenever this is cut off, the directory holds the old key or the new one, with its chain.
///
/// # Errors
/// A node that runs, no key to come from, or files that cannot be written.
pub fn rotate(directory: &Path) -> Result<(Arc<Identity>, Identity), RotationError> {
    if !directory.join(KEY_FILE).exists() {
        return Err(RotationError::NoKey(directory.to_owned()));
    }
    let _lock = store::lock(directory).map_err(|error| match error {
        store::StoreError::InUse(directory) => RotationError::Running(directory),
        error => RotationError::Store(error),
    })?;
    sweep(directory);
    let old = Arc::new(Identity::open(directory)?);
    let seed = random_seed()?;
    let new = Identity::from_seed(&seed);
    let last = old.chain().last();
    let serial = last.map_or(0, |link| link.serial).saturating_add(1);
    let time = now().max(last.map_or(0, |link| link.time));
    let mut chain = old.chain().to_vec();
    chain.push(Succession::make(&old, &new, serial, time));
    chain.drain(..chain.len().saturating_sub(MAX_CHAIN));
    keep_chain(directory, &chain)?;
    tell_the_audit(directory, &old, new.key())?;
    // From here on the key is the new one. Before, the last succession of the file is one that never came to be.
    replace(directory, KEY_FILE, &seed[..])?;
    Ok((old, new.with_chain(chain)))
}

/// The old key names the new one as the last thing that it signs. If the rotation is cut off after it, the old key goes on.
fn tell_the_audit(directory: &Path, old: &Arc<Identity>, new: PeerKey) -> Result<(), RotationError> {
    if !directory.join(store::DATABASE).exists() {
        return Ok(());
    }
    let detail = serde_json::json!({"key": new});
    let note = Audit::default().entry(&Principal::operator(), ROTATION, None, &detail);
    store::append_locked(directory, Arc::clone(old), &note).map_err(RotationError::Store)
}

/// Why there is no new key.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// The node runs.
    #[error("the node with the data directory {} runs; stop it first (its open tasks will end with KEY_ROTATED)", .0.display())]
    Running(PathBuf),
    /// There is no key.
    #[error("the data directory {} holds no identity; fdrtd identity makes the first one", .0.display())]
    NoKey(PathBuf),
    /// The key or its chain cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The directory cannot be locked.
    #[error(transparent)]
    Store(store::StoreError),
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |age| age.as_secs())
}

/// The chain that belongs to `key` in `directory`.
pub(crate) fn open_chain(directory: &Path, key: PeerKey) -> Result<Vec<Succession>, IdentityError> {
    let path = directory.join(CHAIN_FILE);
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(IdentityError::file(&path, &error)),
    };
    let damaged = || IdentityError::Chain(path.clone());
    let mut text = String::new();
    // Far more than the longest.
    let mut bounded = Read::take(&mut file, 64 << 10);
    bounded.read_to_string(&mut text).map_err(|_| damaged())?;
    let chain: Result<Vec<_>, _> = text.lines().map(Succession::decode).collect();
    let mut chain = chain.map_err(|_| damaged())?;
    let last = chain.last().map(|link| link.new);
    verify_chain(&chain, last.unwrap_or(key)).map_err(|_| damaged())?;
    // A rotation that was cut off has named a successor that nobody has.
    if let Some(unfinished) = chain.iter().position(|link| link.old == key) {
        chain.truncate(unfinished);
    } else if last.is_some_and(|last| last != key) {
        return Err(damaged());
    }
    Ok(chain)
}

fn keep_chain(directory: &Path, chain: &[Succession]) -> Result<(), IdentityError> {
    let text: String = chain.iter().map(|link| link.encode() + "\n").collect();
    replace(directory, CHAIN_FILE, text.as_bytes())
}

/// A file with new content: whole or not at all, for its owner only.
fn replace(directory: &Path, name: &str, bytes: &[u8]) -> Result<(), IdentityError> {
    let path = directory.join(name);
    let failed = |error: io::Error| IdentityError::file(&path, &error);
    let draft = directory.join(format!("{name}.rotating"));
    let made = write_private(&draft, bytes).and_then(|()| fs::rename(&draft, &path));
    if made.is_err() {
        let _ = fs::remove_file(&draft);
    }
    made.map_err(failed)?;
    if let Ok(handle) = File::open(directory) {
        // Not every platform can flush a directory.
        let _ = handle.sync_all();
    }
    Ok(())
}

/// What rotations that were cut off have left.
fn sweep(directory: &Path) {
    for name in [KEY_FILE, CHAIN_FILE] {
        let _ = fs::remove_file(directory.join(format!("{name}.rotating")));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::store::tests::Scratch;

    fn identity(seed: u8) -> Identity {
        Identity::from_seed(&[seed; 32])
    }

    /// Successions of the identities with these seeds.
    fn chain(seeds: &[u8]) -> Vec<Succession> {
        let pairs = seeds.windows(2).zip(1..);
        pairs
            .map(|(pair, serial)| Succession::make(&identity(pair[0]), &identity(pair[1]), serial, 1000 + serial))
            .collect()
    }

    fn refused(chain: &[Succession], last: u8) {
        assert_eq!(
            verify_chain(chain, identity(last).key()),
            Err(IdentityError::Succession)
        );
    }

    #[test]
    fn a_chain_is_one_unbroken_line() {
        assert_eq!(verify_chain(&[], identity(1).key()), Ok(()));
        let good = chain(&[1, 2, 3]);
        assert_eq!(verify_chain(&good, identity(3).key()), Ok(()));
        refused(&good, 2); // for another key
        refused(&good[..1], 3); // cut off at its end
        refused(&[good[0].clone(), good[0].clone()], 2);
        refused(&[good[1].clone(), good[0].clone()], 2);
        let beside = Succession::make(&identity(4), &identity(3), 2, 1002);
        refused(&[good[0].clone(), beside], 3); // not joined
        refused(&chain(&[1, 2, 1]), 1); // a loop
        refused(&chain(&[1, 1]), 1);
        let seeds: Vec<u8> = (1..=10).collect();
        assert_eq!(verify_chain(&chain(&seeds[..9]), identity(9).key()), Ok(()));
        refused(&chain(&seeds), 10); // too long
    }

    #[test]
    fn serials_count_and_time_does_not_run_backwards() {
        let make = |serial, time| Succession::make(&identity(2), &identity(3), serial, time);
        let first = chain(&[1, 2]).remove(0);
        for (serial, time, good) in [(2, 1001, true), (2, 1000, false), (3, 2000, false), (1, 2000, false)] {
            let both = [first.clone(), make(serial, time)];
            assert_eq!(verify_chain(&both, identity(3).key()).is_ok(), good, "{serial} {time}");
        }
        let last = Succession::make(&identity(1), &identity(2), u64::MAX, 0);
        refused(&[last, make(0, 0)], 3);
    }

    #[test]
    fn every_bit_of_a_succession_counts() {
        let link = chain(&[1, 2]).remove(0);
        let text = link.encode();
        assert_eq!(Succession::decode(&text), Ok(link));
        let bytes: [u8; Succession::LENGTH] = unbase32(&text).unwrap();
        for bit in 0..Succession::LENGTH * 8 {
            let mut changed = bytes;
            changed[bit / 8] ^= 1 << (bit % 8);
            let changed = Succession::decode(&base32(&changed)).unwrap();
            assert_eq!(changed.verify(), Err(IdentityError::Succession), "bit {bit}");
        }
        for bad in ["", "a", &text[1..], &format!("{text}a"), &text.replace(&text[..1], "1")] {
            assert_eq!(Succession::decode(bad), Err(IdentityError::Succession), "{bad:.9}");
        }
    }

    #[test]
    fn nobody_names_a_successor_for_another_or_against_its_will() {
        let (old, new, thief) = (identity(1), identity(2), identity(3));
        let good = Succession::make(&old, &new, 1, 1);
        // By somebody else than the old key.
        let mut forged = Succession::make(&thief, &new, 1, 1);
        forged.old = old.key();
        refused(&[forged], 2);
        // The owner of the old key names a node that knows nothing of it.
        let mut unasked = Succession::make(&old, &thief, 1, 1);
        unasked.new = new.key();
        refused(&[unasked], 2);
        // The signatures do not stand for each other.
        let mut crossed = good.clone();
        std::mem::swap(&mut crossed.by_old, &mut crossed.by_new);
        refused(&[crossed], 2);
        let mut doubled = good.clone();
        doubled.by_new = doubled.by_old;
        refused(&[doubled], 2);
    }

    #[test]
    fn rotations_are_kept_and_the_chain_stays_short() {
        let scratch = Scratch::new();
        let first = Identity::open(scratch.path()).unwrap();
        assert!(first.chain().is_empty());
        let mut keys = vec![first.key()];
        for round in 1..=MAX_CHAIN + 2 {
            let (old, new) = rotate(scratch.path()).unwrap();
            assert_eq!(Some(&old.key()), keys.last());
            keys.push(new.key());
            let opened = Identity::open(scratch.path()).unwrap();
            assert_eq!(opened.key(), new.key());
            assert_eq!(opened.chain(), new.chain());
            assert_eq!(opened.chain().len(), round.min(MAX_CHAIN));
            assert_eq!(opened.chain().last().unwrap().serial, round as u64);
        }
        assert!(
            serde_json::to_vec(&Identity::open(scratch.path()).unwrap().document())
                .unwrap()
                .len()
                < crate::identity::MAX_DOCUMENT
        );
        #[cfg(unix)]
        for name in [KEY_FILE, CHAIN_FILE] {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(scratch.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn a_rotation_that_is_cut_off_leaves_the_old_key_and_its_chain() {
        let scratch = Scratch::new();
        Identity::open(scratch.path()).unwrap();
        let (_, old) = rotate(scratch.path()).unwrap();
        // Everything but the last step: a chain that names a key which nobody has, and drafts.
        let lost = identity(9);
        let mut chain = old.chain().to_vec();
        chain.push(Succession::make(&old, &lost, 2, u64::MAX));
        keep_chain(scratch.path(), &chain).unwrap();
        fs::write(scratch.path().join("identity.key.rotating"), [9; 20]).unwrap();
        let opened = Identity::open(scratch.path()).unwrap();
        assert_eq!((opened.key(), opened.chain()), (old.key(), old.chain()));
        let (from, new) = rotate(scratch.path()).unwrap();
        assert_eq!(from.key(), old.key());
        assert_eq!(new.chain().len(), 2);
        assert!(new.chain().iter().all(|link| link.new != lost.key()));
        assert!(!scratch.path().join("identity.key.rotating").exists());
    }

    #[test]
    fn damaged_chains_and_those_of_others_are_told() {
        let scratch = Scratch::new();
        let own = Identity::open(scratch.path()).unwrap();
        let path = scratch.path().join(CHAIN_FILE);
        let others = chain(&[1, 2])[0].encode();
        for content in [
            b"nonsense".to_vec(),
            others.clone().into_bytes(),
            vec![0xff; 9],
            others.as_bytes()[1..].to_vec(),
        ] {
            fs::write(&path, content).unwrap();
            assert_eq!(
                Identity::open(scratch.path()).unwrap_err(),
                IdentityError::Chain(path.clone())
            );
        }
        fs::write(&path, "").unwrap();
        assert_eq!(Identity::open(scratch.path()).unwrap().key(), own.key());
    }

    #[test]
    fn a_node_that_runs_keeps_its_key() {
        let scratch = Scratch::new();
        assert!(matches!(rotate(scratch.path()), Err(RotationError::NoKey(_))));
        let key = Identity::open(scratch.path()).unwrap().key();
        let running = store::lock(scratch.path()).unwrap();
        let error = rotate(scratch.path()).unwrap_err();
        assert!(error.to_string().contains("stop it first"), "{error}");
        drop(running);
        assert_eq!(Identity::open(scratch.path()).unwrap().key(), key);
    }
}
