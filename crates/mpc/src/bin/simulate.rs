//! For tests: computes with all parties in one thread, as told by lines of JSON, and answers each with a line of JSON.
//!
//! ```text
//! {"microprotocol": "SecureSum", "parameters": {}, "inputs": [[1, 2], [3]], "thresholds": {"samples_total": 3}, "seed": 1}
//! {"results": ["{\"samples\":3,\"sum\":6}", …], "own": [null, …], "rounds": 17, "messages": 34, "longest": 1024, "declared": {"rounds": 17, "longest": 2048}}
//! ```
//!
//! Each of `inputs` is one party's, or `{"parts": […]}`; `parameters`, `thresholds` and `seed` may be left out. Numbers reach the protocol as they are written. Other answers are
//! `{"refusal": {"party": 0, "code": …, "at": …, "message": …}}` (`party` is `null` if parameters are refused), `{"ends": […]}` if there is no result, and `{"error": …}` for a line that
//! cannot be understood.
//!
//! It is a program of its own and no example, so that it is built as `fdrtd` is: what tests alone depend on switches on the C library's functions.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};

use fdrtd_mpc::microprotocol::{Entry, Prepared, Refusal};
use fdrtd_mpc::net::{HEADER, MAX_PARTIES};
use fdrtd_mpc::sim::{self, End};
use fdrtd_mpc::threshold::Thresholds;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    microprotocol: String,
    #[serde(borrow)]
    parameters: Option<&'a RawValue>,
    #[serde(borrow)]
    inputs: Vec<&'a RawValue>,
    #[serde(default)]
    thresholds: Wanted,
    #[serde(default)]
    seed: u64,
}

/// An input in several parts.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parts<'a> {
    #[serde(borrow)]
    parts: Vec<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Wanted {
    samples_total: u64,
    samples_others: u64,
    cell: u64,
    beyond: u64,
    no_extremes: bool,
    group_total: u64,
    group_others: u64,
}

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        writeln!(out, "{}", answer(&line?))?;
        out.flush()?;
    }
    Ok(())
}

fn answer(line: &str) -> Value {
    match serde_json::from_str::<Line>(line) {
        Ok(line) => computed(&line).unwrap_or_else(|other| other),
        Err(error) => json!({"error": error.to_string()}),
    }
}

fn computed(line: &Line) -> Result<Value, Value> {
    let parties = line.inputs.len();
    if !(2..=MAX_PARTIES).contains(&parties) {
        return Err(json!({"error": format!("there are 2 to {MAX_PARTIES} parties")}));
    }
    let entry = Entry::find(&line.microprotocol).ok_or_else(|| json!({"error": "no such microprotocol"}))?;
    let parameters = line.parameters.map_or("{}", RawValue::get);
    let configured = entry.configure(parameters).map_err(|refusal| refused(None, &refusal))?;
    let mut prepared: Vec<Prepared> = Vec::with_capacity(parties);
    for (party, input) in line.inputs.iter().enumerate() {
        // A list would be taken for the members in their order.
        let in_parts = input.get().starts_with('{');
        let texts: Vec<&str> = match serde_json::from_str::<Parts>(input.get()) {
            Ok(parts) if in_parts => parts.parts.iter().map(|part| part.get()).collect(),
            _ => vec![input.get()],
        };
        let input = configured.input(parties, &texts);
        prepared.push(input.map_err(|refusal| refused(Some(party), &refusal))?);
    }
    if prepared.iter().any(|input| input.shape != prepared[0].shape) {
        return Err(json!({"error": "inputs of different shapes"}));
    }
    let thresholds = Thresholds {
        samples_total: line.thresholds.samples_total,
        samples_others: line.thresholds.samples_others,
        cell: line.thresholds.cell,
        beyond: line.thresholds.beyond,
        no_extremes: line.thresholds.no_extremes,
        group_total: line.thresholds.group_total,
        group_others: line.thresholds.group_others,
    };
    let declared =
        json!({"rounds": configured.rounds(parties, &thresholds), "longest": prepared[0].shape.message_bytes});
    let sessions = sim::warm(sim::sessions(parties, line.seed), line.seed).into_iter();
    let machines = sessions.zip(prepared).map(|(mut session, input)| {
        session.thresholds = thresholds;
        input.start(session)
    });
    let outcome = sim::run(machines.collect(), line.seed, &[]);
    let result = |end: &End| match end {
        End::Confirmed(result) => Some(result.clone()),
        _ => None,
    };
    let results: Option<Vec<String>> = outcome.ends.iter().map(result).collect();
    let Some(results) = results else {
        let ends: Vec<String> = outcome.ends.iter().map(|end| format!("{end:?}")).collect();
        return Err(json!({"ends": ends}));
    };
    // The last round is that of closing digests: one message of each to each.
    let own: Vec<Option<&str>> = outcome
        .own
        .iter()
        .map(|own| own.as_ref().map(|own| own.as_str()))
        .collect();
    let mut channels = BTreeMap::new();
    for (from, to, message) in &outcome.delivered {
        channels
            .entry((*from, *to))
            .or_insert_with(Vec::new)
            .push(message.len() - HEADER);
    }
    let data = channels
        .values()
        .flat_map(|lengths| &lengths[..lengths.len().saturating_sub(1)]);
    Ok(json!({
        "results": results,
        "own": own,
        "rounds": outcome.rounds.iter().max().map_or(0, |rounds| rounds - 1),
        "messages": data.clone().count(),
        "longest": data.max(),
        "declared": declared,
    }))
}

fn refused(party: Option<usize>, refusal: &Refusal) -> Value {
    json!({"refusal": {"party": party, "code": refusal.code, "at": refusal.at, "message": refusal.message, "hint": refusal.hint}})
}
