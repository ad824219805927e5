//! The simulation.

mod checks;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use fdrtd_mpc::microprotocol::{Entry, Prepared};
use fdrtd_mpc::net::{HEADER, Party};
use uuid::Uuid;

use crate::descriptor::{Descriptor, Durations, PROTOCOL};
use crate::identity::PeerKey;
use crate::policy::{Profile, Rules};
use crate::reason::Reason;
use crate::session::message::DATA;
use crate::session::{Declined, End, Job, Millis, Session, is_abort, is_hello};
use crate::url::NodeUrl;

pub(super) use checks::check_forgotten;

/// Drawn from a seed (splitmix64): only the schedule can be repeated, nonces and seeds come from the operating system.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 11) as usize % bound.max(1)
    }

    pub(super) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

pub(in crate::session) fn key(index: usize) -> PeerKey {
    PeerKey::from_bytes([u8::try_from(index).unwrap() + 1; 32])
}

pub(in crate::session) fn descriptor(parties: usize, task: u8) -> Descriptor {
    let url = |index: usize| NodeUrl::parse(&format!("http://127.0.0.1:9/{index}")).unwrap();
    Descriptor {
        protocol: PROTOCOL,
        task: Uuid::from_bytes([task; 16]),
        microprotocol: "SecureSum".to_owned(),
        parameters: Entry::find("SecureSum").unwrap().configure("{}").unwrap().canonical,
        nodes: (0..parties).map(url).collect(),
        durations: Durations {
            join: 10_000_000,
            input: 20_000_000,
            run: 1_000_000,
            silence: 100_000,
        },
        meeting: None,
    }
}

pub(super) fn prepared(parties: usize, text: &str) -> Prepared {
    let configured = Entry::find("SecureSum").unwrap().configure("{}").unwrap();
    configured.input(parties, &[text]).unwrap()
}

/// What a node would find in its store after a restart.
#[derive(Clone)]
enum Record {
    /// It fell over before anything was written.
    Nothing,
    Waiting {
        input: Option<String>,
    },
    Running,
    Ended(End),
}

pub(super) struct Node {
    pub(super) session: Option<Session>,
    /// What is said about tasks or by peers not known here; by sender.
    pending: BTreeMap<usize, Bytes>,
    /// Parties whose keys are not found yet.
    unknown: Vec<usize>,
    /// What the user will give.
    pub(super) input: String,
    given: bool,
    /// The record of its task and input is being written.
    writing: bool,
    /// Work that takes its time.
    job: Option<Job>,
    /// The last record that was waited for, and those written since, which a fall may lose.
    records: Vec<Record>,
    /// Whose Hello this session has heard, and whose Ready for which session.
    heard: BTreeMap<usize, Option<[u8; 32]>>,
    ended: bool,
}

enum Item {
    Message(Bytes),
    /// The receiver's connection to the sender breaks.
    Down,
    /// It is there again; what the receiver sent meanwhile to an earlier life of the sender is dropped.
    Meet,
    /// The receiver's tasks are told that the sender was started anew.
    Restarted,
    Up,
}

#[derive(Default)]
struct Way {
    items: VecDeque<Item>,
    /// What is sent is lost: it goes to an earlier life of the receiver.
    cut: bool,
}

/// How often what happens.
#[derive(Clone, Copy, Default)]
pub(super) struct Faults {
    pub(super) restarts: usize,
    /// Both sides of a connection lose its state, as after a violation.
    pub(super) resets: usize,
    /// A connection breaks and comes back without a loss.
    pub(super) flaps: usize,
    /// A Hello that waits at a node is dropped.
    pub(super) drops: usize,
}

#[derive(Clone, Copy)]
enum Step {
    Deliver(usize, usize),
    Join(usize),
    Find(usize, usize),
    Input(usize),
    Compute(usize),
    Record(usize),
    Consent(usize),
    Clear(usize),
    Restart(usize),
    Reset(usize, usize),
    Flap(usize, usize),
    Drop(usize, usize),
}

pub(super) struct World {
    pub(super) descriptor: Descriptor,
    pub(super) nodes: Vec<Node>,
    ways: BTreeMap<(usize, usize), Way>,
    pub(super) random: Random,
    pub(super) now: Millis,
    pub(super) faults: Faults,
    /// One job in so many is held back; 0 for none.
    pub(super) hold: usize,
    /// Its messages are not carried: they are the test's.
    pub(super) hostile: Option<usize>,
    pub(super) taken: Vec<(usize, Bytes)>,
    /// What it was told.
    pub(super) overheard: Vec<(usize, Bytes)>,
    /// Who has other rules than teaching's.
    pub(super) rules: BTreeMap<usize, Rules>,
    /// Who waits for consent and for clearance.
    pub(super) gated: BTreeSet<usize>,
    /// Who declines: when asked for consent, or when asked for clearance.
    pub(super) declines: Option<(usize, bool)>,
    /// Who joins another task than the others.
    pub(super) strays: BTreeMap<usize, Descriptor>,
    /// Whom each party's keys name, if not the right ones.
    pub(super) impostors: BTreeMap<(usize, usize), PeerKey>,
    /// Who was started anew or lost a connection's state, and was so or was seen so by somebody when a computation had begun.
    pub(super) disturbers: BTreeSet<usize>,
    began: bool,
    /// Every Hello: nonces by sender; by seed, its sender, receiver and nonce.
    nonces: Vec<BTreeSet<[u8; 32]>>,
    seeds: BTreeMap<[u8; 32], (usize, usize, [u8; 32])>,
    /// Every session in which data were sent, with all nonces.
    sids: BTreeMap<[u8; 32], Vec<[u8; 32]>>,
    pub(super) sent: BTreeMap<u8, usize>,
    kinds: BTreeSet<(usize, u8)>,
    delivered: usize,
}

impl World {
    pub(super) fn new(parties: usize, seed: u64) -> World {
        let node = |index: usize| Node {
            session: None,
            pending: BTreeMap::new(),
            unknown: Vec::new(),
            input: (index * 7 + 10).to_string(),
            given: false,
            writing: false,
            job: None,
            records: Vec::new(),
            heard: BTreeMap::new(),
            ended: false,
        };
        World {
            descriptor: descriptor(parties, 5),
            nodes: (0..parties).map(node).collect(),
            ways: BTreeMap::new(),
            random: Random(seed),
            now: 1 << 40,
            faults: Faults::default(),
            hold: 0,
            hostile: None,
            taken: Vec::new(),
            overheard: Vec::new(),
            rules: BTreeMap::new(),
            gated: BTreeSet::new(),
            declines: None,
            strays: BTreeMap::new(),
            impostors: BTreeMap::new(),
            disturbers: BTreeSet::new(),
            began: false,
            nonces: vec![BTreeSet::new(); parties],
            seeds: BTreeMap::new(),
            sids: BTreeMap::new(),
            sent: BTreeMap::new(),
            kinds: BTreeSet::new(),
            delivered: 0,
        }
    }

    /// The kinds of messages that a party has sent.
    pub(super) fn kinds_sent_by(&self, party: usize) -> Vec<u8> {
        self.kinds
            .iter()
            .filter(|(from, _)| *from == party)
            .map(|(_, kind)| *kind)
            .collect()
    }

    pub(super) fn parties(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn party(&self, index: usize) -> Party {
        Party::new(index, self.parties()).unwrap()
    }

    pub(super) fn others(&self, me: usize) -> impl Iterator<Item = usize> + use<> {
        (0..self.parties()).filter(move |other| *other != me)
    }

    pub(super) fn session(&mut self, me: usize) -> &mut Session {
        self.nodes[me].session.as_mut().unwrap()
    }

    pub(super) fn end(&self, me: usize) -> Option<&End> {
        self.nodes[me].session.as_ref()?.end()
    }

    /// The result if nobody cheats.
    pub(super) fn sum(&self) -> String {
        let sum: u64 = self.nodes.iter().map(|node| node.input.parse::<u64>().unwrap()).sum();
        format!("{{\"samples\":{},\"sum\":{sum}}}", self.parties())
    }

    /// Everything that can happen happens, in any order, until nothing is left.
    pub(super) fn run(&mut self) {
        while self.step() {}
    }

    /// All messages arrive; nobody gives an input.
    pub(super) fn run_without_inputs(&mut self) {
        while let Some(way) = self
            .ways
            .iter()
            .find(|(_, way)| !way.items.is_empty())
            .map(|(way, _)| *way)
        {
            self.deliver(way.0, way.1);
        }
    }

    /// The same, except for the data of that round (or later) from these to party `to`: they wait.
    pub(super) fn run_without_those_to(&mut self, to: usize, from: &[usize], round: usize) {
        let waits = |way: &(usize, usize), item: Option<&Item>| match item {
            Some(Item::Message(message)) if way.1 == to && from.contains(&way.0) => {
                message[0] == DATA && usize::from(message[HEADER - 4]) >= round
            }
            Some(_) => false,
            None => true,
        };
        while let Some(way) = self
            .ways
            .iter()
            .find(|(way, queue)| !waits(way, queue.items.front()))
            .map(|(way, _)| *way)
        {
            self.deliver(way.0, way.1);
        }
    }

    /// One thing happens, if anything can.
    pub(super) fn step(&mut self) -> bool {
        let mut steps = self.possible();
        if steps.is_empty() || self.random.one_in(20) {
            steps.extend(self.possible_faults());
        }
        if steps.is_empty() {
            return false;
        }
        let step = steps[self.random.below(steps.len())];
        self.now += 1;
        self.perform(step);
        true
    }

    fn possible(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (&(from, to), way) in &self.ways {
            if !way.items.is_empty() {
                // More often than the rest: else nothing would ever be far from its beginning.
                steps.extend([Step::Deliver(from, to); 3]);
            }
        }
        for (me, node) in self.nodes.iter().enumerate() {
            steps.extend(node.unknown.iter().map(|other| Step::Find(me, *other)));
            let open = node.session.as_ref().is_some_and(|session| session.end().is_none());
            if node.session.is_none() {
                steps.push(Step::Join(me));
            }
            if open && !node.given {
                steps.push(Step::Input(me));
            }
            if node.job.is_some() {
                steps.push(Step::Compute(me));
            }
            if open && node.writing {
                steps.push(Step::Record(me));
            }
            if let Some(session) = node.session.as_ref().filter(|_| self.gated.contains(&me)) {
                if session.awaits_consent() {
                    steps.push(Step::Consent(me));
                }
                if session.awaits_clearance().is_some() {
                    steps.push(Step::Clear(me));
                }
            }
        }
        steps
    }

    fn possible_faults(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (me, node) in self.nodes.iter().enumerate() {
            if self.hostile == Some(me) {
                continue;
            }
            if self.faults.restarts > 0 {
                steps.push(Step::Restart(me));
            }
            for other in self.others(me).filter(|other| me < *other) {
                if self.faults.resets > 0 {
                    steps.push(Step::Reset(me, other));
                }
                if self.faults.flaps > 0 {
                    steps.push(Step::Flap(me, other));
                }
            }
            if self.faults.drops > 0 {
                steps.extend(node.pending.keys().map(|from| Step::Drop(me, *from)));
            }
        }
        steps
    }

    fn perform(&mut self, step: Step) {
        match step {
            Step::Deliver(from, to) => self.deliver(from, to),
            Step::Join(me) => self.join(me),
            Step::Find(me, other) => self.find(me, other),
            Step::Input(me) => {
                let written = !self.random.one_in(3);
                self.take_input(me, written);
            }
            Step::Compute(me) => self.compute(me),
            Step::Record(me) => self.record(me),
            Step::Consent(me) => self.decide(me, false),
            Step::Clear(me) => self.decide(me, true),
            Step::Restart(me) => {
                self.faults.restarts -= 1;
                self.restart(me);
            }
            Step::Reset(a, b) => {
                self.faults.resets -= 1;
                self.note_disturbance(&[a, b]);
                for (from, to) in [(a, b), (b, a)] {
                    let way = self.ways.entry((from, to)).or_default();
                    way.items.clear();
                    way.items.extend([Item::Down, Item::Meet, Item::Restarted, Item::Up]);
                    way.cut = true;
                }
            }
            Step::Flap(a, b) => {
                self.faults.flaps -= 1;
                for way in [(a, b), (b, a)] {
                    let way = self.ways.entry(way).or_default();
                    way.items.extend([Item::Down, Item::Up]);
                }
            }
            Step::Drop(me, from) => {
                self.faults.drops -= 1;
                self.nodes[me].pending.remove(&from);
            }
        }
    }

    fn note_disturbance(&mut self, who: &[usize]) {
        if self.began {
            self.disturbers.extend(who);
        }
    }

    // What `tasks.rs` does with a task.

    pub(super) fn join(&mut self, me: usize) {
        let descriptor = self.strays.get(&me).unwrap_or(&self.descriptor).clone();
        let session = self.new_session(me, descriptor);
        self.install(me, session, Record::Waiting { input: None });
    }

    fn new_session(&self, me: usize, descriptor: Descriptor) -> Session {
        let rules = self.rules.get(&me).copied().unwrap_or(Profile::Teaching.into());
        let mut session = Session::new(descriptor, self.party(me), key(me), rules, self.now);
        if self.gated.contains(&me) {
            session.require_consent();
            session.require_clearance();
        }
        session
    }

    /// The owner says yes, or the release is recorded; unless this is where the party declines.
    fn decide(&mut self, me: usize, clearance: bool) {
        let now = self.now;
        let declines = self.declines == Some((me, clearance));
        assert!(
            !(clearance && self.nodes[me].writing),
            "a release of what there is no record of"
        );
        let session = self.session(me);
        if declines {
            session.decline(Declined {
                rule: None,
                message: "SECRET".to_owned(),
            });
        } else if !clearance {
            session.consent(now);
        } else if let Some(sid) = session.awaits_clearance() {
            session.clear(sid, now);
        }
        self.settle(me);
    }

    fn install(&mut self, me: usize, session: Session, record: Record) {
        let unknown = self.others(me).collect();
        let node = &mut self.nodes[me];
        node.unknown = if session.end().is_some() { Vec::new() } else { unknown };
        node.given = matches!(record, Record::Waiting { input: Some(_) });
        node.heard.clear();
        node.records = vec![record];
        node.ended = session.end().is_some();
        node.session = Some(session);
        self.settle(me);
    }

    pub(super) fn find(&mut self, me: usize, other: usize) {
        let (party, now) = (self.party(other), self.now);
        let found = self.impostors.get(&(me, other)).copied().unwrap_or(key(other));
        self.nodes[me].unknown.retain(|unknown| *unknown != other);
        let word = self.nodes[me].pending.remove(&other);
        self.session(me).set_key(party, found);
        if let Some(word) = word {
            self.note_heard(me, other, &word);
            self.session(me).receive(party, &word, now);
        }
        self.settle(me);
    }

    pub(super) fn give_input(&mut self, me: usize) {
        self.take_input(me, true);
    }

    /// `written`: its record comes first; else the task, its input and their record come at once, as with `compute`.
    fn take_input(&mut self, me: usize, written: bool) {
        let (parties, now) = (self.parties(), self.now);
        let text = self.nodes[me].input.clone();
        self.nodes[me].given = true;
        let record = Record::Waiting {
            input: Some(text.clone()),
        };
        if written {
            self.nodes[me].records = vec![record];
        } else {
            self.nodes[me].records = vec![Record::Nothing, record];
            self.nodes[me].writing = true;
            self.session(me).require_record();
        }
        self.session(me).give_input(prepared(parties, &text), now);
        self.settle(me);
    }

    /// What was given is written.
    fn record(&mut self, me: usize) {
        let now = self.now;
        self.nodes[me].writing = false;
        self.nodes[me]
            .records
            .retain(|record| !matches!(record, Record::Nothing));
        self.session(me).recorded(now);
        self.settle(me);
    }

    /// Work that was held back is done.
    pub(super) fn compute(&mut self, me: usize) {
        let job = self.nodes[me].job.take().unwrap();
        self.session(me).finish(job.run());
        self.settle(me);
    }

    /// The closing digest that is on its way; it is taken from there.
    pub(super) fn closing(&mut self, from: usize, to: usize) -> Bytes {
        match self.ways.get_mut(&(from, to)).unwrap().items.pop_front() {
            Some(Item::Message(message)) if message[0] == DATA && message[HEADER - 4] == 1 => message,
            _ => panic!("no closing digest"),
        }
    }

    pub(super) fn cancel(&mut self, me: usize) {
        self.session(me).cancel();
        self.settle(me);
    }

    fn deliver(&mut self, from: usize, to: usize) {
        self.delivered += 1;
        assert!(self.delivered < 20_000, "it never ends");
        let item = self.ways.get_mut(&(from, to)).unwrap().items.pop_front().unwrap();
        let (sender, now) = (self.party(from), self.now);
        let known = self.knows(to, from);
        match item {
            Item::Message(message) => self.receive(from, to, &message),
            Item::Meet => self.ways.entry((to, from)).or_default().cut = false,
            Item::Restarted => {
                self.note_disturbance(&[from]);
                self.nodes[to].pending.remove(&from);
                if known {
                    if !self.session(to).running() {
                        self.nodes[to].heard.remove(&from);
                    }
                    let old = self.session(to).peers[from].my_seed.clone();
                    self.session(to).peer_restarted(sender, now);
                    let session = self.session(to);
                    assert!(session.end().is_some() || session.running() || session.peers[from].my_seed != old);
                    self.settle(to);
                }
            }
            Item::Down | Item::Up if known => {
                let away = matches!(item, Item::Down);
                self.session(to).set_away(sender, away, now);
                self.settle(to);
            }
            Item::Down | Item::Up => {}
        }
    }

    /// Whether a node knows the other one's key, and so which party it is.
    fn knows(&self, me: usize, other: usize) -> bool {
        let session = self.nodes[me].session.as_ref();
        session.is_some_and(|session| session.keys()[other].is_some())
    }

    /// Hands a message to a node.
    pub(super) fn receive(&mut self, from: usize, to: usize, message: &Bytes) {
        if self.hostile == Some(to) {
            self.overheard.push((from, message.clone()));
        }
        let (sender, now) = (self.party(from), self.now);
        let known = self.knows(to, from);
        let node = &mut self.nodes[to];
        match &mut node.session {
            Some(session) if session.end().is_some() => {
                if let Some(farewell) = session.farewell(known.then_some(sender), message) {
                    assert!(is_hello(message) && is_abort(&farewell));
                    self.send(to, from, farewell);
                }
            }
            Some(_) if known => {
                self.note_heard(to, from, message);
                self.session(to).receive(sender, message, now);
                self.settle(to);
            }
            session => {
                let joined = session.is_some();
                if is_hello(message) || (joined && is_abort(message)) {
                    node.pending.insert(from, message.clone());
                } else if is_abort(message) {
                    node.pending.remove(&from);
                }
            }
        }
    }

    pub(super) fn send(&mut self, from: usize, to: usize, message: Bytes) {
        *self.sent.entry(message[0]).or_default() += 1;
        self.kinds.insert((from, message[0]));
        if self.hostile == Some(from) {
            self.taken.push((to, message));
            return;
        }
        let way = self.ways.entry((from, to)).or_default();
        if !way.cut {
            way.items.push_back(Item::Message(message));
        }
    }

    /// A message of the hostile party, behind what it has sent before.
    pub(super) fn inject(&mut self, to: usize, message: Bytes) {
        let way = self.ways.entry((self.hostile.unwrap(), to)).or_default();
        way.items.push_back(Item::Message(message));
    }

    /// A node falls over and comes back with what it finds in its store. Some of what it sent is lost, and all that was under way to it; the others
    /// notice when they get to it.
    pub(super) fn restart(&mut self, me: usize) {
        self.note_disturbance(&[me]);
        for other in self.others(me) {
            let out = self.ways.entry((me, other)).or_default();
            let kept = self.random.below(out.items.len() + 1);
            out.items.truncate(kept);
            out.items.extend([Item::Down, Item::Meet, Item::Restarted, Item::Up]);
            out.cut = false;
            let back = self.ways.entry((other, me)).or_default();
            back.items.clear();
            back.cut = true;
        }
        let node = &mut self.nodes[me];
        (node.session, node.job) = (None, None);
        node.pending.clear();
        node.unknown.clear();
        if node.records.is_empty() {
            return;
        }
        node.writing = false;
        let record = node.records[self.random.below(node.records.len())].clone();
        if matches!(record, Record::Nothing) {
            // Whoever called calls again.
            (node.records, node.given, node.ended) = (Vec::new(), false, false);
            return;
        }
        let mut session = self.new_session(me, self.descriptor.clone());
        match &record {
            Record::Nothing | Record::Waiting { input: None } => {}
            Record::Waiting { input: Some(text) } => {
                session.give_input(prepared(self.parties(), text), self.now);
            }
            Record::Running => session.restore(
                End::Failed {
                    reason: Reason::PeerRestarted { party: me },
                    reported_by: None,
                },
                None,
            ),
            Record::Ended(end) => session.restore(end.clone(), None),
        }
        self.install(me, session, record);
    }

    // Time.

    /// Nothing happens any more by itself: time passes until all have ended. Of `silent` parties nothing is heard.
    pub(super) fn pass_time(&mut self, silent: &[usize]) {
        loop {
            self.run();
            let open = |me: &usize| {
                self.nodes[*me]
                    .session
                    .as_ref()
                    .is_some_and(|session| session.end().is_none())
            };
            let due = |me: usize| {
                let session = self.nodes[me].session.as_ref()?;
                session
                    .next_deadline(&self.heard_at(silent, Millis::MAX / 2))
                    .map(|at| (at, me))
            };
            let honest = (0..self.parties()).filter(|me| Some(*me) != self.hostile);
            let Some((at, me)) = honest.filter(open).filter_map(due).min() else {
                return;
            };
            self.now = self.now.max(at);
            let (now, heard) = (self.now, self.heard_at(silent, Millis::MAX / 2));
            self.session(me).tick(at - 1, &heard);
            assert!(self.end(me).is_none(), "party {me} ends before its deadline");
            self.session(me).tick(now, &heard);
            let next = self.session(me).next_deadline(&heard);
            assert!(next.is_none_or(|next| next > now), "party {me} passes its deadline");
            self.settle(me);
        }
    }

    pub(super) fn heard_at(&self, silent: &[usize], at: Millis) -> Vec<Millis> {
        let heard = |party| if silent.contains(&party) { 0 } else { at };
        (0..self.parties()).map(heard).collect()
    }
}
