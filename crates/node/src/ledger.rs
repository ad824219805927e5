//! What this node has released: how often each column, to whom, and of which rows. Nothing of it is ever sent.
//!
//! A release is recorded, durably, before the first message leaves from which others could learn anything, and stays recorded whatever becomes of
//! the task. Of the rows only power sums of keyed hashes are kept ([`sums`]): enough to tell whether two releases of a column differ in a
//! few rows, and nothing to guess values from without the key, which lies in the same encrypted storage.

pub mod sums;

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fdrtd_mpc::microprotocol::{Column, Configured};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::chain::Note;
use crate::identity::PeerKey;
use crate::policy::{self, Home, MOST_DIFFERENCING, Rule};
use crate::store::{Store, StoreError, Write};
use crate::url::NodeUrl;
use sums::{COUNT, PowerSums, point};

/// The most rows that [`Home::differencing`] asks for.
const MOST: usize = MOST_DIFFERENCING as usize;

/// Kinds of the records in the store.
const RELEASE: &str = "release";
const KEY: &str = "ledger-key";

/// Columns of one release.
pub const MAX_COLUMNS: usize = 4_096;
/// Releases of columns in all.
const MAX_ENTRIES: usize = 65_536;
/// Names in messages are cut to that many characters.
const SHOWN: usize = 64;

/// A column's name under the ledger's key: names may be private.
type ColumnId = [u8; 16];
/// A peer by its key, and by its URL.
type PeerId = [u8; 16];

/// One column of an input.
#[derive(Clone)]
struct Contribution {
    column: ColumnId,
    /// For people.
    name: String,
    rows: PowerSums,
}

/// What an input would add to the ledger.
#[derive(Clone)]
pub struct Contributions(Vec<Contribution>);

impl fmt::Debug for Contributions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contributions").finish_non_exhaustive()
    }
}

/// Why a release is not allowed: for the owner alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The rule.
    pub rule: Rule,
    /// For people.
    pub message: String,
}

/// A release of a column.
struct Entry {
    task: Uuid,
    peers: Arc<[PeerId]>,
    rows: PowerSums,
}

struct Inner {
    store: Store,
    key: Zeroizing<[u8; 32]>,
    columns: Mutex<HashMap<ColumnId, Vec<Entry>>>,
}

/// See the [module](self). Cheap to clone.
#[derive(Clone)]
pub struct Ledger(Arc<Inner>);

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").finish_non_exhaustive()
    }
}

impl Ledger {
    /// What the store has. Blocks: for the start of the node only.
    ///
    /// # Errors
    /// A store that cannot be read, or records that cannot: a node that has forgotten what it has released must not release more.
    pub fn open(store: &Store) -> Result<Ledger, LedgerError> {
        let mut columns: HashMap<ColumnId, Vec<Entry>> = HashMap::new();
        let releases = store.load(RELEASE)?;
        let keys = store.load(KEY)?;
        if releases.unreadable + keys.unreadable > 0 {
            return Err(LedgerError::Unreadable);
        }
        let key = match keys.records.first() {
            Some(record) => {
                let key = <[u8; 32]>::try_from(&record.bytes[..]).map_err(|_| LedgerError::Unreadable)?;
                Zeroizing::new(key)
            }
            None if releases.records.is_empty() => new_key(store)?,
            None => return Err(LedgerError::Unreadable),
        };
        for record in releases.records {
            let task = Uuid::try_parse(&record.id).map_err(|_| LedgerError::Unreadable)?;
            let entries = decode(task, &record.bytes).ok_or(LedgerError::Unreadable)?;
            for (column, entry) in entries {
                columns.entry(column).or_default().push(entry);
            }
        }
        Ok(Ledger(Arc::new(Inner {
            store: store.clone(),
            key,
            columns: Mutex::new(columns),
        })))
    }

    /// The rows of inputs that `configured` has accepted; `None` if it does not. Takes its time with large inputs.
    pub fn contributions(&self, configured: &Configured, texts: &[&str]) -> Option<Contributions> {
        let mut columns: HashMap<ColumnId, usize> = HashMap::new();
        let mut all: Vec<Contribution> = Vec::new();
        // How often each row was there before, by column: equal rows are told apart by that.
        let mut seen: HashMap<(usize, [u8; 16]), u64> = HashMap::new();
        let mut last: Option<(Option<String>, usize)> = None;
        let mut see = |column: Column<'_>, row: Option<&[u8]>| {
            let place = match (&last, column) {
                (Some((Some(name), place)), Column::Named(now)) if name == now => *place,
                (Some((None, place)), Column::Unnamed) => *place,
                _ => {
                    let id = self.column_id(column);
                    *columns.entry(id).or_insert_with(|| {
                        all.push(Contribution {
                            column: id,
                            name: shown(column),
                            rows: PowerSums::EMPTY,
                        });
                        all.len() - 1
                    })
                }
            };
            last = match column {
                Column::Named(name) => Some((Some(name.to_owned()), place)),
                Column::Unnamed => Some((None, place)),
                Column::Position(_) => None,
            };
            let Some(row) = row else { return };
            let value = self.keyed(b"value", row);
            let mut short = [0; 16];
            short.copy_from_slice(&value[..16]);
            let occurrence = seen.entry((place, short)).or_default();
            let row = self.keyed(&occurrence.to_le_bytes(), &value);
            *occurrence += 1;
            all[place].rows.insert(point(&row));
        };
        configured.rows(texts, &mut see).ok()?;
        Some(Contributions(all))
    }

    /// Whether a release would be allowed now.
    ///
    /// # Errors
    /// The rule that says no.
    pub fn check(
        &self,
        task: &Uuid,
        home: &Home,
        peers: &[(PeerKey, &NodeUrl)],
        rows: &Contributions,
    ) -> Result<(), Refusal> {
        self.check_locked(&self.lock(), task, home, &self.peer_ids(peers), rows)
    }

    /// Records a release, with its entry in the audit; the future ends when it is written. The same task is recorded once.
    ///
    /// # Errors
    /// The rule that says no; nothing is recorded then.
    pub fn charge(
        &self,
        task: &Uuid,
        home: &Home,
        peers: &[(PeerKey, &NodeUrl)],
        rows: &Contributions,
        note: Note,
    ) -> Result<impl Future<Output = Result<(), StoreError>> + Send + use<>, Refusal> {
        let peers: Arc<[PeerId]> = self.peer_ids(peers).into();
        let mut columns = self.lock();
        self.check_locked(&columns, task, home, &peers, rows)?;
        for contribution in &rows.0 {
            let entries = columns.entry(contribution.column).or_default();
            // Of this task after a restart of somebody.
            entries.retain(|entry| entry.task != *task);
            entries.push(Entry {
                task: *task,
                peers: Arc::clone(&peers),
                rows: contribution.rows,
            });
        }
        // Queued under the lock: the last record of a task is that of the last charge. It stays in memory even if it cannot be written.
        let bytes = encode(&peers, rows);
        let release = Write::put(RELEASE, task.to_string(), bytes, u64::MAX >> 1).noting([note]);
        Ok(self.0.store.commit(release))
    }

    fn check_locked(
        &self,
        columns: &HashMap<ColumnId, Vec<Entry>>,
        task: &Uuid,
        home: &Home,
        peers: &[PeerId],
        rows: &Contributions,
    ) -> Result<(), Refusal> {
        let no = |rule, message| Err(Refusal { rule, message });
        if rows.0.len() > MAX_COLUMNS || columns.values().map(Vec::len).sum::<usize>() + rows.0.len() > MAX_ENTRIES {
            return no(Rule::Releases, policy::ledger_full(MAX_ENTRIES));
        }
        for contribution in &rows.0 {
            let entries = columns.get(&contribution.column).map_or(&[][..], Vec::as_slice);
            let earlier = || entries.iter().filter(|entry| entry.task != *task);
            if let Some(most) = home.releases {
                let used = |peer: &PeerId| {
                    earlier()
                        .filter(|entry| entry.peers.iter().any(|known| same(known, peer)))
                        .count()
                };
                if peers.iter().any(|peer| used(peer) >= most as usize) {
                    return no(Rule::Releases, policy::releases(&contribution.name, most));
                }
            }
            let least = usize::from(home.differencing);
            if least > 1 {
                // No difference at all is the same release again.
                let close = |entry: &Entry| {
                    entry
                        .rows
                        .differing(&contribution.rows, least)
                        .is_some_and(|rows| rows > 0)
                };
                if earlier().any(close) {
                    return no(
                        Rule::Differencing,
                        policy::differencing(&contribution.name, home.differencing),
                    );
                }
            }
        }
        Ok(())
    }

    fn keyed(&self, context: &[u8], text: &[u8]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.0.key);
        hasher
            .update(&(context.len() as u64).to_le_bytes())
            .update(context)
            .update(text);
        *hasher.finalize().as_bytes()
    }

    fn column_id(&self, column: Column<'_>) -> ColumnId {
        let hash = match column {
            Column::Unnamed => self.keyed(b"column", b""),
            Column::Position(position) => self.keyed(b"column by position", &(position as u64).to_le_bytes()),
            Column::Named(name) => self.keyed(b"column by name", name.as_bytes()),
        };
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        id
    }

    fn peer_ids(&self, peers: &[(PeerKey, &NodeUrl)]) -> Vec<PeerId> {
        let id = |(key, url): &(PeerKey, &NodeUrl)| {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&self.keyed(b"peer by key", key.as_bytes())[..8]);
            id[8..].copy_from_slice(&self.keyed(b"peer by URL", url.to_string().as_bytes())[..8]);
            id
        };
        peers.iter().map(id).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ColumnId, Vec<Entry>>> {
        self.0.columns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why the ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something of it cannot be read.
    #[error(
        "the record of what this node has released cannot be read, so the rules about releases could not be kept: restore the data directory from a backup"
    )]
    Unreadable,
    /// Its key cannot be written.
    #[error(
        "the key of the record of releases cannot be written: see that the disk has room, and start the node again"
    )]
    Unwritten,
    /// No randomness.
    #[error("the operating system gave no random numbers")]
    Random,
}

fn new_key(store: &Store) -> Result<Zeroizing<[u8; 32]>, LedgerError> {
    let mut key = Zeroizing::new([0; 32]);
    getrandom::fill(&mut key[..]).map_err(|_| LedgerError::Random)?;
    let bytes = Zeroizing::new(key.to_vec());
    drop(store.commit(Write::put(KEY, "1".to_owned(), bytes, u64::MAX >> 1).beyond_the_quota()));
    // A load sees what was queued before it. Releases under a key that is not there could never be read again.
    if !store.is_ephemeral() && store.load(KEY)?.records.is_empty() {
        return Err(LedgerError::Unwritten);
    }
    Ok(key)
}

/// The same key, or the same URL: a new identity at the old place has not the whole budget again.
fn same(one: &PeerId, other: &PeerId) -> bool {
    one[..8] == other[..8] || one[8..] == other[8..]
}

fn shown(column: Column<'_>) -> String {
    match column {
        Column::Unnamed => "without a name".to_owned(),
        Column::Position(position) => format!("at position {position}"),
        Column::Named(name) => {
            let name: String = name
                .chars()
                .take(SHOWN)
                .map(|c| if c.is_control() { '\u{fffd}' } else { c })
                .collect();
            format!("'{name}'")
        }
    }
}

/// The number of peers, the peers, then each column with its sums.
fn encode(peers: &[PeerId], rows: &Contributions) -> Zeroizing<Vec<u8>> {
    let length = 8 + peers.len() * 16 + rows.0.len() * (16 + 8 * COUNT);
    let mut bytes = Zeroizing::new(Vec::with_capacity(length));
    bytes.extend_from_slice(&(peers.len() as u64).to_le_bytes());
    bytes.extend(peers.iter().flatten());
    for contribution in &rows.0 {
        bytes.extend_from_slice(&contribution.column);
        bytes.extend_from_slice(&contribution.rows.to_bytes());
    }
    bytes
}

fn decode(task: Uuid, bytes: &[u8]) -> Option<Vec<(ColumnId, Entry)>> {
    let (count, rest) = bytes.split_first_chunk::<8>()?;
    let count = usize::try_from(u64::from_le_bytes(*count)).ok()?;
    let (peers, rest) = rest.split_at_checked(count.checked_mul(16)?)?;
    let peers: Arc<[PeerId]> = peers.chunks_exact(16).filter_map(|peer| peer.try_into().ok()).collect();
    let columns = rest.chunks_exact(16 + 8 * COUNT);
    if !columns.remainder().is_empty() {
        return None;
    }
    let entry = |bytes: &[u8]| {
        let (column, rows) = bytes.split_first_chunk::<16>()?;
        let entry = Entry {
            task,
            peers: Arc::clone(&peers),
            rows: PowerSums::from_bytes(rows)?,
        };
        Some((*column, entry))
    };
    columns.map(entry).collect()
}

#[cfg(test)]
mod tests;
