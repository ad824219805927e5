//! Who this node is: one 32-byte secret, from which its keys are derived, and the certificate that joins them.
//!
//! The Ed25519 key *is* the node: peers remember it and count parties by it. It signs the X25519 key of the encrypted
//! channels ([`Certificate`]), so that a channel key may change one day without the node becoming somebody else.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    str::FromStr,
};

use data_encoding::BASE32_NOPAD;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use snow::{
    params::DHChoice,
    resolvers::{CryptoResolver, DefaultResolver},
};
use zeroize::Zeroizing;

use crate::rotation::{MAX_CHAIN, Succession, open_chain, verify_chain};
use crate::store::make_directory;

/// Version of the protocol between nodes.
pub const PROTOCOL: u32 = 1;
/// Name of the secret's file in the data directory.
pub const KEY_FILE: &str = "identity.key";
/// Longest identity document that is read, in bytes.
pub const MAX_DOCUMENT: usize = 4096;

const SIGNING_CONTEXT: &str = "fdrtd 2026-01 identity: Ed25519 signing key";
const NOISE_CONTEXT: &str = "fdrtd 2026-01 identity: X25519 Noise static key";
const OTHER_CONTEXT: &str = "fdrtd 2026-01 identity: secrets of the node's services";
const CERTIFICATE_LABEL: &[u8] = b"fdrtd noise key v1\0";

/// The public Ed25519 key of a node: its name among peers. Written as 52 characters of lower-case base32.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PeerKey([u8; 32]);

impl PeerKey {
    /// From the 32 bytes of an Ed25519 public key. That somebody holds its secret is only proved by a handshake.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A short form for people: the first 16 characters in groups of four, `abcd-efgh-ijkl-mnop` (80 bits).
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let text = self.to_string();
        [&text[0..4], &text[4..8], &text[8..12], &text[12..16]].join("-")
    }
}

impl fmt::Display for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base32(&self.0))
    }
}

impl fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerKey({})", self.fingerprint())
    }
}

impl FromStr for PeerKey {
    type Err = IdentityError;
    fn from_str(text: &str) -> Result<Self, IdentityError> {
        Ok(Self(unbase32(text).ok_or(IdentityError::Key)?))
    }
}

impl TryFrom<String> for PeerKey {
    type Error = IdentityError;
    fn try_from(text: String) -> Result<Self, IdentityError> {
        text.parse()
    }
}

impl From<PeerKey> for String {
    fn from(key: PeerKey) -> Self {
        key.to_string()
    }
}

/// The secret of this node and the keys derived from it.
pub struct Identity {
    seed: Zeroizing<[u8; 32]>,
    signing: SigningKey,
    noise_secret: Zeroizing<[u8; 32]>,
    certificate: Certificate,
    chain: Vec<Succession>,
}

impl Identity {
    /// Opens the key file in `directory`, or creates it (readable by its owner only) if there is none.
    ///
    /// # Errors
    /// [`IdentityError`] if the file cannot be read or written, is damaged, or may be read by others.
    pub fn open(directory: &Path) -> Result<Self, IdentityError> {
        let path = directory.join(KEY_FILE);
        match File::open(&path) {
            Ok(file) => {
                let identity = Self::from_seed(&*read_seed(file, &path)?);
                let chain = open_chain(directory, identity.key())?;
                Ok(identity.with_chain(chain))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::create(directory, &path),
            Err(error) => Err(IdentityError::file(&path, &error)),
        }
    }

    /// The same, after those keys.
    #[must_use]
    pub fn with_chain(mut self, chain: Vec<Succession>) -> Self {
        self.chain = chain;
        self
    }

    /// How this key came after others of the node.
    #[must_use]
    pub fn chain(&self) -> &[Succession] {
        &self.chain
    }

    /// A new identity that is kept in memory only.
    ///
    /// # Errors
    /// [`IdentityError::Random`] if the operating system gives no randomness.
    pub fn ephemeral() -> Result<Self, IdentityError> {
        let seed = random_seed()?;
        Ok(Self::from_seed(&seed))
    }

    /// The identity of a given secret: the same secret gives the same keys.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let signing_secret = Zeroizing::new(blake3::derive_key(SIGNING_CONTEXT, seed));
        let signing = SigningKey::from_bytes(&signing_secret);
        let noise_secret = Zeroizing::new(blake3::derive_key(NOISE_CONTEXT, seed));
        let noise_public = x25519_public(&noise_secret);
        let certificate = Certificate {
            key: PeerKey(signing.verifying_key().to_bytes()),
            noise_public,
            signature: signing.sign(&signed_text(&noise_public)).to_bytes(),
        };
        Self {
            seed: Zeroizing::new(*seed),
            signing,
            noise_secret,
            certificate,
            chain: Vec::new(),
        }
    }

    /// The public key: the name of this node among its peers.
    #[must_use]
    pub fn key(&self) -> PeerKey {
        self.certificate.key
    }

    /// The certificate that joins the node's key and its channel key.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// What `GET {base}/identity` answers.
    #[must_use]
    pub fn document(&self) -> IdentityDocument {
        IdentityDocument {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            key: self.key(),
            fingerprint: self.key().fingerprint(),
            spoken: self.key().spoken(),
            noise: base32(&self.certificate.noise_public),
            certificate: base32(&self.certificate.to_bytes()),
            chain: self.chain.iter().map(Succession::encode).collect(),
        }
    }

    /// A secret for another use of the node, the same after a restart. Every use has its own `context`.
    #[must_use]
    pub fn derive_secret(&self, context: &'static str) -> Zeroizing<[u8; 32]> {
        // Two steps, so that no context given here can ever meet one of the contexts above.
        let other = Zeroizing::new(blake3::derive_key(OTHER_CONTEXT, self.seed.as_ref()));
        Zeroizing::new(blake3::derive_key(context, other.as_ref()))
    }

    /// Signs `message` with the node's key. Callers begin it with a label of their own that ends in a zero byte.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.signing.sign(message).to_bytes()
    }

    /// The X25519 secret of the encrypted channels.
    pub(crate) fn noise_secret(&self) -> &Zeroizing<[u8; 32]> {
        &self.noise_secret
    }

    fn create(directory: &Path, path: &Path) -> Result<Self, IdentityError> {
        let failed = |error: io::Error| IdentityError::file(path, &error);
        make_directory(directory).map_err(failed)?;
        let seed = random_seed()?;
        let mut suffix = [0; 8];
        getrandom::fill(&mut suffix).map_err(|_| IdentityError::Random)?;
        let draft = directory.join(format!("{KEY_FILE}.{:016x}.new", u64::from_le_bytes(suffix)));
        let made = write_private(&draft, &seed[..]).and_then(|()| publish(&draft, path, &seed));
        let _ = fs::remove_file(&draft);
        match made {
            Ok(()) => {
                if let Ok(handle) = File::open(directory) {
                    // Not every platform can flush a directory; the key itself is on disk already.
                    let _ = handle.sync_all();
                }
                Ok(Self::from_seed(&seed))
            }
            // Another process of the same node was faster: its key is the node's key.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let file = File::open(path).map_err(failed)?;
                read_seed(file, path).map(|seed| Self::from_seed(&seed))
            }
            Err(error) => Err(failed(error)),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.key().fingerprint())
    }
}

/// "The channels of `key` are those of `noise_public`", signed by `key`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificate {
    /// The node.
    pub key: PeerKey,
    /// Its X25519 key.
    pub noise_public: [u8; 32],
    /// Ed25519 over a fixed label and `noise_public`.
    pub signature: [u8; 64],
}

impl Certificate {
    /// Length of the encoded form.
    pub const LENGTH: usize = 128;

    /// Checks the signature. Small-order keys and non-canonical signatures are refused.
    ///
    /// # Errors
    /// [`IdentityError::Certificate`].
    pub fn verify(&self) -> Result<PeerKey, IdentityError> {
        let key = VerifyingKey::from_bytes(self.key.as_bytes()).map_err(|_| IdentityError::Certificate)?;
        key.verify_strict(
            &signed_text(&self.noise_public),
            &Signature::from_bytes(&self.signature),
        )
        .map_err(|_| IdentityError::Certificate)?;
        Ok(self.key)
    }

    /// Key, channel key, signature: 32 + 32 + 64 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[..32].copy_from_slice(&self.key.0);
        bytes[32..64].copy_from_slice(&self.noise_public);
        bytes[64..].copy_from_slice(&self.signature);
        bytes
    }

    /// The inverse of [`Certificate::to_bytes`]; nothing is verified yet.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::LENGTH]) -> Self {
        let mut certificate = Self {
            key: PeerKey([0; 32]),
            noise_public: [0; 32],
            signature: [0; 64],
        };
        certificate.key.0.copy_from_slice(&bytes[..32]);
        certificate.noise_public.copy_from_slice(&bytes[32..64]);
        certificate.signature.copy_from_slice(&bytes[64..]);
        certificate
    }
}

/// What a node says about itself at `GET {base}/identity`. Unknown members are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityDocument {
    /// Version of the protocol between nodes.
    pub protocol: u32,
    /// Version of the software.
    pub version: String,
    /// The node's key.
    pub key: PeerKey,
    /// Its short form for people.
    pub fingerprint: String,
    /// Its form to be read aloud.
    #[serde(default)]
    pub spoken: String,
    /// The X25519 key, base32.
    pub noise: String,
    /// The certificate of 128 bytes, base32.
    pub certificate: String,
    /// The node's last successions, the oldest first; each 208 bytes in base32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<String>,
}

/// What an identity document has proved, and what it shows. That somebody holds the key's secret is proved by a handshake only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The key.
    pub key: PeerKey,
    /// How it came after others; verified.
    pub chain: Vec<Succession>,
}

impl IdentityDocument {
    /// Parses a document from a peer and checks that all it says hangs together.
    ///
    /// # Errors
    /// [`IdentityError`]: too long, not such a document, another protocol version, or a certificate or succession that does not verify.
    pub fn parse(bytes: &[u8]) -> Result<Shown, IdentityError> {
        #[derive(Deserialize)]
        struct Version {
            protocol: u32,
        }
        if bytes.len() > MAX_DOCUMENT {
            return Err(IdentityError::Document);
        }
        // The version first: a later one may have changed everything else.
        let Version { protocol } = serde_json::from_slice(bytes).map_err(|_| IdentityError::Document)?;
        if protocol != PROTOCOL {
            return Err(IdentityError::Version(protocol));
        }
        let document: Self = serde_json::from_slice(bytes).map_err(|_| IdentityError::Document)?;
        let certificate = unbase32(&document.certificate).ok_or(IdentityError::Certificate)?;
        let certificate = Certificate::from_bytes(&certificate);
        let consistent = certificate.key == document.key
            && unbase32(&document.noise) == Some(certificate.noise_public)
            && document.fingerprint == document.key.fingerprint()
            && (document.spoken.is_empty() || document.spoken == document.key.spoken());
        if !consistent {
            return Err(IdentityError::Certificate);
        }
        let key = certificate.verify()?;
        if document.chain.len() > MAX_CHAIN {
            return Err(IdentityError::Succession);
        }
        let chain = document.chain.iter().map(|text| Succession::decode(text));
        let chain: Vec<Succession> = chain.collect::<Result<_, _>>()?;
        verify_chain(&chain, key)?;
        Ok(Shown { key, chain })
    }
}

/// What can be wrong with an identity, one's own or a peer's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The key file cannot be read or written.
    #[error("the key file {} cannot be used: {kind}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        kind: io::ErrorKind,
    },
    /// The key file may be read or written by others.
    #[error("the key file {} may be accessed by other users (mode {mode:03o}); run: chmod 600 {}", .path.display(), .path.display())]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key file has not exactly 32 bytes.
    #[error("the key file {} is damaged (it must have exactly 32 bytes); restore it from a backup", .0.display())]
    Damaged(PathBuf),
    /// No randomness from the operating system.
    #[error("the operating system gives no randomness")]
    Random,
    /// Not 52 characters of base32.
    #[error("a node key has 52 characters of base32 (a-z, 2-7)")]
    Key,
    /// Not an identity document.
    #[error("the answer is not the identity of a node")]
    Document,
    /// Another version of the protocol.
    #[error("the node speaks version {0} of the protocol, this one speaks version {PROTOCOL}")]
    Version(u32),
    /// The certificate does not verify or contradicts what is said beside it.
    #[error("the certificate of the node does not verify")]
    Certificate,
    /// The keys that the node says to have had do not follow each other, or a signature does not verify.
    #[error("the succession of the node's keys does not verify")]
    Succession,
    /// The file of the node's successions is damaged or another node's.
    #[error("the file {} does not belong to the key beside it; restore both from one backup (without the file, peers that know an older key must be told the new one)", .0.display())]
    Chain(PathBuf),
}

impl IdentityError {
    pub(crate) fn file(path: &Path, error: &io::Error) -> Self {
        Self::File {
            path: path.to_owned(),
            kind: error.kind(),
        }
    }
}

fn signed_text(noise_public: &[u8; 32]) -> Vec<u8> {
    [CERTIFICATE_LABEL, noise_public].concat()
}

fn x25519_public(secret: &[u8; 32]) -> [u8; 32] {
    let mut dh = DefaultResolver
        .resolve_dh(&DHChoice::Curve25519)
        .expect("snow is built with the feature use-curve25519");
    dh.set(secret);
    let mut public = [0; 32];
    public.copy_from_slice(dh.pubkey());
    public
}

pub(crate) fn random_seed() -> Result<Zeroizing<[u8; 32]>, IdentityError> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut()).map_err(|_| IdentityError::Random)?;
    Ok(seed)
}

fn read_seed(mut file: File, path: &Path) -> Result<Zeroizing<[u8; 32]>, IdentityError> {
    let failed = |error: io::Error| IdentityError::file(path, &error);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Asked of the open file, not of the path, which may be exchanged in between.
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(IdentityError::Permissions {
                path: path.to_owned(),
                mode,
            });
        }
    }
    let mut seed = Zeroizing::new([0; 32]);
    let damaged = |_| IdentityError::Damaged(path.to_owned());
    file.read_exact(seed.as_mut()).map_err(damaged)?;
    match file.read(&mut [0; 1]).map_err(failed)? {
        0 => Ok(seed),
        _ => Err(IdentityError::Damaged(path.to_owned())),
    }
}

pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Gives the complete draft its final name. A link never replaces a key that another process has just made, and neither
/// does a new file, where the file system knows no links.
fn publish(draft: &Path, path: &Path, seed: &[u8; 32]) -> io::Result<()> {
    match fs::hard_link(draft, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => write_private(path, seed),
        result => result,
    }
}

pub(crate) fn base32(bytes: &[u8]) -> String {
    BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

/// Exactly `N` bytes in lower- or upper-case base32; the length is checked before anything is decoded.
pub(crate) fn unbase32<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != BASE32_NOPAD.encode_len(N) {
        return None;
    }
    let decoded = BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).ok()?;
    decoded.try_into().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Directory(PathBuf);

    impl Directory {
        fn new() -> Self {
            let mut name = [0; 8];
            getrandom::fill(&mut name).unwrap();
            let path = std::env::temp_dir().join(format!("fdrtd-identity-{}", base32(&name)));
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_key_file_is_made_once_and_kept() {
        let directory = Directory::new();
        let first = Identity::open(&directory.0).unwrap();
        let second = Identity::open(&directory.0).unwrap();
        assert_eq!(first.key(), second.key());
        let names: Vec<_> = fs::read_dir(&directory.0)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(names, [KEY_FILE], "no draft is left behind");
    }

    #[test]
    fn processes_that_start_together_agree_on_one_key() {
        let directory = Directory::new();
        let keys: Vec<PeerKey> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| Identity::open(&directory.0).unwrap().key()))
                .collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
    }

    #[test]
    fn a_file_system_without_links_loses_no_key() {
        let directory = Directory::new();
        make_directory(&directory.0).unwrap();
        let path = directory.0.join(KEY_FILE);
        // Nothing can be linked from a draft that is not there.
        let draft = directory.0.join("draft");
        publish(&draft, &path, &[1; 32]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), [1; 32]);
        let error = publish(&draft, &path, &[2; 32]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), [1; 32]);
    }

    #[cfg(unix)]
    #[test]
    fn the_key_file_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let directory = Directory::new();
        Identity::open(&directory.0).unwrap();
        let path = directory.0.join(KEY_FILE);
        assert_eq!(fs::metadata(&directory.0).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = Identity::open(&directory.0).unwrap_err();
        assert_eq!(error, IdentityError::Permissions { path, mode: 0o640 });
        assert!(error.to_string().contains("chmod 600"));
    }

    #[test]
    fn a_damaged_key_file_is_never_replaced() {
        for length in [0, 31, 33] {
            let directory = Directory::new();
            fs::create_dir_all(&directory.0).unwrap();
            let path = directory.0.join(KEY_FILE);
            write_private(&path, &vec![7; length]).unwrap();
            assert_eq!(
                Identity::open(&directory.0).unwrap_err(),
                IdentityError::Damaged(path.clone())
            );
            assert_eq!(fs::read(&path).unwrap().len(), length);
        }
    }

    #[test]
    fn keys_are_fixed_by_the_seed() {
        // A change of derivation would make every node a stranger to its peers.
        let identity = Identity::from_seed(&[7; 32]);
        assert_eq!(identity.key().to_string(), KNOWN_KEY);
        assert_eq!(base32(&identity.certificate.noise_public), KNOWN_NOISE);
        assert_eq!(identity.key().fingerprint().len(), 19);
        assert!(KNOWN_KEY.starts_with(&identity.key().fingerprint().replace('-', "")));
        assert_ne!(Identity::from_seed(&[8; 32]).key(), identity.key());
        assert_ne!(identity.derive_secret("a"), identity.derive_secret("b"));
        assert_ne!(*identity.derive_secret(NOISE_CONTEXT), **identity.noise_secret());
    }

    const KNOWN_KEY: &str = "lr3ysnozznqk4g3cdtdjyleugys4x6nkunbbxmm5vnzsh2dfgcnq";
    const KNOWN_NOISE: &str = "pwjtl7eltby5335ohfavdm55lasogxijtvaoe5bohcvuvxr4k5yq";

    #[test]
    fn peer_keys_as_text() {
        let key = Identity::from_seed(&[1; 32]).key();
        let text = key.to_string();
        assert_eq!(text.len(), 52);
        assert_eq!(text.parse(), Ok(key));
        assert_eq!(text.to_uppercase().parse(), Ok(key));
        for bad in [
            "",
            "abc",
            &text[1..],
            &format!("{text}a"),
            &text.replace(&text[..1], "1"),
            &"\u{e9}".repeat(26),
        ] {
            assert_eq!(bad.parse::<PeerKey>(), Err(IdentityError::Key), "{bad}");
        }
        assert_eq!(serde_json::to_string(&key).unwrap(), format!("\"{text}\""));
        assert!(serde_json::from_str::<PeerKey>("\"x\"").is_err());
    }

    #[test]
    fn nothing_secret_in_debug() {
        let identity = Identity::from_seed(&[7; 32]);
        assert_eq!(
            format!("{identity:?}"),
            format!("Identity({})", identity.key().fingerprint())
        );
    }

    #[test]
    fn every_bit_of_a_certificate_counts() {
        let certificate = Identity::from_seed(&[7; 32]).certificate().clone();
        let bytes = certificate.to_bytes();
        assert_eq!(Certificate::from_bytes(&bytes), certificate);
        assert_eq!(certificate.verify(), Ok(certificate.key));
        for bit in 0..Certificate::LENGTH * 8 {
            let mut changed = bytes;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(Certificate::from_bytes(&changed).verify().is_err(), "bit {bit}");
        }
        // With a key of small order anything would verify in the lax mode.
        assert!(Certificate::from_bytes(&[0; Certificate::LENGTH]).verify().is_err());
    }

    #[test]
    fn documents_are_checked_as_a_whole() {
        let identity = Identity::from_seed(&[7; 32]);
        let good = identity.document();
        let parse = |document: &IdentityDocument| {
            IdentityDocument::parse(&serde_json::to_vec(document).unwrap()).map(|shown| shown.key)
        };
        assert_eq!(parse(&good), Ok(identity.key()));

        let other = Identity::from_seed(&[8; 32]).document();
        let changed: [fn(&mut IdentityDocument, &IdentityDocument); 5] = [
            |document, other| document.spoken.clone_from(&other.spoken),
            |document, other| document.key = other.key,
            |document, other| document.noise.clone_from(&other.noise),
            |document, other| document.certificate.clone_from(&other.certificate),
            |document, other| document.fingerprint.clone_from(&other.fingerprint),
        ];
        for change in changed {
            let mut document = good.clone();
            change(&mut document, &other);
            assert_eq!(parse(&document), Err(IdentityError::Certificate));
        }
        assert_eq!(
            IdentityDocument::parse(br#"{"protocol":2,"anything":[]}"#),
            Err(IdentityError::Version(2))
        );
        // Successions are as those of the key, and few.
        let link = Succession::make(&Identity::from_seed(&[8; 32]), &identity, 1, 1).encode();
        let with = |chain: Vec<String>| IdentityDocument { chain, ..good.clone() };
        let shown = IdentityDocument::parse(&serde_json::to_vec(&with(vec![link.clone()])).unwrap()).unwrap();
        assert_eq!(shown.chain[0].encode(), link);
        for chain in [
            vec![link.clone(); 2],
            vec![String::new()],
            vec![String::new(); MAX_CHAIN + 1],
            vec![link[1..].to_owned()],
        ] {
            assert_eq!(parse(&with(chain)), Err(IdentityError::Succession));
        }
        let long = format!("{}{}", serde_json::to_string(&good).unwrap(), " ".repeat(MAX_DOCUMENT));
        for bad in ["", "{}", "[]", "<html>", "{\"protocol\":1}", &long] {
            assert_eq!(
                IdentityDocument::parse(bad.as_bytes()),
                Err(IdentityError::Document),
                "{bad:.20}"
            );
        }
    }
}
