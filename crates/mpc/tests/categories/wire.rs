//! What frequencies and contingency tables send: sizes and order of messages, sketches of names, faults and hostile peers.

use std::collections::{BTreeMap, BTreeSet};

use fdrtd_mpc::microprotocol::Entry;
use fdrtd_mpc::net::{Abort, HEADER, KIND};
use fdrtd_mpc::sim::{self, End, Fault, FaultAt};
use fdrtd_mpc::sketch;
use fdrtd_mpc::threshold::{Thresholds, enough_rounds};
use serde_json::json;

use crate::simulated::{lists, machines, result, simulate, texts};
use crate::{CONTINGENCY, FREQUENCY, cell};

/// Sizes and order of messages are those of the public parameters, and of the names that open.
#[test]
fn the_shape_of_the_transcript_is_public() {
    let shape = |name: &str, parameters: &str, inputs: &[String], thresholds| -> Vec<(usize, usize, usize)> {
        let outcome = simulate(name, parameters, inputs, thresholds);
        outcome
            .delivered
            .iter()
            .map(|(from, to, message)| (from.index(), to.index(), message.len()))
            .collect()
    };
    for least in [0, 3] {
        let declared = |inputs: &[&str]| {
            shape(
                FREQUENCY,
                r#"{"categories": ["a", "b", 1], "other": true}"#,
                &lists(inputs),
                cell(least),
            )
        };
        let expected = declared(&[r#"["a"]"#, "[]", "[]"]);
        assert_eq!(
            declared(&[r#"["a", "b", "b", "b", null, "c"]"#, "[1, 1, 1, 1]", "[null]"]),
            expected
        );
        let found = |inputs: &[&str]| shape(FREQUENCY, "{}", &lists(inputs), cell(least));
        let expected = found(&[r#"["a", "a", "a"]"#, "[]", "[]"]);
        let twice = found(&[r#"["a", "a", "a", "a"]"#, r#"["a", "a", "a"]"#, r#"[null]"#]);
        assert_eq!(twice, expected);
    }
}

/// What goes over the wire are no names: neither as they are, nor in any cell of a table, masked as it is.
#[test]
fn names_do_not_travel_unmasked() {
    let inputs = texts(&[
        json!(["melanoma", "melanoma"]),
        json!(["melanoma", "carcinoma"]),
        json!([]),
    ]);
    let outcome = simulate(FREQUENCY, "{}", &inputs, Thresholds::default());
    let mut blocks = BTreeMap::new();
    for (from, _, message) in &outcome.delivered {
        for name in ["melanoma", "carcinoma"] {
            assert!(!message.windows(name.len()).any(|window| window == name.as_bytes()));
        }
        let body = &message[HEADER..];
        if body.len() == sketch::SIZES[0] * 128 {
            for block in body.chunks_exact(32) {
                assert!(block.iter().any(|byte| *byte != 0), "a cell without a mask");
                blocks
                    .entry(block.to_vec())
                    .or_insert_with(BTreeSet::new)
                    .insert(from.index());
            }
        }
    }
    // Each goes to two peers; no element is there twice.
    assert_eq!(blocks.len(), 3 * 4 * sketch::SIZES[0]);
    assert!(blocks.values().all(|senders| senders.len() == 1));
}

#[test]
fn more_names_than_the_first_table_holds_take_a_second_one() {
    let many = |from: i64, to: i64| (from..to).collect::<Vec<_>>();
    let inputs = texts(&[many(0, 400), many(300, 700), vec![]]);
    let found = result(FREQUENCY, "{}", &inputs);
    assert_eq!(found["categories"], json!(many(0, 700)));
    assert_eq!(found["samples"], json!(800));
    assert_eq!(found["modes"], json!(many(300, 400)));
    // And no third one: everybody ends alike.
    let inputs = texts(&[many(0, 3500), many(3500, 7000), vec![]]);
    let outcome = sim::run(machines(FREQUENCY, "{}", &inputs, 1, Thresholds::default()), 1, &[]);
    assert_eq!(outcome.ends, vec![End::Aborted(Abort::TooManyNames); 3]);
    // So does a table of too many cells.
    let rows: Vec<[i64; 2]> = (0..150).map(|row| [row, row]).collect();
    let outcome = sim::run(
        machines(CONTINGENCY, "{}", &texts(&[rows, vec![]]), 1, Thresholds::default()),
        1,
        &[],
    );
    assert_eq!(outcome.ends, vec![End::Aborted(Abort::TooManyNames); 2]);
}

#[test]
fn with_faults_nobody_confirms_a_wrong_result() {
    let inputs = lists(&[r#"["a", "a", "b"]"#, r#"["b", 1]"#, r#"["a"]"#]);
    let declared = r#"{"categories": ["a", "b", 1]}"#;
    for (parameters, rounds) in [(declared, 1), ("{}", 3)] {
        let run = |faults: &[FaultAt]| {
            sim::run(
                machines(FREQUENCY, parameters, &inputs, 5, Thresholds::default()),
                9,
                faults,
            )
        };
        let right = run(&[]).ends;
        assert!(matches!(&right[0], End::Confirmed(_)));
        for index in 0..=rounds {
            for fault in [
                Fault::Drop,
                Fault::Repeat,
                Fault::Truncate(1),
                Fault::Truncate(32),
                Fault::Flip(3),
                Fault::Flip(777),
                Fault::Flip(255),
                Fault::Delay,
                Fault::Equivocate(3),
                Fault::Equivocate(40),
            ] {
                let at = FaultAt {
                    from: 0,
                    to: 2,
                    index,
                    fault,
                };
                for (party, end) in run(&[at]).ends.iter().enumerate() {
                    match end {
                        End::Confirmed(_) => assert_eq!(*end, right[party], "{at:?}"),
                        // Nobody who is honest is named: who is told different stories says that they differ.
                        End::Aborted(Abort::Peer(peer, _)) => assert_eq!(peer.index(), 0, "{at:?}"),
                        End::Aborted(abort) => assert!(
                            matches!(abort, Abort::StoriesDiffer | Abort::TooManyNames),
                            "{at:?} {abort:?}"
                        ),
                        _ => {}
                    }
                }
            }
        }
    }
}

/// Whether there are enough samples decides which messages come next. Whoever tells it differently to two others must not make these take each other for dishonest.
#[test]
fn who_tells_different_stories_about_enough_samples_blames_nobody_else() {
    let few = Thresholds {
        samples_total: 5,
        ..Thresholds::default()
    };
    let inputs = lists(&[r#"["a", "a", "b"]"#, r#"["b", 1]"#, r#"["a"]"#]);
    let run = |faults: &[FaultAt]| sim::run(machines(FREQUENCY, "{}", &inputs, 5, few), 9, faults);
    assert!(matches!(&run(&[]).ends[0], End::Confirmed(_)));
    // Its share of the bit is the last message of that comparison.
    let index = enough_rounds(3, &few) as usize - 1;
    let fault = Fault::Equivocate(0);
    let outcome = run(&[FaultAt {
        from: 0,
        to: 2,
        index,
        fault,
    }]);
    for end in &outcome.ends[1..] {
        assert_eq!(*end, End::Aborted(Abort::StoriesDiffer), "{:?}", outcome.ends);
    }
    // And nobody has sent names.
    let longest = outcome.delivered.iter().map(|(_, _, message)| message.len()).max();
    assert!(longest.unwrap() < sketch::SIZES[0] * 128);
}

/// Other bytes than a party's in the place of its table: read or refused, without a panic, and nobody confirms what others do not.
#[test]
fn hostile_tables_are_survived() {
    let inputs = texts(&[vec!["a"], vec!["b"]]);
    let size = sketch::SIZES[0] * 128;
    for (byte, length) in [
        (0_u8, size),
        (1, size),
        (0x0f, size),
        (0x10, size),
        (0xff, size),
        (0, size - 32),
        (0, size + 32),
        (0, 0),
    ] {
        let mut machines = machines(FREQUENCY, "{}", &inputs, 1, Thresholds::default());
        let mut honest = machines.remove(0);
        honest.step();
        let (to, sent) = honest.outgoing().remove(0);
        assert_eq!((to.index(), sent.len()), (1, HEADER + size));
        let mut message = sent[..HEADER].to_vec();
        assert_eq!(message[0], KIND);
        message.resize(HEADER + length, byte);
        honest.deliver(to, message.into()).unwrap();
        let state = honest.step();
        let short = length != size;
        // 0x1010… is above the order of the group.
        let refused = short || byte >= 0x10;
        assert_eq!(
            matches!(state, fdrtd_mpc::net::State::Aborted(Abort::Peer(..))),
            refused,
            "{byte} {length} {state:?}"
        );
    }
}

#[test]
fn rounds_are_counted() {
    let inputs = texts(&[vec!["a"; 9], vec!["a"; 9], vec!["a"; 9]]);
    for (parameters, least) in [
        (r#"{"categories": ["a", "b"]}"#, 0),
        (r#"{"categories": ["a", "b"]}"#, 5),
        ("{}", 0),
        ("{}", 5),
    ] {
        let counted = Entry::find(FREQUENCY)
            .unwrap()
            .configure(parameters)
            .unwrap()
            .rounds(3, &cell(least));
        let outcome = sim::run(machines(FREQUENCY, parameters, &inputs, 1, cell(least)), 1, &[]);
        assert!(matches!(outcome.ends[0], End::Confirmed(_)));
        let messages = outcome
            .delivered
            .iter()
            .filter(|(from, to, _)| (from.index(), to.index()) == (0, 1))
            .count();
        // One more for the closing digest.
        assert_eq!(messages as u32, counted + 1, "{parameters} {least}");
    }
}
