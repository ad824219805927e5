//! The database beside a running node: read, copied, and a copy made ready for its place.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, params};

use super::seal::subkey;
use super::{DATABASE, StorageKey, StoreError, log, schema};
use crate::chain::{Broken, Entry, Note, Verifier};
use crate::identity::Identity;

/// Reads the database of a data directory. A node may be writing it at the same time.
pub struct Reader {
    connection: Connection,
    path: PathBuf,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reader({})", self.path.display())
    }
}

/// Opens a directory's database for reading.
///
/// # Errors
/// When there is none, or none that this program knows.
pub fn inspect(dir: &Path) -> Result<Reader, StoreError> {
    let path = dir.join(DATABASE);
    if let Err(error) = std::fs::metadata(&path) {
        return Err(StoreError::File(path, error.to_string()));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&path, flags)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    let version = match schema::version(&connection) {
        Ok(version) => version,
        Err(error) => {
            // Damaged rather than strange, if that can be told.
            schema::check(&connection, &path)?;
            return Err(error);
        }
    };
    match version {
        Some(schema::VERSION) => Ok(Reader { connection, path }),
        Some(version) if version < schema::VERSION => Err(StoreError::Database(format!(
            "{} is of an earlier version; start the node once, which brings it up to date",
            path.display()
        ))),
        Some(version) => Err(StoreError::Newer(path, version)),
        None => Err(StoreError::Database(format!("{} is empty", path.display()))),
    }
}

impl Reader {
    /// Hands every entry of the audit in order to `each`, until it returns an error.
    ///
    /// # Errors
    /// That error, or one of the database, or an entry that no node wrote.
    pub fn audit<E: From<StoreError> + From<Broken>>(&self, each: impl FnMut(Entry) -> Result<(), E>) -> Result<(), E> {
        log::walk(&self.connection, each)
    }

    /// Writes a consistent copy to `path`, an empty file, as of this moment.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn copy_to(&self, path: &Path) -> Result<(), StoreError> {
        let path = path.to_str().ok_or_else(|| {
            StoreError::File(
                path.to_owned(),
                "the path has characters that SQLite cannot take".to_owned(),
            )
        })?;
        self.connection.execute("VACUUM INTO ?1", params![path])?;
        Ok(())
    }

    /// Whether the records are sealed under this key.
    ///
    /// # Errors
    /// When the database fails.
    pub fn opens(&self, key: &StorageKey) -> Result<bool, StoreError> {
        schema::opens(&self.connection, key)
    }
}

/// The key under which a backup of this storage is authenticated.
pub(crate) fn authenticator(key: &StorageKey) -> Result<StorageKey, StoreError> {
    subkey(key, "backup")
}

/// Checks the copy in `dir` from end to end (that it is whole, that the key opens it, that its audit is that of `identity`), and enters `note` at the end of
/// its audit.
pub(crate) fn check_copy(dir: &Path, key: &StorageKey, identity: Arc<Identity>, note: &Note) -> Result<(), StoreError> {
    let reader = inspect(dir)?;
    let found: String = reader
        .connection
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if found != "ok" {
        return Err(StoreError::Corrupt(reader.path, found));
    }
    if !reader.opens(key)? {
        return Err(StoreError::WrongKey(dir.to_owned()));
    }
    let mut verifier = Verifier::new(None);
    reader.audit(|entry| verifier.take(&entry).map_err(StoreError::from))?;
    if verifier.head().0 > 0 && !verifier.is_of(identity.key()) {
        return Err(StoreError::Audit(Broken {
            seq: verifier.head().0,
            what: "signed by another key than that of the backup's identity".to_owned(),
        }));
    }
    drop(reader);
    append_to(dir, identity, note)
}

/// Enters `note` at the end of the audit, signed by `identity`. Whoever calls it holds the directory's lock.
pub(crate) fn append_locked(dir: &Path, identity: Arc<Identity>, note: &Note) -> Result<(), StoreError> {
    drop(inspect(dir)?);
    append_to(dir, identity, note)
}

fn append_to(dir: &Path, identity: Arc<Identity>, note: &Note) -> Result<(), StoreError> {
    let connection = Connection::open(dir.join(DATABASE))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    log::append(&connection, identity, note)?;
    connection.close().map_err(|(_, error)| StoreError::from(error))
}
