//! A session ends by itself exactly at its deadlines, and says who was missing.

use proptest::prelude::*;

use super::world::World;
use crate::reason::{Reason, Stage};
use crate::session::{End, Millis, Session};

/// Parties whose keys are found and who have joined, but for `absent`.
fn joined(parties: usize, absent: &[usize]) -> World {
    let mut world = World::new(parties, 1);
    let present: Vec<usize> = (0..parties).filter(|me| !absent.contains(me)).collect();
    for me in &present {
        world.join(*me);
    }
    for me in present {
        for other in world.others(me) {
            world.find(me, other);
        }
    }
    world.run_without_inputs();
    world
}

/// Nothing happens before `at`, and then this.
fn ends(session: &mut Session, heard: &[Millis], at: Millis, expected: &Reason) {
    assert_eq!(session.next_deadline(heard), Some(at));
    session.tick(at - 1, heard);
    assert_eq!(session.end(), None);
    session.tick(at, heard);
    assert_eq!(reason(session), Some(expected));
    assert_eq!(session.next_deadline(heard), None);
    session.tick(at + 1, heard);
    assert_eq!(reason(session), Some(expected));
}

fn reason(session: &Session) -> Option<&Reason> {
    match session.end() {
        Some(End::Failed { reason, .. }) => Some(reason),
        _ => None,
    }
}

fn expired(stage: Stage, missing: &[usize]) -> Reason {
    let missing = missing.to_vec();
    Reason::Expired { stage, missing }
}

#[test]
fn of_joining() {
    let mut world = joined(4, &[1, 3]);
    let (start, durations) = (world.now, world.descriptor.durations);
    for me in [0, 2] {
        let session = world.session(me);
        assert_eq!(session.waiting_for(), (Stage::Join, vec![1, 3]));
        ends(session, &[0; 4], start + durations.join, &expired(Stage::Join, &[1, 3]));
    }
}

#[test]
fn of_the_inputs_from_when_all_have_joined() {
    let mut world = joined(3, &[2]);
    let durations = world.descriptor.durations;
    world.now += 5_000;
    world.join(2);
    for other in [0, 1] {
        world.find(2, other);
    }
    world.run_without_inputs();
    world.give_input(1);
    world.run_without_inputs();
    let all_joined = world.now;
    let session = world.session(0);
    ends(
        session,
        &[0; 3],
        all_joined + durations.input,
        &expired(Stage::Input, &[0, 2]),
    );
}

#[test]
fn a_party_that_is_away_is_missing() {
    let mut world = joined(3, &[]);
    for me in [0, 1] {
        world.give_input(me);
    }
    world.run_without_inputs();
    let (away, now, durations) = (world.party(1), world.now, world.descriptor.durations);
    let session = world.session(0);
    session.set_away(away, true, now);
    ends(session, &[0; 3], now + durations.input, &expired(Stage::Input, &[1, 2]));
}

#[test]
fn a_party_that_is_ready_for_another_session_is_missing() {
    let mut world = joined(3, &[]);
    world.hostile = Some(1);
    for me in 0..3 {
        world.give_input(me);
    }
    for (to, message) in std::mem::take(&mut world.taken) {
        let mut changed = message.to_vec();
        // The secret that it shares with party 0 is another one than party 0's: their masks would not cancel.
        let pair = 1 + 3 * 32;
        changed[pair] ^= u8::from(to == 0);
        world.inject(to, changed.into());
    }
    world.run_without_inputs();
    let (now, durations) = (world.now, world.descriptor.durations);
    let session = world.session(0);
    assert!(!session.running());
    ends(session, &[0; 3], now + durations.input, &expired(Stage::Input, &[1]));
}

#[test]
fn restarts_begin_a_stage_anew_but_not_for_ever() {
    let mut world = joined(3, &[]);
    let (start, durations, peer) = (world.now, world.descriptor.durations, world.party(1));
    let session = world.session(0);
    let mut now = start;
    let mut last = 0;
    while now < start + durations.join + durations.input {
        session.peer_restarted(peer, now);
        let deadline = session.next_deadline(&[0; 3]).unwrap();
        let both = start + durations.join + durations.input;
        assert_eq!(deadline, (now + durations.join).min(both));
        last = deadline;
        now += durations.join - 1;
    }
    ends(session, &[0; 3], last, &expired(Stage::Join, &[1]));
}

#[test]
fn a_restarted_node_waits_again_but_not_longer_than_both_durations() {
    let mut world = joined(3, &[]);
    let (start, durations) = (world.now, world.descriptor.durations);
    for (waited, left) in [
        (durations.join + 5, durations.join),
        (durations.join + durations.input - 7, 7),
    ] {
        world.now = start + waited;
        world.join(0);
        let session = world.session(0);
        session.set_created(start);
        assert_eq!(session.created(), start);
        ends(session, &[0; 3], start + waited + left, &expired(Stage::Join, &[1, 2]));
    }
    world.now = start + durations.join + durations.input + 10;
    world.join(0);
    world.session(0).set_created(start);
    let now = world.now;
    world.session(0).tick(now, &[0; 3]);
    assert_eq!(reason(world.session(0)), Some(&expired(Stage::Join, &[1, 2])));
}

/// All compute; party 0 waits for what `missing` have to send next.
fn computing(missing: &[usize], round: usize) -> World {
    let mut world = joined(4, &[]);
    for me in 0..4 {
        world.give_input(me);
    }
    world.run_without_those_to(0, missing, round);
    assert!(world.session(0).running());
    assert_eq!(world.session(0).opened(), round == 1);
    assert_eq!(world.session(0).waiting_for(), (Stage::Run, missing.to_vec()));
    world
}

#[test]
fn of_the_computation() {
    let mut world = computing(&[1, 3], 0);
    let (now, durations) = (world.now, world.descriptor.durations);
    let heard = world.heard_at(&[], now + durations.run);
    ends(
        world.session(0),
        &heard,
        now + durations.run,
        &expired(Stage::Run, &[1, 3]),
    );
}

#[test]
fn of_silence() {
    let mut world = computing(&[1, 3], 0);
    let (now, durations) = (world.now, world.descriptor.durations);
    // What was heard before the computation does not count; who is not waited for may be silent.
    let heard = [0, now + 50, 0, now + 20];
    let party = 3;
    ends(
        world.session(0),
        &heard,
        now + 20 + durations.silence,
        &Reason::PeerSilent { party },
    );
    let mut world = computing(&[1, 3], 0);
    let party = 1;
    ends(
        world.session(0),
        &[0; 4],
        now + durations.silence,
        &Reason::PeerSilent { party },
    );
}

#[test]
fn a_party_that_computes_waits_for_itself() {
    let mut world = joined(3, &[]);
    world.hold = 1;
    for me in 0..3 {
        world.give_input(me);
    }
    world.run_without_inputs();
    let (now, durations) = (world.now, world.descriptor.durations);
    let session = world.session(0);
    assert_eq!(session.waiting_for(), (Stage::Run, vec![0]));
    ends(session, &[0; 3], now + durations.run, &expired(Stage::Run, &[0]));
}

#[test]
fn with_a_result_the_silent_are_given_up_one_by_one() {
    let mut world = computing(&[1, 3], 1);
    let (now, durations) = (world.now, world.descriptor.durations);
    let heard = [0, now + 10, 0, now + 30];
    let session = world.session(0);
    assert_eq!(session.next_deadline(&heard), Some(now + 10 + durations.silence));
    session.tick(now + 10 + durations.silence, &heard);
    assert_eq!(session.end(), None);
    assert_eq!(session.waiting_for(), (Stage::Run, vec![3]));
    assert_eq!(session.next_deadline(&heard), Some(now + 30 + durations.silence));
    session.tick(now + 30 + durations.silence, &heard);
    let Some(End::Done { unconfirmed, .. }) = session.end() else {
        panic!("{:?}", session.end())
    };
    assert_eq!(*unconfirmed, [1, 3]);
}

#[test]
fn with_a_result_the_last_deadline_gives_it_unconfirmed() {
    let mut world = computing(&[2], 1);
    let (now, durations, sum) = (world.now, world.descriptor.durations, world.sum());
    let heard = world.heard_at(&[], now + durations.run);
    let session = world.session(0);
    session.tick(now + durations.run - 1, &heard);
    assert_eq!(session.end(), None);
    session.tick(now + durations.run, &heard);
    assert_eq!(
        session.end(),
        Some(&End::Done {
            result: sum,
            unconfirmed: vec![2]
        })
    );
}

proptest! {
    /// Whatever was heard when, a tick before the deadline does nothing, and one at the deadline does something.
    #[test]
    fn tick_and_next_deadline_agree(
        stage in 0usize..5,
        heard in prop::collection::vec(0u64..2_000_000, 4),
        late in 0u64..200_000,
    ) {
        let mut world = match stage {
            0 => joined(4, &[2]),
            1 => joined(4, &[]),
            2 => computing(&[1, 2, 3], 0),
            3 => computing(&[1, 3], 0),
            _ => computing(&[1, 3], 1),
        };
        let heard: Vec<Millis> = heard.iter().map(|at| (1 << 40) + at).collect();
        let session = world.session(0);
        let mut steps = 0;
        while let Some(at) = session.next_deadline(&heard) {
            let before = session.waiting_for();
            session.tick(at - 1, &heard);
            prop_assert_eq!(session.end(), None);
            prop_assert_eq!(session.next_deadline(&heard), Some(at));
            prop_assert_eq!(session.waiting_for(), before);
            session.tick(at + late, &heard);
            prop_assert!(session.next_deadline(&heard).is_none_or(|next| next > at + late));
            steps += 1;
            prop_assert!(steps <= 4);
        }
        prop_assert!(session.end().is_some());
    }
}
