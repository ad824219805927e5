//! Triples from oblivious transfer.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use fdrtd_mpc::circuit::{Circuit, Lanes, Triples, open};
use fdrtd_mpc::net::{HEADER, Machine, Party, Session};
use fdrtd_mpc::ot::{BASE_BYTES, Ot};
use fdrtd_mpc::sim::{self, End, Fault, FaultAt, Outcome};
use proptest::prelude::*;

use super::operations::operation;
use super::{build, maximum, shared};

/// Everything from base transfers on, twice in one session; the results and the rounds of preparation.
fn machine(session: Session, circuit: &Arc<Circuit>, inputs: Vec<Lanes>) -> Machine {
    let circuit = Arc::clone(circuit);
    let lanes = inputs[0].lanes();
    Machine::new(session, move |mut net| async move {
        let both = async {
            let before = net.round();
            let mut triples = Triples::generate(&mut net, &[(&circuit, lanes), (&circuit, lanes)]).await?;
            let rounds = net.round() - before;
            let first = circuit.run(&mut net, &mut triples, &inputs).await?;
            let second = circuit.run(&mut net, &mut triples, &inputs).await?;
            let opened = open(&mut net, &[first, second].concat()).await?;
            let words: Vec<&[u64]> = opened.iter().map(Lanes::words).collect();
            Ok(format!("{rounds} {words:?}"))
        };
        let text = both.await;
        (net, text)
    })
}

/// With base transfers of an earlier session. Of its own for each run: a fault spoils them.
fn run(parties: usize, circuit: &Arc<Circuit>, inputs: &[Lanes], seed: u64, faults: &[FaultAt]) -> Outcome {
    let sessions = sim::warm(sim::sessions(parties, seed), 1000);
    run_in(sessions, circuit, inputs, faults)
}

fn run_in(sessions: Vec<Session>, circuit: &Arc<Circuit>, inputs: &[Lanes], faults: &[FaultAt]) -> Outcome {
    let parties = sessions.len();
    let each = sessions.into_iter().zip(shared(parties, inputs, 1));
    let machines = each
        .map(|(session, inputs)| machine(session, circuit, inputs))
        .collect();
    sim::run(machines, 5, faults)
}

fn expected(rounds: usize, outputs: &[Lanes]) -> End {
    let twice: Vec<&[u64]> = outputs.iter().chain(outputs).map(Lanes::words).collect();
    End::Confirmed(format!("{rounds} {twice:?}"))
}

#[test]
fn whole_computations() {
    let (circuit, inputs) = maximum();
    let greatest = Lanes::columns(&[8, 201, 99], 1, 8);
    for parties in 2..=4 {
        let outcome = run_in(sim::sessions(parties, 1), &circuit, &inputs, &[]);
        let plan = [(&*circuit, 3), (&*circuit, 3)];
        for end in &outcome.ends {
            assert_eq!(
                *end,
                expected(1 + Triples::rounds(&plan, parties), &greatest),
                "{parties}"
            );
        }
        assert!(
            outcome
                .delivered
                .iter()
                .any(|(_, _, bytes)| bytes.len() - HEADER == BASE_BYTES)
        );
        let warm = run(parties, &circuit, &inputs, 1, &[]);
        for end in &warm.ends {
            assert_eq!(*end, expected(Triples::rounds(&plan, parties), &greatest), "{parties}");
        }
        let longest = outcome.delivered.iter().map(|(_, _, bytes)| bytes.len() - HEADER).max();
        let bound = Triples::message_bytes(&plan, parties).max(circuit.message_bytes(3));
        assert_eq!(longest, Some(bound), "{parties}");
    }
}

/// Products that need more transfers than one message has room for, cut within a circuit and within a wire.
#[test]
fn many_transfers() {
    let lanes = 100_001;
    let circuit = Arc::new(operation(4, |b, x, y| vec![b.less(x, y)]));
    let numbers = [7u64, 13].map(|factor| (0..lanes as u64).map(|lane| lane * factor % 16).collect::<Vec<_>>());
    let inputs = numbers
        .iter()
        .flat_map(|numbers| Lanes::columns(numbers, 1, 4))
        .collect::<Vec<_>>();
    let less: Vec<bool> = numbers[0].iter().zip(&numbers[1]).map(|(x, y)| x < y).collect();
    let plan = [(&*circuit, lanes), (&*circuit, lanes)];
    assert_eq!(Triples::rounds(&plan, 2), 8, "800,008 transfers, 2^18 at a time");
    let outcome = run(2, &circuit, &inputs, 3, &[]);
    for end in &outcome.ends {
        assert!(*end == expected(8, &[Lanes::from_bools(&less)]));
    }
    assert!(
        outcome
            .delivered
            .iter()
            .all(|(_, _, bytes)| bytes.len() - HEADER <= Ot::message_bytes(1 << 18))
    );
}

#[test]
fn nothing_is_sent_for_circuits_without_products() {
    let circuit = build(|b| {
        let x = b.inputs(2);
        let sum = b.xor(x[0], x[1]);
        b.outputs(&[sum, x[0]]);
    });
    let plan = [(&circuit, 5)];
    assert_eq!(
        (
            Triples::rounds(&plan, 3),
            Triples::message_bytes(&plan, 3),
            circuit.depth()
        ),
        (0, 0, 0)
    );
    let inputs = [
        Lanes::from_words(5, vec![0b10110].into()),
        Lanes::from_words(5, vec![0b01010].into()),
    ];
    let outcome = run(3, &Arc::new(circuit), &inputs, 1, &[]);
    let outputs = [inputs[0].xor(&inputs[1]), inputs[0].clone()];
    assert_eq!(outcome.ends, vec![expected(0, &outputs); 3]);
    assert_eq!(outcome.delivered.len(), 2 * 6, "to open, to close");
}

/// Whether runs are prepared together or one after the other.
#[test]
fn no_mask_serves_twice() {
    let circuit = Arc::new(operation(32, |b, x, y| {
        x.iter().zip(y).map(|(x, y)| b.and(*x, *y)).collect()
    }));
    let (lanes, masks) = (3, 64);
    let machine = |session| {
        let circuit = Arc::clone(&circuit);
        Machine::new(session, move |mut net| async move {
            let inputs = vec![Lanes::zeros(lanes); 64];
            for plan in [&[(&*circuit, lanes); 3][..], &[(&circuit, lanes)]] {
                let mut triples = Triples::generate(&mut net, plan).await.unwrap();
                for _ in plan {
                    circuit.run(&mut net, &mut triples, &inputs).await.unwrap();
                }
            }
            (net, Ok(String::new()))
        })
    };
    let outcome = sim::run(sim::sessions(2, 1).into_iter().map(machine).collect(), 1, &[]);
    // Shares are zero, so what is told are the masks.
    let told = outcome
        .delivered
        .iter()
        .filter(|(_, _, bytes)| bytes.len() - HEADER == masks * lanes / 8);
    let told: BTreeSet<&[u8]> = told.map(|(_, _, bytes)| &bytes[HEADER..]).collect();
    assert_eq!(told.len(), 2 * 4, "other masks of each party in each run");
}

/// The sizes of all messages are those of any other run.
#[test]
fn lengths_of_messages_tell_nothing() {
    let (circuit, inputs) = maximum();
    let lengths = |inputs: &[Lanes], seed| {
        let delivered = run(3, &circuit, inputs, seed, &[]).delivered;
        let mut lengths: Vec<_> = delivered
            .iter()
            .map(|(from, to, bytes)| (*from, *to, bytes.len()))
            .collect();
        lengths.sort_unstable();
        lengths
    };
    assert_eq!(lengths(&inputs, 1), lengths(&vec![Lanes::zeros(3); inputs.len()], 2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A bit changed on its way in the preparation makes products wrong and so perhaps the result, but alike for all: nobody confirms another result than others. It
    /// need not be found. Nothing panics.
    #[test]
    fn changed_bits_give_one_result_or_none(
        parties in 2usize..4,
        seed: u64,
        faults in proptest::collection::vec((0usize..4, 0usize..4, 0usize..12, 0usize..100_000), 1..4),
        cut: bool,
    ) {
        let (circuit, inputs) = maximum();
        let faults: Vec<FaultAt> = faults
            .into_iter()
            .map(|(from, to, index, bit)| {
                let fault = if cut { Fault::Truncate(1 + bit % 50) } else { Fault::Flip(bit) };
                FaultAt { from: from % parties, to: to % parties, index, fault }
            })
            .collect();
        let outcome = run(parties, &circuit, &inputs, seed, &faults);
        let confirmed: Vec<&End> = outcome.ends.iter().filter(|end| matches!(end, End::Confirmed(_))).collect();
        prop_assert!(confirmed.windows(2).all(|pair| pair[0] == pair[1]), "{:?}", outcome.ends);
        let cut = faults.iter().any(|at| cut && at.from != at.to);
        prop_assert!(!cut || confirmed.is_empty(), "a cut message is refused");
    }
}

/// The head comment's claim: a wrong correction goes unnoticed.
#[test]
fn a_changed_correction_can_make_all_wrong_alike() {
    let circuit = Arc::new(operation(1, |b, x, y| vec![b.and(x[0], y[0])]));
    let lanes = 64;
    let inputs = [Lanes::filled(lanes, true), Lanes::filled(lanes, true)];
    // Messages: extension, corrections.
    let results = (0..lanes).map(|bit| {
        let fault = FaultAt {
            from: 1,
            to: 0,
            index: 1,
            fault: Fault::Flip(bit),
        };
        let outcome = run(3, &circuit, &inputs, 4, &[fault]);
        assert!(matches!(outcome.ends[0], End::Confirmed(_)), "{:?}", outcome.ends);
        assert!(outcome.ends.iter().all(|end| *end == outcome.ends[0]));
        outcome.ends[0] == expected(2, &[Lanes::filled(lanes, true)])
    });
    let right = results.filter(|right| *right).count();
    // Wrong where the receiver's share of the mask is 1: a coin.
    assert!((8..=56).contains(&right), "{right}");
}

/// The order of gates, masks and transfers, all keys and the layout of messages: nodes of different builds must agree on them.
#[test]
fn known_answers() {
    let circuit = Arc::new(operation(2, |b, x, y| {
        let sum = b.add(x, y);
        vec![b.less(x, y), sum[0], sum[1]]
    }));
    let inputs = Lanes::columns(&[0b0001, 0b0110, 0b1101], 1, 4);
    let outcome = run_in(sim::sessions(3, 42), &circuit, &inputs, &[]);
    let line = |(from, to, message): &(Party, Party, Bytes)| {
        let hash = blake3::hash(message);
        format!("{} {} {} {hash}", from.index(), to.index(), message.len())
    };
    let mut lines: Vec<String> = outcome.delivered.iter().map(line).collect();
    lines.sort();
    let expected = include_str!("../../../../vectors/circuit.txt");
    let expected: Vec<&str> = expected.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(lines, expected);
}
