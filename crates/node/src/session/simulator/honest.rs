//! Whatever happens in whatever order: if all parties are honest, they have the right result in the end, or one restart to blame.

use super::world::{Faults, World};
use crate::reason::Reason;
use crate::session::End;

/// All ended without any deadline: with the result, confirmed by all; or, if something fell over when the computation had begun somewhere, with
/// that reason or a result that not all confirm.
fn check(world: &World, seed: u64) {
    for me in 0..world.parties() {
        let context = || format!("seed {seed}, party {me}: {:?}", world.end(me));
        match world.end(me) {
            Some(End::Done { result, unconfirmed }) => {
                assert_eq!(*result, world.sum(), "{}", context());
                assert!(unconfirmed.is_empty() || !world.disturbers.is_empty(), "{}", context());
            }
            Some(End::Failed {
                reason: Reason::PeerRestarted { party },
                ..
            }) => assert!(world.disturbers.contains(party), "{}", context()),
            _ => panic!("{}", context()),
        }
    }
}

fn simulate(parties: usize, seed: u64, faults: Faults, hold: usize) -> World {
    let mut world = World::new(parties, seed);
    world.faults = faults;
    world.hold = hold;
    world.run();
    check(&world, seed);
    world
}

#[test]
fn in_any_order() {
    for seed in 0..400 {
        let parties = 2 + seed as usize % 4;
        let world = simulate(parties, seed, Faults::default(), seed as usize % 3);
        assert!(world.disturbers.is_empty());
        // One data message and one closing digest to each peer.
        assert_eq!(world.sent[&3], 2 * parties * (parties - 1));
    }
}

#[test]
fn with_connections_that_break_and_hellos_that_are_lost() {
    let faults = Faults {
        flaps: 4,
        drops: 4,
        ..Faults::default()
    };
    for seed in 0..400 {
        let world = simulate(2 + seed as usize % 3, seed, faults, 2);
        assert!(world.disturbers.is_empty());
    }
}

#[test]
fn with_restarts() {
    let (mut undisturbed, mut failed) = (0, 0);
    for seed in 0..3_000 {
        let faults = Faults {
            restarts: 1 + seed as usize % 3,
            resets: 0,
            flaps: 1,
            drops: 2,
        };
        let world = simulate(2 + seed as usize % 3, seed, faults, 3);
        undisturbed += usize::from(world.disturbers.is_empty());
        failed += usize::from((0..world.parties()).any(|me| matches!(world.end(me), Some(End::Failed { .. }))));
    }
    // Both cases were there.
    assert!(undisturbed > 100 && failed > 100, "{undisturbed} {failed}");
}

#[test]
fn with_links_that_lose_their_state() {
    for seed in 0..1_500 {
        let faults = Faults {
            restarts: seed as usize % 2,
            resets: 1 + seed as usize % 2,
            flaps: 0,
            drops: 1,
        };
        simulate(2 + seed as usize % 3, seed, faults, 3);
    }
}
