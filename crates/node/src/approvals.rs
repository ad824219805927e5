//! What this node's owner has approved: which peers may compute which microprotocol on which columns.

use std::collections::HashSet;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::identity::PeerKey;
use crate::store::{Store, StoreError};

/// Kind of the records in the store.
const APPROVAL: &str = "approval";

/// A kind of task: the peers in any order, the microprotocol, and the exact form of the input.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TaskKind(String);

impl TaskKind {
    /// Of a task. Names of columns may be private, and the store shows names of records: so it is a hash under `secret`.
    pub fn new(secret: &[u8; 32], peers: &[PeerKey], microprotocol: &str, shape: &str) -> TaskKind {
        let mut peers: Vec<&PeerKey> = peers.iter().collect();
        peers.sort();
        let mut hasher = blake3::Hasher::new_keyed(secret);
        hasher.update(&(peers.len() as u64).to_le_bytes());
        for peer in peers {
            hasher.update(peer.as_bytes());
        }
        for text in [microprotocol, shape] {
            hasher
                .update(&(text.len() as u64).to_le_bytes())
                .update(text.as_bytes());
        }
        TaskKind(hasher.finalize().to_hex().to_string())
    }
}

/// See the [module](self). Cheap to clone.
#[derive(Clone, Debug)]
pub struct Approvals {
    store: Store,
    known: Arc<Mutex<HashSet<TaskKind>>>,
}

impl Approvals {
    /// What the store has. Blocks: for the start of the node only.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub fn open(store: &Store) -> Result<Approvals, StoreError> {
        let records = store.load(APPROVAL)?.records.into_iter();
        Ok(Approvals {
            store: store.clone(),
            known: Arc::new(Mutex::new(records.map(|record| TaskKind(record.id)).collect())),
        })
    }

    /// Whether tasks of this kind were approved.
    pub fn contains(&self, kind: &TaskKind) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(kind)
    }

    /// Remembers an approval; the future ends when it is written.
    pub fn add(&self, kind: &TaskKind) -> impl Future<Output = Result<(), StoreError>> + Send + use<> {
        let written = self.store.put(APPROVAL, kind.0.clone(), Vec::new(), u64::MAX >> 1);
        let (known, kind) = (Arc::clone(&self.known), kind.clone());
        async move {
            written.await?;
            known.lock().unwrap_or_else(PoisonError::into_inner).insert(kind);
            Ok(())
        }
    }
}
