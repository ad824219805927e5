//! What must survive a restart: encrypted records and the audit in one SQLite file, written by one thread.
//!
//! A record is `(kind, id)` → bytes and the time at which it expires. Each is sealed with AES-256-GCM under a key of its own,
//! derived from the storage key and a random salt, and bound to its kind and id: whoever holds the file alone can read nothing,
//! and moving a record under another name makes it unreadable. Visible in the file are kinds, ids, sizes and times, and the audit.
//!
//! Writes wait in a queue; the writer thread commits everything queued in one transaction. What a write has to say to the audit is in the
//! transaction of the write. With `--ephemeral` nothing is kept: the live structures of the services are the memory, and the end of the audit.

use std::fs::File;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde::Deserialize;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use crate::chain::{Broken, Entry, Note};
use crate::identity::Identity;
use crate::metrics::Metrics;
use crate::problem::{Fault, Problem};

mod copy;
mod files;
mod log;
mod memory;
mod schema;
mod seal;
mod writer;

pub use copy::{Reader, inspect};
pub(crate) use copy::{append_locked, authenticator, check_copy};
pub(crate) use files::{create_private, load_or_create, lock, private_options};
pub use files::{create_private_file, load_or_create_key, make_directory};
use memory::Memory;
use writer::Writer;

/// Name of the database in the data directory.
pub const DATABASE: &str = "node.db";

/// The key under which all records are sealed.
pub type StorageKey = Zeroizing<[u8; 32]>;

/// What a commit survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// A loss of power: each commit waits for the disk.
    Full,
    /// The death of the process. After a loss of power the last moments may be missing, never part of a commit.
    Process,
}

/// How a store is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who signs the audit.
    pub identity: Arc<Identity>,
    /// What a commit survives.
    pub sync: Durability,
    /// Most bytes of all records together, as they are on the disk.
    pub max_bytes: u64,
}

/// Why the storage refuses or fails. Paths and causes are for the operator; a client only sees [`Problem`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another process, or another node of this process, holds the directory.
    #[error("the data directory {0} is in use by another node; stop it, or give this one its own directory")]
    InUse(PathBuf),
    /// The records were sealed under another key.
    #[error("the storage key does not open the data in {0}; use the key with which it was written")]
    WrongKey(PathBuf),
    /// The file was written by a later version.
    #[error("the data in {0} has schema version {1}, this program knows {known}; update it", known = schema::VERSION)]
    Newer(PathBuf, i64),
    /// The file is damaged, or none of ours.
    #[error(
        "the database {path} is damaged ({what}); nothing in it was changed. Put a backup back with: fdrtd restore BACKUP --data-dir {dir} --force. \
         Without a backup, move the file away: the node begins anew with an empty one",
        path = .0.display(), what = .1, dir = .0.parent().unwrap_or(Path::new(".")).display()
    )]
    Corrupt(PathBuf, String),
    /// The quota is reached.
    #[error("there is no room for it: {0}")]
    Full(String),
    /// The disk is full: nothing of the transaction is written, the quota aside.
    #[error("there is no room for it: the disk is full")]
    DiskFull,
    /// The audit cannot be read.
    #[error("the audit is damaged: {0}")]
    Audit(#[from] Broken),
    /// The key file may be read by others.
    #[error("the key file {0} is open to other users; run: chmod 600 {0}")]
    KeyFileOpen(PathBuf),
    /// The key file does not hold 32 bytes.
    #[error("the key file {0} does not hold exactly 32 bytes")]
    KeyFileLength(PathBuf),
    /// The file system failed.
    #[error("{0}: {1}")]
    File(PathBuf, String),
    /// SQLite failed.
    #[error("the database failed: {0}")]
    Database(String),
    /// The operating system gave no random numbers, or sealing failed.
    #[error("a record could not be encrypted")]
    Sealing,
    /// The writer thread has ended.
    #[error("the storage is closed")]
    Closed,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> StoreError {
        if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) {
            return StoreError::DiskFull;
        }
        StoreError::Database(error.to_string())
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
        if let StoreError::Full(_) | StoreError::DiskFull = error {
            tracing::warn!(%error, "the storage is full");
            return Problem::new(
                Fault::Full,
                "STORAGE_FULL",
                "this node's storage is full; nothing was stored, and nothing is lost",
                "delete values and tasks that are no longer needed, or ask the operator for more room (storage.max_bytes, or the disk)",
            );
        }
        tracing::error!(%error, "storage failed");
        Problem::unavailable(
            "STORAGE_FAILED",
            "this node could not write to or read from its storage",
            "try again later; the operator finds the cause in the node's log",
        )
    }
}

/// A record as it is loaded at start.
pub struct Record {
    /// Its name within its kind.
    pub id: String,
    /// What was stored.
    pub bytes: Zeroizing<Vec<u8>>,
    /// When it expires, in seconds since 1970.
    pub expires_at: u64,
}

/// All records of a kind.
#[derive(Default)]
pub struct Loaded {
    /// Those that could be read.
    pub records: Vec<Record>,
    /// How many could not be read; they stay in the file until they expire.
    pub unreadable: usize,
}

/// One write, and what it tells the audit: both are in the database, or neither.
pub struct Write {
    work: Work,
    notes: Vec<Note>,
    /// Whether it is done beyond the quota, too.
    beyond: bool,
}

impl Write {
    /// A record, over an older one of the same name.
    pub fn put(kind: &'static str, id: String, bytes: impl Into<Zeroizing<Vec<u8>>>, expires_at: u64) -> Write {
        Write::of(Work::Put {
            kind,
            id,
            bytes: bytes.into(),
            expires_at,
        })
    }

    /// No record of that name any more.
    pub fn delete(kind: &'static str, id: String) -> Write {
        Write::of(Work::Delete { kind, id })
    }

    /// Nothing but an entry in the audit.
    pub fn note(note: Note) -> Write {
        Write::of(Work::Nothing).noting([note])
    }

    /// With entries in the audit.
    #[must_use]
    pub fn noting(mut self, notes: impl IntoIterator<Item = Note>) -> Write {
        self.notes.extend(notes);
        self
    }

    /// For what must not be lost even if the quota is reached.
    #[must_use]
    pub fn beyond_the_quota(mut self) -> Write {
        self.beyond = true;
        self
    }

    fn of(work: Work) -> Write {
        Write {
            work,
            notes: Vec::new(),
            beyond: false,
        }
    }
}

/// The storage of one node. Clones share it; the last one to go waits for the queue to be written.
#[derive(Clone)]
pub struct Store {
    kept: Kept,
}

#[derive(Clone)]
enum Kept {
    /// The end of the audit, if somebody signs it.
    Memory(Option<Arc<Mutex<Memory>>>),
    Disk(Arc<Inner>),
}

impl Store {
    /// A store that keeps nothing.
    pub fn ephemeral() -> Store {
        Store {
            kept: Kept::Memory(None),
        }
    }

    /// A store that keeps nothing but the last entries of the audit, in memory.
    pub fn in_memory(identity: Arc<Identity>) -> Store {
        let memory = Memory::new(identity);
        Store {
            kept: Kept::Memory(Some(Arc::new(Mutex::new(memory)))),
        }
    }

    /// Opens or creates `node.db` in the directory, which it makes if needed.
    ///
    /// # Errors
    /// When another node uses the directory, the key is not the one of the data, or the file cannot be opened.
    pub fn open(dir: &Path, key: StorageKey, options: &Options) -> Result<Store, StoreError> {
        make_directory(dir).map_err(|error| StoreError::File(dir.to_owned(), error.to_string()))?;
        let lock = lock(dir)?;
        let connection = schema::open_database(dir, &key, options.sync)?;
        let (sender, queue) = mpsc::channel();
        let writer = Writer::new(connection, key, queue, options)?;
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| StoreError::File(dir.to_owned(), error.to_string()))?;
        let inner = Inner {
            sender: Some(sender),
            thread: Some(thread),
            _lock: lock,
        };
        Ok(Store {
            kept: Kept::Disk(Arc::new(inner)),
        })
    }

    /// Has the times of commits counted from now on.
    pub fn measure(&self, metrics: Metrics) {
        if let Kept::Disk(inner) = &self.kept {
            // If the writer has ended, every write says so.
            let _ = inner.send(Command::Measure(metrics));
        }
    }

    /// Whether nothing survives a restart.
    pub fn is_ephemeral(&self) -> bool {
        matches!(self.kept, Kept::Memory(_))
    }

    /// Writes a record, over an older one of the same name; the future ends after the commit.
    ///
    /// The write is queued by the call itself: writes keep the order of their calls even when their futures are polled in
    /// another order, or dropped.
    ///
    /// # Errors
    /// When the record is not in the database.
    pub fn put<Bytes: Into<Zeroizing<Vec<u8>>>>(
        &self,
        kind: &'static str,
        id: String,
        bytes: Bytes,
        expires_at: u64,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + use<Bytes> {
        self.commit(Write::put(kind, id, bytes, expires_at))
    }

    /// Deletes a record, queued like [`put`](Store::put). One that does not exist is no error.
    ///
    /// # Errors
    /// When the record may still be in the database.
    pub fn delete(
        &self,
        kind: &'static str,
        id: String,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + use<> {
        self.commit(Write::delete(kind, id))
    }

    /// Writes, queued like [`put`](Store::put).
    ///
    /// # Errors
    /// When it is not in the database, neither the write nor its entries in the audit.
    pub fn commit(&self, write: Write) -> impl Future<Output = Result<(), StoreError>> + Send + use<> {
        let queued = self.write(write);
        async move { queued.await.map(|_| ()) }
    }

    /// Deletes what has expired by `now` (seconds since 1970) and tells how many records that were.
    ///
    /// # Errors
    /// When the database fails.
    pub fn purge(&self, now: u64) -> impl Future<Output = Result<usize, StoreError>> + Send + use<> {
        self.write(Write::of(Work::Purge { now }))
    }

    /// Ends when everything that was queued before is written.
    ///
    /// # Errors
    /// When the database fails.
    pub fn flush(&self) -> impl Future<Output = Result<(), StoreError>> + Send + use<> {
        // What counts is the place in the queue.
        let queued = self.write(Write::of(Work::Nothing));
        async move { queued.await.map(|_| ()) }
    }

    /// All records of a kind, expired ones too. Blocks: for the start of the node only.
    ///
    /// A record that cannot be decrypted is counted and reported by kind, and does not stop the node.
    ///
    /// # Errors
    /// When the database fails.
    pub fn load(&self, kind: &'static str) -> Result<Loaded, StoreError> {
        let Kept::Disk(inner) = &self.kept else {
            return Ok(Loaded::default());
        };
        let (answer, loaded) = mpsc::sync_channel(1);
        inner.send(Command::Load(kind, answer))?;
        let loaded = loaded.recv().map_err(|_| StoreError::Closed)??;
        if loaded.unreadable > 0 {
            tracing::warn!(
                kind,
                count = loaded.unreadable,
                "stored records cannot be decrypted; skipped"
            );
        }
        Ok(loaded)
    }

    /// At most `limit` entries of the audit after that number, in order. With [`Store::in_memory`] the older ones are forgotten.
    ///
    /// # Errors
    /// When the database fails, or an entry is not one that a node wrote.
    pub fn audit(
        &self,
        after: u64,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Entry>, StoreError>> + Send + use<> {
        let asked = match &self.kept {
            Kept::Memory(memory) => Ok(Err(memory
                .as_ref()
                .map_or_else(Vec::new, |memory| memory::lock(memory).after(after, limit)))),
            Kept::Disk(inner) => {
                let (answer, entries) = oneshot::channel();
                inner.send(Command::Audit(after, limit, answer)).map(|()| Ok(entries))
            }
        };
        async move {
            match asked? {
                Err(entries) => Ok(entries),
                Ok(entries) => entries.await.map_err(|_| StoreError::Closed)?,
            }
        }
    }

    fn write(&self, write: Write) -> impl Future<Output = Result<usize, StoreError>> + Send + use<> {
        let queued = match &self.kept {
            Kept::Memory(memory) => {
                if let Some(memory) = memory {
                    memory::lock(memory).note(&write.notes);
                }
                None
            }
            Kept::Disk(inner) => {
                let (answer, written) = oneshot::channel();
                Some(inner.send(Command::Write(write, answer)).map(|()| written))
            }
        };
        async move {
            match queued {
                None => Ok(0),
                Some(written) => written?.await.map_err(|_| StoreError::Closed)?,
            }
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_ephemeral() {
            "Store(ephemeral)"
        } else {
            "Store(node.db)"
        })
    }
}

struct Inner {
    /// `None` only while the last clone is being dropped.
    sender: Option<mpsc::Sender<Command>>,
    thread: Option<JoinHandle<()>>,
    /// Held as long as the database is open.
    _lock: File,
}

impl Inner {
    fn send(&self, command: Command) -> Result<(), StoreError> {
        let sender = self.sender.as_ref().ok_or(StoreError::Closed)?;
        sender.send(command).map_err(|_| StoreError::Closed)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Ends the writer's loop once the queue is empty; what was queued is then in the file, before the lock is given up.
        self.sender = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the storage thread ended by a panic");
        }
    }
}

enum Work {
    Put {
        kind: &'static str,
        id: String,
        bytes: Zeroizing<Vec<u8>>,
        expires_at: u64,
    },
    Delete {
        kind: &'static str,
        id: String,
    },
    Purge {
        now: u64,
    },
    Nothing,
}

enum Command {
    /// Answered with the number of rows after the commit.
    Write(Write, oneshot::Sender<Result<usize, StoreError>>),
    Load(&'static str, mpsc::SyncSender<Result<Loaded, StoreError>>),
    /// Counts the times of commits from now on.
    Measure(Metrics),
    /// Entries of the audit after that number, at most so many.
    Audit(u64, usize, oneshot::Sender<Result<Vec<Entry>, StoreError>>),
    #[cfg(test)]
    Commits(mpsc::SyncSender<u64>),
    /// From now on the database has at most so many pages, as if the disk were full.
    #[cfg(test)]
    FillDisk(u64),
}

/// SQLite counts in 63 bits; a later time means "for ever".
fn seconds(time: u64) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}

#[cfg(test)]
pub(crate) mod tests;
