//! What must survive a restart: encrypted records in one SQLite file, written by one thread.
//!
//! A record is `(kind, id)` → bytes and the time at which it expires. Each is sealed with AES-256-GCM under a key of its own,
//! derived from the storage key and a random salt, and bound to its kind and id: whoever holds the file alone can read nothing,
//! and moving a record under another name makes it unreadable. Visible in the file are kinds, ids, sizes and times.
//!
//! Writes wait in a queue; the writer thread commits everything queued in one transaction. With `--ephemeral` nothing is kept:
//! the live structures of the services are the memory.

use std::fs::File;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Instant;

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use crate::metrics::Metrics;
use crate::problem::Problem;

mod files;
mod seal;

pub(crate) use files::{create_private, load_or_create, lock};
pub use files::{load_or_create_key, make_directory};
use files::{make_private, private_options};
use seal::{open, seal};

/// The key under which all records are sealed.
pub type StorageKey = Zeroizing<[u8; 32]>;

/// Most writes in one transaction; the rest waits for the next.
const MAX_BATCH: usize = 1024;
const SCHEMA_VERSION: i64 = 1;

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
    #[error("the data in {0} has schema version {1}, this program knows {SCHEMA_VERSION}; update it")]
    Newer(PathBuf, i64),
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
        StoreError::Database(error.to_string())
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
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

/// The storage of one node. Clones share it; the last one to go waits for the queue to be written.
#[derive(Clone)]
pub struct Store {
    inner: Option<Arc<Inner>>,
}

impl Store {
    /// A store that keeps nothing.
    pub fn ephemeral() -> Store {
        Store { inner: None }
    }

    /// Opens or creates `node.db` in the directory, which it makes if needed.
    ///
    /// # Errors
    /// When another node uses the directory, the key is not the one of the data, or the file cannot be opened.
    pub fn open(dir: &Path, key: StorageKey) -> Result<Store, StoreError> {
        make_directory(dir).map_err(|error| StoreError::File(dir.to_owned(), error.to_string()))?;
        let lock = lock(dir)?;
        let connection = open_database(dir, &key)?;
        let (sender, queue) = mpsc::channel();
        let writer = Writer {
            connection,
            key,
            queue,
            commits: 0,
            metrics: Metrics::default(),
        };
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
            inner: Some(Arc::new(inner)),
        })
    }

    /// Has the times of commits counted from now on.
    pub fn measure(&self, metrics: Metrics) {
        if let Some(inner) = &self.inner {
            // If the writer has ended, every write says so.
            let _ = inner.send(Command::Measure(metrics));
        }
    }

    /// Whether nothing survives a restart.
    pub fn is_ephemeral(&self) -> bool {
        self.inner.is_none()
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
        let queued = self.write(Work::Put {
            kind,
            id,
            bytes: bytes.into(),
            expires_at,
        });
        async move { queued.await.map(|_| ()) }
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
        let queued = self.write(Work::Delete { kind, id });
        async move { queued.await.map(|_| ()) }
    }

    /// Deletes what has expired by `now` (seconds since 1970) and tells how many records that were.
    ///
    /// # Errors
    /// When the database fails.
    pub fn purge(&self, now: u64) -> impl Future<Output = Result<usize, StoreError>> + Send + use<> {
        self.write(Work::Purge { now })
    }

    /// Ends when everything that was queued before is written.
    ///
    /// # Errors
    /// When the database fails.
    pub fn flush(&self) -> impl Future<Output = Result<(), StoreError>> + Send + use<> {
        // Nothing has expired by 1970; what counts is the place in the queue.
        let queued = self.write(Work::Purge { now: 0 });
        async move { queued.await.map(|_| ()) }
    }

    /// All records of a kind, expired ones too. Blocks: for the start of the node only.
    ///
    /// A record that cannot be decrypted is counted and reported by kind, and does not stop the node.
    ///
    /// # Errors
    /// When the database fails.
    pub fn load(&self, kind: &'static str) -> Result<Loaded, StoreError> {
        let Some(inner) = &self.inner else {
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

    fn write(&self, work: Work) -> impl Future<Output = Result<usize, StoreError>> + Send + use<> {
        let queued = self.inner.as_ref().map(|inner| {
            let (answer, written) = oneshot::channel();
            inner.send(Command::Write(work, answer)).map(|()| written)
        });
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
}

enum Command {
    /// Answered with the number of rows after the commit.
    Write(Work, oneshot::Sender<Result<usize, StoreError>>),
    Load(&'static str, mpsc::SyncSender<Result<Loaded, StoreError>>),
    Measure(Metrics),
    #[cfg(test)]
    Commits(mpsc::SyncSender<u64>),
}

struct Writer {
    connection: Connection,
    key: StorageKey,
    queue: mpsc::Receiver<Command>,
    commits: u64,
    metrics: Metrics,
}

impl Writer {
    fn run(mut self) {
        while let Ok(first) = self.queue.recv() {
            let mut writes = Vec::new();
            let mut next = Some(first);
            while let Some(command) = next.take() {
                match command {
                    Command::Write(work, answer) => writes.push((work, answer)),
                    Command::Measure(metrics) => self.metrics = metrics,
                    other => {
                        // A load sees what was queued before it.
                        self.commit(std::mem::take(&mut writes));
                        self.answer(other);
                    }
                }
                next = if writes.len() < MAX_BATCH {
                    self.queue.try_recv().ok()
                } else {
                    None
                };
            }
            self.commit(writes);
        }
    }

    fn answer(&self, command: Command) {
        match command {
            // Nobody waits for the answer if the asker is gone.
            Command::Load(kind, answer) => drop(answer.send(load(&self.connection, &self.key, kind))),
            #[cfg(test)]
            Command::Commits(answer) => drop(answer.send(self.commits)),
            Command::Write(..) | Command::Measure(_) => {}
        }
    }

    /// One transaction for all; an answer goes out after the commit. A write that fails alone fails alone.
    fn commit(&mut self, writes: Vec<(Work, oneshot::Sender<Result<usize, StoreError>>)>) {
        if writes.is_empty() {
            return;
        }
        let begin = Instant::now();
        let erases = writes.iter().any(|(work, _)| !matches!(work, Work::Put { .. }));
        let (works, answers): (Vec<Work>, Vec<_>) = writes.into_iter().unzip();
        let done = self.connection.transaction().and_then(|transaction| {
            let done: Vec<_> = works
                .into_iter()
                .map(|work| perform(&transaction, &self.key, work))
                .collect();
            transaction.commit().map(|()| done)
        });
        let results = match done {
            Ok(results) => {
                self.commits += 1;
                self.metrics.committed(begin);
                results
            }
            Err(error) => vec![Err(StoreError::from(error)); answers.len()],
        };
        for (answer, result) in answers.into_iter().zip(results) {
            // The caller may have gone; the write stands.
            drop(answer.send(result));
        }
        if erases {
            // What was deleted is overwritten in the file; this takes it out of the log as well.
            let truncated = self
                .connection
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
            if let Err(error) = truncated {
                tracing::warn!(%error, "the log of the database could not be shortened");
            }
        }
    }
}

fn perform(transaction: &Transaction<'_>, key: &StorageKey, work: Work) -> Result<usize, StoreError> {
    match work {
        Work::Put {
            kind,
            id,
            bytes,
            expires_at,
        } => {
            let sealed = seal(key, kind, &id, &bytes)?;
            let mut statement = transaction.prepare_cached(
                "INSERT INTO records (kind, id, sealed, expires_at) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (kind, id) DO UPDATE SET sealed = ?3, expires_at = ?4",
            )?;
            Ok(statement.execute(params![kind, id, sealed, seconds(expires_at)])?)
        }
        Work::Delete { kind, id } => {
            let mut statement = transaction.prepare_cached("DELETE FROM records WHERE kind = ?1 AND id = ?2")?;
            Ok(statement.execute(params![kind, id])?)
        }
        Work::Purge { now } => {
            Ok(transaction.execute("DELETE FROM records WHERE expires_at <= ?1", params![seconds(now)])?)
        }
    }
}

fn load(connection: &Connection, key: &StorageKey, kind: &'static str) -> Result<Loaded, StoreError> {
    let mut statement = connection.prepare("SELECT id, sealed, expires_at FROM records WHERE kind = ?1 ORDER BY id")?;
    let mut rows = statement.query(params![kind])?;
    let mut loaded = Loaded::default();
    while let Some(row) = rows.next()? {
        let fields = (row.get::<_, String>(0), row.get_ref(1)?.as_blob(), row.get::<_, i64>(2));
        let record = match fields {
            (Ok(id), Ok(sealed), Ok(expires)) => open(key, kind, &id, sealed).map(|bytes| Record {
                id,
                bytes,
                expires_at: u64::try_from(expires).unwrap_or(0),
            }),
            _ => None,
        };
        match record {
            Some(record) => loaded.records.push(record),
            None => loaded.unreadable += 1,
        }
    }
    Ok(loaded)
}

/// SQLite counts in 63 bits; a later time means "for ever".
fn seconds(time: u64) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}

fn open_database(dir: &Path, key: &StorageKey) -> Result<Connection, StoreError> {
    let path = dir.join("node.db");
    let file_error = |error: std::io::Error| StoreError::File(path.clone(), error.to_string());
    // SQLite gives its log files the permissions of this one.
    let file = private_options()
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(file_error)?;
    make_private(&file).map_err(file_error)?;
    let mut connection = Connection::open(&path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "secure_delete", "ON")?;
    let transaction = connection.transaction()?;
    transaction
        .execute_batch("CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;")?;
    let version: Option<Vec<u8>> = meta(&transaction, "schema")?;
    let version = version.map(|bytes| bytes.try_into().map_or(0, i64::from_le_bytes));
    match version {
        None => create_schema(&transaction, key)?,
        Some(SCHEMA_VERSION) => {}
        Some(version) => return Err(StoreError::Newer(path, version)),
    }
    // Without this a wrong key would look like a directory full of broken records.
    let check = meta(&transaction, "key")?.unwrap_or_default();
    if open(key, "meta", "key", &check).is_none() {
        return Err(StoreError::WrongKey(dir.to_owned()));
    }
    transaction.commit()?;
    Ok(connection)
}

fn create_schema(transaction: &Transaction<'_>, key: &StorageKey) -> Result<(), StoreError> {
    transaction.execute_batch(
        "CREATE TABLE records (
             kind TEXT NOT NULL, id TEXT NOT NULL, expires_at INTEGER NOT NULL, sealed BLOB NOT NULL,
             PRIMARY KEY (kind, id)
         ) STRICT;
         CREATE INDEX records_by_expiry ON records (expires_at);",
    )?;
    let insert = "INSERT INTO meta (name, value) VALUES (?1, ?2)";
    transaction.execute(insert, params!["schema", SCHEMA_VERSION.to_le_bytes()])?;
    transaction.execute(insert, params!["key", seal(key, "meta", "key", b"fdrtd")?])?;
    Ok(())
}

fn meta(transaction: &Transaction<'_>, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let query = "SELECT value FROM meta WHERE name = ?1";
    Ok(transaction
        .query_row(query, params![name], |row| row.get(0))
        .optional()?)
}

#[cfg(test)]
pub(crate) mod tests;
