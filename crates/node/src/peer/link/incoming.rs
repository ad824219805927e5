//! The receiving half of a link: puts the records of a peer together to messages.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use super::record::{Part, TaskId, Violation};

pub(super) struct Incoming {
    /// Data records received: the sequence number that is due.
    received: u64,
    partial: HashMap<TaskId, Partial>,
    max_partial: usize,
    limits: HashMap<TaskId, usize>,
    default_limit: usize,
    ready: VecDeque<(TaskId, Bytes)>,
    too_long: VecDeque<TaskId>,
}

/// A message of which some parts have come.
struct Partial {
    /// Bytes still to come.
    missing: u64,
    /// What has come; `None` if the message is too long or its task was forgotten, and its bytes are skipped.
    kept: Option<Vec<u8>>,
}

impl Incoming {
    pub(super) fn new(default_limit: usize, max_partial: usize) -> Self {
        Self {
            received: 0,
            partial: HashMap::new(),
            max_partial: max_partial.max(1),
            limits: HashMap::new(),
            default_limit,
            ready: VecDeque::new(),
            too_long: VecDeque::new(),
        }
    }

    pub(super) fn received(&self) -> u64 {
        self.received
    }

    pub(super) fn set_limit(&mut self, task: TaskId, limit: usize) {
        self.limits.insert(task, limit);
    }

    /// Forgets the task's limit and the bytes of a message under way, whose remaining parts are skipped.
    pub(super) fn forget(&mut self, task: TaskId) {
        self.limits.remove(&task);
        if let Some(partial) = self.partial.get_mut(&task) {
            partial.kept = None;
        }
    }

    /// The peer lost its state: drops messages under way and counts from 0 again. Complete messages stay.
    pub(super) fn clear(&mut self) {
        self.received = 0;
        self.partial.clear();
    }

    pub(super) fn next_message(&mut self) -> Option<(TaskId, Bytes)> {
        self.ready.pop_front()
    }

    pub(super) fn too_long(&mut self) -> Option<TaskId> {
        self.too_long.pop_front()
    }

    /// Bytes of memory set aside for messages under way.
    #[cfg(test)]
    pub(super) fn reserved(&self) -> usize {
        let kept = self.partial.values().filter_map(|p| p.kept.as_ref());
        kept.map(Vec::capacity).sum()
    }

    /// Takes a data record. One that was here before is skipped: after a resume the peer sends whatever it does not
    /// know to have arrived.
    pub(super) fn accept(&mut self, seq: u64, task: TaskId, part: Part, payload: &[u8]) -> Result<(), Violation> {
        if seq > self.received {
            return Err(Violation::Gap {
                expected: self.received,
                found: seq,
            });
        }
        if seq == self.received {
            self.append(task, part, payload)?;
            self.received += 1;
        }
        Ok(())
    }

    fn append(&mut self, task: TaskId, part: Part, payload: &[u8]) -> Result<(), Violation> {
        match part {
            Part::Only => {
                self.require_none(task)?;
                if self.admits(task, payload.len() as u64) {
                    self.ready.push_back((task, Bytes::copy_from_slice(payload)));
                }
            }
            Part::First(total) => {
                self.require_none(task)?;
                if self.partial.len() >= self.max_partial {
                    return Err(Violation::TooManyStreams);
                }
                let kept = self.admits(task, total).then(Vec::new);
                let mut partial = Partial { missing: total, kept };
                partial.extend(payload)?;
                self.partial.insert(task, partial);
            }
            Part::Middle => {
                let partial = self.partial.get_mut(&task).ok_or(NOT_BEGUN)?;
                partial.extend(payload)?;
                if partial.missing == 0 {
                    return Err(Violation::BadFragment("a complete message without its end"));
                }
            }
            Part::Last => {
                let mut partial = self.partial.remove(&task).ok_or(NOT_BEGUN)?;
                partial.extend(payload)?;
                if partial.missing != 0 {
                    return Err(Violation::BadFragment("an end before the message is whole"));
                }
                let whole = partial.kept.map(|kept| (task, Bytes::from(kept)));
                self.ready.extend(whole);
            }
            Part::Abort => {
                self.partial.remove(&task).ok_or(NOT_BEGUN)?;
            }
        }
        Ok(())
    }

    fn require_none(&self, task: TaskId) -> Result<(), Violation> {
        if self.partial.contains_key(&task) {
            return Err(Violation::BadFragment("a message within a message"));
        }
        Ok(())
    }

    /// Whether a message of that length may come; if not, notes that one was too long.
    fn admits(&mut self, task: TaskId, len: u64) -> bool {
        let limit = self.limits.get(&task).copied();
        let fits = len <= limit.unwrap_or(self.default_limit) as u64;
        if !fits {
            self.too_long.push_back(task);
        }
        fits
    }
}

const NOT_BEGUN: Violation = Violation::BadFragment("a part of a message that was not begun");

impl Partial {
    fn extend(&mut self, payload: &[u8]) -> Result<(), Violation> {
        let len = payload.len() as u64;
        let missing = self.missing.checked_sub(len);
        let missing = missing.ok_or(Violation::BadFragment("more bytes than announced"))?;
        if let Some(kept) = &mut self.kept {
            if kept.capacity() - kept.len() < payload.len() {
                // Memory follows the bytes that came, doubling; never the length that the peer claims. The cap by that
                // length spares the surplus of the last doubling.
                let doubled = kept.len().max(payload.len()) as u64;
                let more = doubled.min(self.missing).max(len);
                kept.reserve_exact(usize::try_from(more).unwrap_or(payload.len()));
            }
            kept.extend_from_slice(payload);
        }
        self.missing = missing;
        Ok(())
    }
}
