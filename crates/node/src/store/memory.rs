//! The audit of a node that keeps nothing: its last entries.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::chain::{Chain, Entry, Hash, Note};
use crate::identity::Identity;

/// Entries that are kept; older ones are forgotten.
const KEPT: usize = 10_000;

pub(super) struct Memory {
    chain: Chain,
    entries: VecDeque<Entry>,
}

impl Memory {
    pub(super) fn new(identity: Arc<Identity>) -> Memory {
        Memory {
            chain: Chain::new(identity, 0, Hash::default()),
            entries: VecDeque::new(),
        }
    }

    pub(super) fn note(&mut self, notes: &[Note]) {
        for note in notes {
            if self.entries.len() == KEPT {
                self.entries.pop_front();
            }
            self.entries.push_back(self.chain.append(note));
        }
    }

    pub(super) fn after(&self, seq: u64, limit: usize) -> Vec<Entry> {
        let later = self.entries.iter().filter(|entry| entry.seq > seq);
        later.take(limit).cloned().collect()
    }
}

pub(super) fn lock(memory: &Arc<Mutex<Memory>>) -> MutexGuard<'_, Memory> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}
