//! The sending half of a link: messages wait per task, are cut into records in turn, and the records are kept until
//! the peer has acknowledged them.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use super::record::{Cut, DATA_HEADER, FIRST_HEADER, MAX_RECORD, Part, TaskId, Violation};

/// A window holds at least one record with room for some payload.
const MIN_WINDOW: usize = 128;

pub(super) struct Outgoing {
    /// Invariant: a task has an entry exactly as long as something of it is unsent or unacknowledged.
    tasks: HashMap<TaskId, Queue>,
    /// Tasks with something to cut, each once, in `turns` or in `parked`.
    turns: VecDeque<TaskId>,
    /// Tasks whose next message has several parts and must wait until another such message is through.
    parked: VecDeque<TaskId>,
    /// Messages begun and not ended. The peer's reassembly holds exactly these, and refuses more than `max_open`.
    open: usize,
    max_open: usize,
    /// Records cut and not acknowledged, the first with sequence number `acked`.
    kept: VecDeque<Cut>,
    acked: u64,
    /// How many of `kept` have gone out on this connection.
    gone: usize,
    /// Size of all of `kept`; at most `window`.
    in_flight: usize,
    window: usize,
    longest_record: usize,
    /// Message bytes unsent or unacknowledged, of all tasks.
    queued: usize,
}

impl Outgoing {
    pub(super) fn new(window: usize, max_open: usize) -> Self {
        let window = window.max(MIN_WINDOW);
        Self {
            tasks: HashMap::new(),
            turns: VecDeque::new(),
            parked: VecDeque::new(),
            open: 0,
            max_open: max_open.max(1),
            kept: VecDeque::new(),
            acked: 0,
            gone: 0,
            in_flight: 0,
            window,
            longest_record: window.min(MAX_RECORD),
            queued: 0,
        }
    }

    pub(super) fn push(&mut self, task: TaskId, message: Bytes) {
        let queue = self.tasks.entry(task).or_default();
        if !queue.has_more() {
            self.turns.push_back(task);
        }
        queue.bytes += message.len();
        self.queued += message.len();
        queue.messages.push_back(message);
    }

    /// Drops what is not cut yet. The peer is told by an abort if that tears a message apart.
    pub(super) fn forget(&mut self, task: TaskId) {
        let Some(queue) = self.tasks.get_mut(&task) else {
            return;
        };
        let dropped: usize = queue.messages.iter().map(Bytes::len).sum();
        queue.messages.clear();
        queue.bytes -= dropped;
        self.queued -= dropped;
        queue.abort |= queue.open;
        if queue.abort {
            return; // keeps its turn, for the abort
        }
        if queue.is_done() {
            self.tasks.remove(&task);
        }
        self.turns.retain(|t| *t != task);
        self.parked.retain(|t| *t != task);
    }

    pub(super) fn queued(&self, task: TaskId) -> usize {
        self.tasks.get(&task).map_or(0, |queue| queue.bytes)
    }

    pub(super) fn total_queued(&self) -> usize {
        self.queued
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// How many records were ever cut: the sequence number of the next.
    pub(super) fn next_seq(&self) -> u64 {
        self.acked + self.kept.len() as u64
    }

    /// The next record to go out, with its sequence number: one that must be sent again, else a new one if the window
    /// allows.
    pub(super) fn next(&mut self) -> Option<(u64, &Cut)> {
        if self.gone == self.kept.len() {
            let cut = self.cut()?;
            self.in_flight += cut.size();
            self.kept.push_back(cut);
        }
        let index = self.gone;
        self.gone += 1;
        Some((self.acked + index as u64, self.kept.get(index)?))
    }

    /// The peer has the first `received` records. What it said before and what it says now may come in any order.
    pub(super) fn acknowledge(&mut self, received: u64) -> Result<(), Violation> {
        let sent = self.next_seq();
        if received > sent {
            return Err(Violation::AckAhead {
                acknowledged: received,
                sent,
            });
        }
        while self.acked < received {
            let Some(cut) = self.kept.pop_front() else {
                break;
            };
            self.acked += 1;
            self.gone = self.gone.saturating_sub(1);
            self.in_flight -= cut.size();
            self.queued -= cut.payload.len();
            if let Some(queue) = self.tasks.get_mut(&cut.task) {
                queue.bytes -= cut.payload.len();
                queue.kept -= 1;
                if queue.is_done() {
                    self.tasks.remove(&cut.task);
                }
            }
        }
        Ok(())
    }

    /// A new connection to the same peer: all that is not acknowledged goes out again.
    pub(super) fn rewind(&mut self) {
        self.gone = 0;
    }

    /// The peer lost its state: drops everything and counts from 0 again.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.window, self.max_open);
    }

    /// Cuts one record from the task whose turn it is.
    fn cut(&mut self) -> Option<Cut> {
        if self.open < self.max_open {
            self.turns.extend(self.parked.pop_front());
        }
        loop {
            let task = *self.turns.front()?;
            let queue = self.tasks.get_mut(&task)?;
            let (part, len) = queue.next_part(self.longest_record);
            if matches!(part, Part::First(_)) && self.open >= self.max_open {
                self.turns.pop_front();
                self.parked.push_back(task);
                continue;
            }
            if self.in_flight + part.header_len() + len > self.window {
                return None;
            }
            let payload = queue.take(part, len);
            self.turns.pop_front();
            if queue.has_more() {
                self.turns.push_back(task);
            }
            match part {
                Part::First(_) => self.open += 1,
                Part::Last | Part::Abort => self.open -= 1,
                Part::Middle | Part::Only => {}
            }
            return Some(Cut { task, part, payload });
        }
    }
}

/// What one task has to send.
#[derive(Default)]
struct Queue {
    /// Not yet cut; of the first, only the rest if `open`.
    messages: VecDeque<Bytes>,
    /// The first message was begun.
    open: bool,
    /// The message that was begun is gone: its end must be announced before anything else.
    abort: bool,
    /// Records cut and not acknowledged.
    kept: usize,
    /// Message bytes unsent or unacknowledged.
    bytes: usize,
}

impl Queue {
    fn has_more(&self) -> bool {
        self.abort || !self.messages.is_empty()
    }

    fn is_done(&self) -> bool {
        !self.has_more() && self.kept == 0
    }

    /// The next part and the length of its payload, for records of at most `longest` bytes.
    fn next_part(&self, longest: usize) -> (Part, usize) {
        let rest = self.messages.front().map_or(0, Bytes::len);
        let fits = longest - DATA_HEADER;
        match (self.abort, self.open) {
            (true, _) => (Part::Abort, 0),
            (_, true) if rest <= fits => (Part::Last, rest),
            (_, true) => (Part::Middle, fits),
            (_, false) if rest <= fits => (Part::Only, rest),
            (_, false) => (Part::First(rest as u64), longest - FIRST_HEADER),
        }
    }

    /// Removes that part; its payload shares the message's memory.
    fn take(&mut self, part: Part, len: usize) -> Bytes {
        self.kept += 1;
        self.open = matches!(part, Part::First(_) | Part::Middle);
        match part {
            Part::Abort => {
                self.abort = false;
                Bytes::new()
            }
            Part::First(_) | Part::Middle => self
                .messages
                .front_mut()
                .map_or_else(Bytes::new, |message| message.split_to(len)),
            Part::Last | Part::Only => self.messages.pop_front().unwrap_or_default(),
        }
    }
}
