//! What parties send, and what faults can do.

use std::sync::Arc;

use fdrtd_mpc::circuit::{Circuit, Lanes, Triples, open, open_to};
use fdrtd_mpc::net::{Abort, HEADER, Machine, Session};
use fdrtd_mpc::sim::{self, End, Fault, FaultAt};
use proptest::prelude::*;

use super::{machines, maximum, shared};

fn any_fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        Just(Fault::Drop),
        Just(Fault::Repeat),
        (1usize..40).prop_map(Fault::Truncate),
        (0usize..400).prop_map(Fault::Flip),
        Just(Fault::Delay),
        (0usize..400).prop_map(Fault::Equivocate),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever happens to what is broadcast: a confirmed result is the right one, unless somebody lies, and never are there two.
    #[test]
    fn with_faults_nobody_confirms_a_wrong_result(
        parties in 2usize..5,
        seed: u64,
        faults in proptest::collection::vec((0usize..5, 0usize..5, 0usize..12, any_fault()), 1..4),
    ) {
        let faults: Vec<FaultAt> = faults.into_iter().map(|(from, to, index, fault)| FaultAt { from: from % parties, to: to % parties, index, fault }).collect();
        let liars: Vec<usize> = faults.iter().filter(|at| matches!(at.fault, Fault::Equivocate(_))).map(|at| at.from).collect();
        // With two parties a lie is just another share.
        prop_assume!(parties > 2 || liars.is_empty());
        let (circuit, inputs) = maximum();
        let right = sim::run(machines(parties, &circuit, &inputs, 1), 0, &[]).ends[0].clone();
        let outcome = sim::run(machines(parties, &circuit, &inputs, 1), seed, &faults);
        let mut confirmed = Vec::new();
        for (party, end) in outcome.ends.iter().enumerate() {
            if matches!(end, End::Confirmed(_)) && !liars.contains(&party) {
                confirmed.push(end);
                prop_assert!(*end == right || !liars.is_empty(), "party {} of {:?}", party, outcome.ends);
            }
        }
        prop_assert!(confirmed.windows(2).all(|pair| pair[0] == pair[1]));
    }
}

#[test]
fn a_changed_bit_is_found_wherever_it_is() {
    let (circuit, inputs) = maximum();
    for index in 0..=circuit.depth() {
        for bit in [0, 1, 2, 5] {
            let fault = FaultAt {
                from: 1,
                to: 2,
                index,
                fault: Fault::Flip(bit),
            };
            let outcome = sim::run(machines(3, &circuit, &inputs, 1), 7, &[fault]);
            for end in &outcome.ends {
                assert!(
                    !matches!(end, End::Confirmed(_)),
                    "message {index}, bit {bit}: {:?}",
                    outcome.ends
                );
            }
        }
    }
}

/// Sizes depend on circuit, lanes and parties only.
#[test]
fn lengths_of_messages_tell_nothing() {
    let (circuit, inputs) = maximum();
    let lengths = |inputs: &[Lanes], seed| {
        let mut lengths: Vec<_> = sim::run(machines(3, &circuit, inputs, seed), 1, &[])
            .delivered
            .iter()
            .map(|(from, to, bytes)| (*from, *to, bytes.len() - HEADER))
            .collect();
        lengths.sort_unstable();
        lengths
    };
    let zeros = vec![Lanes::zeros(3); inputs.len()];
    let ones = vec![Lanes::filled(3, true); inputs.len()];
    let all = lengths(&inputs, 1);
    assert_eq!(all, lengths(&zeros, 2));
    assert_eq!(all, lengths(&ones, 3));
    let digest = 32;
    let longest = all
        .iter()
        .map(|(_, _, length)| *length)
        .filter(|length| *length != digest)
        .max();
    assert_eq!(longest, Some(circuit.message_bytes(3)));
}

#[test]
fn what_opens_to_one_is_seen_by_no_other() {
    for parties in 2..=5 {
        // To party j: j + 1 secrets of 10·j + 3 lanes.
        let secrets: Vec<Vec<Lanes>> = (0..parties)
            .map(|party| {
                (0..=party)
                    .map(|bit| Lanes::from_words(10 * party + 3, vec![0x5a17_93c6_u64 << bit].into()))
                    .collect()
            })
            .collect();
        let shares: Vec<Vec<Vec<Lanes>>> = secrets.iter().map(|secrets| shared(parties, secrets, 3)).collect();
        let machine = |session: Session| {
            let me = session.me.index();
            let shares: Vec<Vec<Lanes>> = shares.iter().map(|of_all| of_all[me].clone()).collect();
            let secret = secrets[me].clone();
            Machine::new(session, move |mut net| async move {
                // Twice: the second one has other pads.
                let first = open_to(&mut net, &shares).await.unwrap();
                let second = open_to(&mut net, &shares).await.unwrap();
                for ((secret, first), second) in secret.iter().zip(&first).zip(&second) {
                    assert_eq!((first.words(), second.words()), (secret.words(), secret.words()));
                }
                assert_eq!(
                    (first.len(), second.len(), net.round()),
                    (secret.len(), secret.len(), 2)
                );
                (net, Ok(String::from("\"opened\"")))
            })
        };
        let outcome = sim::run(sim::sessions(parties, 9).into_iter().map(machine).collect(), 4, &[]);
        assert!(
            outcome.ends.iter().all(|end| matches!(end, End::Confirmed(_))),
            "{:?}",
            outcome.ends
        );
        for (from, to, bytes) in &outcome.delivered {
            let bits = (to.index() + 1) * (10 * to.index() + 3);
            assert!([bits.div_ceil(8), 32].contains(&(bytes.len() - HEADER)));
            // Long ones are under pads, so the second message is not the first.
            let alike = outcome
                .delivered
                .iter()
                .filter(|other| (other.0, other.1) == (*from, *to) && other.2[HEADER..] == bytes[HEADER..]);
            assert!(bits < 64 || alike.count() == 1);
        }
    }
}

/// A share as it is may be an input.
#[test]
fn no_share_is_told_as_it_is() {
    for parties in 2..=4 {
        let input = Lanes::from_words(128, vec![0x0123_4567_89ab_cdef, 42].into());
        let shares = |me: usize| if me == 0 { input.clone() } else { Lanes::zeros(128) };
        let machine = |session: Session| {
            let share = [shares(session.me.index())];
            Machine::new(session, move |mut net| async move {
                let first = open(&mut net, &share).await.unwrap();
                let second = open(&mut net, &share).await.unwrap();
                (
                    net,
                    Ok(serde_json::to_string(&[first[0].words(), second[0].words()]).unwrap()),
                )
            })
        };
        let outcome = sim::run(sim::sessions(parties, 5).into_iter().map(machine).collect(), 4, &[]);
        let right = End::Confirmed(serde_json::to_string(&[input.words(), input.words()]).unwrap());
        assert!(outcome.ends.iter().all(|end| *end == right), "{:?}", outcome.ends);
        let mut told = Vec::new();
        for (from, to, bytes) in &outcome.delivered {
            let share: Vec<u8> = shares(from.index())
                .words()
                .iter()
                .flat_map(|word| word.to_le_bytes())
                .collect();
            assert_ne!(bytes[HEADER..], share);
            if bytes.len() == HEADER + 16 && to.index() == usize::from(from.index() == 0) {
                told.push(bytes[HEADER..].to_vec());
            }
        }
        told.sort();
        told.dedup();
        assert_eq!(told.len(), 2 * parties, "other pads for each party and each opening");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let (circuit, inputs) = maximum();
    let results = |lanes: usize, prepared: Option<usize>, count: usize| {
        let plan: Vec<(&Circuit, usize)> = prepared.iter().map(|lanes| (&*circuit, *lanes)).collect();
        let inputs: Vec<Lanes> = inputs[..count].iter().map(|_| Lanes::zeros(lanes)).collect();
        let all = sim::sessions(2, 1).into_iter().zip(sim::triples(2, &plan, 1));
        let machine = |(session, mut triples): (Session, Triples)| {
            let (circuit, inputs) = (Arc::clone(&circuit), inputs.clone());
            Machine::new(session, move |mut net| async move {
                let shares = circuit.run(&mut net, &mut triples, &inputs).await;
                (net, shares.map(|shares| format!("{}", shares.len())))
            })
        };
        sim::run(all.map(machine).collect(), 1, &[]).ends.swap_remove(0)
    };
    assert_eq!(results(3, Some(3), 24), End::Confirmed("8".into()));
    for (lanes, prepared, count) in [(3, None, 24), (3, Some(4), 24), (3, Some(3), 23)] {
        assert!(matches!(
            results(lanes, prepared, count),
            End::Aborted(Abort::Internal(_))
        ));
    }
}
