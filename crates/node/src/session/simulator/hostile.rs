//! One party is hostile and sends what it likes, to each of the others something else. The others stay within bounds, end in time, and none of them
//! has a wrong result that the others are said to have confirmed.

use bytes::Bytes;
use fdrtd_mpc::net::HEADER;
use fdrtd_mpc::wire::put_text;

use super::world::{Random, World, check_forgotten, descriptor};
use crate::policy::Profile;
use crate::reason::{Reason, Stage};
use crate::session::message::{ABORT, DATA, HELLO, READY, encode_abort};
use crate::session::{End, Millis};

/// A party that computes as it should, and changes, delays and invents messages.
struct Mischief {
    me: usize,
    /// Messages of its own past, and of other sessions.
    old: Vec<(usize, Bytes)>,
    foreign: Vec<(usize, Bytes)>,
    /// One message in so many is not sent as it is.
    patience: usize,
    /// Whether any data that the others might take differ from what an honest party would have sent.
    cheated: bool,
}

impl Mischief {
    fn pass_on(&mut self, world: &mut World) {
        for (to, message) in std::mem::take(&mut world.taken) {
            let fair = !world.random.one_in(self.patience);
            let random = &mut world.random;
            let messages = match random.below(7) {
                _ if fair => vec![message.clone()],
                0 => Vec::new(),
                1 => vec![message.clone(), message.clone()],
                2 => vec![flip(random, &message)],
                3 => vec![message.slice(..random.below(message.len()))],
                4 => vec![Bytes::from([&message[..], &[0]].concat())],
                5 => vec![self.any_old(random, to), message.clone()],
                _ => vec![self.invent(world, to)],
            };
            self.cheated |= !fair
                && messages
                    .iter()
                    .any(|sent| sent.first() == Some(&DATA) && *sent != message);
            for message in messages.into_iter().filter(|message| !message.is_empty()) {
                world.inject(to, message);
            }
            self.old.push((to, message));
        }
    }

    fn interfere(&mut self, world: &mut World) {
        let others: Vec<usize> = world.others(self.me).collect();
        let to = others[world.random.below(others.len())];
        let message = self.invent(world, to);
        self.cheated |= message.first() == Some(&DATA);
        // More than the protocol has room for.
        let count = if world.random.one_in(4) { 10 } else { 1 };
        for _ in 0..count {
            world.inject(to, message.clone());
        }
    }

    fn any_old(&self, random: &mut Random, to: usize) -> Bytes {
        let mine: Vec<&Bytes> = self
            .old
            .iter()
            .filter(|(old, _)| *old == to)
            .map(|(_, bytes)| bytes)
            .collect();
        let foreign = &self.foreign[random.below(self.foreign.len())].1;
        match mine.get(random.below(2 * mine.len())) {
            Some(old) => (*old).clone(),
            None => foreign.clone(),
        }
    }

    fn invent(&self, world: &mut World, to: usize) -> Bytes {
        let parties = world.parties();
        let session = world.nodes[self.me].session.as_ref();
        let sid = session.and_then(|session| session.sid()).unwrap_or([1; 32]);
        let keys = session.and_then(|session| session.keys_digest()).unwrap_or([1; 32]);
        let text = world.descriptor.text();
        let random = &mut world.random;
        match random.below(12) {
            0 => bytes(random, 120),
            1..4 => encode_abort(&any_reason(random, parties), random.below(parties + 2)),
            4 => Bytes::from([&[READY], &sid[..], &bytes(random, 128)].concat()),
            5 => Bytes::from([&[READY], &sid[..], &keys, &[7; 96]].concat()),
            6 => Bytes::from([&[READY][..], &[7; 160]].concat()),
            7 => hello(random, &text),
            8 => {
                let other = descriptor(parties, 6).text();
                hello(random, &other)
            }
            9 => Bytes::from([&[DATA], &sid[..], &bytes(random, 60)].concat()),
            10 => Bytes::from([&[DATA][..], &bytes(random, 80)].concat()),
            _ => self.any_old(random, to),
        }
    }
}

fn bytes(random: &mut Random, longest: usize) -> Bytes {
    let length = random.below(longest + 1);
    // The first byte is often that of a real message.
    let byte = |index: usize| match index {
        0 => random.below(6) as u8,
        _ => random.next() as u8,
    };
    (0..length).map(byte).collect()
}

fn flip(random: &mut Random, message: &[u8]) -> Bytes {
    let mut bytes = message.to_vec();
    let bit = random.below(bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
    Bytes::from(bytes)
}

fn hello(random: &mut Random, text: &str) -> Bytes {
    let mut message = vec![HELLO, random.below(4) as u8, random.below(3) as u8];
    message.extend((0..64).map(|_| random.next() as u8));
    put_text(&mut message, text);
    Bytes::from(message)
}

fn any_reason(random: &mut Random, parties: usize) -> Reason {
    let party = random.below(parties + 1);
    match random.below(8) {
        0 => Reason::Cancelled { party },
        1 => Reason::PeerSilent { party },
        2 => Reason::PeerRestarted { party },
        3 => Reason::Expired {
            stage: Stage::Run,
            missing: vec![0, party],
        },
        4 => Reason::Internal { party },
        5 => Reason::PeerMalformed { party },
        6 => Reason::KeyTwice { party: 0, other: party },
        _ => Reason::StoriesDiffer {},
    }
}

/// Everything that a party sends in a run without faults.
fn messages(parties: usize, me: usize, seed: u64, task: u8) -> Vec<(usize, Bytes)> {
    let mut world = World::new(parties, seed);
    world.descriptor = descriptor(parties, task);
    world.hostile = Some(me);
    let mut all = Vec::new();
    loop {
        while world.step() {}
        if world.taken.is_empty() {
            return all;
        }
        for (to, message) in std::mem::take(&mut world.taken) {
            world.inject(to, message.clone());
            all.push((to, message));
        }
    }
}

fn check(world: &World, hostile: usize, cheated: bool, seed: u64) {
    let mut results = Vec::new();
    for me in world.others(hostile) {
        check_forgotten(world.nodes[me].session.as_ref().unwrap());
        match world.end(me).unwrap() {
            End::Done { result, unconfirmed } => {
                // An honest party is said not to have confirmed only if it has no result.
                let failed = |party: &usize| matches!(world.end(*party), Some(End::Failed { .. }));
                let fair = |party: &usize| *party == hostile || failed(party);
                assert!(unconfirmed.iter().all(fair), "seed {seed}: {unconfirmed:?}");
                results.push(result.clone());
            }
            End::Failed { .. } => {}
        }
    }
    results.sort();
    results.dedup();
    assert!(results.len() <= 1, "seed {seed}: {results:?}");
    if let Some(result) = results.first()
        && !cheated
    {
        assert_eq!(*result, world.sum(), "seed {seed}");
    }
}

#[test]
fn whatever_one_party_sends() {
    let (mut done, mut failed) = (0, 0);
    for seed in 0..4_000 {
        let parties = 2 + seed as usize % 3;
        let mut world = World::new(parties, seed);
        let me = world.random.below(parties);
        let other_task = messages(parties, me, seed, 6);
        let mut mischief = Mischief {
            me,
            old: Vec::new(),
            foreign: [messages(parties, me, seed + 1, 5), other_task].concat(),
            patience: [2, 10, 50][world.random.below(3)],
            cheated: false,
        };
        world.hostile = Some(me);
        world.hold = world.random.below(3);
        let start = world.now;
        let mut deeds = world.random.below(8);
        loop {
            let moved = world.step();
            mischief.pass_on(&mut world);
            let idle = !moved && !(0..parties).any(|_| world.step());
            if deeds > 0 && (idle || world.random.one_in(15)) {
                deeds -= 1;
                mischief.interfere(&mut world);
            } else if idle && world.taken.is_empty() {
                break;
            }
        }
        world.pass_time(&[me]);
        let durations = world.descriptor.durations;
        let longest: Millis = durations.join + durations.input + durations.run;
        assert!(world.now - start <= longest + 100_000, "seed {seed}: it took too long");
        check(&world, me, mischief.cheated, seed);
        for me in world.others(me) {
            match world.end(me) {
                Some(End::Done { .. }) => done += 1,
                _ => failed += 1,
            }
        }
    }
    assert!(done > 500 && failed > 500, "{done} {failed}");
}

/// How a party that tells different stories tries to get away with it.
#[derive(Clone, Copy, Debug)]
enum Exit {
    /// Every other party gets the closing digest that it expects.
    Agree,
    /// It says nothing any more, ends it politely, or closes with nonsense.
    Silence,
    Leave,
    Nonsense,
}

#[test]
fn who_tells_different_stories_is_found_out() {
    for seed in 0..1_200 {
        let parties = 3 + seed as usize % 3;
        let exit = [Exit::Agree, Exit::Silence, Exit::Leave, Exit::Nonsense][(seed as usize / 3) % 4];
        let mut world = World::new(parties, seed);
        let me = world.random.below(parties);
        let victim = world.others(me).nth(world.random.below(parties - 1)).unwrap();
        world.hostile = Some(me);
        world.hold = 2;
        loop {
            while world.step() {}
            if world.taken.is_empty() && world.overheard.is_empty() {
                break;
            }
            for (to, message) in std::mem::take(&mut world.taken) {
                let round = (message[0] == DATA).then(|| message[HEADER - 4]);
                match (round, exit) {
                    (Some(0), _) if to == victim => {
                        let mut changed = message.to_vec();
                        changed[HEADER] ^= 1;
                        world.inject(to, Bytes::from(changed));
                    }
                    (Some(1), Exit::Agree | Exit::Silence) => {}
                    (Some(1), Exit::Leave) => world.inject(to, encode_abort(&Reason::Cancelled { party: me }, me)),
                    (Some(1), Exit::Nonsense) => world.inject(to, message.slice(..HEADER + 5)),
                    // What its own session says when it finds itself out stays with it.
                    _ if message[0] == ABORT => {}
                    _ => world.inject(to, message),
                }
            }
            for (from, message) in std::mem::take(&mut world.overheard) {
                if matches!(exit, Exit::Agree) && message[0] == DATA && message[HEADER - 4] == 1 {
                    world.inject(from, message);
                }
            }
        }
        check(&world, me, true, seed);
        for honest in world.others(me) {
            match (world.end(honest).unwrap(), exit) {
                (
                    End::Failed {
                        reason: Reason::StoriesDiffer {},
                        ..
                    },
                    _,
                ) => {}
                // Some may hear that it leaves before they have a result that could be wrong. Whoever has one then knows who did not confirm it,
                // and a wrong one is confirmed by nobody.
                (End::Failed { reason, .. }, Exit::Leave) => assert_eq!(*reason, Reason::Cancelled { party: me }),
                (End::Done { unconfirmed, .. }, Exit::Leave) => {
                    assert!(unconfirmed.contains(&me));
                    assert!(honest != victim || unconfirmed.len() == parties - 1);
                }
                (End::Failed { reason, .. }, Exit::Nonsense) => {
                    assert_eq!(*reason, Reason::PeerMalformed { party: me })
                }
                (end, _) => panic!("seed {seed}, {exit:?}: {end:?}"),
            }
        }
    }
}

#[test]
fn the_strictest_policy_is_bound_in() {
    // A party that claims another policy to each of the others makes them sessions that never begin.
    let mut world = World::new(3, 1);
    world.hostile = Some(0);
    loop {
        while world.step() {}
        let taken = std::mem::take(&mut world.taken);
        if taken.is_empty() {
            break;
        }
        for (to, message) in taken {
            let mut changed = message.to_vec();
            if to == 2 && changed[0] == HELLO {
                changed[1] = Profile::Strict.to_byte();
            }
            world.inject(to, Bytes::from(changed));
        }
    }
    assert_eq!(world.sent.get(&DATA), None);
    world.pass_time(&[]);
    for me in 1..3 {
        assert!(matches!(
            world.end(me),
            Some(End::Failed {
                reason: Reason::Expired {
                    stage: Stage::Input,
                    ..
                },
                ..
            })
        ));
    }
}
