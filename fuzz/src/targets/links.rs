//! Links: records of a hostile peer, and two honest ones with a hostile network in between.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use fdrtd::peer::link::{Link, LinkConfig, Resume, TaskId};

use crate::source::{Source, put};

const LIMIT: usize = 4096;

fn task(name: u8) -> TaskId {
    [name; 16]
}

fn config(window_bytes: usize) -> LinkConfig {
    LinkConfig {
        window_bytes,
        max_streams: 3,
        ..LinkConfig::default()
    }
}

/// A greeting, then any records. Those that begin with an odd byte are given the numbers that are due, so that they get further.
pub(super) fn records(data: &[u8]) {
    let mut source = Source::new(data);
    let mut link = Link::new(7, config(1 << 16));
    if let Ok(resume) = Resume::decode(source.take(Resume::LEN)) {
        assert_eq!(Resume::decode(&resume.encode()), Ok(resume));
        if link.connected(0, resume).is_err() {
            return;
        }
    } else if link.connected(0, greeting(1, 0)).is_err() {
        return;
    }
    let (mut taken, mut now, mut out) = (0_u64, 0, Vec::new());
    while !source.is_empty() {
        let fitted = !source.u8().is_multiple_of(4);
        let mut record = source.bytes().to_vec();
        if fitted {
            fit(&mut record, taken);
        }
        now += 1;
        let is_data = record.first() == Some(&0);
        let result = link.record(now, &record);
        let mut bytes = 0;
        while let Some((_, message)) = link.next_message() {
            assert!(message.len() <= LIMIT, "longer than its limit");
            bytes += message.len();
        }
        assert!(bytes <= LIMIT, "one record completes one message");
        while link.too_long().is_some() || link.no_room().is_some() {}
        if result.is_err() {
            assert!(!link.is_connected());
            assert!(link.record(now, &record).is_err(), "after a violation nothing is taken");
            // The next connection begins anew, whatever was before.
            let again = link.connected(now, greeting(u64::from(record.len() as u32) + 9, 0));
            assert!(again.is_ok_and(|connected| connected.peer_restarted));
            taken = 0;
        } else if is_data && fitted {
            taken += 1;
        }
        while link.next_record(now + 50, &mut out) {
            assert!(out.len() <= 17, "it has nothing to say but acknowledgements");
        }
    }
}

fn fit(record: &mut [u8], seq: u64) {
    if record.len() >= 9 {
        record[1..9].fill(0);
    }
    if record.first() == Some(&0) && record.len() >= 17 {
        record[9..17].copy_from_slice(&seq.to_le_bytes());
    }
}

fn greeting(epoch: u64, received: u64) -> Resume {
    Resume {
        epoch,
        peer_epoch: None,
        received,
    }
}

/// What real links send: control records, short and long messages of several tasks in turn.
pub(super) fn record_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for window in [128, 1000, 1 << 16] {
        let mut link = Link::new(1, config(window));
        let _ = link.connected(0, greeting(7, 0));
        for name in 0..4 {
            link.send(task(name), Bytes::from(vec![name; 1 + 700 * usize::from(name)]));
            link.send(task(name), Bytes::from_static(b"short"));
        }
        let (mut seed, mut out) = (link.hello().encode().to_vec(), Vec::new());
        while link.next_record(0, &mut out) {
            seed.push(1);
            put(&mut seed, &out);
        }
        link.forget(task(3));
        for at in [30_000, 60_000] {
            while link.next_record(at, &mut out) {
                seed.push(1);
                put(&mut seed, &out);
            }
        }
        seeds.push(seed);
    }
    seeds
}

/// Two links, what is on the wire between them, and what each has sent and had.
struct World {
    links: [Link; 2],
    wire: [VecDeque<Vec<u8>>; 2],
    open: [bool; 2],
    now: u64,
    epoch: u64,
    /// By sending side: everything, by task and number.
    sent: [HashMap<u8, Vec<Bytes>>; 2],
    /// How many of each task have come or are lost for good.
    had: [HashMap<u8, usize>; 2],
    /// Something was lost for good: then what comes is in order all the same, but not all of it comes.
    lossy: bool,
    /// Bytes were changed, which the encrypted channel does not let through: then nothing is said about content.
    forged: bool,
}

/// Records are dropped, repeated, exchanged and forged; connections end and begin. Each message arrives once and in order, or not at all because a
/// side was started anew.
pub(super) fn pair(data: &[u8]) {
    let mut source = Source::new(data);
    let window = [128, 300, 5000, 1 << 20][source.below(4)];
    let mut world = World {
        links: [Link::new(1, config(window)), Link::new(2, config(window))],
        wire: Default::default(),
        open: [false; 2],
        now: 0,
        epoch: 100,
        sent: Default::default(),
        had: Default::default(),
        lossy: false,
        forged: false,
    };
    while !source.is_empty() {
        world.act(&mut source);
    }
    world.finish();
}

impl World {
    fn act(&mut self, source: &mut Source<'_>) {
        let (what, side) = (source.below(16), source.below(2));
        match what {
            0..=2 => self.send(side, source.u8() % 5, usize::from(source.u16()) % 3000),
            3..=5 => self.emit(side, 1 + source.below(20)),
            6..=8 => self.take(side, 1 + source.below(20)),
            9 => self.now += u64::from(source.u8()),
            10 => self.connect(),
            11 => self.cut(),
            12 => self.disturb(side, source),
            13 => {
                // Started anew.
                self.cut();
                self.epoch += 1;
                self.links[side] = Link::new(self.epoch, config(1000));
                self.lossy = true;
            }
            14 => {
                let name = source.u8() % 5;
                self.links[side].forget(task(name));
                self.lossy = true;
            }
            _ => {
                let record = source.bytes();
                self.wire[side].push_back(record.to_vec());
                self.forged = true;
            }
        }
    }

    fn send(&mut self, side: usize, name: u8, length: usize) {
        let all = self.sent[side].entry(name).or_default();
        let number = all.len() as u64;
        let mut bytes = vec![name ^ side as u8; length];
        bytes.extend_from_slice(&number.to_le_bytes());
        let message = Bytes::from(bytes);
        all.push(message.clone());
        self.links[side].send(task(name), message);
    }

    fn emit(&mut self, side: usize, most: usize) {
        let mut out = Vec::new();
        for _ in 0..most {
            if !self.links[side].next_record(self.now, &mut out) {
                break;
            }
            self.wire[side].push_back(out.clone());
        }
    }

    fn take(&mut self, side: usize, most: usize) {
        for _ in 0..most {
            if !self.open[side] {
                return;
            }
            let Some(record) = self.wire[1 - side].pop_front() else {
                return;
            };
            let result = self.links[side].record(self.now, &record);
            self.collect(side);
            if result.is_err() {
                self.lossy = true;
                self.cut();
            }
        }
    }

    fn collect(&mut self, side: usize) {
        while let Some((id, message)) = self.links[side].next_message() {
            if self.forged {
                continue;
            }
            let name = id[0];
            let all = &self.sent[1 - side][&name];
            let had = self.had[side].entry(name).or_default();
            let place = all[*had..].iter().position(|sent| *sent == message);
            let place = place.expect("a message that was not sent, or comes again, or too late");
            assert!(place == 0 || self.lossy, "a message is missing");
            *had += place + 1;
        }
        while self.links[side].too_long().is_some() || self.links[side].no_room().is_some() {
            assert!(self.forged, "nothing is longer than the limit");
        }
    }

    fn connect(&mut self) {
        self.cut();
        let greetings = [self.links[0].hello(), self.links[1].hello()];
        for side in [0, 1] {
            match self.links[side].connected(self.now, greetings[1 - side]) {
                Ok(connected) => {
                    self.lossy |= connected.peer_restarted;
                    self.open[side] = true;
                }
                Err(_) => {
                    assert!(self.forged, "honest greetings fit");
                    self.cut();
                    return;
                }
            }
        }
    }

    fn cut(&mut self) {
        for side in [0, 1] {
            self.links[side].disconnected(self.now);
            self.open[side] = false;
            self.wire[side].clear();
        }
    }

    fn disturb(&mut self, side: usize, source: &mut Source<'_>) {
        let wire = &mut self.wire[side];
        if wire.is_empty() {
            return;
        }
        let (what, at) = (source.u8() % 4, source.below(wire.len()));
        let other = usize::from(source.u8()) % wire.len();
        match what {
            0 => drop(wire.remove(at)),
            1 => wire.insert(other, wire[at].clone()),
            2 => wire.swap(at, other),
            _ => {
                let place = usize::from(source.u16()) % wire[at].len().max(1);
                if let Some(byte) = wire[at].get_mut(place) {
                    *byte ^= 1 | source.u8();
                }
                self.forged = true;
            }
        }
    }

    /// A good connection in the end: everything that was not lost for good arrives.
    fn finish(&mut self) {
        for _ in 0..4 {
            // Links that know nonsense of each other begin anew, which takes a connection or two.
            self.connect();
        }
        // Much to send through a small window takes long; what does not become less for long stands still.
        let (mut least, mut idle) = (usize::MAX, 0);
        while idle < 10_000 && !self.links.iter().all(Link::all_acknowledged) {
            let left = self.links.iter().map(Link::total_queued).sum();
            idle = if left < least { 0 } else { idle + 1 };
            least = least.min(left);
            for side in [0, 1] {
                self.emit(side, usize::MAX);
                self.take(1 - side, usize::MAX);
            }
            if !(self.open[0] && self.open[1]) {
                assert!(self.forged, "a violation between honest links");
                self.connect();
            }
            self.now += 20;
        }
        if self.forged {
            return;
        }
        assert!(self.links.iter().all(Link::all_acknowledged), "no progress");
        for side in [0, 1] {
            assert_eq!(self.links[side].total_queued(), 0);
            for (name, sent) in &self.sent[1 - side] {
                let had = self.had[side].get(name).copied().unwrap_or(0);
                assert!(self.lossy || had == sent.len(), "{had} of {} arrived", sent.len());
            }
        }
    }
}

pub(super) fn pair_seeds() -> Vec<Vec<u8>> {
    // Connect, send on both sides, move records, cut in between, go on.
    let quiet = [
        10, 0, 0, 0, 1, 10, 0, 0, 1, 2, 200, 0, 3, 0, 9, 6, 1, 9, 3, 1, 9, 6, 0, 9,
    ];
    let cut = [
        10, 0, 1, 0, 3, 0, 11, 3, 0, 3, 11, 0, 10, 0, 6, 1, 1, 9, 0, 30, 10, 0, 3, 0, 9, 6, 1, 9,
    ];
    let restart = [10, 0, 0, 0, 1, 10, 0, 13, 1, 10, 0, 3, 0, 9, 6, 1, 9, 14, 0, 1, 10, 0];
    let disturbed = [
        10, 0, 0, 0, 1, 10, 0, 0, 0, 1, 20, 0, 3, 0, 9, 12, 0, 1, 0, 1, 6, 1, 9, 10, 0,
    ];
    let all: [&[u8]; 4] = [&quiet, &cut, &restart, &disturbed];
    (0..4)
        .flat_map(|window| all.map(|ops| [&[window], ops].concat()))
        .collect()
}
