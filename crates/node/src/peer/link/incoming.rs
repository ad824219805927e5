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
    /// Bytes of memory set aside for messages under way, and how many there may be.
    reserved: usize,
    max_reserved: usize,
    ready: VecDeque<(TaskId, Bytes)>,
    too_long: VecDeque<TaskId>,
    no_room: VecDeque<TaskId>,
    /// How many were too long for the memory that was left.
    overflows: u64,
}

/// A message of which some parts have come.
struct Partial {
    /// Bytes still to come.
    missing: u64,
    /// What has come; `None` if the message is too long or its task was forgotten, and its bytes are skipped.
    kept: Option<Vec<u8>>,
}

impl Incoming {
    pub(super) fn new(default_limit: usize, max_reserved: usize, max_partial: usize) -> Self {
        Self {
            received: 0,
            partial: HashMap::new(),
            max_partial: max_partial.max(1),
            limits: HashMap::new(),
            default_limit,
            reserved: 0,
            max_reserved,
            ready: VecDeque::new(),
            too_long: VecDeque::new(),
            no_room: VecDeque::new(),
            overflows: 0,
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
            self.reserved -= partial.drop_kept();
        }
    }

    /// The peer lost its state: drops messages under way and counts from 0 again. Complete messages stay.
    pub(super) fn clear(&mut self) {
        self.received = 0;
        self.partial.clear();
        self.reserved = 0;
    }

    pub(super) fn next_message(&mut self) -> Option<(TaskId, Bytes)> {
        self.ready.pop_front()
    }

    pub(super) fn too_long(&mut self) -> Option<TaskId> {
        self.too_long.pop_front()
    }

    pub(super) fn no_room(&mut self) -> Option<TaskId> {
        self.no_room.pop_front()
    }

    /// How often the memory for messages under way was used up.
    pub(super) fn overflows(&self) -> u64 {
        self.overflows
    }

    /// Bytes of memory set aside for messages under way.
    #[cfg(test)]
    pub(super) fn reserved(&self) -> usize {
        let kept = self.partial.values().filter_map(|p| p.kept.as_ref());
        let found = kept.map(Vec::capacity).sum();
        assert_eq!(self.reserved, found);
        found
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
                self.partial.insert(task, Partial { missing: total, kept });
                self.extend(task, payload)?;
            }
            Part::Middle => {
                if self.extend(task, payload)? == 0 {
                    return Err(Violation::BadFragment("a complete message without its end"));
                }
            }
            Part::Last => {
                if self.extend(task, payload)? != 0 {
                    return Err(Violation::BadFragment("an end before the message is whole"));
                }
                let partial = self.partial.remove(&task).ok_or(NOT_BEGUN)?;
                self.reserved -= partial.reserved();
                let whole = partial.kept.map(|kept| (task, Bytes::from(kept)));
                self.ready.extend(whole);
            }
            Part::Abort => {
                let partial = self.partial.remove(&task).ok_or(NOT_BEGUN)?;
                self.reserved -= partial.reserved();
            }
        }
        Ok(())
    }

    /// Adds to a message under way, within the memory for all; the answer is how much of it is missing.
    fn extend(&mut self, task: TaskId, payload: &[u8]) -> Result<u64, Violation> {
        let partial = self.partial.get_mut(&task).ok_or(NOT_BEGUN)?;
        self.reserved -= partial.reserved();
        partial.extend(payload)?;
        if self.reserved.saturating_add(partial.reserved()) > self.max_reserved {
            partial.drop_kept();
            self.overflows += 1;
            self.no_room.push_back(task);
        }
        self.reserved += partial.reserved();
        Ok(partial.missing)
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
    fn reserved(&self) -> usize {
        self.kept.as_ref().map_or(0, Vec::capacity)
    }

    /// From now on its bytes are skipped; the answer is how much memory becomes free.
    fn drop_kept(&mut self) -> usize {
        self.kept.take().map_or(0, |kept| kept.capacity())
    }

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
