//! One thing goes wrong, somewhere and at any time: every party hears the same reason, and none waits for a deadline.

use bytes::Bytes;

use super::world::{World, key};
use crate::descriptor::Field;
use crate::reason::{Reason, Report};
use crate::session::End;

/// The reasons of all that failed; the others have the right result.
fn reasons(world: &World, seed: u64) -> Vec<Reason> {
    let mut all: Vec<Reason> = Vec::new();
    for me in (0..world.parties()).filter(|me| Some(*me) != world.hostile) {
        match world.end(me) {
            Some(End::Failed { reason, .. }) if all.contains(reason) => {}
            Some(End::Failed { reason, .. }) => all.push(reason.clone()),
            Some(End::Done { result, .. }) => assert_eq!(*result, world.sum(), "seed {seed}, party {me}"),
            None => panic!("seed {seed}: party {me} waits for ever"),
        }
    }
    all
}

#[test]
fn a_cancelled_task_ends_everywhere() {
    let mut late = 0;
    for seed in 0..2_000 {
        let parties = 2 + seed as usize % 4;
        let mut world = World::new(parties, seed);
        world.hold = 3;
        let party = world.random.below(parties);
        for _ in 0..world.random.below(40 * parties) {
            world.step();
        }
        if world.nodes[party].session.is_none() {
            world.join(party);
        }
        if world.end(party).is_some() {
            late += 1;
            continue;
        }
        world.cancel(party);
        world.run();
        assert_eq!(reasons(&world, seed), [Reason::Cancelled { party }], "seed {seed}");
    }
    assert!((100..1_500).contains(&late), "{late}");
}

#[test]
fn an_input_of_another_form_is_everybodys_reason() {
    for seed in 0..600 {
        let parties = 2 + seed as usize % 4;
        let mut world = World::new(parties, seed);
        let odd = world.random.below(parties);
        world.nodes[odd].input = "{\"vectors\": [[1, 2]]}".to_owned();
        world.run();
        // They are compared with party 0's.
        let party = odd.max(1);
        assert_eq!(reasons(&world, seed), [Reason::ShapesDiffer { party }], "seed {seed}");
        assert!((0..parties).all(|me| matches!(world.end(me), Some(End::Failed { .. }))));
        assert_eq!(world.sent.get(&3), None, "data were sent");
    }
}

#[test]
fn another_key_is_everybodys_reason() {
    for seed in 0..600 {
        let parties = 2 + seed as usize % 4;
        let mut world = World::new(parties, seed);
        let odd = world.random.below(parties);
        let seen = (odd + 1) % parties;
        world.impostors.insert((odd, seen), key(99));
        world.run();
        let party = odd.max(1);
        assert_eq!(reasons(&world, seed), [Reason::KeysDiffer { party }], "seed {seed}");
        assert_eq!(world.sent.get(&3), None, "data were sent");
    }
}

#[test]
fn one_node_twice_is_everybodys_reason() {
    for seed in 0..600 {
        let parties = 3 + seed as usize % 3;
        let mut world = World::new(parties, seed);
        let finder = world.random.below(parties);
        let (low, high) = ((finder + 1) % parties, (finder + 2) % parties);
        let (party, other) = (low.min(high), low.max(high));
        world.impostors.insert((finder, low), key(high));
        world.run();
        assert_eq!(
            reasons(&world, seed),
            [Reason::KeyTwice { party, other }],
            "seed {seed}"
        );
        assert!((0..parties).all(|me| matches!(world.end(me), Some(End::Failed { .. }))));
    }
}

#[test]
fn another_task_is_everybodys_reason() {
    for seed in 0..600 {
        let parties = 2 + seed as usize % 4;
        let mut world = World::new(parties, seed);
        let odd = world.random.below(parties);
        let mut stray = world.descriptor.clone();
        stray.durations.run += 1;
        world.strays.insert(odd, stray);
        world.run();
        for reason in reasons(&world, seed) {
            let Reason::DescriptorsDiffer { party, field } = reason else {
                panic!("seed {seed}: {reason:?}")
            };
            // With two it is either; with more, one of those who see the difference.
            assert!(party < parties && field == Field::Durations);
        }
        assert!((0..parties).all(|me| matches!(world.end(me), Some(End::Failed { .. }))));
    }
}

#[test]
fn nonsense_told_to_one_is_everybodys_reason() {
    let mut failed = 0;
    for seed in 0..1_000 {
        let parties = 3 + seed as usize % 3;
        let mut world = World::new(parties, seed);
        let liar = world.random.below(parties);
        world.hostile = Some(liar);
        let mut left = world.random.below(30 * parties);
        let mut told = None;
        loop {
            let moved = world.step();
            for (to, message) in std::mem::take(&mut world.taken) {
                world.inject(to, message);
            }
            left = left.saturating_sub(1);
            if told.is_none() && left == 0 {
                let others: Vec<usize> = world.others(liar).collect();
                let to = others[world.random.below(others.len())];
                world.inject(to, Bytes::from_static(&[2, 0]));
                told = Some(to);
            }
            if !moved && !world.step() && world.taken.is_empty() && told.is_some() {
                break;
            }
        }
        for reason in reasons(&world, seed) {
            assert_eq!(reason, Reason::PeerMalformed { party: liar }, "seed {seed}");
            failed += 1;
        }
        for me in world.others(liar) {
            if let Some(End::Failed { reported_by, .. }) = world.end(me) {
                // The liar's own session heard of it, too, and passes it on.
                assert!(
                    reported_by.is_none_or(|Report { by, .. }| Some(by) == told),
                    "seed {seed}"
                );
            }
        }
    }
    assert!(failed > 300, "{failed}");
}
