//! The protocols themselves: inputs of clients, and machines that get arbitrary mail.

use bytes::Bytes;
use fdrtd_mpc::microprotocol::{ALL, Entry};
use fdrtd_mpc::net::{HEADER, Machine, Party, State};
use fdrtd_mpc::sim;

use crate::source::{Source, put};

/// Texts that some microprotocol takes as an input.
const INPUTS: [&str; 8] = [
    "1.5",
    "[1, 2, 3]",
    r#"{"vectors": [[1, 2], [3, 4]]}"#,
    r#"{"columns": {"a": [1], "b": [2]}}"#,
    "[[1, 2], [3, 5], [null, 1]]",
    r#"[["a", 1], [1, 2], ["a", 3]]"#,
    r#"{"columns": ["g", "x"], "rows": [["a", 1], [1, null], [null, 7]]}"#,
    r#"["a", 1, "a", null]"#,
];

/// Messages that prepare what is compared: 2^18 oblivious transfers of 16 bytes, and layers of circuits.
const MOST_PREPARED: usize = 32 << 20;

/// Parameters with few digits, so that there are few rounds.
fn parameters(entry: &Entry, compares: bool) -> String {
    let own = match entry.name {
        "KthElement" => r#""rank": 2"#,
        "Quantiles" => r#""probabilities": [0.25, 1]"#,
        "Histogram" => r#""edges": [0, 2, 5]"#,
        "TTest" => r#""test": "welch", "groups": ["a", 1]"#,
        "AnovaOneWay" => r#""groups": ["a", 1]"#,
        "Table1" => r#""group": {"column": "g", "categories": ["a", 1]}"#,
        _ => "",
    };
    let least = if compares { r#""min_samples": 3"# } else { "" };
    let all = [own, least, r#""digits_before": 2, "digits_after": 1"#];
    let given: Vec<&str> = all.into_iter().filter(|text| !text.is_empty()).collect();
    format!("{{{}}}", given.join(", "))
}

fn entry(source: &mut Source<'_>) -> &'static Entry {
    &ALL[source.below(ALL.len())]
}

/// Parameters and input, each any text.
pub(super) fn inputs(data: &[u8]) {
    let mut source = Source::new(data);
    let (entry, parties) = (entry(&mut source), 2 + source.below(63));
    let Ok(parameters) = std::str::from_utf8(source.bytes()) else {
        return;
    };
    let Ok(configured) = entry.configure(parameters) else {
        return;
    };
    let again = entry
        .configure(&configured.canonical)
        .expect("canonical parameters can be used");
    assert_eq!(again.canonical, configured.canonical, "and are the canonical ones");
    let mut texts = Vec::new();
    while !source.is_empty() {
        let Ok(text) = std::str::from_utf8(source.bytes()) else {
            return;
        };
        texts.push(text);
    }
    match configured.input(parties, &texts) {
        Ok(prepared) => assert!(
            prepared.shape.message_bytes <= 64 * data.len() + MOST_PREPARED,
            "as long as its input asks for"
        ),
        Err(refusal) => assert!(!refusal.message.is_empty() && !refusal.hint.is_empty()),
    }
}

pub(super) fn input_seeds() -> Vec<Vec<u8>> {
    let parameters = [
        "{}",
        r#"{"rank": 3, "min_cell": 2}"#,
        r#"{"probabilities": [0.25, 5e-1, 1], "type": 1}"#,
        r#"{"edges": [0, 1.5, 9]}"#,
        r#"{"edges": {"from": -1, "to": 1, "step": 0.25}, "min_samples": 9}"#,
        r#"{"test": "paired", "mean": 0.5, "alternative": "less", "confidence": 0.9}"#,
        r#"{"test": "two-sample", "groups": ["a", 1]}"#,
        r#"{"groups": ["a", 1, "b"]}"#,
        r#"{"group": {"column": "g", "categories": ["a", 1]}}"#,
        r#"{"categories": ["a", 1], "other": true}"#,
        r#"{"categories": {"rows": ["a", 1], "columns": [1, 2]}, "min_cell": 2}"#,
        r#"{"digits_before": 30, "digits_after": 0}"#,
        r#"{"digits_after": 600}"#,
    ];
    let more = [
        "[0.1, -2e3, 1e-12]",
        "[1, 2",
        "\"text\"",
        "null",
        r#"{"columns": {"a": [1e400]}}"#,
        r#"[{"minimum": 1, "maximum": 2}]"#,
        "[[[]]]",
        r#"[[1, 2], [3]]"#,
        r#"{"rows": [[1, "a"]], "columns": ["x", "g"]}"#,
        r#"{"columns": ["x", "x"], "rows": []}"#,
    ];
    let mut seeds = Vec::new();
    for index in 0..ALL.len() {
        for parameters in parameters {
            for input in INPUTS.iter().chain(&more) {
                let mut seed = vec![index as u8, 1];
                put(&mut seed, parameters.as_bytes());
                put(&mut seed, input.as_bytes());
                put(&mut seed, input.as_bytes());
                seeds.push(seed);
            }
        }
    }
    seeds
}

/// Machines of one session exchange mail; some of it is changed, repeated, or anything else. No machine panics or waits for itself, and if all mail was
/// as it was sent, all have one result.
pub(super) fn machines(data: &[u8]) {
    let mut source = Source::new(data);
    let (entry, parties) = (entry(&mut source), 2 + source.below(3));
    let input = INPUTS[source.below(INPUTS.len())];
    let parameters = parameters(entry, source.below(2) == 1);
    let configured = entry.configure(&parameters).expect("parameters that it takes");
    let Ok(first) = configured.input(parties, &[input]) else {
        return;
    };
    drop(first);
    let start = |session| configured.input(parties, &[input]).expect("as before").start(session);
    // Base transfers that are there: making them would take most of the time.
    let sessions = sim::warm(sim::sessions(parties, 1), 1);
    let mut machines: Vec<Machine> = sessions.into_iter().map(start).collect();
    let mut states: Vec<State> = machines.iter_mut().map(Machine::step).collect();
    let mut mail: Vec<(Party, Party, Bytes)> = Vec::new();
    let mut honest = true;
    let all: Vec<Party> = Party::all(parties).collect();
    for me in &all {
        collect(&mut machines, *me, &mut mail);
    }
    for _ in 0..10_000 {
        if mail.is_empty() && source.is_empty() {
            break;
        }
        let (from, to, message) = next(&mut source, &mut mail, &all, &mut honest);
        let index = to.index();
        if matches!(states[index], State::Aborted(_)) || from == to {
            continue;
        }
        states[index] = match machines[index].deliver(from, message) {
            Ok(()) => machines[index].step(),
            Err(abort) => State::Aborted(abort),
        };
        assert!(!machines[index].waiting_for().contains(&to), "nobody waits for itself");
        collect(&mut machines, to, &mut mail);
    }
    let confirmed: Vec<&String> = states
        .iter()
        .filter_map(|state| match state {
            State::Confirmed(result) => Some(result),
            _ => None,
        })
        .collect();
    assert!(
        confirmed.windows(2).all(|pair| pair[0] == pair[1]),
        "two confirmed results"
    );
    assert!(!honest || confirmed.len() == parties, "no result: {states:?}");
}

fn collect(machines: &mut [Machine], me: Party, mail: &mut Vec<(Party, Party, Bytes)>) {
    for (to, message) in machines[me.index()].outgoing() {
        mail.push((me, to, message));
    }
}

fn next(
    source: &mut Source<'_>,
    mail: &mut Vec<(Party, Party, Bytes)>,
    all: &[Party],
    honest: &mut bool,
) -> (Party, Party, Bytes) {
    let what = source.u8();
    if mail.is_empty() || what % 16 == 15 {
        *honest = false;
        let (from, to) = (all[source.below(all.len())], all[source.below(all.len())]);
        return (from, to, Bytes::copy_from_slice(source.bytes()));
    }
    // The next of this channel: what is sent in order arrives in order.
    let (from, to, _) = mail[source.below(mail.len())];
    let place = mail.iter().position(|(a, b, _)| (*a, *b) == (from, to)).unwrap_or(0);
    let (from, to, mut message) = mail.remove(place);
    match what % 16 {
        10 => mail.insert(0, (from, to, message.clone())),
        11 => {
            let mut bytes = message.to_vec();
            let at = usize::from(source.u16()) % bytes.len();
            // What was broadcast may be anything; only the header is not the sender's to choose.
            bytes[at] ^= 1 | source.u8();
            message = Bytes::from(bytes);
        }
        12 => message = message.slice(..usize::from(source.u16()) % message.len()),
        13 => message = Bytes::from([&message[..], source.bytes()].concat()),
        14 => {
            let header = message.slice(..HEADER.min(message.len()));
            message = Bytes::from([&header[..], source.bytes()].concat());
        }
        _ => return (from, to, message),
    }
    *honest = false;
    (from, to, message)
}

pub(super) fn machine_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for index in 0..ALL.len() as u8 {
        for parties in 0..3 {
            for input in 0..4 {
                let head = [index, parties, input, parties % 2];
                seeds.push(head.to_vec());
                seeds.push([&head[..], &[0, 1, 0, 2, 11, 0, 40, 0, 1], &[0; 30]].concat());
                seeds.push([&head[..], &[0, 0, 10, 1, 15, 0, 1, 3, 0, 3, 3, 3], &[0; 30]].concat());
            }
        }
    }
    seeds
}
