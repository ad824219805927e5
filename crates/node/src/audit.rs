//! What was done at this node, by whom and why: never a value, and no number of samples. [`chain`](crate::chain) says how an entry is made fast.

use std::future::Future;

use serde_json::Value;
use uuid::Uuid;

use crate::chain::{Entry, Note};
use crate::principal::Principal;
use crate::services::Clock;
use crate::store::{Store, StoreError, Write};

/// See the [module](self). Cheap to clone.
#[derive(Clone, Debug)]
pub struct Audit {
    store: Store,
    clock: Clock,
}

impl Default for Audit {
    /// One that keeps nothing.
    fn default() -> Audit {
        Audit::new(Store::ephemeral())
    }
}

impl Audit {
    /// Kept in `store`.
    pub fn new(store: Store) -> Audit {
        Audit {
            store,
            clock: Clock::System,
        }
    }

    /// Notes something that was done or refused. `action` is a stable word such as `task.create`; `detail` holds public things only: names, rules,
    /// parameters, codes.
    ///
    /// The entry is queued by the call itself, before whatever is written after it: when that write is acknowledged, the entry is kept. Where both must be
    /// kept or neither, hand an [`Audit::entry`] to the write.
    pub fn note(&self, who: &Principal, action: &'static str, task: Option<&Uuid>, detail: &Value) {
        drop(self.noted(who, action, task, detail));
    }

    /// The same; the future ends when the entry is kept.
    ///
    /// # Errors
    /// When it is not.
    pub fn noted(
        &self,
        who: &Principal,
        action: &'static str,
        task: Option<&Uuid>,
        detail: &Value,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + use<> {
        self.store.commit(Write::note(self.entry(who, action, task, detail)))
    }

    /// What [`Audit::note`] would enter, for a [`Write`] that enters it together with what it tells.
    pub fn entry(&self, who: &Principal, action: &'static str, task: Option<&Uuid>, detail: &Value) -> Note {
        tracing::debug!(who = who.shown(), action, ?task, %detail, "audit");
        let task = task.map(Uuid::to_string);
        Note::new(self.clock.now(), who.shown(), action, task, detail)
    }

    /// At most `limit` entries after that number, in order.
    ///
    /// # Errors
    /// When the storage fails.
    pub fn after(&self, seq: u64, limit: usize) -> impl Future<Output = Result<Vec<Entry>, StoreError>> + Send + use<> {
        self.store.audit(seq, limit)
    }
}
