//! The database file: opened, checked, made, brought up to the present version.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, params};

use super::files::{make_private, private_options};
use super::seal::{open, open_version_1, seal};
use super::{DATABASE, Durability, StorageKey, StoreError, log};

/// Version of the tables and of the sealing.
pub(super) const VERSION: i64 = 2;

/// What the record that shows the key to be the right one says.
const KEY_CHECK: &[u8] = b"fdrtd";

pub(super) fn open_database(dir: &Path, key: &StorageKey, sync: Durability) -> Result<Connection, StoreError> {
    let path = dir.join(DATABASE);
    let file_error = |error: std::io::Error| StoreError::File(path.clone(), error.to_string());
    // SQLite gives its log files the permissions of this one.
    let file = private_options()
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(file_error)?;
    make_private(&file).map_err(file_error)?;
    if file.metadata().map_err(file_error)?.len() > 0 {
        // Read only: whoever may write moves the log into the file when it closes it.
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        check(&Connection::open_with_flags(&path, flags)?, &path)?;
    }
    let mut connection = Connection::open(&path)?;
    // Somebody who reads may hold a lock for a moment while the log is recovered.
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(
        None,
        "synchronous",
        match sync {
            Durability::Full => "FULL",
            Durability::Process => "NORMAL",
        },
    )?;
    connection.pragma_update(None, "secure_delete", "ON")?;
    let migrated = {
        let transaction = connection.transaction()?;
        let migrated = bring_up_to_date(&transaction, dir, key)?;
        transaction.commit()?;
        migrated
    };
    if migrated {
        // What was sealed in the old way is gone from the log, too.
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    }
    // This thread is the only one that writes, and does not wait for those who read.
    connection.busy_timeout(Duration::ZERO)?;
    Ok(connection)
}

/// Refuses a damaged file before anything is written to it.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let found = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    let corrupt = |what: String| Err(StoreError::Corrupt(path.to_owned(), what));
    match found {
        Ok(found) if found == "ok" => Ok(()),
        Ok(found) => corrupt(found),
        Err(error) => match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => corrupt(error.to_string()),
            _ => Err(error.into()),
        },
    }
}

/// The version of the file; `None` if it is empty.
pub(super) fn version(connection: &Connection) -> Result<Option<i64>, StoreError> {
    let version = meta(connection, "schema")?;
    Ok(version.map(|bytes| bytes.try_into().map_or(0, i64::from_le_bytes)))
}

/// Whether the key is the one under which the records are sealed. Without this a wrong key would look like a directory full of broken records.
pub(super) fn opens(connection: &Connection, key: &StorageKey) -> Result<bool, StoreError> {
    let check = meta(connection, "key")?.unwrap_or_default();
    Ok(open(key, "meta", "key", &check).is_some_and(|found| *found == KEY_CHECK))
}

/// Whether anything was changed that was there before.
fn bring_up_to_date(transaction: &Transaction<'_>, dir: &Path, key: &StorageKey) -> Result<bool, StoreError> {
    transaction
        .execute_batch("CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;")?;
    let migrated = match version(transaction)? {
        None => {
            create(transaction, key)?;
            false
        }
        Some(VERSION) => false,
        Some(1) => {
            from_version_1(transaction, dir, key)?;
            true
        }
        Some(version) => return Err(StoreError::Newer(dir.join(DATABASE), version)),
    };
    if opens(transaction, key)? {
        Ok(migrated)
    } else {
        Err(StoreError::WrongKey(dir.to_owned()))
    }
}

fn create(transaction: &Transaction<'_>, key: &StorageKey) -> Result<(), StoreError> {
    transaction.execute_batch(
        "CREATE TABLE records (
             kind TEXT NOT NULL, id TEXT NOT NULL, expires_at INTEGER NOT NULL, sealed BLOB NOT NULL,
             PRIMARY KEY (kind, id)
         ) STRICT;
         CREATE INDEX records_by_expiry ON records (expires_at);",
    )?;
    transaction.execute_batch(log::SCHEMA)?;
    stamp(transaction, key)
}

/// Version 2 has a key for each kind of records, and the audit.
fn from_version_1(transaction: &Transaction<'_>, dir: &Path, key: &StorageKey) -> Result<(), StoreError> {
    let check = meta(transaction, "key")?.unwrap_or_default();
    if open_version_1(key, "meta", "key", &check).is_none() {
        return Err(StoreError::WrongKey(dir.to_owned()));
    }
    let mut places = transaction.prepare("SELECT rowid FROM records")?;
    let places: Vec<i64> = places.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut read = transaction.prepare("SELECT kind, id, sealed FROM records WHERE rowid = ?1")?;
    let mut write = transaction.prepare("UPDATE records SET sealed = ?2 WHERE rowid = ?1")?;
    for place in places {
        let (kind, id, sealed) = read.query_row([place], |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, Vec<u8>>(2)?,
            ))
        })?;
        // What cannot be read stays as it is: it could not be read before either.
        if let Some(bytes) = open_version_1(key, &kind, &id, &sealed) {
            write.execute(params![place, seal(key, &kind, &id, &bytes)?])?;
        }
    }
    transaction.execute_batch(log::SCHEMA)?;
    stamp(transaction, key)
}

fn stamp(transaction: &Transaction<'_>, key: &StorageKey) -> Result<(), StoreError> {
    let insert = "INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2";
    transaction.execute(insert, params!["schema", VERSION.to_le_bytes()])?;
    transaction.execute(insert, params!["key", seal(key, "meta", "key", KEY_CHECK)?])?;
    Ok(())
}

fn meta(connection: &Connection, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let query = "SELECT value FROM meta WHERE name = ?1";
    Ok(connection
        .query_row(query, params![name], |row| row.get(0))
        .optional()?)
}
