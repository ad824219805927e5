//! Histogram: how many of everybody's numbers lie between public edges.
//!
//! - **Declared outputs**, everything that opens: for each bin, and for all below the first and above the last edge, how many numbers of all parties lie there; where
//!   rules want a minimum (`min_cell`), two bits for each: whether it counts some but fewer, and then its count does not open; and whether it is empty. Whether there are
//!   enough samples, where rules want that compared.
//! - **How**: each party counts for itself; counts are added under masks ([`crate::mask`]), or, with a minimum, in a circuit that compares them first
//!   ([`crate::threshold`]). A cell that would follow from the total is not hidden alone: another one is hidden with it, chosen by the opened bits among those that are not empty. If any is
//!   hidden, so is the total. What a total that is known from elsewhere tells: [`crate::threshold`].
//! - **Rounds** after the last input: 1; with a minimum 17 for three parties.
//! - **Adversary**: semi-honest, any number of colluding parties.
//! - **What each party sees**: see [`crate::threshold`] and [`crate::mask`].
//! - **Not protected**: the counts. An empty bin is shown as 0: nobody has such a number.
//!
//! A bin holds its lower edge and not its upper one; the last bin holds both (as numpy's `histogram`). Parameters: `edges` (at least two, ascending; or `{"from": 0, "to": 100,
//! "step": 10}`, which fits many bins into the task's description), `digits_before`,
//! `digits_after`, `min_samples`, `min_cell`. Input: a list of numbers.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::answer::{Answer, Answers, Field};
use super::parameters::{Canonical, DIGITS, Given, MIN_CELL, MIN_SAMPLES, unusable};
use super::ranked::{self, Ranked};
use crate::data;
use crate::keys::{KeySpace, Sorted, compare};
use crate::microprotocol::{Microprotocol, Refusal, Release, Shape};
use crate::net::{Abort, Net};
use crate::number::{Digits, Grid};
use crate::threshold::{self, Thresholds, Why};

/// Most edges.
const MOST_EDGES: usize = 10_001;

/// See the [module](self).
#[derive(Debug)]
pub struct Histogram;

/// What all parties agree on.
#[derive(Clone, Debug)]
pub struct Params {
    grid: Grid,
    thresholds: Thresholds,
    /// Elements of the grid's ring, ascending.
    edges: Vec<Vec<u64>>,
    /// Where they are equally far from each other and were given so.
    steps: Option<[Vec<u64>; 3]>,
}

impl Params {
    /// The first cell is what lies below the first edge, the last one what lies above the last edge.
    fn cells(&self) -> usize {
        self.edges.len() + 1
    }

    fn counts(&self, numbers: &Sorted) -> Zeroizing<Vec<u64>> {
        let space = KeySpace::new(&self.grid);
        let below = |(index, edge): (usize, &Vec<u64>)| {
            let mut key = edge.clone();
            space.keys(&mut key);
            if index + 1 == self.edges.len() {
                // The last edge belongs to the last bin. No key is the highest of its width, so the next one exists.
                next(&mut key);
            }
            numbers.below(&key)
        };
        let mut counts = Zeroizing::new(Vec::with_capacity(self.edges.len() + 1));
        let mut before = 0;
        for below in self.edges.iter().enumerate().map(below) {
            counts.push(below - before);
            before = below;
        }
        counts.push(numbers.count() - before);
        counts
    }
}

fn next(key: &mut [u64]) {
    for limb in key {
        let carry;
        (*limb, carry) = limb.overflowing_add(1);
        if !carry {
            return;
        }
    }
}

impl Microprotocol for Histogram {
    const NAME: &'static str = "Histogram";
    const ALIASES: &'static [&'static str] = &[];
    const RELEASES: &'static [Release] = &[Release::Cells];
    const COMPARES: bool = true;
    type Params = Params;
    type Input = Ranked;
    type Output = Answers;

    fn params(json: &str) -> Result<Params, Refusal> {
        let [after, before] = DIGITS;
        let given = Given::read(Self::NAME, json, &["edges", after, before, MIN_SAMPLES, MIN_CELL])?;
        let grid = given.grid()?;
        let text = given.text("edges").ok_or_else(|| given.lacks("edges", EXAMPLE))?;
        let steps = if text.starts_with('{') {
            Some(read_steps(&grid, text)?)
        } else {
            None
        };
        let edges = match &steps {
            Some(steps) => even_edges(&grid, steps)?,
            None => read_edges(&grid, text)?,
        };
        Ok(Params {
            grid,
            thresholds: given.thresholds()?,
            edges,
            steps,
        })
    }

    fn canonical(params: &Params) -> String {
        let decimal = |element: &Vec<u64>| params.grid.to_decimal(element);
        let edges = match &params.steps {
            Some(steps) => {
                let [from, step, to] = steps.each_ref().map(decimal);
                format!("{{\"from\":{from},\"step\":{step},\"to\":{to}}}")
            }
            None => format!("[{}]", params.edges.iter().map(decimal).collect::<Vec<_>>().join(",")),
        };
        let canonical = Canonical::new(&params.grid, &params.thresholds);
        canonical.with("edges", edges).text()
    }

    fn input(params: &Params, parties: usize, texts: &[&str]) -> Result<Ranked, Refusal> {
        let input = Ranked::read(&params.grid, parties, texts, 1)?;
        if input.shape != data::Shape::Scalar {
            return Err(Refusal {
                code: "INPUT_SHAPE",
                hint: "give the numbers of one column as a list".to_owned(),
                ..unusable("", "the input has named columns where a list of numbers is expected")
            });
        }
        Ok(input)
    }

    fn rounds(params: &Params, parties: usize, thresholds: &Thresholds) -> u32 {
        let thresholds = params.thresholds.strictest(*thresholds);
        threshold::enough_rounds(parties, &thresholds)
            + threshold::cells_rounds(parties, thresholds.cell, params.cells())
    }

    fn shape(params: &Params, parties: usize, input: &Ranked) -> Shape {
        let samples = threshold::totals_message_bytes(parties, 1);
        let cells = threshold::cells_message_bytes(parties, params.cells());
        ranked::shape(&input.shape, samples.max(cells))
    }

    fn digits(params: &Params) -> Option<Digits> {
        Some(params.grid.digits())
    }

    fn samples(input: &Ranked) -> Zeroizing<Vec<u64>> {
        input.samples()
    }

    async fn run(params: Params, input: Ranked, net: &mut Net) -> Result<Answers, Abort> {
        let thresholds = params.thresholds.strictest(net.session().thresholds);
        let numbers = input.columns.first().ok_or(Abort::Internal("no column"))?;
        let mut counts = params.counts(numbers);
        let enough = threshold::enough(net, &thresholds, &[numbers.count()]).await? == [true];
        if !enough {
            // What must not open is computed as if nobody had any: messages are as long as otherwise.
            counts.fill(0);
        }
        let cells = threshold::cells(net, thresholds.cell, &counts).await?;
        let why = if enough { Why::FewInCell } else { Why::FewSamples };
        let cells: Vec<Result<u64, Why>> = cells
            .into_iter()
            .map(|cell| cell.filter(|_| enough).ok_or(why))
            .collect();
        let samples = cells.iter().copied().sum::<Result<u64, Why>>();
        let (above, rest) = cells.split_last().ok_or(Abort::Internal("no cells"))?;
        let (below, bins) = rest.split_first().ok_or(Abort::Internal("no cells"))?;
        let edges = params.edges.iter().map(|edge| Ok(params.grid.to_total(edge)));
        let answer = Answer::new(vec![
            ("samples", Field::Count(samples)),
            ("edges", Field::numbers(edges)),
            ("counts", Field::counts(bins.iter().copied())),
            ("below", Field::Count(*below)),
            ("above", Field::Count(*above)),
        ]);
        Ok(Answers::new(input.shape, vec![answer]))
    }
}

const EXAMPLE: &str = "for example [0, 18, 65, 120] or {\"from\": 0, \"to\": 100, \"step\": 10}";

fn read_edges(grid: &Grid, text: &str) -> Result<Vec<Vec<u64>>, Refusal> {
    let message = format!("edges is a list of 2 to {MOST_EDGES} ascending numbers, {EXAMPLE}");
    let list: Vec<&RawValue> = serde_json::from_str(text).map_err(|_| unusable("edges", &message))?;
    if !(2..=MOST_EDGES).contains(&list.len()) {
        return Err(unusable("edges", &message));
    }
    let space = KeySpace::new(grid);
    let mut edges: Vec<Vec<u64>> = Vec::with_capacity(list.len());
    for (index, text) in list.iter().enumerate() {
        let at = format!("edges[{index}]");
        let edge = read_edge(grid, &at, text)?;
        if edges.last().is_some_and(|last| !ascends(&space, last, &edge)) {
            return Err(unusable(&at, &format!("{at} is not greater than the edge before it")));
        }
        edges.push(edge);
    }
    Ok(edges)
}

/// From, step, to.
fn read_steps(grid: &Grid, text: &str) -> Result<[Vec<u64>; 3], Refusal> {
    let message = format!("edges has the members from, to and step, {EXAMPLE}");
    let members: BTreeMap<&str, &RawValue> = serde_json::from_str(text).map_err(|_| unusable("edges", &message))?;
    let names: Vec<&str> = members.keys().copied().collect();
    let ["from", "step", "to"] = names[..] else {
        return Err(unusable("edges", &message));
    };
    let mut steps = [Vec::new(), Vec::new(), Vec::new()];
    for (slot, (name, text)) in steps.iter_mut().zip(&members) {
        *slot = read_edge(grid, &format!("edges.{name}"), text)?;
    }
    Ok(steps)
}

fn even_edges(grid: &Grid, [from, step, to]: &[Vec<u64>; 3]) -> Result<Vec<Vec<u64>>, Refusal> {
    let space = KeySpace::new(grid);
    if !ascends(&space, &vec![0; step.len()], step) || !ascends(&space, from, to) {
        return Err(unusable(
            "edges",
            "edges ascend: step is greater than 0, and to is greater than from",
        ));
    }
    let mut edges = vec![from.clone()];
    while let Some(last) = edges.last().filter(|last| ascends(&space, last, to)) {
        if edges.len() == MOST_EDGES {
            return Err(unusable(
                "edges",
                &format!("there would be more than {MOST_EDGES} edges"),
            ));
        }
        let mut next = last.clone();
        grid.ring().add_assign(&mut next, step);
        edges.push(next);
    }
    if edges.last() != Some(to) {
        return Err(unusable(
            "edges",
            "no whole number of steps leads from the first edge to the last",
        ));
    }
    Ok(edges)
}

fn read_edge(grid: &Grid, at: &str, text: &RawValue) -> Result<Vec<u64>, Refusal> {
    let mut edge = vec![0; grid.ring().limbs()];
    let read = grid.add_token(text.get().as_bytes(), &mut edge);
    read.map_err(|error| unusable(at, &format!("{at}: {error}")))?;
    Ok(edge)
}

fn ascends(space: &KeySpace, one: &[u64], other: &[u64]) -> bool {
    let (mut one, mut other) = (one.to_vec(), other.to_vec());
    space.keys(&mut one);
    space.keys(&mut other);
    compare(&one, &other).is_lt()
}
