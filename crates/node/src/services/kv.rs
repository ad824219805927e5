//! KeyValueStorage: keeps a JSON value, as the text that came, and gives it back to its owner. What generation 0.6 does besides is in `storages`.
//!
//! What was stored one way goes back to nobody, its owner included: it can be the input of a task, replaced and deleted.
//!
//! An object is named by `{"storage", "uuid"}`; the uuid is random and, together with the owner, opens the value. Another's object
//! answers like one that does not exist.

mod storages;

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

pub use storages::STORAGE;

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
    /// Most objects of one owner.
    pub max_objects_each: usize,
    /// Most bytes of one owner's values together.
    pub max_bytes_each: usize,
    /// Time to live of a value, from its last `create` or `store`.
    pub ttl: Duration,
}

impl Default for KvQuota {
    /// 10 000 objects, 1 GiB, half of it for each owner at most; one week.
    fn default() -> KvQuota {
        KvQuota {
            max_objects: 10_000,
            max_bytes: 1 << 30,
            max_objects_each: 5_000,
            max_bytes_each: 512 << 20,
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
    /// The share of each owner who has any.
    owned: HashMap<Principal, Share>,
}

#[derive(Clone, Copy, Default)]
struct Share {
    objects: usize,
    bytes: usize,
}

/// What an entry is. The numbers are those of its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A value that has a name of its own.
    Value = 0,
    /// One that is given back to nobody.
    OneWay = 1,
    /// A storage of generation 0.6; its text is its name.
    Storage = 2,
    /// A value that is found by storage and key only.
    Keyed = 3,
}

impl Kind {
    fn of_value(one_way: bool) -> Kind {
        if one_way { Kind::OneWay } else { Kind::Value }
    }

    fn from_record(byte: u8) -> Option<Kind> {
        [Kind::Value, Kind::OneWay, Kind::Storage, Kind::Keyed]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

#[derive(Clone)]
struct Entry {
    owner: Principal,
    storage: Arc<str>,
    kind: Kind,
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
            let one_way = match params.optional("one_way") {
                Some(raw) => raw.bool()?,
                None => false,
            };
            params.finish()?;
            return self.create(who, value, storage, one_way).await;
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

    /// The value of an object, for a reference to it inside a parameter. `as_input` if it becomes the input of a task, which is all that a value that
    /// was stored one way is good for.
    ///
    /// # Errors
    /// 422 for a callback of another form, 404 for an object that is not the caller's, 403 for one that was stored one way.
    pub fn value_text(&self, who: &Principal, callback: &Callback, as_input: bool) -> Result<ValueText, Problem> {
        let name = Name::parse(callback)?;
        let entry = self.find(&self.state(), who, &name);
        let (_, entry) = entry.ok_or_else(|| object_unknown(SERVICE))?;
        if entry.kind == Kind::OneWay && !as_input {
            return Err(one_way());
        }
        Ok(entry.text)
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

    async fn create(&self, who: &Principal, value: Raw, storage: Option<Raw>, one_way: bool) -> Result<Reply, Problem> {
        let storage = match storage {
            Some(storage) => storage_name(&storage)?,
            None => Arc::from(DEFAULT_STORAGE),
        };
        let callback_storage = storage.clone();
        let uuid = Uuid::new_v4();
        let text = Arc::new(value.into_text());
        self.put(who, uuid, storage, Kind::of_value(one_way), text).await?;
        Ok(Reply::Object(
            json!({"storage": &*callback_storage, "uuid": uuid.to_string()}),
        ))
    }

    /// Keeps a text under this name, in place of the one that is there.
    async fn put(
        &self,
        who: &Principal,
        uuid: Uuid,
        storage: Arc<str>,
        kind: Kind,
        text: ValueText,
    ) -> Result<(), Problem> {
        let entry = Entry {
            owner: who.clone(),
            storage,
            kind,
            text,
            expires_at: self.expiry(),
        };
        self.put_if(who, uuid, entry, |_| true).await
    }

    /// The same, if what is there is as it should be: else there is no such object.
    async fn put_if(
        &self,
        who: &Principal,
        uuid: Uuid,
        entry: Entry,
        fits: impl Fn(Option<&Entry>) -> bool,
    ) -> Result<(), Problem> {
        let text = Arc::clone(&entry.text);
        let (before, written) = {
            let mut state = self.state();
            if !fits(self.own(&state, who, uuid).as_ref()) {
                return Err(object_unknown(SERVICE));
            }
            let before = state.entries.get(&uuid).cloned();
            let held = before.as_ref().map(|before| before.text.len());
            let more = text.len().saturating_sub(held.unwrap_or(0));
            self.check_room(&mut state, who, usize::from(held.is_none()), more)?;
            // Queued under the lock: memory and store see the same order of writes.
            let written = self.write(uuid, &entry);
            state.insert(uuid, entry);
            (before, written)
        };
        let Err(error) = written.await else { return Ok(()) };
        let mut state = self.state();
        // The old value again, unless somebody has written or deleted since.
        if state
            .entries
            .get(&uuid)
            .is_some_and(|entry| Arc::ptr_eq(&entry.text, &text))
        {
            match before {
                Some(before) => state.insert(uuid, before),
                None => state.remove(uuid),
            }
        }
        Err(error.into())
    }

    async fn replace(&self, who: &Principal, name: &Name, value: Raw) -> Result<Reply, Problem> {
        let found = self.find(&self.state(), who, name);
        let (uuid, before) = found.ok_or_else(|| object_unknown(SERVICE))?;
        let entry = Entry {
            text: Arc::new(value.into_text()),
            expires_at: self.expiry(),
            ..before
        };
        // Somebody may be deleting it.
        self.put_if(who, uuid, entry, |there| there.is_some()).await?;
        Ok(Reply::Nothing)
    }

    fn retrieve(&self, who: &Principal, name: &Name) -> Result<Reply, Problem> {
        let entry = self.find(&self.state(), who, name);
        let (_, entry) = entry.ok_or_else(|| object_unknown(SERVICE))?;
        if entry.kind == Kind::OneWay {
            return Err(one_way());
        }
        if entry.text.as_str() == "null" {
            return Ok(Reply::Nothing);
        }
        Ok(Reply::Shared(entry.text))
    }

    async fn delete(&self, who: &Principal, name: &Name) -> Result<Reply, Problem> {
        let found = self.find(&self.state(), who, name);
        let (uuid, _) = found.ok_or_else(|| object_unknown(SERVICE))?;
        self.take_out(who, uuid).await?.ok_or_else(|| object_unknown(SERVICE))?;
        Ok(Reply::Nothing)
    }

    /// Removes an entry of the caller's; `None` if there is none.
    async fn take_out(&self, who: &Principal, uuid: Uuid) -> Result<Option<()>, Problem> {
        let (entry, deleted) = {
            let mut state = self.state();
            let Some(entry) = self.own(&state, who, uuid) else {
                return Ok(None);
            };
            state.remove(uuid);
            (entry, self.store.delete(KIND, uuid.to_string()))
        };
        if let Err(error) = deleted.await {
            // It would come back with the next start; so it stays, and can be deleted again. What has taken its place meanwhile is newer.
            let mut state = self.state();
            if !state.entries.contains_key(&uuid) {
                state.insert(uuid, entry);
            }
            return Err(error.into());
        }
        Ok(Some(()))
    }

    fn find(&self, state: &State, who: &Principal, name: &Name) -> Option<(Uuid, Entry)> {
        let uuid = name.uuid?;
        let entry = self.own(state, who, uuid)?;
        let named = matches!(entry.kind, Kind::Value | Kind::OneWay) && *entry.storage == *name.storage;
        named.then_some((uuid, entry))
    }

    fn own(&self, state: &State, who: &Principal, uuid: Uuid) -> Option<Entry> {
        let entry = state.entries.get(&uuid)?;
        (entry.owner == *who && entry.expires_at > self.clock.now()).then(|| entry.clone())
    }

    fn check_room(&self, state: &mut State, who: &Principal, objects: usize, bytes: usize) -> Result<(), Problem> {
        let quota = self.quota;
        let node_full = |state: &State| {
            if state.entries.len() + objects > quota.max_objects {
                return Some(("objects", quota.max_objects));
            }
            (state.bytes.saturating_add(bytes) > quota.max_bytes).then_some(("object_bytes", quota.max_bytes))
        };
        let share_full = |state: &State| {
            let share = state.owned.get(who).copied().unwrap_or_default();
            if share.objects + objects > quota.max_objects_each {
                return Some(("objects_per_principal", quota.max_objects_each));
            }
            let full = share.bytes.saturating_add(bytes) > quota.max_bytes_each;
            full.then_some(("object_bytes_per_principal", quota.max_bytes_each))
        };
        if node_full(state).is_some() || share_full(state).is_some() {
            state.sweep(self.clock.now());
        }
        let hint = "delete what is no longer needed, or try again later";
        // The own share first: it is what the caller can do something about.
        if let Some((name, most)) = share_full(state) {
            let (objects, bytes) = (quota.max_objects_each, quota.max_bytes_each);
            let message = format!(
                "this node stores at most {objects} objects and {bytes} bytes for one caller, and yours are full"
            );
            return Err(Problem::too_many("QUOTA", message, hint).exceeds(name, most));
        }
        if let Some((name, most)) = node_full(state) {
            let (objects, bytes) = (quota.max_objects, quota.max_bytes);
            let message = format!("this node stores at most {objects} objects and {bytes} bytes, and is full");
            return Err(Problem::too_many("QUOTA", message, hint).exceeds(name, most));
        }
        Ok(())
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
        self.remove(uuid);
        self.bytes += entry.text.len();
        let share = self.owned.entry(entry.owner.clone()).or_default();
        share.objects += 1;
        share.bytes += entry.text.len();
        self.entries.insert(uuid, entry);
    }

    fn remove(&mut self, uuid: Uuid) {
        if let Some(entry) = self.entries.remove(&uuid) {
            self.forget(&entry);
        }
    }

    /// An entry that is no longer there counts no longer.
    fn forget(&mut self, entry: &Entry) {
        self.bytes -= entry.text.len();
        if let Some(share) = self.owned.get_mut(&entry.owner) {
            share.objects -= 1;
            share.bytes -= entry.text.len();
            if share.objects == 0 {
                self.owned.remove(&entry.owner);
            }
        }
    }

    fn sweep(&mut self, now: u64) -> usize {
        let over: Vec<Entry> = self
            .entries
            .extract_if(|_, entry| entry.expires_at <= now)
            .map(|(_, entry)| entry)
            .collect();
        for entry in &over {
            self.forget(entry);
        }
        over.len()
    }
}

/// First byte of a record: the version of its form.
const RECORD_VERSION: u8 = 2;
/// The older one, without the second byte.
const WITHOUT_DIRECTION: u8 = 1;

impl Entry {
    /// Version, kind, owner, storage, value; the first two texts with their length (u32, little endian) before them.
    fn to_record(&self) -> Zeroizing<Vec<u8>> {
        let (owner, storage) = (self.owner.recorded().as_bytes(), self.storage.as_bytes());
        let mut bytes = Vec::with_capacity(10 + owner.len() + storage.len() + self.text.len());
        bytes.push(RECORD_VERSION);
        bytes.push(self.kind as u8);
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
        let (kind, rest) = match *version {
            RECORD_VERSION => rest.split_first()?,
            WITHOUT_DIRECTION => (&0, rest),
            _ => return None,
        };
        let (owner, rest) = split_text(rest)?;
        let (storage, text) = split_text(rest)?;
        let text = std::str::from_utf8(text).ok()?;
        Some(Entry {
            owner: Principal::from_record(owner),
            storage: Arc::from(storage),
            kind: Kind::from_record(*kind)?,
            text: Arc::new(Zeroizing::new(text.to_owned())),
            expires_at,
        })
    }
}

fn one_way() -> Problem {
    Problem::not_public(
        "VALUE_ONE_WAY",
        "this value was stored with one_way=true: the node gives it back to nobody",
        "use it as the input of a task, task.input(source=handle); whoever stored it has it where it came from",
    )
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
