//! What representations (generation 0.6) see of the stored values: uploaded ones, and storages with keys.
//!
//! A storage belongs to who made it and is found by its name, a value in it by its key: both have uuids that follow from owner, storage and key, so that
//! nothing else has to be kept, and the same name gives the same storage again, also after a restart. The uuid of a value in a storage is never told.

use std::sync::Arc;

use uuid::Uuid;
use zeroize::Zeroizing;

use super::{DEFAULT_STORAGE, KeyValueStorage, Kind, SERVICE, ValueText, one_way, storage_name};
use crate::json::{Parameters, Raw};
use crate::problem::Problem;
use crate::services::sync::scalar;
use crate::services::{Principal, Reply, not_public, object_unknown};

/// The functions of a storage, in the order in which they are listed.
pub const STORAGE: [&str; 4] = ["store", "retrieve", "exists", "delete"];

const STORAGES: &str = "fdrtd 2026-11 storages of KeyValueStorage, version 1";
const KEYS: &str = "fdrtd 2026-11 keys of a storage of KeyValueStorage, version 1";

impl KeyValueStorage {
    /// Whether this is a value of the caller's that has a name of its own (`Some(true)`), a storage (`Some(false)`), or neither.
    pub(crate) fn is_value(&self, who: &Principal, uuid: Uuid) -> Option<bool> {
        match self.own(&self.state(), who, uuid)?.kind {
            Kind::Value | Kind::OneWay => Some(true),
            Kind::Storage => Some(false),
            Kind::Keyed => None,
        }
    }

    /// Keeps a value; its uuid is its name on both faces.
    ///
    /// # Errors
    /// 429 for the quota, 503 when the store fails.
    pub(crate) async fn upload(
        &self,
        who: &Principal,
        text: Zeroizing<String>,
        one_way: bool,
    ) -> Result<Uuid, Problem> {
        let uuid = Uuid::new_v4();
        let (storage, kind) = (Arc::from(DEFAULT_STORAGE), Kind::of_value(one_way));
        self.put(who, uuid, storage, kind, Arc::new(text)).await?;
        Ok(uuid)
    }

    /// An uploaded value; `as_input` if it becomes the input of a task.
    ///
    /// # Errors
    /// 404 for one that is not the caller's, 403 for one that was stored one way and is to be shown.
    pub(crate) fn text_of(&self, who: &Principal, uuid: Uuid, as_input: bool) -> Result<ValueText, Problem> {
        let entry = self.own(&self.state(), who, uuid);
        match entry.ok_or_else(|| object_unknown(SERVICE))? {
            entry if entry.kind == Kind::Value => Ok(entry.text),
            entry if entry.kind == Kind::OneWay && as_input => Ok(entry.text),
            entry if entry.kind == Kind::OneWay => Err(one_way()),
            _ => Err(object_unknown(SERVICE)),
        }
    }

    /// Forgets an uploaded value, or that a storage was made: the values in it stay.
    ///
    /// # Errors
    /// 404 for one that is not the caller's, 503 when the store fails.
    pub(crate) async fn release(&self, who: &Principal, uuid: Uuid) -> Result<(), Problem> {
        self.is_value(who, uuid).ok_or_else(|| object_unknown(SERVICE))?;
        self.take_out(who, uuid).await?.ok_or_else(|| object_unknown(SERVICE))
    }

    /// `create(storage?)` of generation 0.6: the caller's storage of that name.
    ///
    /// # Errors
    /// 422 for an unusable name, 429 for the quota, 503 when the store fails.
    pub(crate) async fn open_storage(&self, who: &Principal, mut params: Parameters) -> Result<Uuid, Problem> {
        let name = match params.optional("storage") {
            Some(raw) => storage_name(&raw)?,
            None => Arc::from(DEFAULT_STORAGE),
        };
        params.finish()?;
        let uuid = derived(STORAGES, who.recorded(), &name);
        self.keep_storage(who, uuid, &name).await?;
        Ok(uuid)
    }

    /// Calls a function of a storage.
    ///
    /// # Errors
    /// 403 for a function that is not public, 422 for parameters, 404 for a storage that is not the caller's and for what is not in it, 429 for the
    /// quota, 503 when the store fails.
    pub(crate) async fn call_storage(
        &self,
        who: &Principal,
        storage: Uuid,
        function: &str,
        mut params: Parameters,
    ) -> Result<Reply, Problem> {
        if !STORAGE.contains(&function) {
            return Err(not_public("a storage", function, &STORAGE));
        }
        let key = params.required("key")?;
        let value = match function {
            "store" => Some(params.required("value")?),
            _ => None,
        };
        params.finish()?;
        let name = {
            let found = self.own(&self.state(), who, storage);
            let found = found.filter(|entry| entry.kind == Kind::Storage);
            found.ok_or_else(|| object_unknown(SERVICE))?.storage
        };
        let uuid = derived(KEYS, &storage.to_string(), &scalar(&key)?);
        match (function, value) {
            ("store", Some(value)) => self.store_keyed(who, (storage, name), uuid, value).await,
            ("delete", _) => {
                let deleted = self.take_out(who, uuid).await?;
                deleted.map(|()| Reply::Nothing).ok_or_else(|| {
                    Problem::unknown(
                        "OBJECT_UNKNOWN",
                        "the storage has no value under this key",
                        "it was deleted before, has expired, or was never stored: exists(key) tells",
                    )
                })
            }
            ("exists", _) => Ok(Reply::Value(self.own(&self.state(), who, uuid).is_some().to_string())),
            _ => Ok(match self.own(&self.state(), who, uuid) {
                Some(entry) => Reply::Shared(entry.text),
                None => Reply::Nothing,
            }),
        }
    }

    async fn store_keyed(
        &self,
        who: &Principal,
        (storage, name): (Uuid, Arc<str>),
        uuid: Uuid,
        value: Raw,
    ) -> Result<Reply, Problem> {
        let text = Arc::new(value.into_text());
        self.put(who, uuid, Arc::clone(&name), Kind::Keyed, text).await?;
        let half = self.quota.ttl.as_secs() / 2;
        let old = self.own(&self.state(), who, storage);
        if old.is_some_and(|entry| entry.expires_at < self.clock.now().saturating_add(half)) {
            // Whoever uses a storage keeps it.
            self.keep_storage(who, storage, &name).await?;
        }
        Ok(Reply::Nothing)
    }

    async fn keep_storage(&self, who: &Principal, uuid: Uuid, name: &Arc<str>) -> Result<(), Problem> {
        let text = Arc::new(Zeroizing::new(String::new()));
        self.put(who, uuid, Arc::clone(name), Kind::Storage, text).await
    }
}

/// A name that follows from two texts.
fn derived(context: &str, one: &str, other: &str) -> Uuid {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    hasher.update(&(one.len() as u64).to_le_bytes());
    hasher.update(one.as_bytes());
    hasher.update(other.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}
