//! SecureSum against a plaintext oracle, and with faults.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use fdrtd_mpc::microprotocol::{Entry, Refusal};
use fdrtd_mpc::net::{Abort, Fault as PeerFault, HEADER, Machine, Party, State};
use fdrtd_mpc::sim::{self, End, Fault, FaultAt, Outcome};
use proptest::prelude::*;

fn run_with(inputs: &[&str], params: &str, seed: u64, faults: &[FaultAt]) -> Result<Outcome, Refusal> {
    let configured = Entry::find("SecureSum").unwrap().configure(params)?;
    let machines: Result<Vec<Machine>, Refusal> = sim::sessions(inputs.len(), seed)
        .into_iter()
        .map(|session| {
            Ok(configured
                .input(inputs.len(), &[inputs[session.me.index()]])?
                .start(session))
        })
        .collect();
    Ok(sim::run(machines?, seed, faults))
}

fn results(inputs: &[&str], params: &str, seed: u64) -> String {
    let outcome = run_with(inputs, params, seed, &[]).unwrap();
    let End::Confirmed(first) = &outcome.ends[0] else {
        panic!("{:?}", outcome.ends)
    };
    for end in &outcome.ends {
        assert_eq!(*end, End::Confirmed(first.clone()), "the same bytes everywhere");
    }
    first.clone()
}

#[test]
fn three_numbers() {
    assert_eq!(results(&["10", "7", "14"], "{}", 1), r#"{"samples":3,"sum":31}"#);
}

#[test]
fn all_forms() {
    assert_eq!(
        results(&["[0.1, 0.2]", "[]", "5"], "{}", 2),
        r#"{"samples":3,"sum":5.3}"#
    );
    assert_eq!(results(&["0.1", "0.2"], "{}", 2), r#"{"samples":2,"sum":0.3}"#);
    assert_eq!(
        results(
            &[r#"{"vectors": [[1, 2], [3, 4]]}"#, r#"{"vectors": [[-1.5, 1e3]]}"#],
            "{}",
            3
        ),
        r#"{"samples":3,"sum":[2.5,1006]}"#
    );
    assert_eq!(
        results(
            &[r#"{"b": [1], "a": [2, 3]}"#, r#"{"columns": {"a": [], "b": [0.5]}}"#],
            "{}",
            3
        ),
        r#"{"a":{"samples":2,"sum":5},"b":{"samples":2,"sum":1.5}}"#
    );
}

#[test]
fn numbers_that_floats_get_wrong() {
    let large = "[9007199254740993, 9007199254740993]";
    assert_eq!(
        results(&[large, "0"], "{}", 4),
        r#"{"samples":3,"sum":18014398509481986}"#
    );
    assert_eq!(
        results(&["[1e16, 1, -1e16]", "[1]"], "{}", 4),
        r#"{"samples":4,"sum":2}"#
    );
    let tiny = format!("[{}]", ["1e-13"; 10].join(","));
    let refused = run_with(&[&tiny, "0"], "{}", 4, &[]).unwrap_err();
    assert!(
        refused.at == "[0]" && refused.hint.contains("13") || refused.message.contains("13"),
        "{refused:?}"
    );
    assert_eq!(
        results(&[&tiny, "0"], r#"{"digits_after": 13}"#, 4),
        r#"{"samples":11,"sum":1e-12}"#
    );
    let refused = run_with(&["1e300", "0"], "{}", 4, &[]).unwrap_err();
    assert!(refused.message.contains("301"), "{refused:?}");
    assert_eq!(
        results(&["1e300", "1e300"], r#"{"digits_before": 301, "digits_after": 300}"#, 4),
        r#"{"samples":2,"sum":2e+300}"#
    );
}

#[test]
fn parameters_are_checked_and_made_canonical() {
    let entry = Entry::find("BasicSum").unwrap();
    assert_eq!(entry.name, "SecureSum");
    assert_eq!(
        entry.configure("{}").unwrap().canonical,
        r#"{"digits_after":12,"digits_before":18}"#
    );
    assert_eq!(
        entry.configure(r#"{"digits_before": 3}"#).unwrap().canonical,
        r#"{"digits_after":12,"digits_before":3}"#
    );
    for bad in [
        r#"{"digits": 3}"#,
        r#"{"digits_after": -1}"#,
        r#"{"digits_after": 3.5}"#,
        "[]",
        r#"{"digits_after": 9999}"#,
    ] {
        assert_eq!(entry.configure(bad).unwrap_err().code, "PARAMETERS_UNUSABLE", "{bad}");
    }
}

/// Two messages per ordered pair: the masked vector (two elements of 16 bytes) and the closing digest (32 bytes); their lengths depend on the
/// shape only.
#[test]
fn the_transcript_has_one_message_per_peer_and_round() {
    let lengths = |inputs: &[&str]| {
        let outcome = run_with(inputs, "{}", 5, &[]).unwrap();
        let mut lengths: Vec<_> = outcome
            .delivered
            .iter()
            .map(|(from, to, bytes)| (*from, *to, bytes.len()))
            .collect();
        lengths.sort();
        lengths
    };
    let small = lengths(&["0", "0", "0"]);
    assert_eq!(small.len(), 3 * 2 * 2);
    assert_eq!(small, lengths(&["[1e17, 0.000000000001, 3, 4]", "-1e17", "[]"]));
    assert!(small.iter().all(|(_, _, bytes)| *bytes == HEADER + 32));
}

#[test]
fn a_dropped_message_is_noticed() {
    let fault = [FaultAt {
        from: 0,
        to: 1,
        index: 0,
        fault: Fault::Drop,
    }];
    let ends = run_with(&["1", "2", "3"], "{}", 6, &fault).unwrap().ends;
    let party = Party::new(0, 3).unwrap();
    // Party 0 goes on to its closing digest, which party 1 sees out of turn.
    assert_eq!(
        ends[1],
        End::Aborted(Abort::Peer(party, PeerFault::OutOfTurn)),
        "{ends:?}"
    );
    assert!(matches!(&ends[0], End::Unconfirmed(..)) && matches!(&ends[2], End::Unconfirmed(..)));
}

#[test]
fn messages_of_another_session_are_refused() {
    let started = || {
        let machines = sim::sessions(2, 1).into_iter().map(|session| {
            let configured = Entry::find("SecureSum").unwrap().configure("{}").unwrap();
            configured.input(2, &["1"]).unwrap().start(session)
        });
        let mut machines: Vec<_> = machines.collect();
        machines.iter_mut().for_each(|machine| {
            machine.step();
        });
        let sent = machines[1].outgoing().remove(0).1;
        (machines.remove(0), sent)
    };
    let from = Party::new(1, 2).unwrap();
    let (mut machine, sent) = started();
    machine.deliver(from, sent).unwrap();
    assert!(matches!(machine.step(), State::Opened(_)));
    // Every byte before the round: what it is, and of which session.
    for at in 0..33 {
        let (mut machine, sent) = started();
        let mut foreign = sent.to_vec();
        foreign[at] ^= 1;
        machine.deliver(from, foreign.into()).unwrap();
        assert!(
            matches!(machine.step(), State::Aborted(Abort::Peer(_, PeerFault::Malformed(_)))),
            "byte {at}"
        );
    }
}

#[test]
fn equivocation_is_noticed_by_those_who_were_told_different_things() {
    for seed in 0..20 {
        let fault = [FaultAt {
            from: 0,
            to: 1,
            index: 0,
            fault: Fault::Equivocate(5),
        }];
        let ends = run_with(&["1", "2", "3"], "{}", seed, &fault).unwrap().ends;
        assert_eq!(ends[1], End::Aborted(Abort::StoriesDiffer));
        assert_eq!(ends[2], End::Aborted(Abort::StoriesDiffer));
    }
}

#[test]
fn different_lengths_are_malformed_not_summed() {
    let ends = run_with(
        &[r#"{"vectors": [[1, 2]]}"#, r#"{"vectors": [[1, 2, 3]]}"#],
        "{}",
        7,
        &[],
    )
    .unwrap()
    .ends;
    assert!(
        ends.iter()
            .all(|end| matches!(end, End::Aborted(Abort::Peer(_, PeerFault::Malformed(_))))),
        "{ends:?}"
    );
}

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

    /// Any n, any values with up to 6 decimals: the exact sum, computed here in whole millionths.
    #[test]
    fn equals_the_plaintext_sum(values in proptest::collection::vec(proptest::collection::vec(-10i64.pow(15)..10i64.pow(15), 0..6), 2..9), seed: u64) {
        let text = |value: &i64| {
            let sign = if *value < 0 { "-" } else { "" };
            format!("{sign}{}.{:06}", value.unsigned_abs() / 1_000_000, value.unsigned_abs() % 1_000_000)
        };
        let inputs: Vec<String> = values.iter().map(|own| format!("[{}]", own.iter().map(text).collect::<Vec<_>>().join(","))).collect();
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let total: i64 = values.iter().flatten().sum();
        let count: usize = values.iter().map(Vec::len).sum();
        let result: serde_json::Value = serde_json::from_str(&results(&inputs, "{}", seed)).unwrap();
        prop_assert_eq!(result["samples"].as_u64(), Some(count as u64));
        prop_assert_eq!(result["sum"].as_f64(), text(&total).parse::<f64>().ok());
    }

    /// Whatever happens to messages: a confirmed result is the right one.
    #[test]
    fn with_faults_nobody_confirms_a_wrong_result(
        n in 2usize..5,
        seed: u64,
        faults in proptest::collection::vec((0usize..5, 0usize..5, 0usize..3, any_fault()), 1..4),
    ) {
        let faults: Vec<FaultAt> = faults.into_iter().map(|(from, to, index, fault)| FaultAt { from: from % n, to: to % n, index, fault }).collect();
        // With two parties an equivocator's lie is just another input.
        prop_assume!(n > 2 || faults.iter().all(|at| !matches!(at.fault, Fault::Equivocate(_))));
        let inputs: Vec<String> = (0..n).map(|party| (party * 7 + 1).to_string()).collect();
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let right = results(&inputs, "{}", seed);
        let liars: Vec<usize> = faults.iter().filter(|at| matches!(at.fault, Fault::Equivocate(_))).map(|at| at.from).collect();
        let outcome = run_with(&inputs, "{}", seed, &faults).unwrap();
        for (party, end) in outcome.ends.iter().enumerate() {
            if let End::Confirmed(result) = end && liars.is_empty() {
                prop_assert_eq!(result, &right, "party {} of {:?}", party, outcome.ends);
            }
        }
        // Honest parties never confirm different results.
        let confirmed: Vec<&End> = outcome.ends.iter().enumerate().filter(|(party, end)| !liars.contains(party) && matches!(end, End::Confirmed(_))).map(|(_, end)| end).collect();
        prop_assert!(confirmed.windows(2).all(|pair| pair[0] == pair[1]));
    }
}
