//! Microprotocols by name, run by all parties in one thread.

use fdrtd_mpc::microprotocol::Entry;
use fdrtd_mpc::net::{HEADER, Machine, Session};
use fdrtd_mpc::sim::{self, End, Outcome};
use fdrtd_mpc::threshold::Thresholds;
use serde_json::Value;

/// Machines of all parties; `inputs` are JSON texts.
pub(crate) fn machines(
    name: &str,
    parameters: &str,
    inputs: &[String],
    seed: u64,
    thresholds: Thresholds,
) -> Vec<Machine> {
    let configured = Entry::find(name).unwrap().configure(parameters).unwrap();
    let machine = |mut session: Session| {
        session.thresholds = thresholds;
        let input = &inputs[session.me.index()];
        let prepared = configured.input(inputs.len(), &[input]).unwrap();
        prepared.start(session)
    };
    let sessions = sim::warm(sim::sessions(inputs.len(), seed), seed);
    sessions.into_iter().map(machine).collect()
}

pub(crate) fn simulate(name: &str, parameters: &str, inputs: &[String], thresholds: Thresholds) -> Outcome {
    let outcome = sim::run(machines(name, parameters, inputs, 1, thresholds), 1, &[]);
    // What a node allows a peer to send.
    let configured = Entry::find(name).unwrap().configure(parameters).unwrap();
    let longest = configured
        .input(inputs.len(), &[&inputs[0]])
        .unwrap()
        .shape
        .message_bytes;
    let sent = outcome
        .delivered
        .iter()
        .map(|(_, _, message)| message.len() - HEADER)
        .max();
    assert!(sent.unwrap() <= longest.max(32), "{name}: {sent:?} > {longest}");
    outcome
}

/// The result, which is the same at every party.
pub(crate) fn result_with(name: &str, parameters: &str, inputs: &[String], thresholds: Thresholds) -> Value {
    let ends = simulate(name, parameters, inputs, thresholds).ends;
    let End::Confirmed(text) = &ends[0] else {
        panic!("{name} {inputs:?}: {:?}", ends[0]);
    };
    assert!(ends.iter().all(|end| *end == ends[0]), "{ends:?}");
    serde_json::from_str(text).unwrap()
}

pub(crate) fn result(name: &str, parameters: &str, inputs: &[String]) -> Value {
    result_with(name, parameters, inputs, Thresholds::default())
}

/// Inputs that are written as they are.
pub(crate) fn lists(inputs: &[&str]) -> Vec<String> {
    inputs.iter().map(|input| (*input).to_owned()).collect()
}

pub(crate) fn texts<T: serde::Serialize>(inputs: &[T]) -> Vec<String> {
    inputs
        .iter()
        .map(|input| serde_json::to_string(input).unwrap())
        .collect()
}
