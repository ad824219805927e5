//! Parties with different rules, owners who are asked, and those who decline.

use bytes::Bytes;

use super::world::{Faults, World};
use crate::policy::{Profile, Rule, Rules};
use crate::reason::Reason;
use crate::session::End;
use crate::session::message::{DATA, HELLO, READY};

fn reason(world: &World, me: usize) -> Option<Reason> {
    match world.end(me) {
        Some(End::Failed { reason, .. }) => Some(reason.clone()),
        _ => None,
    }
}

fn with(change: impl FnOnce(&mut Rules)) -> Rules {
    let mut rules = Profile::Teaching.into();
    change(&mut rules);
    rules
}

#[test]
fn a_rule_that_says_no_ends_it_for_all_with_the_same_reason() {
    let rules: [(Rules, Rule); 3] = [
        (Profile::Strict.into(), Rule::MinParties),
        (with(|rules| rules.max_digits_after = 11), Rule::MaxDigitsAfter),
        (with(|rules| rules.max_digits_before = 17), Rule::MaxDigitsBefore),
    ];
    for seed in 0..300 {
        let (theirs, rule) = rules[seed as usize % 3];
        let party = seed as usize / 3 % 3;
        let mut world = World::new(3, seed);
        world.rules.insert(party, theirs);
        // The last of those with the same rule is not named.
        world.rules.insert(2, theirs);
        world.run();
        for me in 0..3 {
            assert_eq!(
                reason(&world, me),
                Some(Reason::PolicyRefused { rule, party }),
                "seed {seed}"
            );
        }
        assert_eq!(world.sent.get(&DATA), None);
        assert_eq!(world.sent.get(&READY), None);
    }
}

#[test]
fn what_cannot_be_known_beforehand_is_compared_and_what_must_not_open_is_null() {
    for (least, expected) in [
        (3, r#"{"samples":3,"sum":"#),
        (
            4,
            r#"{"samples":null,"sum":null,"reasons":{"samples":"FEW_SAMPLES","sum":"FEW_SAMPLES"}}"#,
        ),
    ] {
        for seed in 0..5 {
            let mut world = World::new(3, seed);
            world.rules.insert(1, with(|rules| rules.min_samples_total = least));
            world.run();
            for me in 0..3 {
                let End::Done { result, unconfirmed } = world.end(me).unwrap() else {
                    panic!("seed {seed}: {:?}", world.end(me));
                };
                assert!(
                    result.starts_with(expected) && unconfirmed.is_empty(),
                    "seed {seed}: {result}"
                );
            }
        }
    }
}

#[test]
fn what_no_party_could_check_alone_may_be_certain_together() {
    // One has as many samples as the other wants in all.
    for seed in 0..100 {
        let mut world = World::new(3, seed);
        world.rules.insert(0, with(|rules| rules.min_samples_total = 3));
        world.rules.insert(1, with(|rules| rules.min_samples_own = 1));
        world.run();
        for me in 0..3 {
            assert!(
                matches!(world.end(me), Some(End::Done { unconfirmed, .. }) if unconfirmed.is_empty()),
                "seed {seed}"
            );
        }
    }
}

#[test]
fn too_few_samples_for_somebodys_rules_are_declined_without_a_word() {
    for seed in 0..300 {
        let mut world = World::new(3, seed);
        world.rules.insert(1, with(|rules| rules.min_samples_own = 2));
        // The world's inputs are one number each: parties find out by themselves, and whoever is the first is told of by all others.
        for me in [0, 1] {
            world.nodes[me].input = "[4, 5]".to_owned();
        }
        world.run();
        for me in 0..3 {
            assert_eq!(reason(&world, me), Some(Reason::Declined { party: 2 }), "seed {seed}");
        }
        assert_eq!(world.sent.get(&DATA), None);
        let why = world.session(2).declined().unwrap().clone();
        assert_eq!(why.rule, Some(Rule::MinSamplesOwn));
        assert_eq!(world.session(0).declined(), None);
    }
}

#[test]
fn consent_and_clearance_only_take_their_time() {
    for seed in 0..600 {
        let parties = 2 + seed as usize % 3;
        let mut world = World::new(parties, seed);
        world.gated = (0..parties).filter(|me| seed >> me & 1 == 0 || *me == 0).collect();
        world.faults = Faults {
            restarts: usize::from(seed % 3 == 0),
            resets: 0,
            flaps: 2,
            drops: 2,
        };
        world.run();
        for me in 0..parties {
            match world.end(me) {
                Some(End::Done { result, unconfirmed }) => {
                    assert_eq!(*result, world.sum(), "seed {seed}");
                    assert!(unconfirmed.is_empty() || !world.disturbers.is_empty(), "seed {seed}");
                }
                Some(End::Failed {
                    reason: Reason::PeerRestarted { party },
                    ..
                }) => {
                    assert!(world.disturbers.contains(party), "seed {seed}");
                }
                other => panic!("seed {seed}, party {me}: {other:?}"),
            }
        }
    }
}

#[test]
fn nothing_leaves_before_the_owner_and_the_record_say_yes() {
    for (clearance, sent) in [(false, HELLO), (true, READY)] {
        for seed in 0..200 {
            let mut world = World::new(3, seed);
            world.gated = (0..3).collect();
            world.declines = Some((1, clearance));
            world.run();
            for me in 0..3 {
                assert_eq!(reason(&world, me), Some(Reason::Declined { party: 1 }), "seed {seed}");
            }
            // Of party 1 nothing later than this.
            let later = world
                .kinds_sent_by(1)
                .into_iter()
                .filter(|kind| *kind > sent && *kind <= DATA);
            assert_eq!(later.count(), 0, "seed {seed}");
        }
    }
}

#[test]
fn bytes_of_rules_that_mean_nothing_end_it() {
    // The profile, the flags, and a message that is cut off in the rules.
    let changes: [fn(&mut Vec<u8>); 3] = [|hello| hello[1] = 3, |hello| hello[68] = 8, |hello| hello.truncate(80)];
    for change in changes {
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
                if changed[0] == HELLO {
                    change(&mut changed);
                }
                world.inject(to, Bytes::from(changed));
            }
        }
        for me in 1..3 {
            assert_eq!(reason(&world, me), Some(Reason::PeerMalformed { party: 0 }));
        }
    }
}
