//! What went to and came from each peer. Peers that this node knows beforehand, or has found by itself, are counted apart, a bounded number of them; all
//! others together.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::inner::lock;
use crate::{identity::PeerKey, metrics::PEER_LABELS};

/// Totals since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Encrypted records received.
    pub records_in: u64,
    /// Encrypted records sent.
    pub records_out: u64,
    /// Bytes of the records received.
    pub bytes_in: u64,
    /// Bytes of the records sent.
    pub bytes_out: u64,
}

/// How well a peer is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// By the configuration, or by the operator's command.
    Named,
    /// By a URL that this node has asked.
    Found,
    /// It came by itself.
    Stranger,
}

#[derive(Default)]
pub(super) struct Ledger {
    own: Mutex<HashMap<PeerKey, Arc<Counts>>>,
    others: Arc<Counts>,
}

#[derive(Default)]
pub(super) struct Counts {
    records_in: AtomicU64,
    records_out: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl Counts {
    pub(super) fn received(&self, bytes: usize) {
        self.records_in.fetch_add(1, Relaxed);
        self.bytes_in.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.records_out.fetch_add(1, Relaxed);
        self.bytes_out.fetch_add(bytes as u64, Relaxed);
    }

    fn read(&self) -> Traffic {
        Traffic {
            records_in: self.records_in.load(Relaxed),
            records_out: self.records_out.load(Relaxed),
            bytes_in: self.bytes_in.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
        }
    }
}

impl Ledger {
    /// Where to count a connection to that peer. Once a peer is counted apart, it always is, so that no figure ever falls.
    pub(super) fn of(&self, key: PeerKey, known: Standing) -> Arc<Counts> {
        let mut own = lock(&self.own);
        let room = known == Standing::Named || (known == Standing::Found && own.len() < PEER_LABELS);
        match own.get(&key) {
            Some(counts) => Arc::clone(counts),
            None if room => Arc::clone(own.entry(key).or_default()),
            None => Arc::clone(&self.others),
        }
    }

    /// By the short name of the peer; the last is `other`.
    pub(super) fn read(&self) -> Vec<(String, Traffic)> {
        let own = lock(&self.own);
        let mut all: Vec<_> = own
            .iter()
            .map(|(key, counts)| (key.fingerprint(), counts.read()))
            .collect();
        // Two keys may have the same short name: they are one series then.
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all.dedup_by(|next, first| {
            let same = next.0 == first.0;
            if same {
                first.1 = first.1.plus(&next.1);
            }
            same
        });
        all.push(("other".to_owned(), self.others.read()));
        all
    }
}

impl Traffic {
    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Traffic) -> Traffic {
        Traffic {
            records_in: self.records_in + other.records_in,
            records_out: self.records_out + other.records_out,
            bytes_in: self.bytes_in + other.bytes_in,
            bytes_out: self.bytes_out + other.bytes_out,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_get_no_label_and_those_found_a_bounded_number() {
        let ledger = Ledger::default();
        for number in 0..=255 {
            let key = PeerKey::from_bytes([number; 32]);
            let known = if number < 100 {
                Standing::Stranger
            } else {
                Standing::Found
            };
            ledger.of(key, known).received(1);
        }
        ledger.of(PeerKey::from_bytes([7; 32]), Standing::Named).received(10);
        let read = ledger.read();
        assert_eq!(read.len(), PEER_LABELS + 2);
        let (name, others) = read.last().expect("it is always there");
        let counted = 256 - PEER_LABELS as u64;
        assert_eq!(
            (&**name, others.records_in, others.bytes_in),
            ("other", counted, counted)
        );
        let all = read.iter().fold(Traffic::default(), |sum, (_, one)| sum.plus(one));
        assert_eq!((all.records_in, all.bytes_in), (257, 266));
    }
}
