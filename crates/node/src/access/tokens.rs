//! The tokens that `fdrtd token create` makes.
//!
//! A token is 256 random bits. The node keeps a hash of it only. A fast hash is right for that: slow ones make up for secrets that people choose and
//! others guess, and nobody guesses 256 bits, however fast. Nor does the time of a look-up help: what is looked up is the hash, of which whoever
//! guesses can choose no part.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;
use x509_cert::der::DateTime;
use zeroize::Zeroizing;

use super::{Caller, Lease};
use crate::audit::Audit;
use crate::chain::Note;
use crate::identity::base32;
use crate::principal::{Principal, Role};
use crate::problem::{Problem, quoted};
use crate::services::Clock;
use crate::store::{Loaded, Store, StoreError, Write};

/// How every token begins, so that people and programs that look for forgotten secrets know one when they see it.
pub const PREFIX: &str = "fdrtd_";

/// Kind of their records in the store; a record's id is the token's hash.
const KIND: &str = "token";
/// Kind of the record that says that there was one: anonymous callers do not come back because a token has gone.
const MADE: &str = "token-made";
/// Most tokens, with those that have ended and are still remembered.
const MOST: usize = 2_000;
/// Seconds for which a token is remembered after its end, so that the operator learns who still uses it.
const REMEMBERED: u64 = 30 * DAY;
const DAY: u64 = 24 * 3600;
/// Longest name, in bytes.
const LONGEST_NAME: usize = 64;
/// "Never", for the store.
const NEVER: u64 = u64::MAX >> 1;

type Hash = [u8; 32];

/// See the [module](self).
#[derive(Debug)]
pub struct Tokens {
    store: Store,
    audit: Audit,
    clock: Clock,
    table: Mutex<HashMap<Hash, Entry>>,
    /// Whether there ever was one.
    made: watch::Sender<bool>,
}

#[derive(Debug)]
struct Entry {
    record: Record,
    /// Turns true when it is revoked.
    ended: watch::Sender<bool>,
    /// It is revoked here, and the store did not take it.
    unkept: bool,
}

/// What is kept of a token.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    name: String,
    role: Role,
    /// All times in seconds since 1970.
    created: u64,
    expires: Option<u64>,
    /// Start of the day of its last use: more would be a diary.
    used: Option<u64>,
    revoked: Option<u64>,
}

/// Who makes or ends a token, for the audit.
#[derive(Clone, Copy, Debug)]
pub enum By<'a> {
    /// Whoever calls the node.
    Caller(&'a Principal),
    /// The operator, in the directory of a node that does not run.
    Directory,
}

/// What a look-up finds. The names are for the operator.
#[derive(Debug)]
pub enum Checked {
    /// It admits.
    Good(Caller),
    /// It did.
    Expired(String),
    /// It did.
    Revoked(String),
    /// It is none.
    Unknown,
}

impl Tokens {
    /// Those that the store keeps. Blocks while it reads.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(store: Store, clock: Clock) -> Result<Tokens, StoreError> {
        let mut table = HashMap::new();
        let (stored, marks) = (store.load(KIND)?, store.load(MADE)?);
        // Of one that cannot be read, it can be told that there was one.
        let any = |loaded: &Loaded| loaded.unreadable > 0 || !loaded.records.is_empty();
        let made = any(&stored) || any(&marks);
        for stored in stored.records {
            let hash = data_encoding::HEXLOWER.decode(stored.id.as_bytes()).ok();
            let hash = hash.and_then(|bytes| Hash::try_from(bytes).ok());
            match (hash, serde_json::from_slice::<Record>(&stored.bytes)) {
                (Some(hash), Ok(record)) => drop(table.insert(hash, Entry::new(record))),
                _ => tracing::warn!("a stored token is of another version and admits nobody"),
            }
        }
        if made && marks.records.is_empty() {
            drop(mark(&store));
        }
        Ok(Tokens {
            audit: Audit::new(store.clone()),
            store,
            clock,
            table: Mutex::new(table),
            made: watch::Sender::new(made),
        })
    }

    /// Whether they end with the process: whoever makes one beforehand makes it for nobody.
    pub(super) fn are_forgotten(&self) -> bool {
        self.store.is_ephemeral()
    }

    /// Whether one admits somebody now.
    pub fn any(&self) -> bool {
        let now = self.clock.now();
        self.table().values().any(|entry| entry.record.is_active(now))
    }

    /// Whether there ever was one; becomes true with the first.
    pub fn made(&self) -> watch::Receiver<bool> {
        self.made.subscribe()
    }

    /// Makes a token, and is the only one to tell it.
    ///
    /// # Errors
    /// 422 for a name or time that cannot be used, 409 for a name that is in use, 429 if there are too many, 503 if it cannot be stored.
    pub async fn create(
        &self,
        name: &str,
        role: Role,
        expires: Option<u64>,
        by: By<'_>,
    ) -> Result<(Zeroizing<String>, Value), Problem> {
        check_name(name)?;
        let now = self.clock.now();
        if expires.is_some_and(|expires| expires <= now || expires >= NEVER - REMEMBERED) {
            return Err(Problem::input(
                "TOKEN_EXPIRY_UNUSABLE",
                "the token would end before it begins, or at a time that cannot be told",
                "give a time to come, or none for a token without end",
            ));
        }
        let token = random()?;
        let hash = hash(&token);
        let record = Record {
            name: name.to_owned(),
            role,
            created: now,
            expires,
            used: None,
            revoked: None,
        };
        let shown = record.shown(now);
        let written = {
            let mut table = self.table();
            check_room(&mut table, name, now)?;
            // Queued under the lock, so that the store sees the order of the table.
            let write = put(&hash, &record).noting([self.entry(by, "token.create", &record)]);
            let written = self.store.commit(write);
            table.insert(hash, Entry::new(record));
            written
        };
        if let Err(error) = written.await {
            self.table().remove(&hash);
            return Err(error.into());
        }
        if !self.made.send_replace(true)
            && let Err(error) = mark(&self.store).await
        {
            // The token itself says the same as long as it is there, and the next start tries again.
            tracing::error!(%error, "that there was a token could not be stored");
        }
        Ok((token, shown))
    }

    /// All tokens as the operator sees them, by name.
    pub fn list(&self) -> Value {
        let now = self.clock.now();
        let mut records: Vec<Record> = self.table().values().map(|entry| entry.record.clone()).collect();
        records.sort_by(|one, other| (&one.name, one.created).cmp(&(&other.name, other.created)));
        records.iter().map(|record| record.shown(now)).collect()
    }

    /// Ends a token, at once and for requests that wait as well; also beyond the quota of the storage.
    ///
    /// # Errors
    /// 404 if no token of that name admits anybody, 503 or 507 if its end cannot be stored; then it can be tried again.
    pub async fn revoke(&self, name: &str, by: By<'_>) -> Result<Value, Problem> {
        let now = self.clock.now();
        let (hash, shown, written) = {
            let mut table = self.table();
            let found = table
                .iter_mut()
                .filter(|(_, entry)| entry.record.name == name && (entry.unkept || entry.record.is_active(now)))
                .max_by_key(|(_, entry)| !entry.unkept);
            let Some((hash, entry)) = found else {
                return Err(Problem::unknown(
                    "TOKEN_UNKNOWN",
                    format!("there is no token {} that could be revoked", quoted(name)),
                    "fdrtd token list shows the tokens of this node",
                ));
            };
            entry.record.revoked.get_or_insert(now);
            entry.unkept = false;
            entry.ended.send_replace(true);
            let entry_of_audit = self.entry(by, "token.revoke", &entry.record);
            let write = put(hash, &entry.record).noting([entry_of_audit]).beyond_the_quota();
            (*hash, entry.record.shown(now), self.store.commit(write))
        };
        // It stays revoked here even if the store fails; the caller is told that a restart might bring it back.
        if let Err(error) = written.await {
            if let Some(entry) = self.table().get_mut(&hash) {
                entry.unkept = true;
            }
            return Err(error.into());
        }
        Ok(shown)
    }

    /// Whom a token admits.
    pub fn check(&self, token: &str) -> Checked {
        let hash = hash(token);
        if !token.starts_with(PREFIX) {
            return Checked::Unknown;
        }
        let now = self.clock.now();
        let mut table = self.table();
        let Some(entry) = table.get_mut(&hash) else {
            return Checked::Unknown;
        };
        let record = &mut entry.record;
        if record.revoked.is_some() {
            return Checked::Revoked(record.name.clone());
        }
        if !record.is_active(now) {
            return Checked::Expired(record.name.clone());
        }
        let today = now - now % DAY;
        if record.used != Some(today) {
            record.used = Some(today);
            // Nobody waits for it, and a day that is lost is no loss.
            drop(self.store.commit(put(&hash, record)));
        }
        Checked::Good(Caller {
            who: Principal::new(&format!("token:{}", record.name), record.role),
            lease: Lease::new(record.expires, Some(entry.ended.subscribe())),
        })
    }

    /// Forgets those whose end is long past, and tells how many.
    pub fn sweep(&self, now: u64) -> usize {
        let mut table = self.table();
        let before = table.len();
        table.retain(|_, entry| entry.record.kept_until() > now);
        before - table.len()
    }

    fn entry(&self, by: By<'_>, action: &'static str, record: &Record) -> Note {
        let mut detail = json!({"token": record.name, "role": record.role, "expires": record.expires.map(time)});
        let operator = Principal::operator();
        let who = match by {
            By::Caller(who) => who,
            By::Directory => {
                detail["offline"] = true.into();
                &operator
            }
        };
        self.audit.entry(who, action, None, &detail)
    }

    /// No code between lock and unlock leaves it half changed.
    fn table(&self) -> MutexGuard<'_, HashMap<Hash, Entry>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn new(record: Record) -> Entry {
        Entry {
            ended: watch::Sender::new(record.revoked.is_some()),
            record,
            unkept: false,
        }
    }
}

impl Record {
    fn is_active(&self, now: u64) -> bool {
        self.revoked.is_none() && self.expires.is_none_or(|expires| now < expires)
    }

    fn kept_until(&self) -> u64 {
        let end = self.revoked.into_iter().chain(self.expires).min();
        end.map_or(NEVER, |end| end.saturating_add(REMEMBERED))
    }

    fn shown(&self, now: u64) -> Value {
        let state = match self.revoked {
            Some(_) => "revoked",
            None if self.is_active(now) => "active",
            None => "expired",
        };
        json!({
            "name": self.name,
            "role": self.role,
            "state": state,
            "created": time(self.created),
            "expires": self.expires.map(time),
            "last_used": self.used.map(|used| time(used)[..10].to_owned()),
        })
    }
}

fn put(hash: &Hash, record: &Record) -> Write {
    let bytes = serde_json::to_vec(record).unwrap_or_default();
    Write::put(KIND, data_encoding::HEXLOWER.encode(hash), bytes, record.kept_until())
}

/// Keeps that there was a token.
fn mark(store: &Store) -> impl Future<Output = Result<(), StoreError>> + Send + use<> {
    store.commit(Write::put(MADE, "any".to_owned(), Vec::new(), NEVER).beyond_the_quota())
}

fn hash(token: &str) -> Hash {
    blake3::derive_key("fdrtd 2026-11 hash of an access token, version 1", token.as_bytes())
}

fn random() -> Result<Zeroizing<String>, Problem> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut()).map_err(|_| {
        Problem::internal(
            "INTERNAL",
            "the operating system gives no randomness",
            "look at the node's log",
        )
    })?;
    let text = Zeroizing::new(base32(&bytes[..]));
    let mut token = Zeroizing::new(String::with_capacity(PREFIX.len() + text.len()));
    token.push_str(PREFIX);
    token.push_str(&text);
    Ok(token)
}

/// As people and programs read it, in UTC.
fn time(seconds: u64) -> String {
    DateTime::from_unix_duration(Duration::from_secs(seconds))
        .map_or_else(|_| "9999-12-31T23:59:59Z".to_owned(), |time| time.to_string())
}

fn check_name(name: &str) -> Result<(), Problem> {
    let usable = (1..=LONGEST_NAME).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte));
    if usable {
        return Ok(());
    }
    Err(Problem::input(
        "TOKEN_NAME_UNUSABLE",
        "the name of a token has 1 to 64 letters, digits or any of - _ . @",
        "for example anna or ward-7",
    ))
}

fn check_room(table: &mut HashMap<Hash, Entry>, name: &str, now: u64) -> Result<(), Problem> {
    table.retain(|_, entry| entry.record.kept_until() > now);
    if table
        .values()
        .any(|entry| entry.record.name == name && entry.record.is_active(now))
    {
        return Err(Problem::state(
            "TOKEN_NAME_TAKEN",
            format!("there is a token {} already", quoted(name)),
            "revoke it first (a new one of the same name opens the same objects), or choose another name",
        ));
    }
    if table.len() >= MOST {
        return Err(Problem::too_many(
            "QUOTA",
            format!("this node keeps at most {MOST} tokens, those of the last 30 days that have ended included"),
            "use an issuer (OpenID Connect) for so many people",
        ));
    }
    Ok(())
}
