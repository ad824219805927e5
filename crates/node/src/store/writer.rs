//! The thread that writes.

use std::sync::{Arc, mpsc};
use std::time::Instant;

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use tokio::sync::oneshot;

use super::seal::{open, seal};
use super::{Command, Loaded, Options, Record, StorageKey, StoreError, Work, Write, log, seconds};
use crate::chain::Chain;
use crate::metrics::Metrics;

/// Most writes in one transaction; the rest waits for the next.
pub(super) const MAX_BATCH: usize = 1024;

type Answer = oneshot::Sender<Result<usize, StoreError>>;

pub(super) struct Writer {
    connection: Connection,
    key: StorageKey,
    queue: mpsc::Receiver<Command>,
    books: Books,
    max_bytes: u64,
    /// Something was deleted that is still in the log of the database.
    erase: bool,
    commits: u64,
    metrics: Metrics,
}

/// What is known of the database without asking it; goes back if a transaction does.
#[derive(Clone)]
struct Books {
    /// Sum of the sizes of all records.
    bytes: u64,
    chain: Chain,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        key: StorageKey,
        queue: mpsc::Receiver<Command>,
        options: &Options,
    ) -> Result<Writer, StoreError> {
        let bytes = connection.query_row("SELECT coalesce(sum(length(sealed)), 0) FROM records", [], |row| {
            row.get::<_, i64>(0)
        })?;
        let (seq, head) = log::head(&connection)?;
        let chain = Chain::new(Arc::clone(&options.identity), seq, head);
        let books = Books {
            bytes: bytes.unsigned_abs(),
            chain,
        };
        Ok(Writer {
            connection,
            key,
            queue,
            books,
            max_bytes: options.max_bytes,
            erase: false,
            commits: 0,
            metrics: Metrics::default(),
        })
    }

    pub(super) fn run(mut self) {
        while let Ok(first) = self.queue.recv() {
            let mut writes = Vec::new();
            let mut next = Some(first);
            while let Some(command) = next.take() {
                match command {
                    Command::Write(write, answer) => writes.push((write, answer)),
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
            Command::Audit(after, limit, answer) => drop(answer.send(log::after(&self.connection, after, limit))),
            #[cfg(test)]
            Command::Commits(answer) => drop(answer.send(self.commits)),
            #[cfg(test)]
            Command::FillDisk(pages) => {
                drop(self.connection.pragma_update(None, "max_page_count", seconds(pages)));
            }
            Command::Write(..) | Command::Measure(_) => {}
        }
    }

    /// One transaction for all; an answer goes out after the commit. A write that fails alone fails alone.
    fn commit(&mut self, writes: Vec<(Write, Answer)>) {
        if writes.is_empty() {
            return;
        }
        let begin = Instant::now();
        self.erase |= writes
            .iter()
            .any(|(write, _)| matches!(write.work, Work::Delete { .. } | Work::Purge { .. }));
        let (writes, answers): (Vec<Write>, Vec<Answer>) = writes.into_iter().unzip();
        let results = match self.attempt(&writes) {
            Ok(results) => results,
            Err(error) if writes.len() == 1 => vec![Err(error)],
            // A transaction goes back as a whole: what can be written without the others is.
            Err(_) => writes
                .iter()
                .map(|write| self.attempt(std::slice::from_ref(write))?.pop().unwrap_or(Ok(0)))
                .collect(),
        };
        self.metrics.committed(begin);
        for ((answer, result), write) in answers.into_iter().zip(results).zip(&writes) {
            if let (Err(error), false) = (&result, write.notes.is_empty()) {
                tracing::error!(%error, action = write.notes[0].action, "an entry of the audit could not be written");
            }
            // The caller may have gone; the write stands.
            drop(answer.send(result));
        }
        self.shorten_log();
    }

    /// All of them, or none if the database fails.
    fn attempt(&mut self, writes: &[Write]) -> Result<Vec<Result<usize, StoreError>>, StoreError> {
        let mut books = self.books.clone();
        let transaction = self.connection.transaction()?;
        let mut results = Vec::with_capacity(writes.len());
        for write in writes {
            let mut desk = Desk {
                transaction: &transaction,
                key: &self.key,
                books: &mut books,
                max_bytes: self.max_bytes,
            };
            results.push(match desk.perform(write) {
                // These have changed nothing; after any other error the transaction goes back as a whole.
                Err(error @ (StoreError::Full(_) | StoreError::Sealing)) => Err(error),
                Err(error) => return Err(error),
                Ok(rows) => Ok(rows),
            });
        }
        transaction.commit()?;
        self.books = books;
        self.commits += 1;
        Ok(results)
    }

    /// What was deleted is overwritten in the file; this takes it out of the log as well. Somebody who reads (a backup) delays it.
    fn shorten_log(&mut self) {
        if !self.erase {
            return;
        }
        let busy = self
            .connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
        match busy {
            Ok(busy) => self.erase = busy != 0,
            Err(error) => tracing::warn!(%error, "the log of the database could not be shortened"),
        }
    }
}

/// Where one write is done.
struct Desk<'a> {
    transaction: &'a Transaction<'a>,
    key: &'a StorageKey,
    books: &'a mut Books,
    max_bytes: u64,
}

impl Desk<'_> {
    fn perform(&mut self, write: &Write) -> Result<usize, StoreError> {
        let rows = match &write.work {
            Work::Put {
                kind,
                id,
                bytes,
                expires_at,
            } => {
                let sealed = seal(self.key, kind, id, bytes)?;
                self.put(kind, id, &sealed, *expires_at, write.beyond)?
            }
            Work::Delete { kind, id } => {
                self.books.bytes -= self.size(kind, id)?;
                let mut statement = self
                    .transaction
                    .prepare_cached("DELETE FROM records WHERE kind = ?1 AND id = ?2")?;
                statement.execute(params![kind, id])?
            }
            Work::Purge { now } => self.purge(*now)?,
            Work::Nothing => 0,
        };
        for note in &write.notes {
            let entry = self.books.chain.append(note);
            log::insert(self.transaction, &entry)?;
        }
        Ok(rows)
    }

    fn put(&mut self, kind: &str, id: &str, sealed: &[u8], expires_at: u64, beyond: bool) -> Result<usize, StoreError> {
        let before = self.size(kind, id)?;
        let length = sealed.len() as u64;
        let after = self.books.bytes - before + length;
        if after > self.max_bytes && length > before && !beyond {
            return Err(StoreError::Full(format!(
                "all records together have at most {} bytes (storage.max_bytes)",
                self.max_bytes
            )));
        }
        let mut statement = self.transaction.prepare_cached(
            "INSERT INTO records (kind, id, sealed, expires_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (kind, id) DO UPDATE SET sealed = ?3, expires_at = ?4",
        )?;
        let rows = statement.execute(params![kind, id, sealed, seconds(expires_at)])?;
        self.books.bytes = after;
        Ok(rows)
    }

    fn purge(&mut self, now: u64) -> Result<usize, StoreError> {
        let mut sum = self
            .transaction
            .prepare_cached("SELECT coalesce(sum(length(sealed)), 0) FROM records WHERE expires_at <= ?1")?;
        let bytes: i64 = sum.query_row(params![seconds(now)], |row| row.get(0))?;
        let mut delete = self
            .transaction
            .prepare_cached("DELETE FROM records WHERE expires_at <= ?1")?;
        let rows = delete.execute(params![seconds(now)])?;
        self.books.bytes -= bytes.unsigned_abs();
        Ok(rows)
    }

    /// Of the record as it is; zero if there is none.
    fn size(&self, kind: &str, id: &str) -> Result<u64, StoreError> {
        let mut statement = self
            .transaction
            .prepare_cached("SELECT length(sealed) FROM records WHERE kind = ?1 AND id = ?2")?;
        let size: Option<i64> = statement.query_row(params![kind, id], |row| row.get(0)).optional()?;
        Ok(size.unwrap_or(0).unsigned_abs())
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
