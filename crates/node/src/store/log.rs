//! The audit's table. SQLite itself refuses to change or remove an entry; who writes past SQLite breaks the chain.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::StoreError;
use crate::chain::{Broken, Entry, Hash, Note};
use crate::identity::PeerKey;

const COLUMNS: &str = "seq, time, who, action, task, detail, previous, hash, key, signature";

pub(super) const SCHEMA: &str = "
    CREATE TABLE audit (
        seq INTEGER PRIMARY KEY, time INTEGER NOT NULL, who TEXT NOT NULL, action TEXT NOT NULL, task TEXT, detail TEXT NOT NULL,
        previous BLOB NOT NULL, hash BLOB NOT NULL, key BLOB NOT NULL, signature BLOB NOT NULL
    ) STRICT;
    CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
    CREATE TRIGGER audit_is_not_shortened BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
    CREATE TRIGGER audit_has_no_gaps BEFORE INSERT ON audit
        WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM audit)
        BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;";

/// Entries and hash of the last one.
pub(super) fn head(connection: &Connection) -> Result<(u64, Hash), StoreError> {
    let query = "SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1";
    let head = connection.query_row(query, [], |row| {
        let hash: [u8; 32] = row.get(1)?;
        Ok((row.get::<_, i64>(0)?, hash))
    });
    let head = head.optional()?;
    Ok(head.map_or_else(Default::default, |(seq, hash)| (seq.unsigned_abs(), Hash(hash))))
}

pub(super) fn insert(connection: &Connection, entry: &Entry) -> rusqlite::Result<()> {
    let query = format!("INSERT INTO audit ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)");
    connection.prepare_cached(&query)?.execute(params![
        super::seconds(entry.seq),
        super::seconds(entry.time),
        entry.who,
        entry.action,
        entry.task,
        entry.detail.to_string(),
        entry.previous.0,
        entry.hash.0,
        entry.key.as_bytes(),
        entry.signature,
    ])?;
    Ok(())
}

/// At most `limit` entries after that one.
pub(super) fn after(connection: &Connection, seq: u64, limit: usize) -> Result<Vec<Entry>, StoreError> {
    let query = format!("SELECT {COLUMNS} FROM audit WHERE seq > ?1 ORDER BY seq LIMIT ?2");
    let mut statement = connection.prepare_cached(&query)?;
    let mut rows = statement.query(params![super::seconds(seq), super::seconds(limit as u64)])?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        match entry(row) {
            Some(entry) => entries.push(entry),
            None => return Err(StoreError::Audit(unreadable(row))),
        }
    }
    Ok(entries)
}

/// Hands every entry in order to `each`, until it returns an error.
pub(super) fn walk<E: From<StoreError> + From<Broken>>(
    connection: &Connection,
    mut each: impl FnMut(Entry) -> Result<(), E>,
) -> Result<(), E> {
    let query = format!("SELECT {COLUMNS} FROM audit ORDER BY seq");
    let failed = |error: rusqlite::Error| E::from(StoreError::from(error));
    let mut statement = connection.prepare(&query).map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        match entry(row) {
            Some(entry) => each(entry)?,
            None => return Err(E::from(unreadable(row))),
        }
    }
    Ok(())
}

/// The entry of a row; `None` if it holds what this program never writes.
fn entry(row: &Row<'_>) -> Option<Entry> {
    let number = |column: usize| u64::try_from(row.get::<_, i64>(column).ok()?).ok();
    let text = row.get::<_, String>(5).ok()?;
    let detail: serde_json::Value = serde_json::from_str(&text).ok()?;
    let entry = Entry {
        seq: number(0)?,
        time: number(1)?,
        who: row.get(2).ok()?,
        action: row.get(3).ok()?,
        task: row.get(4).ok()?,
        detail,
        previous: Hash(row.get(6).ok()?),
        hash: Hash(row.get(7).ok()?),
        key: PeerKey::from_bytes(row.get(8).ok()?),
        signature: row.get(9).ok()?,
    };
    // What is hashed is the one form of it.
    let hashed = entry.detail.to_string();
    (hashed == text).then_some(entry)
}

fn unreadable(row: &Row<'_>) -> Broken {
    Broken {
        seq: row.get::<_, i64>(0).unwrap_or(0).unsigned_abs(),
        what: "is not in the form that a node writes".to_owned(),
    }
}

/// Continues the chain outside of a running node.
pub(super) fn append(
    connection: &Connection,
    identity: std::sync::Arc<crate::identity::Identity>,
    note: &Note,
) -> Result<(), StoreError> {
    let (seq, head) = head(connection)?;
    let entry = crate::chain::Chain::new(identity, seq, head).append(note);
    Ok(insert(connection, &entry)?)
}
