//! Two links and a wire that is cut again and again.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;

use bytes::Bytes;
use proptest::prelude::*;

use super::tests::{config, pattern, task};
use super::*;

const A: usize = 0;
const B: usize = 1;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn nothing_is_lost_with_connections(actions in actions(0, 1500, 0), window in 0..2000_usize) {
        let mut world = World::new(config(window, 1 << 20));
        actions.iter().for_each(|action| world.act(action));
        world.finish();
        for side in [A, B] {
            prop_assert_eq!(world.arrived[side].len(), world.all[side].len());
        }
    }

    #[test]
    fn restarts_and_forgotten_tasks_lose_only_their_own(actions in actions(8, 1500, 1), window in 0..2000_usize) {
        let mut world = World::new(config(window, 1 << 20));
        actions.iter().for_each(|action| world.act(action));
        world.finish();
        world.check_order(A);
        world.check_order(B);
    }

    #[test]
    fn records_of_full_size_survive_too(actions in actions(0, 200_000, 0)) {
        let mut world = World::new(config(300_000, 1 << 20));
        actions.iter().take(50).for_each(|action| world.act(action));
        world.finish();
    }
}

#[derive(Clone, Debug)]
enum Action {
    Send(usize, u8, usize),
    /// The side hands up to so many records to the wire, or takes them from it.
    Emit(usize, usize),
    Take(usize, usize),
    Wait(u64),
    Cut,
    /// A connection on which only these sides learn the other's greeting before it is cut.
    Connect([bool; 2]),
    /// A connection replaced by one whose greetings are older than the given number of actions on it.
    Cross(usize),
    Restart(usize),
    Forget(usize, u8),
}

fn actions(shortest: usize, long: usize, losses: u32) -> impl Strategy<Value = Vec<Action>> {
    use Action::*;
    let side = 0..2_usize;
    let len = prop_oneof![Just(shortest), shortest..60_usize, shortest..long];
    let action = prop_oneof![
        8 => (side.clone(), 0..5_u8, len).prop_map(|(s, t, l)| Send(s, t, l)),
        8 => (side.clone(), 1..20_usize).prop_map(|(s, n)| Emit(s, n)),
        8 => (side.clone(), 1..20_usize).prop_map(|(s, n)| Take(s, n)),
        2 => (0..30_u64).prop_map(Wait),
        1 => Just(Cut),
        3 => Just(Connect([true, true])),
        1 => any::<[bool; 2]>().prop_map(Connect),
        1 => (0..8_usize).prop_map(Cross),
        losses => side.clone().prop_map(Restart),
        losses => (side, 0..5_u8).prop_map(|(s, t)| Forget(s, t)),
    ];
    proptest::collection::vec(action, 0..150)
}

/// A message: task, number, length. Numbers grow, so order and uniqueness show in them.
type Sent = (u8, u64, usize);

struct World {
    config: LinkConfig,
    links: [Link; 2],
    /// Records under way from each side.
    wire: [VecDeque<Vec<u8>>; 2],
    /// Whether that side holds the connection for open.
    open: [bool; 2],
    now: u64,
    count: u64,
    /// Everything each side ever sent, and the part of it that must arrive.
    all: [Vec<Sent>; 2],
    due: [Vec<Sent>; 2],
    /// What arrived from each side, by task.
    arrived: [Vec<(u8, Bytes)>; 2],
}

impl World {
    fn new(config: LinkConfig) -> Self {
        Self {
            links: [Link::new(1, config.clone()), Link::new(2, config.clone())],
            config,
            wire: Default::default(),
            open: [false; 2],
            now: 0,
            count: 2,
            all: Default::default(),
            due: Default::default(),
            arrived: Default::default(),
        }
    }

    fn act(&mut self, action: &Action) {
        match *action {
            Action::Send(side, t, len) => {
                self.count += 1;
                let sent = (t, self.count, len);
                self.all[side].push(sent);
                self.due[side].push(sent);
                self.links[side].send(task(t), content(self.count, len));
            }
            Action::Emit(side, n) => {
                let mut out = Vec::new();
                for _ in 0..n {
                    if !self.links[side].next_record(self.now, &mut out) {
                        break;
                    }
                    self.wire[side].push_back(out.clone());
                }
            }
            Action::Take(side, n) => {
                for _ in 0..n {
                    if !self.open[side] {
                        break;
                    }
                    let Some(record) = self.wire[1 - side].pop_front() else {
                        break;
                    };
                    self.links[side].record(self.now, &record).unwrap();
                    self.collect(side);
                }
            }
            Action::Wait(ms) => self.now += ms,
            Action::Cut => self.cut(),
            Action::Connect(learns) => {
                self.cut();
                let greetings = self.greetings();
                self.settle(learns, greetings);
            }
            Action::Cross(steps) => {
                self.cut();
                let old = self.greetings();
                self.settle([true, true], old);
                for step in 0..steps {
                    let side = step % 2;
                    self.act(&Action::Emit(side, 3));
                    self.act(&Action::Take(1 - side, 2));
                }
                self.cut();
                self.settle([true, true], old);
            }
            Action::Restart(side) => {
                self.cut();
                self.count += 1;
                self.links[side] = Link::new(self.count, self.config.clone());
                self.due[side].clear();
            }
            Action::Forget(side, t) => {
                // Whether messages of a forgotten task still arrive is left open, at either end.
                self.links[side].forget(task(t));
                self.due[side].retain(|sent| sent.0 != t);
                self.due[1 - side].retain(|sent| sent.0 != t);
            }
        }
    }

    fn greetings(&self) -> [Resume; 2] {
        [self.links[A].hello(), self.links[B].hello()]
    }

    fn settle(&mut self, learns: [bool; 2], greetings: [Resume; 2]) {
        for side in [A, B] {
            if learns[side] {
                let told = greetings[1 - side];
                let told = Resume::decode(&told.encode()).unwrap();
                if self.links[side].connected(self.now, told).unwrap().peer_restarted {
                    self.due[side].clear();
                }
                self.open[side] = true;
            }
        }
    }

    fn cut(&mut self) {
        for side in [A, B] {
            self.links[side].disconnected(self.now);
            self.open[side] = false;
            self.wire[side].clear();
        }
    }

    fn collect(&mut self, side: usize) {
        while let Some((id, message)) = self.links[side].next_message() {
            let from = &mut self.arrived[1 - side];
            from.push((id[0], message));
        }
        assert_eq!(self.links[side].too_long(), None);
    }

    /// Whatever arrived was sent, and arrived once and in order. Only for messages long enough to hold their number.
    fn check_order(&self, side: usize) {
        let mut last = [0; 5];
        for (t, message) in &self.arrived[side] {
            let number = u64::from_le_bytes(*message.first_chunk().unwrap());
            assert!(self.all[side].contains(&(*t, number, message.len())));
            assert_eq!(*message, content(number, message.len()));
            assert!(number > last[usize::from(*t)]);
            last[usize::from(*t)] = number;
        }
    }

    /// Connects for good and lets everything through; then all that is due must have come.
    fn finish(&mut self) {
        self.act(&Action::Connect([true, true]));
        while !self.links.iter().all(Link::all_acknowledged) {
            let before = self.now;
            for side in [A, B] {
                self.act(&Action::Emit(side, usize::MAX));
                self.act(&Action::Take(1 - side, usize::MAX));
            }
            self.now += 20;
            assert!(before < 100_000, "no progress");
        }
        for side in [A, B] {
            for t in 0..5 {
                let due = self.due[side].iter().filter(|sent| sent.0 == t);
                let due: Vec<_> = due.map(|sent| content(sent.1, sent.2)).collect();
                let arrived = self.arrived[side].iter().filter(|(of, _)| *of == t);
                let arrived: Vec<_> = arrived.map(|(_, message)| message).collect();
                // Those that need not arrive were sent before those that must, or a restart came between.
                let early = arrived.len().saturating_sub(due.len());
                assert!(due.iter().eq(arrived[early..].iter().copied()));
            }
            let link = &self.links[side];
            assert_eq!((link.total_queued(), link.outgoing.in_flight()), (0, 0));
            assert_eq!(self.links[1 - side].incoming.reserved(), 0);
        }
    }
}

/// The same, but beginning with the number if there is room.
fn content(number: u64, len: usize) -> Bytes {
    let mut bytes = pattern(number, len).to_vec();
    if let Some(head) = bytes.first_chunk_mut() {
        *head = number.to_le_bytes();
    }
    Bytes::from(bytes)
}
