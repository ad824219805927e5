//! Numbers of samples that are compared before anything opens.
//!
//! [`totals`] and [`cells`] add up a count of each party inside a circuit ([`crate::circuit`]), compare the sum with what the rules of all parties want, and
//! open one bit: enough or not (for cells a second one: empty or not). Only where that bit says so the very sum that was compared opens, from the same shared bits: nobody can have one count
//! compared and another one published.
//!
//! # What each party sees
//! The openings of the circuit, which are uniformly random ([`crate::circuit`]), and: one bit for each column (two for each cell), and the sums of those that pass. Shares of sums that
//! do not pass never leave their party: zeros are sent in their place, so that the lengths of messages tell nothing. **Simulatable from the own
//! input and the declared outputs**, which are exactly those bits and sums.
//!
//! Adversary: semi-honest, any number of colluding parties. A party counts itself: one that lies about its own count (or about its rows) can make a sum
//! pass that should not, to the harm of those who have given theirs, as it could by inventing rows.
//!
//! Cells: Eurostat's handbook on statistical disclosure control (Hundepool et al., 2010, chapter 4) calls hiding small cells *primary* suppression, and hiding others so that
//! these cannot be computed from sums *secondary* suppression. Ours is chosen from bits alone that open: which cells are small, and which are empty. Empty cells are shown.
//! **It does not bound what follows from a total that is known from elsewhere**: that tells the sum of the hidden cells, and a sum that is as small as it can be (two small cells
//! that count one each) tells them all.

mod table;

use std::sync::Arc;

use zeroize::Zeroizing;

use crate::circuit::{Bit, Builder, Circuit, Lanes, Triples, cached, open};
use crate::mask;
use crate::net::{Abort, Net, Party};
use crate::ring::Ring;

pub use table::suppress_table;

/// Most samples of all parties together that can be compared: counts have 32 bits in two's complement.
pub const MOST_SAMPLES: u64 = (1 << 31) - 1;
/// Bits of a count and of its difference to a threshold.
pub(crate) const WIDTH: usize = 32;

/// Rough time to choose which cells are hidden, for each, in the bytes of [`Net::work_ahead`].
const WORK_OF_HIDING: usize = 1_000;

/// The numbers that the rules of all parties want, as far as they do not follow from what each party has checked for itself. The same at every party; 0 for
/// nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thresholds {
    /// Samples of all parties together, for each thing that opens on its own (each column).
    pub samples_total: u64,
    /// Samples of all parties but one, whichever that is.
    pub samples_others: u64,
    /// Count of a cell of a table that is not empty.
    pub cell: u64,
    /// Values on either side of a single value that opens (a median, a quantile).
    pub beyond: u64,
    /// Smallest and greatest values do not open.
    pub no_extremes: bool,
    /// Samples of all parties together, for each group of a column: no party has checked its own part of those.
    pub group_total: u64,
    /// Samples of all parties but one, for each group.
    pub group_others: u64,
}

impl Thresholds {
    /// Nowhere looser than either.
    #[must_use]
    pub fn strictest(self, other: Thresholds) -> Thresholds {
        Thresholds {
            samples_total: self.samples_total.max(other.samples_total),
            samples_others: self.samples_others.max(other.samples_others),
            cell: self.cell.max(other.cell),
            beyond: self.beyond.max(other.beyond),
            no_extremes: self.no_extremes || other.no_extremes,
            group_total: self.group_total.max(other.group_total),
            group_others: self.group_others.max(other.group_others),
        }
    }

    /// What holds for each group of a column.
    #[must_use]
    pub fn of_groups(self) -> Thresholds {
        Thresholds {
            samples_total: self.samples_total.max(self.group_total),
            samples_others: self.samples_others.max(self.group_others),
            ..self
        }
    }

    /// Whether samples have to be compared.
    #[must_use]
    pub fn want_samples(&self) -> bool {
        self.samples_total > 0 || self.samples_others > 0
    }
}

/// Why a number is not there. Its name is part of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// All parties together, or the others of some party, have fewer samples than their rules want.
    FewSamples,
    /// It is a single value, and fewer values than the rules want are below it, or above it.
    FewBeyond,
    /// There are not so many values, or none.
    NoValues,
    /// It counts something that is hidden, or a small cell could be computed from it.
    FewInCell,
    /// It is a smallest or a greatest value, and the parties' rules let none open.
    ExtremesHidden,
    /// Some value is not greater than 0. Whose, and how many, nobody learns.
    NotPositive,
    /// All values are equal.
    Constant,
    /// It is a quotient by the mean, which is 0.
    ZeroMean,
    /// There are values, but mathematics needs more of them.
    TooFewValues,
    /// It is greater than doubles can be.
    BeyondDoubles,
}

impl Why {
    /// As it is written.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Why::FewSamples => "FEW_SAMPLES",
            Why::FewBeyond => "FEW_BEYOND",
            Why::NoValues => "NO_VALUES",
            Why::FewInCell => "FEW_IN_CELL",
            Why::ExtremesHidden => "EXTREMES_HIDDEN",
            Why::NotPositive => "NOT_POSITIVE",
            Why::Constant => "CONSTANT",
            Why::ZeroMean => "ZERO_MEAN",
            Why::TooFewValues => "TOO_FEW_VALUES",
            Why::BeyondDoubles => "BEYOND_DOUBLES",
        }
    }
}

/// Most samples of one party, so that the sum of all cannot overflow and nobody has to tell its count.
#[must_use]
pub fn most_of_each(parties: usize) -> u64 {
    MOST_SAMPLES / parties.max(1) as u64
}

/// Rounds of [`totals`], for a few columns: with hundreds there are more.
#[must_use]
pub fn totals_rounds(parties: usize, thresholds: &Thresholds) -> u32 {
    if thresholds.want_samples() {
        rounds_of(&totals_circuit(parties, thresholds), parties, 1)
    } else {
        1
    }
}

/// Longest message of [`totals`] and [`enough`], whatever the thresholds.
#[must_use]
pub fn totals_message_bytes(parties: usize, counts: usize) -> usize {
    bytes_of(
        &compared_totals(parties, Some(Least::Any), Some(Least::Any)),
        parties,
        counts,
    )
    .max(8 * counts)
}

/// The sum of all parties' counts, for each column; `None` where it, or that of the others of some party, is too small. `counts` are this party's,
/// each at most [`most_of_each`].
///
/// # Errors
/// A peer that breaks the protocol.
pub async fn totals(net: &mut Net, thresholds: &Thresholds, counts: &[u64]) -> Result<Vec<Option<u64>>, Abort> {
    if counts.is_empty() {
        return Ok(Vec::new());
    }
    if !thresholds.want_samples() {
        let counts = Zeroizing::new(counts.to_vec());
        let sums = mask::sum(net, RING, counts).await?;
        return Ok(sums.into_iter().map(|sum| Some(sum.min(MOST_SAMPLES))).collect());
    }
    let circuit = totals_circuit(net.session().parties, thresholds);
    let (enough, sums) = compare(net, &circuit, 1, counts).await?;
    open_some(net, sums, |lane| enough[0].get(lane)).await
}

/// Rounds of [`enough`], for a few columns.
#[must_use]
pub fn enough_rounds(parties: usize, thresholds: &Thresholds) -> u32 {
    if thresholds.want_samples() {
        rounds_of(&totals_circuit(parties, thresholds), parties, 1) - 1
    } else {
        0
    }
}

/// Whether there are enough samples, for each column. Nothing but that opens.
///
/// # Errors
/// A peer that breaks the protocol.
pub async fn enough(net: &mut Net, thresholds: &Thresholds, counts: &[u64]) -> Result<Vec<bool>, Abort> {
    if counts.is_empty() || !thresholds.want_samples() {
        return Ok(vec![true; counts.len()]);
    }
    let circuit = totals_circuit(net.session().parties, thresholds);
    let (enough, _) = compare(net, &circuit, 1, counts).await?;
    Ok((0..counts.len()).map(|column| enough[0].get(column)).collect())
}

/// Rounds of [`cells`].
#[must_use]
pub fn cells_rounds(parties: usize, least: u64, cells: usize) -> u32 {
    if least > 1 {
        rounds_of(&cells_circuit(parties, Least::Is(least)), parties, cells)
    } else {
        1
    }
}

/// Longest message of [`cells`], whatever the threshold.
#[must_use]
pub fn cells_message_bytes(parties: usize, cells: usize) -> usize {
    bytes_of(&cells_circuit(parties, Least::Any), parties, cells).max(8 * cells)
}

/// The sum of all parties' counts for each cell of a list of cells; `None` for those that are hidden: which count at least one and fewer than `least`, and another one if
/// there would be just one.
///
/// # Errors
/// A peer that breaks the protocol.
pub async fn cells(net: &mut Net, least: u64, counts: &[u64]) -> Result<Vec<Option<u64>>, Abort> {
    cells_but(net, least, counts, suppress).await
}

/// The same for cells that are no list: `hidden` says which cells are hidden, for instance [`suppress_table`]. Small ones are in any case.
///
/// # Errors
/// A peer that breaks the protocol.
pub async fn cells_but(
    net: &mut Net,
    least: u64,
    counts: &[u64],
    hidden: impl Fn(&[Cell]) -> Vec<bool>,
) -> Result<Vec<Option<u64>>, Abort> {
    if counts.is_empty() || least <= 1 {
        net.will_open("counts");
        let sums = mask::sum(net, RING, Zeroizing::new(counts.to_vec())).await?;
        return Ok(sums.into_iter().map(|sum| Some(sum.min(MOST_SAMPLES))).collect());
    }
    let circuit = cells_circuit(net.session().parties, Least::Is(least));
    net.will_open("whether each cell is small, whether it is empty");
    let (bits, sums) = compare(net, &circuit, 2, counts).await?;
    let cell = |cell: usize| Cell {
        small: bits[0].get(cell),
        empty: !bits[1].get(cell),
    };
    let cells: Vec<Cell> = (0..counts.len()).map(cell).collect();
    net.work_ahead(WORK_OF_HIDING * cells.len()).await;
    let hidden = hidden(&cells);
    net.will_open("counts");
    open_some(net, sums, |cell| !hidden[cell] && !cells[cell].small).await
}

/// The same, where each count stands on its own and nobody could compute one from others: only the small ones are hidden.
///
/// # Errors
/// A peer that breaks the protocol.
pub async fn each(net: &mut Net, least: u64, counts: &[u64]) -> Result<Vec<Option<u64>>, Abort> {
    if counts.is_empty() || least <= 1 {
        return cells(net, least, counts).await;
    }
    let circuit = cells_circuit(net.session().parties, Least::Is(least));
    let (bits, sums) = compare(net, &circuit, 2, counts).await?;
    open_some(net, sums, |cell| !bits[0].get(cell)).await
}

/// What opens of a cell before its count does.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// It counts some, but fewer than rules want.
    pub small: bool,
    /// It counts nothing.
    pub empty: bool,
}

/// Which cells are hidden: the small ones, and if there is only one, the next one after it that is not empty: an empty one would hide nothing, since the total, whoever
/// knows it from elsewhere, would be the small count and the counts that are shown. (If all others are empty there is nothing to hide it behind.)
#[must_use]
pub fn suppress(cells: &[Cell]) -> Vec<bool> {
    let mut hidden: Vec<bool> = cells.iter().map(|cell| cell.small).collect();
    let mut small = hidden.iter().enumerate().filter(|(_, small)| **small);
    if let (Some((only, _)), None) = (small.next(), small.next()) {
        let after = (only + 1..cells.len()).chain(0..only);
        let mut others = after.clone().filter(|cell| !cells[*cell].empty);
        if let Some(other) = others.next().or(after.clone().next()) {
            hidden[other] = true;
        }
    }
    hidden
}

#[allow(clippy::unwrap_used)] // 64 is a width of a ring
const RING: Ring = Ring::new(64).unwrap();

/// Everybody's counts as shares of a circuit's inputs: each party's own value is its share, everybody else's is 0.
pub(crate) fn shares(me: Party, parties: usize, counts: &[u64]) -> Vec<Lanes> {
    let of = |party: Party| {
        if party == me {
            Lanes::columns(counts, 1, WIDTH)
        } else {
            vec![Lanes::zeros(counts.len()); WIDTH]
        }
    };
    Party::all(parties).flat_map(of).collect()
}

/// A threshold as a circuit sees it.
#[derive(Clone, Copy)]
enum Least {
    Is(u64),
    /// Not known yet: a circuit in which it is an input is larger than one for any number.
    Any,
}

impl Least {
    fn of(number: u64) -> Option<Least> {
        (number > 0).then_some(Least::Is(number))
    }

    /// Tells circuits apart: what is greater than any that can be reached has one as well.
    fn name(least: Option<Least>) -> u64 {
        match least {
            None => 0,
            Some(Least::Is(number)) => reachable(number),
            Some(Least::Any) => u64::MAX,
        }
    }

    fn bits(self, circuit: &mut Builder, form: impl Fn(u64) -> u64) -> Vec<Bit> {
        match self {
            Least::Is(number) => {
                let number = form(number);
                (0..WIDTH).map(|bit| circuit.constant(number >> bit & 1 == 1)).collect()
            }
            Least::Any => circuit.inputs(WIDTH),
        }
    }
}

/// A threshold; no sum reaches 2^31, so what is greater is as good as that.
fn reachable(threshold: u64) -> u64 {
    threshold.min(MOST_SAMPLES + 1)
}

/// Minus a threshold in two's complement.
pub(crate) fn minus(threshold: u64) -> u64 {
    reachable(threshold).wrapping_neg()
}

/// Runs a circuit whose outputs are so many bits and a sum. The bits open; the sum stays shared.
async fn compare(
    net: &mut Net,
    circuit: &Circuit,
    bits: usize,
    counts: &[u64],
) -> Result<(Vec<Lanes>, Vec<Lanes>), Abort> {
    let (me, parties) = (net.session().me, net.session().parties);
    let mut triples = Triples::generate(net, &[(circuit, counts.len())]).await?;
    let inputs = shares(me, parties, counts);
    let mut outputs = circuit.run(net, &mut triples, &inputs).await?;
    let sums = outputs.split_off(bits);
    Ok((open(net, &outputs).await?, sums))
}

/// Opens the sums of some lanes. What is sent of the others are zeros.
async fn open_some(net: &mut Net, sums: Vec<Lanes>, shown: impl Fn(usize) -> bool) -> Result<Vec<Option<u64>>, Abort> {
    let lanes = sums.first().map_or(0, Lanes::lanes);
    let visible = Lanes::from_bools(&(0..lanes).map(&shown).collect::<Vec<bool>>());
    let sums: Vec<Lanes> = sums.iter().map(|bit| bit.and(&visible)).collect();
    // A number of 32 bits is one word.
    let sums = Lanes::numbers(&open(net, &sums).await?);
    let shown = |(lane, sum): (usize, &u64)| shown(lane).then_some(*sum);
    Ok(sums.iter().enumerate().map(shown).collect())
}

fn totals_circuit(parties: usize, thresholds: &Thresholds) -> Arc<Circuit> {
    let [total, others] = [thresholds.samples_total, thresholds.samples_others].map(Least::of);
    compared_totals(parties, total, others)
}

/// Outputs: whether there are enough, and the sum.
fn compared_totals(parties: usize, total: Option<Least>, of_others: Option<Least>) -> Arc<Circuit> {
    let name = [parties as u64, Least::name(total), Least::name(of_others), 0];
    cached(("totals", name), || build_totals(parties, total, of_others))
}

fn build_totals(parties: usize, total: Option<Least>, of_others: Option<Least>) -> Circuit {
    let mut circuit = Builder::new();
    let counts: Vec<Vec<Bit>> = (0..parties).map(|_| circuit.inputs(WIDTH)).collect();
    let sum = circuit.sum(&counts);
    let mut enough = Vec::new();
    if let Some(least) = total {
        let least = least.bits(&mut circuit, reachable);
        let few = circuit.less(&sum, &least);
        enough.push(circuit.not(few));
    }
    if let Some(least) = of_others {
        for party in 0..parties {
            let others = others(&mut circuit, &counts, &sum, party, least);
            let few = circuit.sum_is_negative(&others);
            enough.push(circuit.not(few));
        }
    }
    let enough = circuit.all(&enough);
    circuit.output(enough);
    circuit.outputs(&sum);
    circuit.finish()
}

/// Numbers whose sum is that of all counts but one party's, minus a threshold: with few parties the counts themselves, which is faster; with many the sum and
/// what has to be taken from it, which is smaller.
fn others(circuit: &mut Builder, counts: &[Vec<Bit>], sum: &[Bit], party: usize, least: Least) -> Vec<Vec<Bit>> {
    if counts.len() <= 8 {
        let mut others = counts.to_vec();
        others[party] = least.bits(circuit, minus);
        return others;
    }
    // −c is the complement of c, and 1.
    let complement = counts[party].iter().map(|bit| circuit.not(*bit)).collect();
    let rest = least.bits(circuit, |least| minus(least).wrapping_add(1));
    vec![sum.to_vec(), complement, rest]
}

/// Outputs: whether the sum is small but not 0, whether it is not 0, and the sum.
fn cells_circuit(parties: usize, least: Least) -> Arc<Circuit> {
    let name = [parties as u64, Least::name(Some(least)), 0, 0];
    cached(("cells", name), || build_cells(parties, least))
}

fn build_cells(parties: usize, least: Least) -> Circuit {
    let mut circuit = Builder::new();
    let counts: Vec<Vec<Bit>> = (0..parties).map(|_| circuit.inputs(WIDTH)).collect();
    let sum = circuit.sum(&counts);
    let least = least.bits(&mut circuit, reachable);
    let few = circuit.less(&sum, &least);
    let some = circuit.any(&sum);
    let small = circuit.and(few, some);
    circuit.output(small);
    circuit.output(some);
    circuit.outputs(&sum);
    circuit.finish()
}

/// Triples in two rounds, a round for each layer, the bit, the sums.
fn rounds_of(circuit: &Circuit, parties: usize, lanes: usize) -> u32 {
    count(Triples::rounds(&[(circuit, lanes)], parties) + circuit.depth() + 2)
}

fn bytes_of(circuit: &Circuit, parties: usize, lanes: usize) -> usize {
    let opening = (circuit.outputs() * lanes).div_ceil(8);
    let triples = Triples::message_bytes(&[(circuit, lanes)], parties);
    triples.max(circuit.message_bytes(lanes)).max(opening)
}

/// A number of rounds.
pub(crate) fn count(rounds: usize) -> u32 {
    u32::try_from(rounds).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By count, where fewer than five are small.
    fn hidden(counts: &[u64]) -> Vec<usize> {
        let cell = |count: &u64| Cell {
            small: (1..5).contains(count),
            empty: *count == 0,
        };
        let hidden = suppress(&counts.iter().map(cell).collect::<Vec<_>>());
        (0..counts.len()).filter(|cell| hidden[*cell]).collect()
    }

    #[test]
    fn a_small_cell_stands_behind_another_one_that_counts() {
        assert_eq!(hidden(&[9, 0, 7]), [0usize; 0]);
        assert_eq!(hidden(&[3, 0, 0, 7]), [0, 3]);
        assert_eq!(hidden(&[8, 6, 0, 2, 0]), [0, 3]);
        assert_eq!(hidden(&[1, 0, 4]), [0, 2]);
        // Nothing to stand behind.
        assert_eq!(hidden(&[0, 2, 0]), [1, 2]);
        assert_eq!(hidden(&[2]), [0]);
        assert_eq!(hidden(&[]), [0usize; 0]);
    }
}
