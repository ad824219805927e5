//! A data directory in one file, and back.
//!
//! ```text
//! "fdrtd backup\n"  length of the header (u32, little endian)  header (JSON)  the files, one after the other  tag (32 bytes)
//! ```
//! The header names the files with their lengths. The tag is a BLAKE3 MAC of everything before it under a subkey of the storage key: whoever has that key
//! and restores the file gets what was backed up, or nothing. The backup holds the secret of the node's identity, and the storage key only if that is wanted.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::audit::Audit;
use crate::identity::{Identity, IdentityError, KEY_FILE, PeerKey};
use crate::principal::Principal;
use crate::rotation::CHAIN_FILE;
use crate::store::{self, DATABASE, StorageKey, StoreError, load_or_create_key, make_directory, private_options};

/// Name of the storage key's file in the data directory, unless it lies elsewhere.
pub const STORAGE_KEY: &str = "storage.key";

const MAGIC: &[u8] = b"fdrtd backup\n";
const VERSION: u32 = 1;
const LONGEST_HEADER: u32 = 64 << 10;
/// Longest of the small files beside the database.
const LONGEST_FILE: u64 = 1 << 20;
/// Most files in a backup.
const MOST_FILES: usize = 64;
/// The node's identity. These may be links to where secrets are kept; other links lead out of the directory, and are not followed.
const IDENTITY: [&str; 2] = [KEY_FILE, CHAIN_FILE];
const TAG: u64 = 32;

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Of the form of this file.
    pub version: u32,
    /// When it was made, in seconds since 1970.
    pub time: u64,
    /// Version of the program that made it.
    pub fdrtd: String,
    /// Whose it is.
    pub key: PeerKey,
    /// In their order.
    pub files: Vec<Part>,
}

/// A file in a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Without directories.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

impl Header {
    /// Whether the storage key is in it.
    pub fn has_key(&self) -> bool {
        self.files.iter().any(|part| part.name == STORAGE_KEY)
    }
}

/// Why there is no backup, or none is restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file cannot be read or written.
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
    /// The storage.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Nothing is written over.
    #[error("{0} is there already; choose another name")]
    Exists(PathBuf),
    /// A restore would refuse it.
    #[error("the data directory {0} holds more than {MOST_FILES} files; move away what is not the node's")]
    TooMany(PathBuf),
    /// The disk, or a mistake of this program.
    #[error("what was written to {0} could not be read back as a backup; there is none")]
    NotReadBack(PathBuf),
    /// There is no backup in it.
    #[error("{0} is not a backup of a node")]
    NoBackup(PathBuf),
    /// Of a later version.
    #[error("{0} is a backup of version {1}, this program knows version {VERSION}; update it")]
    Newer(PathBuf, u32),
    /// Not what was written, or another key.
    #[error(
        "{0} is damaged, cut off or changed, or the storage key is not the one with which it was made; nothing was restored"
    )]
    Damaged(PathBuf),
    /// Without the key there is no telling.
    #[error(
        "the backup holds no storage key, and there is none at {0}; name the file with --storage-key-file: without it the backup is of no use"
    )]
    NoKey(PathBuf),
    /// The directory has something in it.
    #[error("the data directory {0} is not empty; with --force it is moved aside and the backup takes its place")]
    NotEmpty(PathBuf),
}

fn at(path: &Path) -> impl Fn(io::Error) -> BackupError + '_ {
    |error| BackupError::File(path.to_owned(), error)
}

/// Backs the directory up into a file that is not there yet. A node may be running on it.
///
/// The storage key is in it only `with_key`, under its usual name, wherever it lies. Copies of it, what its making may have left behind and other backups
/// (which may hold it) are never in one.
///
/// # Errors
/// [`BackupError`]; then there is no such file.
pub fn backup(dir: &Path, key_file: &Path, file: &Path, with_key: bool) -> Result<Header, BackupError> {
    if file.try_exists().map_err(at(file))? {
        return Err(BackupError::Exists(file.to_owned()));
    }
    let reader = store::inspect(dir)?;
    let identity = open_identity(dir)?;
    let key = existing_key(key_file)?;
    if !reader.opens(&key)? {
        return Err(StoreError::WrongKey(dir.to_owned()).into());
    }
    let copy = Draft::new(file, "db")?;
    reader.copy_to(&copy.path)?;
    let draft = Draft::new(file, "new")?;
    let header = write(dir, &copy.path, key_file, &key, &identity, with_key, &draft.path)?;
    read_back(&draft.path, &header, &key).map_err(|error| match error {
        BackupError::File(..) | BackupError::Store(_) => error,
        _ => BackupError::NotReadBack(file.to_owned()),
    })?;
    // A link never replaces a file that somebody has made meanwhile.
    fs::hard_link(&draft.path, file).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => BackupError::Exists(file.to_owned()),
        _ => BackupError::File(file.to_owned(), error),
    })?;
    sync_directory(parent(file));
    Ok(header)
}

fn write(
    dir: &Path,
    database: &Path,
    key_file: &Path,
    key: &StorageKey,
    identity: &Identity,
    with_key: bool,
    draft: &Path,
) -> Result<Header, BackupError> {
    let mut sources = vec![(DATABASE.to_owned(), database.to_owned())];
    sources.extend(small_files(dir, key_file, key)?);
    // They are in the directory if the backup is made there.
    let drafts = [database.file_name(), draft.file_name()];
    sources.retain(|(name, _)| !drafts.contains(&Some(name.as_ref())));
    if with_key {
        sources.push((STORAGE_KEY.to_owned(), key_file.to_owned()));
    }
    if sources.len() > MOST_FILES {
        return Err(BackupError::TooMany(dir.to_owned()));
    }
    let mut files = Vec::new();
    for (name, path) in &sources {
        let bytes = fs::metadata(path).map_err(at(path))?.len();
        files.push(Part {
            name: name.clone(),
            bytes,
        });
    }
    let header = Header {
        version: VERSION,
        time: crate::services::Clock::System.now(),
        fdrtd: env!("CARGO_PKG_VERSION").to_owned(),
        key: identity.key(),
        files,
    };
    let file = private_options().open(draft).map_err(at(draft))?;
    let mut out = Hashing {
        inner: io::BufWriter::new(file),
        hasher: blake3::Hasher::new_keyed(&*store::authenticator(key)?),
    };
    let text = serde_json::to_vec(&header).unwrap_or_default();
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    for bytes in [MAGIC, &length.to_le_bytes(), &text] {
        out.write_all(bytes).map_err(at(draft))?;
    }
    for (part, (_, path)) in header.files.iter().zip(&sources) {
        let mut source = File::open(path).map_err(at(path))?.take(part.bytes);
        let copied = io::copy(&mut source, &mut out).map_err(at(path))?;
        if copied != part.bytes {
            return Err(BackupError::File(path.clone(), io::ErrorKind::UnexpectedEof.into()));
        }
    }
    let tag = out.hasher.finalize();
    out.inner.write_all(tag.as_bytes()).map_err(at(draft))?;
    let file = out.inner.into_inner().map_err(|error| at(draft)(error.into_error()))?;
    file.sync_all().map_err(at(draft))?;
    Ok(header)
}

/// A finished backup, read as [`restore`] would read it.
fn read_back(draft: &Path, header: &Header, key: &StorageKey) -> Result<(), BackupError> {
    let mut source = File::open(draft).map_err(at(draft))?;
    if read_header(&mut source, draft)? != *header {
        return Err(BackupError::Damaged(draft.to_owned()));
    }
    let start = source.stream_position().map_err(at(draft))?;
    source.seek(SeekFrom::Start(0)).map_err(at(draft))?;
    verify(&mut source, draft, header, start, key)
}

/// What lies in the directory beside the database: identity, tokens, certificates.
fn small_files(dir: &Path, key_file: &Path, key: &StorageKey) -> Result<Vec<(String, PathBuf)>, BackupError> {
    let key_file = fs::canonicalize(key_file).map_err(at(key_file))?;
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(at(dir))? {
        let entry = entry.map_err(at(dir))?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let path = entry.path();
        let metadata = match IDENTITY.contains(&name.as_str()) {
            true => fs::metadata(&path),
            false => entry.metadata(),
        };
        let metadata = metadata.map_err(at(&path))?;
        let own = name.starts_with(DATABASE) || name == "node.lock" || name.starts_with(STORAGE_KEY);
        if own || !is_plain(&name) || !metadata.is_file() || metadata.len() > LONGEST_FILE {
            continue;
        }
        if !is_kept_apart(&path, metadata.len(), &key_file, key)? {
            found.push((name, path));
        }
    }
    found.sort();
    Ok(found)
}

/// Whether a file is the storage key, a copy of it, or a backup, which may hold it.
fn is_kept_apart(path: &Path, length: u64, key_file: &Path, key: &StorageKey) -> Result<bool, BackupError> {
    if fs::canonicalize(path).map_err(at(path))? == key_file {
        return Ok(true);
    }
    let mut start = Zeroizing::new(Vec::with_capacity(key.len()));
    let mut file = File::open(path).map_err(at(path))?.take(key.len() as u64);
    file.read_to_end(&mut start).map_err(at(path))?;
    let is_key = length == key.len() as u64 && bool::from(start.ct_eq(&key[..]));
    Ok(is_key || start.starts_with(MAGIC))
}

/// A name that leads nowhere else.
fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !name.starts_with('.') && (1..=100).contains(&name.len()) && name.bytes().all(plain)
}

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    /// What the backup says of itself.
    pub header: Header,
    /// Where the directory that was there before is now.
    pub replaced: Option<PathBuf>,
    /// Whether the storage key is in the directory.
    pub key_inside: bool,
}

/// Puts a backup into the place of `dir`. Everything is verified beforehand, in a directory beside it.
///
/// The storage key is that of the backup, or else that of `key_file`, or else the one in `dir`.
///
/// # Errors
/// [`BackupError`]; then `dir` is as it was.
pub fn restore(file: &Path, dir: &Path, key_file: Option<&Path>, force: bool) -> Result<Restored, BackupError> {
    let occupied = match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(BackupError::File(dir.to_owned(), error)),
    };
    if occupied && !force {
        return Err(BackupError::NotEmpty(dir.to_owned()));
    }
    // Nobody may be using it, until it is moved aside.
    let _lock = occupied.then(|| store::lock(dir)).transpose()?;
    let mut source = File::open(file).map_err(at(file))?;
    let header = read_header(&mut source, file)?;
    let beside = sibling(dir, "restoring")?;
    make_directory(&beside).map_err(at(&beside))?;
    let restored = restore_beside(&mut source, file, &header, dir, &beside, key_file)
        .and_then(|key_inside| Ok((key_inside, exchange(&beside, dir, occupied)?)));
    match restored {
        Ok((key_inside, replaced)) => Ok(Restored {
            header,
            replaced,
            key_inside,
        }),
        Err(error) => {
            let _ = fs::remove_dir_all(&beside);
            Err(error)
        }
    }
}

/// Fills and verifies the new directory; whether it holds the storage key.
fn restore_beside(
    source: &mut File,
    file: &Path,
    header: &Header,
    dir: &Path,
    beside: &Path,
    key_file: Option<&Path>,
) -> Result<bool, BackupError> {
    let start = source.stream_position().map_err(at(file))?;
    unpack(source, file, header, beside)?;
    let inside = beside.join(STORAGE_KEY);
    let in_place = dir.join(STORAGE_KEY);
    let (key, key_inside) = match key_file {
        _ if header.has_key() => (existing_key(&inside)?, true),
        Some(path) => (existing_key(path)?, false),
        None => {
            let key = existing_key(&in_place)?;
            fs::copy(&in_place, &inside).map_err(at(&inside))?;
            File::open(&inside)
                .and_then(|copy| copy.sync_all())
                .map_err(at(&inside))?;
            (key, true)
        }
    };
    source.seek(SeekFrom::Start(0)).map_err(at(file))?;
    verify(source, file, header, start, &key)?;
    let identity = Arc::new(open_identity(beside)?);
    if identity.key() != header.key {
        return Err(BackupError::Damaged(file.to_owned()));
    }
    let detail = serde_json::json!({"backup": header.time, "fdrtd": header.fdrtd});
    let note = Audit::default().entry(&Principal::operator(), "node.restore", None, &detail);
    store::check_copy(beside, &key, identity, &note)?;
    sync_directory(beside);
    Ok(key_inside)
}

fn read_header(source: &mut File, file: &Path) -> Result<Header, BackupError> {
    let no_backup = |_| BackupError::NoBackup(file.to_owned());
    let mut start = [0; MAGIC.len() + 4];
    source.read_exact(&mut start).map_err(no_backup)?;
    let (magic, length) = start.split_at(MAGIC.len());
    let length = u32::from_le_bytes(length.try_into().unwrap_or_default());
    if magic != MAGIC || length > LONGEST_HEADER {
        return Err(BackupError::NoBackup(file.to_owned()));
    }
    let mut text = vec![0; length as usize];
    source.read_exact(&mut text).map_err(no_backup)?;
    let damaged = || BackupError::Damaged(file.to_owned());
    let said: serde_json::Value = serde_json::from_slice(&text).map_err(|_| damaged())?;
    let version = said["version"].as_u64().unwrap_or(0);
    if version != u64::from(VERSION) {
        return Err(BackupError::Newer(
            file.to_owned(),
            u32::try_from(version).unwrap_or(u32::MAX),
        ));
    }
    let header: Header = serde_json::from_value(said).map_err(|_| damaged())?;
    let names = || header.files.iter().map(|part| part.name.as_str());
    let twice = names()
        .enumerate()
        .any(|(index, name)| names().take(index).any(|other| other == name));
    let small = header
        .files
        .iter()
        .all(|part| part.name == DATABASE || part.bytes <= LONGEST_FILE);
    let present = [DATABASE, KEY_FILE]
        .iter()
        .all(|needed| names().any(|name| name == *needed));
    if twice || !small || !present || header.files.len() > MOST_FILES || !names().all(is_plain) {
        return Err(damaged());
    }
    // Before anything is written: the lengths are those of the file.
    let sum = header
        .files
        .iter()
        .try_fold(0_u64, |sum, part| sum.checked_add(part.bytes));
    let before = source.stream_position().map_err(at(file))?;
    let whole = source.metadata().map_err(at(file))?.len();
    if sum.and_then(|sum| sum.checked_add(before)?.checked_add(TAG)) != Some(whole) {
        return Err(damaged());
    }
    Ok(header)
}

fn unpack(source: &mut File, file: &Path, header: &Header, beside: &Path) -> Result<(), BackupError> {
    for part in &header.files {
        let path = beside.join(&part.name);
        let mut out = private_options().create_new(true).open(&path).map_err(at(&path))?;
        let copied = io::copy(&mut source.take(part.bytes), &mut out).map_err(at(&path))?;
        if copied != part.bytes {
            return Err(BackupError::Damaged(file.to_owned()));
        }
        out.sync_all().map_err(at(&path))?;
    }
    Ok(())
}

fn verify(source: &mut File, file: &Path, header: &Header, start: u64, key: &StorageKey) -> Result<(), BackupError> {
    let length = header.files.iter().fold(start, |sum, part| sum + part.bytes);
    let mut hasher = blake3::Hasher::new_keyed(&*store::authenticator(key)?);
    io::copy(&mut source.take(length), &mut hasher).map_err(at(file))?;
    let mut tag = [0; TAG as usize];
    source.read_exact(&mut tag).map_err(at(file))?;
    match bool::from(hasher.finalize().as_bytes().ct_eq(&tag)) {
        true => Ok(()),
        false => Err(BackupError::Damaged(file.to_owned())),
    }
}

/// The new directory in the place of the old one, which goes aside.
fn exchange(beside: &Path, dir: &Path, occupied: bool) -> Result<Option<PathBuf>, BackupError> {
    let replaced = match occupied {
        true => {
            let aside = sibling(dir, "replaced")?;
            fs::rename(dir, &aside).map_err(at(dir))?;
            Some(aside)
        }
        false => None,
    };
    if let Err(error) = fs::rename(beside, dir) {
        if let Some(aside) = &replaced {
            let _ = fs::rename(aside, dir);
        }
        return Err(BackupError::File(dir.to_owned(), error));
    }
    sync_directory(parent(dir));
    Ok(replaced)
}

/// A file that goes away unless it gets its name.
struct Draft {
    path: PathBuf,
}

impl Draft {
    fn new(file: &Path, what: &str) -> Result<Draft, BackupError> {
        let path = sibling(file, what)?;
        private_options().create_new(true).open(&path).map_err(at(&path))?;
        Ok(Draft { path })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

struct Hashing<W> {
    inner: W,
    hasher: blake3::Hasher,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Only one that is there: nothing is made here.
fn existing_key(path: &Path) -> Result<StorageKey, BackupError> {
    match path.try_exists() {
        Ok(true) => Ok(load_or_create_key(path)?),
        _ => Err(BackupError::NoKey(path.to_owned())),
    }
}

fn open_identity(dir: &Path) -> Result<Identity, BackupError> {
    let path = dir.join(KEY_FILE);
    fs::metadata(&path).map_err(at(&path))?;
    Ok(Identity::open(dir)?)
}

/// A name beside `path` that nobody else has.
fn sibling(path: &Path, what: &str) -> Result<PathBuf, BackupError> {
    let mut suffix = [0; 8];
    getrandom::fill(&mut suffix).map_err(|_| StoreError::Sealing)?;
    // Without a slash or dots at its end.
    let named = parent(path).join(path.file_name().unwrap_or("data".as_ref()));
    let mut name = named.into_os_string();
    name.push(format!(".{what}-{:016x}", u64::from_le_bytes(suffix)));
    Ok(PathBuf::from(name))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Not every platform can flush a directory; the files in it are on the disk already.
fn sync_directory(dir: &Path) {
    if let Ok(dir) = File::open(dir) {
        let _ = dir.sync_all();
    }
}

#[cfg(test)]
mod tests;
