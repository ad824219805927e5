//! All parties in one thread, with faults: messages are delivered in an order drawn from a seed, and chosen ones are dropped, repeated, cut, changed,
//! held back or told differently to different peers.
//!
//! For tests: only here runs are repeatable.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use zeroize::Zeroizing;

use crate::circuit::{Circuit, Triples};
use crate::mask::Prg;
use crate::net::{Abort, HEADER, Machine, Party, Session, State};
use crate::opening::Opening;
use crate::ot::{Base, Ot};
use crate::threshold::Thresholds;

/// What goes wrong with one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It never arrives; later ones do.
    Drop,
    /// It arrives twice.
    Repeat,
    /// Its last `n` bytes are missing.
    Truncate(usize),
    /// A bit is changed: `n`, counted from the first bit of the payload and modulo its length.
    Flip(usize),
    /// It and all behind it on this channel come only when nothing else is left to deliver.
    Delay,
    /// The sender tells this receiver something else (bit `n`), and covers it up with the closing digest that the receiver expects.
    Equivocate(usize),
}

/// One fault: the `index`-th message (from 0) of `from` to `to`.
#[derive(Clone, Copy, Debug)]
pub struct FaultAt {
    /// The sender.
    pub from: usize,
    /// The receiver.
    pub to: usize,
    /// Which of the messages on this channel.
    pub index: usize,
    /// What happens to it.
    pub fault: Fault,
}

/// How a party ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With the result, confirmed by all.
    Confirmed(String),
    /// With the result, but without the closing digests of these.
    Unconfirmed(String, Vec<Party>),
    /// Waiting for these for ever. In a node, a deadline ends that.
    Stalled(Vec<Party>),
    /// With a reason.
    Aborted(Abort),
}

/// Everything that happened.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// By party.
    pub ends: Vec<End>,
    /// Every message as it was delivered: sender, receiver, bytes with header.
    pub delivered: Vec<(Party, Party, Bytes)>,
    /// By party: rounds that are complete.
    pub rounds: Vec<u32>,
    /// By party: what has opened, if its machine records that ([`Machine::record`]).
    pub openings: Vec<Vec<Opening>>,
    /// By party: what its owner alone is told.
    pub own: Vec<Option<Zeroizing<String>>>,
}

/// Sessions that fit together, with all secrets drawn from `seed`.
pub fn sessions(parties: usize, seed: u64) -> Vec<Session> {
    let derive = |label: &str, a: usize, b: usize| {
        let mut bytes = Zeroizing::new([0; 64]);
        let mut hasher = blake3::Hasher::new_derive_key("fdrtd simulator");
        hasher.update(&seed.to_le_bytes()).update(label.as_bytes());
        hasher.update(&a.to_le_bytes()).update(&b.to_le_bytes());
        hasher.finalize_xof().fill(&mut bytes[..]);
        bytes
    };
    let half = |bytes: Zeroizing<[u8; 64]>| {
        let mut out = Zeroizing::new([0; 32]);
        out.copy_from_slice(&bytes[..32]);
        out
    };
    let session = |me: Party| Session {
        sid: *half(derive("sid", 0, 0)),
        me,
        parties,
        pairs: (0..parties)
            .map(|j| derive("pair", me.index().min(j), me.index().max(j)))
            .collect(),
        coins: half(derive("coins", me.index(), 0)),
        bases: Vec::new(),
        thresholds: Thresholds::default(),
    };
    Party::all(parties).map(session).collect()
}

/// Base transfers between all parties, for [`Session::bases`] of later sessions: by party, for each of its peers.
pub fn bases(parties: usize, seed: u64) -> Vec<Vec<Option<Arc<Base>>>> {
    let machine = |session| {
        Machine::new(session, |mut net| async move {
            let made = Ot::new(&mut net).await.map(|_| String::new());
            (net, made)
        })
    };
    let mut machines: Vec<Machine> = sessions(parties, seed).into_iter().map(machine).collect();
    drive(&mut machines, seed, &[]);
    let of_machine = |machine: &mut Machine| {
        let mut bases = vec![None; parties];
        for (peer, base) in machine.bases() {
            bases[peer.index()] = Some(base);
        }
        bases
    };
    machines.iter_mut().map(of_machine).collect()
}

/// For each party what [`Triples::generate`](crate::circuit::Triples::generate) would give it, without messages, drawn from `seed`.
pub fn triples(parties: usize, plan: &[(&Circuit, usize)], seed: u64) -> Vec<Triples> {
    let mut key = Zeroizing::new([0; 32]);
    key[..8].copy_from_slice(&seed.to_le_bytes());
    Triples::dealt(plan, parties, &mut Prg::new(&key))
}

/// The same sessions with base oblivious transfers for all pairs, drawn from `seed`: making them takes most of the time of a small computation.
pub fn warm(mut sessions: Vec<Session>, seed: u64) -> Vec<Session> {
    let parties = sessions.len();
    sessions
        .iter_mut()
        .for_each(|session| session.bases = vec![None; parties]);
    for low in 0..parties {
        for high in low + 1..parties {
            let mut hasher = blake3::Hasher::new_derive_key("fdrtd simulator, base transfers");
            hasher
                .update(&seed.to_le_bytes())
                .update(&low.to_le_bytes())
                .update(&high.to_le_bytes());
            let [first, second] = Base::dealt(&mut hasher.finalize_xof());
            sessions[low].bases[high] = Some(Arc::new(first));
            sessions[high].bases[low] = Some(Arc::new(second));
        }
    }
    sessions
}

/// One half of base transfers with that id, for tests of those who keep them.
pub fn base(id: [u8; 32]) -> Base {
    let [first, _] = Base::dealt(&mut blake3::Hasher::new_keyed(&id).finalize_xof());
    first.with_id(id)
}

/// Runs `machines` (one per party, in order) until nothing more can happen.
pub fn run(mut machines: Vec<Machine>, schedule: u64, faults: &[FaultAt]) -> Outcome {
    drive(&mut machines, schedule, faults)
}

fn drive(machines: &mut [Machine], schedule: u64, faults: &[FaultAt]) -> Outcome {
    let mut wire = Wire {
        faults,
        sent: BTreeMap::new(),
        channels: BTreeMap::new(),
        held: Vec::new(),
        random: schedule,
    };
    let mut delivered = Vec::new();
    let mut states: Vec<State> = machines.iter_mut().map(Machine::step).collect();
    let parties: Vec<Party> = Party::all(machines.len()).collect();
    for party in &parties {
        wire.take_from(machines, *party);
    }
    while let Some((from, to, message)) = wire.next() {
        delivered.push((from, to, message.clone()));
        let index = to.index();
        if matches!(states[index], State::Aborted(_)) {
            continue;
        }
        states[index] = match machines[index].deliver(from, message) {
            Ok(()) => machines[index].step(),
            Err(abort) => State::Aborted(abort),
        };
        wire.take_from(machines, to);
    }
    let end = |(machine, state): (&Machine, State)| match state {
        State::Running => End::Stalled(machine.waiting_for()),
        State::Opened(result) => End::Unconfirmed(result, machine.waiting_for()),
        State::Confirmed(result) => End::Confirmed(result),
        State::Aborted(abort) => End::Aborted(abort),
    };
    Outcome {
        ends: machines.iter().zip(states).map(end).collect(),
        delivered,
        rounds: machines.iter().map(Machine::round).collect(),
        openings: machines.iter().map(Machine::openings).collect(),
        own: machines.iter().map(Machine::own).collect(),
    }
}

type Channel = (Party, Party);

enum Item {
    Message(Bytes),
    /// Whatever the receiver itself sends to the sender as its message of that index.
    Mirror(usize),
}

struct Wire<'a> {
    faults: &'a [FaultAt],
    /// Everything sent, before faults.
    sent: BTreeMap<Channel, Vec<Bytes>>,
    channels: BTreeMap<Channel, VecDeque<Item>>,
    held: Vec<Channel>,
    random: u64,
}

impl Wire<'_> {
    fn take_from(&mut self, machines: &mut [Machine], from: Party) {
        for (to, message) in machines[from.index()].outgoing() {
            let sent = self.sent.entry((from, to)).or_default();
            let index = sent.len();
            sent.push(message.clone());
            self.put((from, to), index, message);
        }
    }

    fn put(&mut self, channel: Channel, index: usize, message: Bytes) {
        let on_channel = |at: &&FaultAt| (at.from, at.to) == (channel.0.index(), channel.1.index());
        let fault = self
            .faults
            .iter()
            .filter(on_channel)
            .find(|at| at.index == index)
            .map(|at| at.fault);
        let covering = |at: &FaultAt| matches!(at.fault, Fault::Equivocate(_)) && at.index < index;
        let cover_up = self.faults.iter().filter(on_channel).any(covering);
        let queue = self.channels.entry(channel).or_default();
        match fault {
            Some(Fault::Drop) => {}
            Some(Fault::Repeat) => queue.extend([Item::Message(message.clone()), Item::Message(message)]),
            Some(Fault::Truncate(n)) => {
                queue.push_back(Item::Message(message.slice(..message.len().saturating_sub(n))))
            }
            Some(Fault::Flip(bit) | Fault::Equivocate(bit)) => queue.push_back(Item::Message(flip(&message, bit))),
            Some(Fault::Delay) => {
                queue.push_back(Item::Message(message));
                self.held.push(channel);
            }
            None if cover_up => queue.push_back(Item::Mirror(index)),
            None => queue.push_back(Item::Message(message)),
        }
    }

    /// The front of any channel, drawn at random; held channels last.
    fn next(&mut self) -> Option<(Party, Party, Bytes)> {
        let front = |channel: &Channel, queue: &VecDeque<Item>| match queue.front()? {
            Item::Message(message) => Some(message.clone()),
            Item::Mirror(index) => self.sent.get(&(channel.1, channel.0))?.get(*index).cloned(),
        };
        let ready: Vec<(Channel, Bytes)> = self
            .channels
            .iter()
            .filter_map(|(channel, queue)| Some((*channel, front(channel, queue)?)))
            .collect();
        let free: Vec<_> = ready
            .iter()
            .filter(|(channel, _)| !self.held.contains(channel))
            .cloned()
            .collect();
        let choice = if free.is_empty() { ready } else { free };
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let (channel, message) = choice.get((mixed >> 33) as usize % choice.len().max(1))?.clone();
        self.channels.get_mut(&channel)?.pop_front();
        Some((channel.0, channel.1, message))
    }
}

fn flip(message: &Bytes, bit: usize) -> Bytes {
    let mut bytes = message.to_vec();
    let bits = bytes.len().saturating_sub(HEADER) * 8;
    if bits > 0 {
        bytes[HEADER + bit % bits / 8] ^= 1 << (bit % 8);
    }
    Bytes::from(bytes)
}
