//! MinimumMaximum (older name: BasicMinMax): the smallest and the greatest of everybody's numbers.
//!
//! - **Declared outputs**, everything that opens: for each column the smallest and the greatest value of all parties. `null` if nobody has any. Whether there
//!   are enough samples, where rules want that compared.
//! - **How**: each party finds its own two and turns them into keys ([`crate::keys`]); a circuit ([`crate::circuit`]) finds the smallest key of all, in one lane for
//!   the minimum and one, with all bits inverted, for the maximum. A tournament: among up to four keys all pairs are compared at once, the winner goes on.
//! - **Source**: comparison by parallel prefix as in Garay, Schoenmakers, Villegas: *Practical and Secure Solutions for Integer Comparison*, PKC 2007, section 3.2, on
//!   shared bits as in Goldreich, Micali, Wigderson 1987.
//! - **Rounds** after the last input: 2 for triples, 11 for up to four parties with the default digits (another 11 for up to 16), 1 to open.
//! - **Adversary**: semi-honest, any number of colluding parties.
//! - **What each party sees**: openings of the circuit, uniformly random; shares of the outputs, random but for their sum, which is the output ([`crate::circuit`]).
//!   A party without numbers takes part with the highest key, and nobody learns that it has none.
//! - **Not protected**: the result is single values of single parties. Whoever has the smallest value itself learns that nobody has a smaller one.
//!
//! Inputs: a list of numbers; named columns; or what older clients send, a row `{"minimum": …, "maximum": …}` or a list of such rows. Parameters:
//! `digits_before`, `digits_after`, `min_samples`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::answer::{Answer, Answers, Field};
use super::parameters::Common;
use super::ranked;
use crate::circuit::{Bit, Builder, Circuit, Lanes, Triples, cached, open};
use crate::data::{self, Values};
use crate::keys::{KeySpace, compare};
use crate::microprotocol::{Microprotocol, Refusal, Release, SeeRow, Shape, numbers_in};
use crate::net::{Abort, Net, Party};
use crate::number::{Digits, Grid, Total};
use crate::order::{MOST_TARGETS, MOST_TRANSFERS};
use crate::threshold::{self, Thresholds, Why};

/// Keys that are compared at once, each with each.
const GROUP: usize = 4;

/// See the [module](self).
#[derive(Debug)]
pub struct MinimumMaximum;

/// What one party brings. Private but for the shape.
pub struct Extremes {
    shape: data::Shape,
    samples: Zeroizing<Vec<u64>>,
    /// For each column its lowest key, and its highest one with all bits inverted.
    keys: Zeroizing<Vec<u64>>,
}

impl std::fmt::Debug for Extremes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Extremes")
            .field("shape", &self.shape)
            .finish_non_exhaustive()
    }
}

impl Microprotocol for MinimumMaximum {
    const NAME: &'static str = "MinimumMaximum";
    const ALIASES: &'static [&'static str] = &["BasicMinMax"];
    const RELEASES: &'static [Release] = &[Release::Extremes];
    const COMPARES: bool = true;
    type Params = Common;
    type Input = Extremes;
    type Output = Answers;

    fn params(json: &str) -> Result<Common, Refusal> {
        Common::read(Self::NAME, json)
    }

    fn canonical(params: &Common) -> String {
        params.canonical()
    }

    fn input(params: &Common, parties: usize, texts: &[&str]) -> Result<Extremes, Refusal> {
        let rows: Vec<Option<(String, u64)>> = texts.iter().map(|text| older_rows(text)).collect();
        let mut lists = texts.to_vec();
        for (list, rows) in lists.iter_mut().zip(&rows) {
            if let Some((numbers, _)) = rows {
                *list = numbers;
            }
        }
        let values = ranked::read(&params.grid, parties, &lists)?;
        let mut input = extremes(params, parties, values)?;
        // A row of two numbers is one sample. Rows are in a list, so there is one column only.
        let rows: u64 = rows.iter().flatten().map(|(_, rows)| rows).sum();
        if let Some(samples) = input.samples.first_mut() {
            *samples -= rows;
        }
        Ok(input)
    }

    fn rounds(params: &Common, parties: usize, thresholds: &Thresholds) -> u32 {
        let thresholds = params.thresholds.strictest(*thresholds);
        threshold::enough_rounds(parties, &thresholds) + smallest_rounds(&params.grid, parties)
    }

    fn shape(params: &Common, parties: usize, input: &Extremes) -> Shape {
        let columns = input.samples.len();
        let compared = threshold::totals_message_bytes(parties, columns);
        let bytes = compared.max(smallest_bytes(&params.grid, parties, columns));
        ranked::shape(&input.shape, bytes)
    }

    fn digits(params: &Common) -> Option<Digits> {
        Some(params.grid.digits())
    }

    fn samples(input: &Extremes) -> Zeroizing<Vec<u64>> {
        input.samples.clone()
    }

    fn rows(_params: &Common, texts: &[&str], see: &mut SeeRow<'_>) -> Result<(), Refusal> {
        for text in texts {
            let rows = older_rows(text);
            numbers_in(rows.as_ref().map_or(text, |(list, _)| list), see)?;
        }
        Ok(())
    }

    async fn run(params: Common, mut input: Extremes, net: &mut Net) -> Result<Answers, Abort> {
        let thresholds = params.thresholds.strictest(net.session().thresholds);
        let enough = threshold::enough(net, &thresholds, &input.samples).await?;
        let found = minimum_and_maximum(net, &params.grid, &mut input.keys, &enough).await?;
        let answer = |[minimum, maximum]: [Result<Total, Why>; 2]| {
            Answer::new(vec![
                ("minimum", Field::Number(minimum)),
                ("maximum", Field::Number(maximum)),
            ])
        };
        Ok(Answers::new(input.shape, found.into_iter().map(answer).collect()))
    }
}

/// The smallest and the greatest of all parties' numbers, for each column that has enough of them. `keys` are those of [`extreme_keys`].
pub(super) async fn minimum_and_maximum(
    net: &mut Net,
    grid: &Grid,
    keys: &mut [u64],
    enough: &[bool],
) -> Result<Vec<[Result<Total, Why>; 2]>, Abort> {
    let space = KeySpace::new(grid);
    // What must not open is computed as if nobody had any.
    let columns = keys.chunks_exact_mut(2 * space.limbs());
    for (keys, _) in columns.zip(enough).filter(|(_, enough)| !**enough) {
        keys.copy_from_slice(&space.above_all().repeat(2));
    }
    let mut found = smallest(net, &space, keys, 2 * enough.len()).await?;
    let number = |key: &[u64], enough: bool| {
        let why = if enough { Why::NoValues } else { Why::FewSamples };
        Ok(grid.to_total(&space.element(key).ok_or(why)?))
    };
    let both = |(keys, enough): (&mut [Vec<u64>], &bool)| {
        space.invert(&mut keys[1]);
        [number(&keys[0], *enough), number(&keys[1], *enough)]
    };
    Ok(found.chunks_exact_mut(2).zip(enough).map(both).collect())
}

/// The smallest keys of all parties, for each lane. Opens them.
async fn smallest(net: &mut Net, space: &KeySpace, keys: &[u64], lanes: usize) -> Result<Vec<Vec<u64>>, Abort> {
    let (me, parties) = (net.session().me, net.session().parties);
    let circuit = tournament(parties, space.bits());
    let mut triples = Triples::generate(net, &[(&circuit, lanes)]).await?;
    let of = |party: Party| {
        if party == me {
            Lanes::columns(keys, space.limbs(), space.bits())
        } else {
            vec![Lanes::zeros(lanes); space.bits()]
        }
    };
    let inputs: Vec<Lanes> = Party::all(parties).flat_map(of).collect();
    let outputs = circuit.run(net, &mut triples, &inputs).await?;
    let opened = open(net, &outputs).await?;
    let opened = Lanes::numbers(&opened);
    let key = |number: &[u64]| {
        let mut key = number.to_vec();
        key.resize(space.limbs(), 0);
        key
    };
    Ok(opened.chunks_exact(space.bits().div_ceil(64)).map(key).collect())
}

/// The smallest of one key of each party.
fn tournament(parties: usize, bits: usize) -> Arc<Circuit> {
    let name = [parties as u64, bits as u64, 0, 0];
    cached(("smallest", name), || build_tournament(parties, bits))
}

fn build_tournament(parties: usize, bits: usize) -> Circuit {
    let mut circuit = Builder::new();
    let mut keys: Vec<Vec<Bit>> = (0..parties).map(|_| circuit.inputs(bits)).collect();
    while keys.len() > 1 {
        keys = keys.chunks(GROUP).map(|group| least(&mut circuit, group)).collect();
    }
    circuit.outputs(&keys[0]);
    circuit.finish()
}

/// Comparisons of one tournament, and as many winners' bits.
fn comparisons(parties: usize) -> usize {
    let (mut left, mut all) = (parties, 0);
    while left > 1 {
        all += left * (GROUP - 1) / 2 + left;
        left = left.div_ceil(GROUP);
    }
    all
}

/// Layers of [`tournament`], without building it: comparisons, who wins against all, and the winner's bits.
fn depth(parties: usize, bits: usize) -> usize {
    let log = |number: usize| number.max(1).next_power_of_two().trailing_zeros() as usize;
    let (mut left, mut depth) = (parties, 0);
    while left > 1 {
        depth += log(bits + 1) + log(left.min(GROUP) - 1) + 1;
        left = left.div_ceil(GROUP);
    }
    depth
}

/// The smallest of a group: of equal ones the first wins, so that exactly one does, and the sum of all keys times "has won" is the winner's.
fn least(circuit: &mut Builder, keys: &[Vec<Bit>]) -> Vec<Bit> {
    let [first, others @ ..] = keys else { return Vec::new() };
    if others.is_empty() {
        return first.clone();
    }
    let mut beats = vec![Vec::new(); keys.len()];
    for (low, key) in keys.iter().enumerate() {
        for (high, other) in keys.iter().enumerate().skip(low + 1) {
            let higher_wins = circuit.less(other, key);
            beats[high].push(higher_wins);
            beats[low].push(circuit.not(higher_wins));
        }
    }
    let mut winner: Option<Vec<Bit>> = None;
    for (key, beats) in keys.iter().zip(&beats) {
        let wins = circuit.all(beats);
        let part = circuit.scale(wins, key);
        winner = Some(match winner {
            None => part,
            Some(sum) => sum.iter().zip(&part).map(|(a, b)| circuit.xor(*a, *b)).collect(),
        });
    }
    winner.unwrap_or_default()
}

/// The lowest and the highest key of each column.
fn extremes(params: &Common, parties: usize, values: Values) -> Result<Extremes, Refusal> {
    check_size(&params.grid, parties, values.columns.len())?;
    let space = KeySpace::new(&params.grid);
    let samples = values
        .columns
        .iter()
        .map(|column| (column.len() / space.limbs()) as u64);
    Ok(Extremes {
        samples: Zeroizing::new(samples.collect()),
        keys: extreme_keys(&space, &values.columns),
        shape: values.shape,
    })
}

/// That so many columns can be compared.
pub(super) fn check_size(grid: &Grid, parties: usize, columns: usize) -> Result<(), Refusal> {
    let transfers = comparisons(parties)
        .saturating_mul(KeySpace::new(grid).bits())
        .saturating_mul(2 * columns);
    if columns > MOST_TARGETS / 2 || transfers > MOST_TRANSFERS {
        return Err(Refusal::from(data::Refusal {
            at: String::new(),
            reason: data::Reason::TooManyColumns,
            declared: grid.digits(),
        }));
    }
    Ok(())
}

/// For each column (elements of the grid's ring) its lowest key, and its highest one with all bits inverted.
pub(super) fn extreme_keys(space: &KeySpace, columns: &[Zeroizing<Vec<u64>>]) -> Zeroizing<Vec<u64>> {
    let limbs = space.limbs();
    let mut keys = Zeroizing::new(Vec::with_capacity(2 * columns.len() * limbs));
    let mut key = Zeroizing::new(vec![0; limbs]);
    for column in columns {
        let begin = keys.len();
        keys.extend_from_slice(&space.above_all());
        keys.extend_from_slice(&space.below_all());
        for element in column.chunks_exact(limbs) {
            key.copy_from_slice(element);
            space.keys(&mut key);
            let (lowest, highest) = keys[begin..].split_at_mut(limbs);
            if compare(&key, lowest).is_lt() {
                lowest.copy_from_slice(&key);
            }
            if compare(&key, highest).is_gt() {
                highest.copy_from_slice(&key);
            }
        }
        space.invert(&mut keys[begin + limbs..]);
    }
    keys
}

/// Rounds of [`minimum_and_maximum`].
pub(super) fn smallest_rounds(grid: &Grid, parties: usize) -> u32 {
    // Two for triples, one to open.
    threshold::count(2 + depth(parties, KeySpace::new(grid).bits()) + 1)
}

/// Longest message of [`minimum_and_maximum`] for so many columns.
pub(super) fn smallest_bytes(grid: &Grid, parties: usize, columns: usize) -> usize {
    let circuit = tournament(parties, KeySpace::new(grid).bits());
    let triples = Triples::message_bytes(&[(&circuit, 2 * columns)], parties);
    triples.max(circuit.message_bytes(2 * columns))
}

/// What older clients send: rows that have a minimum and a maximum. As one list of numbers, and how many rows there are.
fn older_rows(text: &str) -> Option<(String, u64)> {
    type Row<'a> = BTreeMap<String, &'a RawValue>;
    let rows: Vec<Row<'_>> = match serde_json::from_str::<Row<'_>>(text) {
        Ok(row) => vec![row],
        Err(_) => serde_json::from_str(text).ok()?,
    };
    let mut numbers = Vec::with_capacity(2 * rows.len());
    for row in &rows {
        let (Some(minimum), Some(maximum), 2) = (row.get("minimum"), row.get("maximum"), row.len()) else {
            return None;
        };
        // Lists are columns of these names.
        if [minimum, maximum].iter().any(|value| value.get().starts_with('[')) {
            return None;
        }
        numbers.extend([minimum.get(), maximum.get()]);
    }
    (!numbers.is_empty()).then(|| (format!("[{}]", numbers.join(",")), rows.len() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_and_cost_are_known_without_the_circuit() {
        for parties in (2..20).chain([33, 64]) {
            for bits in [1, 5, 101] {
                let circuit = build_tournament(parties, bits);
                assert_eq!(depth(parties, bits), circuit.depth(), "{parties} {bits}");
                let bound = comparisons(parties) * bits + 4 * parties;
                assert!(
                    circuit.ands() <= bound,
                    "{parties} {bits}: {} > {bound}",
                    circuit.ands()
                );
            }
        }
    }
}
