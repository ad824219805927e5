//! KeyValueStorage 0.2: keeps a JSON value, as the text that came, and gives it back to its owner.
//!
//! An object is named by `{"storage", "uuid"}`; the uuid is random and, together with the owner, opens the value. Another's object
//! answers like one that does not exist.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Callback, Clock, Identifiers, Principal, Reply};
use super::{callback_missing, not_public, object_unknown};
use crate::json::{Parameters, Raw};
use crate::problem::Problem;
use crate::store::{Store, StoreError};

/// The functions of the service, in the order in which it lists them.
pub const PUBLIC: [&str; 5] = ["create", "store", "retrieve", "exists", "delete"];

const SERVICE: &str = "KeyValueStorage";
/// The kind of its records in the [`Store`].
const KIND: &str = "kv";
const DEFAULT_STORAGE: &str = "default";
/// Most bytes of the name of a storage.
const MAX_STORAGE_NAME: usize = 255;

/// A stored value: JSON text, erased when the last holder lets go of it.
pub type ValueText = Arc<Zeroizing<String>>;

/// How much one node keeps, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct KvQuota {
    /// Most objects of all owners together.
    pub max_objects: usize,
    /// Most bytes of all values together.
    pub max_bytes: usize,
    /// Time to live of a value, from its last `create` or `store`.
    pub ttl: Duration,
}

impl Default for KvQuota {
    /// 10 000 objects, 1 GiB, one week.
    fn default() -> KvQuota {
        KvQuota {
            max_objects: 10_000,
            max_bytes: 1 << 30,
            ttl: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// How the service is found.
pub fn identifiers() -> Identifiers {
    Identifiers(vec![
        ("namespace", "fdrtd"),
        ("plugin", "Util"),
        ("version", "0.2.0"),
        ("microservice", SERVICE),
    ])
}

/// The service.
pub struct KeyValueStorage {
    store: Store,
    quota: KvQuota,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: HashMap<Uuid, Entry>,
    /// Sum of the sizes of all values.
    bytes: usize,
}

#[derive(Clone)]
struct Entry {
    owner: Principal,
    storage: Arc<str>,
    text: ValueText,
    expires_at: u64,
}

impl KeyValueStorage {
    /// The service with what the store kept. Blocks while it reads: for the start of the node.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn new(store: Store, quota: KvQuota) -> Result<KeyValueStorage, StoreError> {
        KeyValueStorage::with_clock(store, quota, Clock::System)
    }

    /// Like [`new`](KeyValueStorage::new), with a clock of the caller's.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn with_clock(store: Store, quota: KvQuota, clock: Clock) -> Result<KeyValueStorage, StoreError> {
        let mut state = State::default();
        let mut unreadable = 0_usize;
        for record in store.load(KIND)?.records {
            let entry = Entry::from_record(&record.bytes, record.expires_at);
            match (Uuid::try_parse(&record.id), entry) {
                (Ok(uuid), Some(entry)) if entry.expires_at > clock.now() => state.insert(uuid, entry),
                (Ok(_), Some(_)) => {}
                _ => unreadable += 1,
            }
        }
        if unreadable > 0 {
            tracing::warn!(
                kind = KIND,
                count = unreadable,
                "stored records have an unknown form; skipped"
            );
        }
        Ok(KeyValueStorage {
            store,
            quota,
            clock,
            state: Mutex::new(state),
        })
    }

    /// Calls a function. What it changes is in the store when the answer comes.
    ///
    /// # Errors
    /// 403 for a function that is not public, 422 for parameters, 404 for an object that is not the caller's, 429 for the quota,
    /// 503 when the store fails.
    pub async fn call(
        &self,
        who: &Principal,
        function: &str,
        mut params: Parameters,
        callback: Option<&Callback>,
    ) -> Result<Reply, Problem> {
        if !PUBLIC.contains(&function) {
            return Err(not_public(SERVICE, function, &PUBLIC));
        }
        if function == "create" {
            let value = params.required("value")?;
            let storage = params.optional("storage");
            params.finish()?;
            return self.create(who, value, storage).await;
        }
        // A client sends null for "no object".
        let callback = callback.filter(|callback| !callback.is_null());
        let name = Name::parse(callback.ok_or_else(|| callback_missing(SERVICE, function))?)?;
        let value = if function == "store" {
            Some(params.required("value")?)
        } else {
            None
        };
        params.finish()?;
        match (function, value) {
            ("store", Some(value)) => self.replace(who, &name, value).await,
            ("exists", _) => {
                let exists = self.find(&self.state(), who, &name).is_some();
                Ok(Reply::Value(exists.to_string()))
            }
            ("delete", _) => self.delete(who, &name).await,
            _ => self.retrieve(who, &name),
        }
    }

    /// The value of an object, for a reference to it inside a parameter.
    ///
    /// # Errors
    /// 422 for a callback of another form, 404 for an object that is not the caller's.
    pub fn value_text(&self, who: &Principal, callback: &Callback) -> Result<ValueText, Problem> {
        let name = Name::parse(callback)?;
        let entry = self.find(&self.state(), who, &name);
        entry
            .map(|(_, entry)| entry.text)
            .ok_or_else(|| object_unknown(SERVICE))
    }

    /// Forgets what has expired by `now` (seconds since 1970) and tells how many objects that were. The records in the store go
    /// with [`Store::purge`].
    pub fn sweep(&self, now: u64) -> usize {
        self.state().sweep(now)
    }

    /// How many objects are held.
    pub fn len(&self) -> usize {
        self.state().entries.len()
    }

    /// Whether no object is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    async fn create(&self, who: &Principal, value: Raw, storage: Option<Raw>) -> Result<Reply, Problem> {
        let storage = match storage {
            Some(storage) => storage_name(&storage)?,
            None => Arc::from(DEFAULT_STORAGE),
        };
        let callback_storage = storage.clone();
        let uuid = Uuid::new_v4();
        let entry = Entry {
            owner: who.clone(),
            storage,
            text: Arc::new(value.into_text()),
            expires_at: self.expiry(),
        };
        let written = {
            let mut state = self.state();
            self.check_room(&mut state, 1, entry.text.len())?;
            let written = self.write(uuid, &entry);
            state.insert(uuid, entry);
            written
        };
        if let Err(error) = written.await {
            self.state().remove(uuid);
            return Err(error.into());
        }
        Ok(Reply::Object(
            json!({"storage": &*callback_storage, "uuid": uuid.to_string()}),
        ))
    }

    async fn replace(&self, who: &Principal, name: &Name, value: Raw) -> Result<Reply, Problem> {
        let text: ValueText = Arc::new(value.into_text());
        let (uuid, before, written) = {
            let mut state = self.state();
            let (uuid, before) = self.find(&state, who, name).ok_or_else(|| object_unknown(SERVICE))?;
            self.check_room(&mut state, 0, text.len().saturating_sub(before.text.len()))?;
            let entry = Entry {
                text: text.clone(),
                expires_at: self.expiry(),
                ..before.clone()
            };
            // Queued under the lock: memory and store see the same order of writes.
            let written = self.write(uuid, &entry);
            state.insert(uuid, entry);
            (uuid, before, written)
        };
        if let Err(error) = written.await {
            let mut state = self.state();
            // The old value again, unless somebody has written or deleted since.
            if state
                .entries
                .get(&uuid)
                .is_some_and(|entry| Arc::ptr_eq(&entry.text, &text))
            {
                state.insert(uuid, before);
            }
            return Err(error.into());
        }
        Ok(Reply::Nothing)
    }

    fn retrieve(&self, who: &Principal, name: &Name) -> Result<Reply, Problem> {
        let entry = self.find(&self.state(), who, name);
        let (_, entry) = entry.ok_or_else(|| object_unknown(SERVICE))?;
        if entry.text.as_str() == "null" {
            return Ok(Reply::Nothing);
        }
        Ok(Reply::Shared(entry.text))
    }

    async fn delete(&self, who: &Principal, name: &Name) -> Result<Reply, Problem> {
        let (uuid, entry, deleted) = {
            let mut state = self.state();
            let (uuid, entry) = self.find(&state, who, name).ok_or_else(|| object_unknown(SERVICE))?;
            state.remove(uuid);
            (uuid, entry, self.store.delete(KIND, uuid.to_string()))
        };
        if let Err(error) = deleted.await {
            // It would come back with the next start; so it stays, and can be deleted again.
            self.state().insert(uuid, entry);
            return Err(error.into());
        }
        Ok(Reply::Nothing)
    }

    fn find(&self, state: &State, who: &Principal, name: &Name) -> Option<(Uuid, Entry)> {
        let uuid = name.uuid?;
        let entry = state.entries.get(&uuid)?;
        let found = entry.owner == *who && *entry.storage == *name.storage && entry.expires_at > self.clock.now();
        found.then(|| (uuid, entry.clone()))
    }

    fn check_room(&self, state: &mut State, objects: usize, bytes: usize) -> Result<(), Problem> {
        let quota = self.quota;
        let full = |state: &State| {
            if state.entries.len() + objects > quota.max_objects {
                return Some(("objects", quota.max_objects));
            }
            (state.bytes.saturating_add(bytes) > quota.max_bytes).then_some(("object_bytes", quota.max_bytes))
        };
        if full(state).is_some() {
            state.sweep(self.clock.now());
        }
        let Some((name, most)) = full(state) else {
            return Ok(());
        };
        Err(Problem::too_many(
            "QUOTA",
            format!(
                "this node stores at most {} objects and {} bytes, and is full",
                quota.max_objects, quota.max_bytes
            ),
            "delete what is no longer needed, or try again later",
        )
        .exceeds(name, most))
    }

    fn write(&self, uuid: Uuid, entry: &Entry) -> impl Future<Output = Result<(), StoreError>> + Send + use<> {
        // Nobody reads from an ephemeral store; so the value is not copied for it.
        let bytes = if self.store.is_ephemeral() {
            Zeroizing::default()
        } else {
            entry.to_record()
        };
        self.store.put(KIND, uuid.to_string(), bytes, entry.expires_at)
    }

    fn expiry(&self) -> u64 {
        self.clock.now().saturating_add(self.quota.ttl.as_secs())
    }

    /// No code between lock and unlock leaves the state half changed, so a poisoned lock can be used.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn insert(&mut self, uuid: Uuid, entry: Entry) {
        self.bytes += entry.text.len();
        if let Some(before) = self.entries.insert(uuid, entry) {
            self.bytes -= before.text.len();
        }
    }

    fn remove(&mut self, uuid: Uuid) {
        if let Some(entry) = self.entries.remove(&uuid) {
            self.bytes -= entry.text.len();
        }
    }

    fn sweep(&mut self, now: u64) -> usize {
        let before = self.entries.len();
        let bytes = &mut self.bytes;
        self.entries.retain(|_, entry| {
            let alive = entry.expires_at > now;
            if !alive {
                *bytes -= entry.text.len();
            }
            alive
        });
        before - self.entries.len()
    }
}

/// First byte of a record: the version of its form.
const RECORD_VERSION: u8 = 1;

impl Entry {
    /// Version, owner, storage, value; the first two texts with their length (u32, little endian) before them.
    fn to_record(&self) -> Zeroizing<Vec<u8>> {
        let (owner, storage) = (self.owner.recorded().as_bytes(), self.storage.as_bytes());
        let mut bytes = Vec::with_capacity(9 + owner.len() + storage.len() + self.text.len());
        bytes.push(RECORD_VERSION);
        for part in [owner, storage] {
            let length = u32::try_from(part.len()).expect("names are far shorter than 4 GiB");
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(part);
        }
        bytes.extend_from_slice(self.text.as_bytes());
        Zeroizing::new(bytes)
    }

    fn from_record(bytes: &[u8], expires_at: u64) -> Option<Entry> {
        let (version, rest) = bytes.split_first()?;
        if *version != RECORD_VERSION {
            return None;
        }
        let (owner, rest) = split_text(rest)?;
        let (storage, text) = split_text(rest)?;
        let text = std::str::from_utf8(text).ok()?;
        Some(Entry {
            owner: Principal::from_record(owner),
            storage: Arc::from(storage),
            text: Arc::new(Zeroizing::new(text.to_owned())),
            expires_at,
        })
    }
}

fn split_text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (text, rest) = rest.split_at_checked(length)?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

/// What a callback says. A uuid that is none names nothing: not found, like any other unknown object.
struct Name {
    storage: String,
    uuid: Option<Uuid>,
}

impl Name {
    fn parse(callback: &Callback) -> Result<Name, Problem> {
        let text = |name: &str| callback.get(name).and_then(|value| value.as_str());
        let (Some(storage), Some(uuid)) = (text("storage"), text("uuid")) else {
            return Err(Problem::input(
                "CALLBACK_INVALID",
                "the callback of an object of KeyValueStorage has the members \"storage\" and \"uuid\", both strings",
                "send the callback as create returned it",
            ));
        };
        Ok(Name {
            storage: storage.to_owned(),
            uuid: Uuid::try_parse(uuid).ok(),
        })
    }
}

fn storage_name(raw: &Raw) -> Result<Arc<str>, Problem> {
    let name = raw.string()?;
    if name.len() > MAX_STORAGE_NAME {
        return Err(Problem::input(
            "VALUE_OUT_OF_RANGE",
            format!(
                "the name of a storage has at most {MAX_STORAGE_NAME} bytes, this one {}",
                name.len()
            ),
            "choose a shorter name",
        ));
    }
    Ok(Arc::from(name))
}

#[cfg(test)]
mod tests;
