//! Nothing opens but declared outputs. Every microprotocol runs in the simulator, which records what opens: each opening has the words of a declared output, is as long as
//! it should be, and is the same however the same data are dealt to the parties, so that it says nothing about who has what.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};

use fdrtd_mpc::microprotocol::{ALL, Entry, Microprotocol, Refusal, Release, Shape};
use fdrtd_mpc::net::{Abort, HEADER, Machine, Net, Session};
use fdrtd_mpc::number::Digits;
use fdrtd_mpc::opening::{Opening, Opens, Way};
use fdrtd_mpc::ring::Ring;
use fdrtd_mpc::sim::{self, End, Outcome};
use fdrtd_mpc::threshold::Thresholds;
use fdrtd_mpc::{circuit, mask};
use serde_json::{Value, json};
use zeroize::Zeroizing;

mod cases;
use cases::{Case, Data};

/// How rows are dealt to parties.
#[derive(Clone, Copy, Debug)]
enum Deal {
    /// As cards.
    InTurn,
    /// The rows are shuffled before; each party has as many as before.
    Shuffled(u64),
    /// Each row to anybody.
    Anyhow(u64),
    /// All to one, nothing to the others.
    AllTo(usize),
    /// As cards, but beginning with another party: each has what another one had.
    From(usize),
}

/// Deals that leave every party as many rows.
const EVEN: [Deal; 4] = [Deal::InTurn, Deal::Shuffled(1), Deal::Shuffled(2), Deal::Shuffled(3)];
/// All kinds.
const ANY: [Deal; 5] = [
    Deal::InTurn,
    Deal::Shuffled(1),
    Deal::Anyhow(1),
    Deal::Anyhow(2),
    Deal::AllTo(1),
];

/// The same hands in other places.
const TURNED: [Deal; 3] = [Deal::InTurn, Deal::From(1), Deal::From(2)];

/// Numbers that depend on a seed.
fn random(state: &mut u64) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> 33) as usize
}

impl Deal {
    fn rows(self, rows: &[Value], parties: usize) -> Vec<Vec<Value>> {
        let mut rows = rows.to_vec();
        if let Deal::Shuffled(mut seed) = self {
            for at in (1..rows.len()).rev() {
                rows.swap(at, random(&mut seed) % (at + 1));
            }
        }
        let mut dealt = vec![Vec::new(); parties];
        let mut seed = if let Deal::Anyhow(seed) = self { seed } else { 0 };
        for (index, row) in rows.into_iter().enumerate() {
            let to = match self {
                Deal::InTurn | Deal::Shuffled(_) => index,
                Deal::Anyhow(_) => random(&mut seed),
                Deal::AllTo(party) => party,
                Deal::From(party) => index + party,
            };
            dealt[to % parties].push(row);
        }
        dealt
    }
}

impl Data {
    /// The parties' inputs as JSON texts.
    fn dealt(&self, deal: Deal, parties: usize) -> Vec<String> {
        match self {
            Data::Rows(rows) => texts(&deal.rows(rows, parties)),
            Data::Table(names, rows) => {
                let table = |rows: Vec<Value>| json!({"columns": names, "rows": rows}).to_string();
                deal.rows(rows, parties).into_iter().map(table).collect()
            }
            Data::Columns(columns) => {
                let mut dealt = vec![serde_json::Map::new(); parties];
                for (name, rows) in columns {
                    for (party, rows) in deal.rows(rows, parties).into_iter().enumerate() {
                        dealt[party].insert((*name).to_owned(), rows.into());
                    }
                }
                texts(&dealt)
            }
            Data::Each(values) => {
                assert_eq!(values.len(), parties);
                texts(&deal.rows(values, parties).concat())
            }
        }
    }

    /// Other data of the same form, without any rows where that is possible.
    fn other(&self) -> Data {
        match self {
            Data::Rows(_) => Data::Rows(Vec::new()),
            Data::Table(names, _) => Data::Table(names, Vec::new()),
            Data::Columns(columns) => Data::Columns(columns.iter().map(|(name, _)| (*name, Vec::new())).collect()),
            Data::Each(values) => Data::Each(values.iter().map(|_| json!(1)).collect()),
        }
    }
}

fn texts<T: serde::Serialize>(inputs: &[T]) -> Vec<String> {
    inputs
        .iter()
        .map(|input| serde_json::to_string(input).unwrap())
        .collect()
}

/// All parties with these inputs. What is public is the same for all seeds; secrets and coins are not.
fn simulate(entry: &Entry, parameters: &str, thresholds: Thresholds, inputs: &[String], seed: u64) -> Outcome {
    let configured = entry.configure(parameters).unwrap();
    let machine = |mut session: Session| {
        session.sid = [7; 32];
        session.thresholds = thresholds;
        let input = &inputs[session.me.index()];
        let prepared = configured.input(inputs.len(), &[input]);
        let prepared = prepared.unwrap_or_else(|refusal| panic!("{entry:?} {parameters} {input}: {refusal:?}"));
        let mut machine = prepared.start(session);
        machine.record();
        machine
    };
    let sessions = sim::warm(sim::sessions(inputs.len(), seed), seed);
    let machines: Vec<Machine> = sessions.into_iter().map(machine).collect();
    sim::run(machines, seed, &[])
}

/// What has opened to all, and what to single parties together with their inputs.
struct Opened {
    to_all: Vec<Opening>,
    to_one: Vec<(String, Vec<Opening>)>,
}

impl Opened {
    fn of(outcome: &Outcome, inputs: &[String]) -> Result<Opened, String> {
        if outcome
            .ends
            .iter()
            .any(|end| !matches!(end, End::Confirmed(_)) || *end != outcome.ends[0])
        {
            return Err(format!("no result: {:?}", outcome.ends));
        }
        let split = |openings: &Vec<Opening>| -> (Vec<Opening>, Vec<Opening>) {
            openings
                .iter()
                .cloned()
                .partition(|opening| opening.way != Way::OwnBits)
        };
        let (to_all, to_one): (Vec<_>, Vec<_>) = outcome.openings.iter().map(split).unzip();
        if to_all.iter().any(|one| *one != to_all[0]) {
            return Err("different values have opened to different parties".to_owned());
        }
        let mut to_one: Vec<_> = inputs.iter().cloned().zip(to_one).collect();
        to_one.sort_by(|(one, _), (other, _)| one.cmp(other));
        let to_all = to_all.into_iter().next().unwrap_or_default();
        Ok(Opened { to_all, to_one })
    }

    fn all(&self) -> impl Iterator<Item = &Opening> {
        self.to_all
            .iter()
            .chain(self.to_one.iter().flat_map(|(_, openings)| openings))
    }
}

fn declared(entry: &Entry, what: &str) -> Option<Opens> {
    entry.opens.iter().find(|declared| declared.what() == what).copied()
}

/// Whatever opens is declared.
fn named(entry: &Entry, opened: &Opened) -> Result<(), String> {
    match opened.all().find(|opening| declared(entry, opening.what).is_none()) {
        Some(opening) => Err(format!("{entry:?} opens {:?}, which is not declared", opening.what)),
        None => Ok(()),
    }
}

/// The same has opened twice, as far as it should.
fn same(entry: &Entry, one: &Opened, other: &Opened) -> Result<(), String> {
    let heads = |openings: &[Opening]| -> Vec<(&'static str, Way, usize)> {
        openings
            .iter()
            .map(|opening| (opening.what, opening.way, opening.elements.len()))
            .collect()
    };
    let equal = |one: &[Opening], other: &[Opening]| {
        if heads(one) != heads(other) {
            return Err(format!("{entry:?} opens {:?}, but also {:?}", heads(one), heads(other)));
        }
        let zeros = |opening: &Opening| -> Vec<bool> {
            opening
                .elements
                .iter()
                .map(|element| element.iter().all(|word| *word == 0))
                .collect()
        };
        let is_random = |opening: &&Opening| matches!(declared(entry, opening.what), Some(Opens::Random(_)));
        // What is uniform unless something is raised comes before that.
        let raised = |place: usize| {
            let next = one[place..].iter().find(is_random);
            next.is_some_and(|opening| zeros(opening).contains(&false))
        };
        for (place, (one, other)) in one.iter().zip(other).enumerate() {
            let fresh = one != other;
            // With other coins each is another element: constants would tell how many have raised one.
            let mut pairs = one.elements.iter().zip(&other.elements).zip(zeros(one));
            let same = match declared(entry, one.what) {
                Some(Opens::Random(_)) => {
                    zeros(one) == zeros(other) && pairs.all(|((one, other), zero)| zero || one != other)
                }
                Some(Opens::Unless(_)) if raised(place) => fresh,
                _ => !fresh,
            };
            if !same {
                return Err(format!(
                    "{entry:?}: {:?} depends on who has what: {one:?}, {other:?}",
                    one.what
                ));
            }
        }
        Ok(())
    };
    equal(&one.to_all, &other.to_all)?;
    for ((input, one), (same_input, other)) in one.to_one.iter().zip(&other.to_one) {
        if !one.is_empty() || !other.is_empty() {
            assert_eq!(input, same_input);
        }
        equal(one, other)?;
    }
    Ok(())
}

/// How many elements of each declared output.
fn counts(opened: &Opened) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    // To each party alone: as many to each.
    let own = opened.to_one.first().map(|(_, openings)| openings.as_slice());
    for opening in opened.to_all.iter().chain(own.unwrap_or_default()) {
        *counts.entry(opening.what).or_insert(0) += opening.elements.len();
    }
    counts
}

/// Runs the same data dealt in different ways.
fn dealt(
    entry: &Entry,
    (parameters, thresholds): (&str, Thresholds),
    data: &Data,
    parties: usize,
    deals: &[Deal],
) -> Result<Opened, String> {
    let mut first: Option<Opened> = None;
    for (seed, deal) in deals.iter().enumerate() {
        let inputs = data.dealt(*deal, parties);
        let outcome = simulate(entry, parameters, thresholds, &inputs, seed as u64);
        let opened = Opened::of(&outcome, &inputs)?;
        named(entry, &opened)?;
        match &first {
            None => first = Some(opened),
            Some(first) => same(entry, first, &opened)?,
        }
    }
    first.ok_or_else(|| "nothing has run".to_owned())
}

/// Ways between which nothing that opens may differ.
fn deals(case: &Case) -> &'static [Deal] {
    if case.names && case.thresholds.cell > 1 {
        &TURNED
    } else if matches!(case.data, Data::Each(_)) || case.thresholds.samples_others > 0 {
        // How many rows each party has may decide whether there are enough.
        &EVEN
    } else {
        &ANY
    }
}

fn entry(case: &Case) -> &'static Entry {
    Entry::find(case.name).unwrap()
}

#[test]
fn what_opens_is_declared_and_does_not_tell_who_has_what() {
    let mut seen: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for case in cases::all() {
        let parameters = case.parameters.to_string();
        let task = (parameters.as_str(), case.thresholds);
        let opened = dealt(entry(&case), task, &case.data, case.parties, deals(&case));
        let opened = opened.unwrap_or_else(|error| panic!("{parameters} {:?}: {error}", case.thresholds));
        let expected: BTreeMap<&str, usize> = case.opens.iter().copied().collect();
        assert_eq!(
            counts(&opened),
            expected,
            "{} {parameters} {:?}",
            case.name,
            case.thresholds
        );
        seen.entry(case.name).or_default().extend(expected.into_keys());
    }
    for entry in ALL {
        let declared: BTreeSet<&str> = entry.opens.iter().map(|declared| declared.what()).collect();
        assert_eq!(declared.len(), entry.opens.len(), "{entry:?} says the same twice");
        let opened = seen.remove(entry.name).unwrap_or_default();
        assert_eq!(
            opened, declared,
            "{entry:?}: cases in which everything opens that is declared"
        );
    }
}

#[test]
fn rounds_and_lengths_are_those_that_were_said_whatever_the_data() {
    for case in cases::all() {
        let parameters = case.parameters.to_string();
        let configured = entry(&case).configure(&parameters).unwrap();
        let rounds = configured.rounds(case.parties, &case.thresholds) + 1;
        let mut first = None;
        // The names of categories open, and the lengths of what follows depend on how many there are.
        let other = if case.names { &case.data } else { &case.data.other() };
        for (seed, (data, deal)) in [
            (&case.data, Deal::InTurn),
            (&case.data, if case.names { Deal::From(2) } else { Deal::Shuffled(9) }),
            (other, Deal::From(1)),
        ]
        .into_iter()
        .enumerate()
        {
            let inputs = data.dealt(deal, case.parties);
            let outcome = simulate(entry(&case), &parameters, case.thresholds, &inputs, seed as u64);
            let of = format!("{} {parameters} {:?} {inputs:?}", case.name, case.thresholds);
            assert!(matches!(outcome.ends[0], End::Confirmed(_)), "{of}: {:?}", outcome.ends);
            // And the closing digest.
            assert!(
                outcome.rounds.iter().all(|happened| *happened == rounds),
                "{of}: {rounds} {:?}",
                outcome.rounds
            );
            let longest = outcome
                .delivered
                .iter()
                .map(|(_, _, message)| message.len() - HEADER)
                .max();
            let shape = configured.input(case.parties, &[&inputs[0]]).unwrap().shape;
            assert!(
                longest.unwrap() <= shape.message_bytes.max(32),
                "{of}: {longest:?} > {}",
                shape.message_bytes
            );
            let mut lengths: Vec<_> = outcome
                .delivered
                .iter()
                .map(|(from, to, message)| (*from, *to, message.len()))
                .collect();
            lengths.sort_by_key(|(from, to, _)| (*from, *to));
            assert!(
                *first.get_or_insert_with(|| lengths.clone()) == lengths,
                "{of}: lengths depend on data"
            );
        }
    }
}

/// With too few samples nothing opens but that, whatever the data. Rows that lack a group or a value of a group belong to no group that could be too small.
#[test]
fn with_too_few_samples_nothing_else_opens() {
    for case in cases::all() {
        let thresholds = Thresholds {
            samples_total: 1_000_000,
            ..case.thresholds
        };
        let of_groups = matches!(case.name, "AnovaOneWay" | "Table1") || case.parameters["groups"].is_array();
        let parameters = case.parameters.to_string();
        let opened = |data: &Data, deal: Deal, seed: u64| {
            let inputs = data.dealt(deal, case.parties);
            let outcome = simulate(entry(&case), &parameters, thresholds, &inputs, seed);
            let mut opened = Opened::of(&outcome, &inputs).unwrap();
            opened
                .to_all
                .retain(|opening| !of_groups || !opening.what.contains("missing") || opening.way == Way::Sum);
            // The last one counts them.
            if let Some(opening) = opened
                .to_all
                .iter_mut()
                .find(|opening| opening.what.contains("missing"))
                && of_groups
            {
                opening.elements.pop();
            }
            opened
        };
        let (some, none) = (
            opened(&case.data, Deal::InTurn, 1),
            opened(&case.data.other(), Deal::InTurn, 2),
        );
        assert!(
            some.to_all
                .iter()
                .any(|opening| opening.what == "whether there are enough samples")
        );
        assert_eq!(some.to_all, none.to_all, "{} {parameters}", case.name);
        assert!(some.to_one.iter().all(|(_, own)| own.is_empty()), "{}", case.name);
    }
}

/// The last cell of the table is what the code declares.
#[test]
fn the_page_of_microprotocols_says_what_opens() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/microprotocols.md");
    let page = std::fs::read_to_string(path).unwrap();
    let mut rows: Vec<String> = page.lines().map(str::to_owned).collect();
    for entry in ALL {
        let words: Vec<&str> = entry.opens.iter().map(|declared| declared.what()).collect();
        let begin = format!("| [{}](#", entry.name);
        let row = rows.iter_mut().find(|row| row.starts_with(&begin));
        let row = row.unwrap_or_else(|| panic!("{entry:?} is not in the table"));
        let (head, _) = row.trim_end_matches([' ', '|']).rsplit_once(" | ").unwrap();
        *row = format!("{head} | {} |", words.join("; "));
    }
    let written = rows.join("\n") + "\n";
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &written).unwrap();
    }
    assert!(
        page == written || std::env::var_os("UPDATE_DOCS").is_some(),
        "write it anew with UPDATE_DOCS=1"
    );
}

/// Only the modules that say in their head why this is safe send anything or open anything.
#[test]
fn no_microprotocol_sends_by_itself() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/src/microprotocols");
    let mut read = 0;
    let mut directories = vec![std::path::PathBuf::from(root)];
    while let Some(directory) = directories.pop() {
        for file in std::fs::read_dir(directory).unwrap() {
            let path = file.unwrap().path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for call in ["broadcast_unverified", "exchange(", "Ot::"] {
                assert!(!text.contains(call), "{}: {call}", path.display());
            }
            read += 1;
        }
    }
    assert!(read >= ALL.len());
}

/// A microprotocol with a mistake: which one is its parameter.
struct Planted;

const RING: Ring = Ring::new(64).unwrap();

#[derive(Clone, Copy, Debug, PartialEq, serde::Deserialize)]
enum Mistake {
    None,
    /// Each party's sum at a place of its own, under the words of the sum.
    PerParty,
    /// The same by a circuit's bits.
    PerPartyBits,
    /// The number of parties that have something.
    HowMany,
    /// Something that nothing was said about.
    Unsaid,
    /// What was said of the opening before is taken for the next one as well.
    Twice,
    /// More opens than was said.
    More,
    /// Less opens than was said.
    Less,
    /// What is called random is always the same, so it says how many parties have raised it.
    NotRandom,
    /// As it should be: a random element for each party that raises it.
    Random,
}

impl Microprotocol for Planted {
    const NAME: &'static str = "Planted";
    const ALIASES: &'static [&'static str] = &[];
    const RELEASES: &'static [Release] = &[Release::Statistic];
    const OPENS: &'static [Opens] = &[Opens::Value("sum"), Opens::Random("whether some value is negative")];
    const COMPARES: bool = false;
    type Params = Mistake;
    type Input = Vec<i64>;
    type Output = ();

    fn params(json: &str) -> Result<Mistake, Refusal> {
        Ok(serde_json::from_str(json).unwrap())
    }

    fn canonical(params: &Mistake) -> String {
        format!("{params:?}")
    }

    fn input(_params: &Mistake, _parties: usize, texts: &[&str]) -> Result<Vec<i64>, Refusal> {
        Ok(serde_json::from_str(texts[0]).unwrap())
    }

    fn rounds(_params: &Mistake, _parties: usize, _thresholds: &Thresholds) -> u32 {
        1
    }

    fn shape(_params: &Mistake, _parties: usize, _input: &Vec<i64>) -> Shape {
        Shape {
            text: String::new(),
            exact: String::new(),
            message_bytes: 0,
        }
    }

    fn digits(_params: &Mistake) -> Option<Digits> {
        None
    }

    fn samples(_input: &Vec<i64>) -> Zeroizing<Vec<u64>> {
        Zeroizing::new(Vec::new())
    }

    async fn run(mistake: Mistake, input: Vec<i64>, net: &mut Net) -> Result<(), Abort> {
        let (me, parties) = (net.session().me.index(), net.session().parties);
        let sum = input.iter().sum::<i64>() as u64;
        let mut own = vec![0; parties];
        own[me] = sum;
        net.will_open("sum");
        match mistake {
            Mistake::None => drop(add(net, &[sum]).await?),
            Mistake::PerParty => drop(add(net, &own).await?),
            Mistake::PerPartyBits => {
                let bits = circuit::Lanes::columns(&own, 1, 8);
                drop(circuit::open(net, &bits).await?);
            }
            Mistake::HowMany => drop(add(net, &[u64::from(!input.is_empty())]).await?),
            Mistake::Unsaid => {
                add(net, &[sum]).await?;
                net.will_open("number of parties");
                add(net, &[1]).await?;
            }
            Mistake::Twice => {
                add(net, &[sum]).await?;
                add(net, &[sum]).await?;
            }
            Mistake::More => {
                net.will_open_parts(&[("sum", 1)]);
                add(net, &[sum, 1]).await?;
            }
            Mistake::Less => {
                net.will_open_parts(&[("sum", 1), ("whether some value is negative", 1)]);
                add(net, &[sum]).await?;
            }
            Mistake::NotRandom | Mistake::Random => {
                let raised = input.iter().any(|value| *value < 0);
                let element = u64::from_le_bytes(net.session().own_key("flag", 0)[..8].try_into().unwrap());
                let element = if mistake == Mistake::Random { element } else { 1 };
                net.will_open("whether some value is negative");
                add(net, &[if raised { element } else { 0 }]).await?;
            }
        }
        Ok(())
    }
}

async fn add(net: &mut Net, elements: &[u64]) -> Result<Vec<u64>, Abort> {
    mask::sum(net, RING, Zeroizing::new(elements.to_vec())).await
}

#[test]
fn mistakes_that_were_planted_are_noticed() {
    let planted = Entry::of::<Planted>();
    let rows = Data::Rows([3, -1, 4, -1, 5, 9, -2, 6].map(|value| json!(value)).to_vec());
    let found = |mistake: Mistake| {
        let mistake = json!(format!("{mistake:?}")).to_string();
        let opened = dealt(&planted, (&mistake, Thresholds::default()), &rows, 3, &ANY);
        opened.map(|opened| counts(&opened))
    };
    assert_eq!(found(Mistake::None), Ok(BTreeMap::from([("sum", 1)])));
    for mistake in [
        Mistake::PerParty,
        Mistake::PerPartyBits,
        Mistake::HowMany,
        Mistake::NotRandom,
    ] {
        assert!(
            found(mistake).unwrap_err().contains("depends on who has what"),
            "{mistake:?}"
        );
    }
    for mistake in [Mistake::Unsaid, Mistake::Twice, Mistake::More, Mistake::Less] {
        assert!(found(mistake).unwrap_err().contains("not declared"), "{mistake:?}");
    }
    assert_eq!(
        found(Mistake::Random),
        Ok(BTreeMap::from([("whether some value is negative", 1)]))
    );
}

/// Nothing is kept unless a test asks for it.
#[test]
fn machines_record_only_if_they_are_told_to() {
    let configured = Entry::find("SecureSum").unwrap().configure("{}").unwrap();
    let machines = sim::sessions(2, 1).into_iter();
    let machines = machines
        .map(|session| configured.input(2, &["[1, 2]"]).unwrap().start(session))
        .collect();
    let outcome = sim::run(machines, 1, &[]);
    assert!(matches!(outcome.ends[0], End::Confirmed(_)));
    assert!(outcome.openings.iter().all(Vec::is_empty));
}
