//! Values by their rank: which number is the k-th smallest of all parties' together?
//!
//! Source: Aggarwal, Mishra, Pinkas: *Secure Computation of the Median (and Other Elements of Specified Ranks)*, J. Cryptology 2010, section 5 (the
//! protocol for many parties: a binary search over the range of values, each party counting for itself, one secure comparison a step). Ours asks for
//! 2^[`PIVOT_BITS`] − 1 pivots at once, so each step finds [`PIVOT_BITS`] bits of the key ([`crate::keys`]), the highest first.
//!
//! For a pivot v every party counts how many of its keys are below v. The circuit adds the counts, subtracts the rank k, and its sign opens:
//! fewer than k keys are below v if and only if the k-th smallest is v or greater.
//!
//! # What each party sees
//! The openings of the circuit, which are uniformly random ([`crate::circuit`]), and the signs. **Simulatable from the own input and the output:** the pivots of a step
//! are public: they depend on the bits found before. Each sign is the comparison of the output (the k-th key) with a public pivot: given the output
//! it tells nothing more. Not even whether the key is there once or often, or at whom.
//!
//! A rank of 0 asks for nothing: all counts are 0, whatever the data are. It stands in for values that must not open, so that the length of messages and the number
//! of rounds depend on public parameters only.
//!
//! Adversary: semi-honest, any number of colluding parties. A party that miscounts *adaptively* (answers pivot after pivot for data that no input has) cannot be detected: it
//! can steer the search to any key it likes, and so learn, at the price of a wrong result, whether the others have more or fewer values below each pivot on the way than
//! it chooses to ask. The signs of one step must be those of some data, or all parties stop ([`Abort::StoriesDiffer`]): so each step but the one that gives it away tells it
//! no more than an honest one, [`PIVOT_BITS`] bits.

use std::sync::Arc;

use crate::circuit::{self, Bit, Builder, Circuit, Triples, cached, open};
use crate::keys::{KeySpace, Sorted};
use crate::net::{Abort, Net};
use crate::opening::Opens;
use crate::threshold::{self, Thresholds, WIDTH, Why, minus, shares};

/// Bits of the key that each step finds.
pub const PIVOT_BITS: usize = 5;
/// Most values that are asked for at once, over all columns.
pub const MOST_TARGETS: usize = 1024;

/// Most oblivious transfers of a task with each peer: some 256 MiB of messages, and a second or two of work.
pub const MOST_TRANSFERS: usize = 1 << 24;

/// What [`values`] opens.
pub const OPENS: [Opens; 3] = [
    threshold::OPENS_TOTALS[0],
    threshold::OPENS_TOTALS[1],
    Opens::Value(COMPARED),
];

const COMPARED: &str = "values of the wanted ranks, by comparisons with public numbers";

/// What was found in one column.
#[derive(Debug)]
pub struct Found {
    /// How many numbers all parties have in it.
    pub samples: Result<u64, Why>,
    /// The numbers of the ranks that were asked for, as elements of the grid's ring.
    pub values: Vec<Result<Vec<u64>, Why>>,
}

/// What is asked of each column.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// How many values.
    pub values: usize,
    /// So many of them, one behind the other, make one result: if one must not open, none of these does.
    pub together: usize,
}

/// The numbers of certain ranks in each column. `ranks` tells, for a number of samples, which ones (from 1; always as many as `wanted`).
///
/// # Errors
/// A peer that breaks the protocol.
pub async fn values(
    net: &mut Net,
    space: &KeySpace,
    thresholds: &Thresholds,
    columns: &[Sorted],
    wanted: Wanted,
    ranks: impl Fn(u64) -> Vec<u64>,
) -> Result<Vec<Found>, Abort> {
    let counts: Vec<u64> = columns.iter().map(Sorted::count).collect();
    let samples = threshold::totals(net, thresholds, &counts).await?;
    let mut targets = Vec::with_capacity(wanted.values * columns.len());
    for (column, samples) in samples.iter().enumerate() {
        let ranks = samples.map_or_else(|| vec![0; wanted.values], &ranks);
        let allowed = |rank: u64| match samples {
            None => Err(Why::FewSamples),
            Some(samples) if rank == 0 || rank > *samples => Err(Why::NoValues),
            Some(samples) if (rank - 1).min(samples - rank) < thresholds.beyond => Err(Why::FewBeyond),
            Some(_) => Ok(rank),
        };
        for result in ranks.chunks(wanted.together.max(1)) {
            let refused = result.iter().find_map(|rank| allowed(*rank).err());
            targets.extend(result.iter().map(|rank| (column, refused.map_or(Ok(*rank), Err))));
        }
    }
    let asked: Vec<Target> = targets
        .iter()
        .map(|(column, rank)| Target {
            column: *column,
            rank: rank.unwrap_or(0),
        })
        .collect();
    let keys = search(net, space, columns, &asked).await?;
    let value = |(key, (_, rank)): (&Vec<u64>, &(usize, Result<u64, Why>))| {
        // A key that is no number's can only come from parties that have not followed the protocol.
        rank.and_then(|_| space.element(key).ok_or(Why::NoValues))
    };
    let all: Vec<Result<Vec<u64>, Why>> = keys.iter().zip(&targets).map(value).collect();
    let found = |(values, samples): (&[Result<Vec<u64>, Why>], Option<u64>)| Found {
        samples: samples.ok_or(Why::FewSamples),
        values: values.to_vec(),
    };
    Ok(all.chunks(wanted.values.max(1)).zip(samples).map(found).collect())
}

/// Rounds of [`values`] with so many values asked for, over all columns.
#[must_use]
pub fn rounds(parties: usize, space: &KeySpace, thresholds: &Thresholds, targets: usize) -> u32 {
    let circuit = comparison(parties);
    let search = Triples::rounds(&plan(&circuit, space, targets), parties) + (circuit.depth() + 1) * steps(space);
    threshold::totals_rounds(parties, thresholds) + threshold::count(search)
}

/// Longest message of [`values`] with so many values asked for, over all columns.
#[must_use]
pub fn message_bytes(parties: usize, space: &KeySpace, columns: usize, targets: usize) -> usize {
    let circuit = comparison(parties);
    let triples = Triples::message_bytes(&plan(&circuit, space, targets), parties);
    triples
        .max(circuit.message_bytes(targets * PIVOTS))
        .max(threshold::totals_message_bytes(parties, columns))
}

/// Oblivious transfers with each peer, in each direction, that [`values`] needs.
#[must_use]
pub fn transfers(parties: usize, space: &KeySpace, targets: usize) -> usize {
    circuit::transfers(&plan(&comparison(parties), space, targets))
}

const PIVOTS: usize = (1 << PIVOT_BITS) - 1;

/// About how many bytes could be gone through in the time in which one pivot is looked up.
const WORK: usize = 300;

/// What is searched for: the number of that rank (from 1) in that column, or nothing.
#[derive(Clone, Copy)]
struct Target {
    column: usize,
    rank: u64,
}

fn steps(space: &KeySpace) -> usize {
    space.bits().div_ceil(PIVOT_BITS)
}

/// Bits that the first step finds: what is left when all others find as many as they can.
fn first_bits(space: &KeySpace) -> usize {
    space.bits() - (steps(space) - 1) * PIVOT_BITS
}

/// The circuit of each step: is the sum of the parties' numbers negative?
fn comparison(parties: usize) -> Arc<Circuit> {
    cached(("sign of a sum", [parties as u64, 0, 0, 0]), || {
        build_comparison(parties)
    })
}

fn build_comparison(parties: usize) -> Circuit {
    let mut circuit = Builder::new();
    let numbers: Vec<Vec<Bit>> = (0..parties).map(|_| circuit.inputs(WIDTH)).collect();
    let negative = circuit.sum_is_negative(&numbers);
    circuit.output(negative);
    circuit.finish()
}

fn plan<'a>(circuit: &'a Circuit, space: &KeySpace, targets: usize) -> Vec<(&'a Circuit, usize)> {
    let mut plan = vec![(circuit, targets * PIVOTS); steps(space)];
    plan[0].1 = targets * ((1 << first_bits(space)) - 1);
    plan
}

/// The keys of all targets.
async fn search(
    net: &mut Net,
    space: &KeySpace,
    columns: &[Sorted],
    targets: &[Target],
) -> Result<Vec<Vec<u64>>, Abort> {
    let (me, parties) = (net.session().me, net.session().parties);
    let mut keys = vec![space.below_all(); targets.len()];
    if targets.is_empty() {
        return Ok(keys);
    }
    let circuit = comparison(parties);
    let mut triples = Triples::generate(net, &plan(&circuit, space, targets.len())).await?;
    let mut left = space.bits();
    for step in 0..steps(space) {
        let bits = if step == 0 { first_bits(space) } else { PIVOT_BITS };
        left -= bits;
        let pivots = (1u64 << bits) - 1;
        net.work_ahead(targets.len() * PIVOTS * (WORK + parties * WIDTH / 8))
            .await;
        let mut counts = zeroize::Zeroizing::new(Vec::with_capacity(targets.len() * PIVOTS));
        for (target, key) in targets.iter().zip(&keys) {
            for digit in 1..=pivots {
                let mut pivot = key.clone();
                put_bits(&mut pivot, digit, left);
                // Of what must not open, nothing goes into the computation.
                let below = if target.rank == 0 {
                    0
                } else {
                    columns[target.column].below(&pivot)
                };
                // The first party subtracts the rank for all.
                let rank = if me.index() == 0 { minus(target.rank) } else { 0 };
                counts.push(below.wrapping_add(rank));
            }
        }
        let shares = circuit.run(net, &mut triples, &shares(me, parties, &counts)).await?;
        net.will_open(COMPARED);
        let opened = open(net, &shares).await?;
        let negative = opened.first().ok_or(Abort::Internal("no output"))?;
        for (index, key) in keys.iter_mut().enumerate() {
            let signs = (0..pivots as usize).map(|pivot| negative.get(index * pivots as usize + pivot));
            put_bits(key, digit(signs).ok_or(Abort::StoriesDiffer)?, left);
        }
    }
    Ok(keys)
}

/// How many pivots are not above the key that is searched for: the first ones. `None` if a sign says so of a pivot above one of which another sign says the
/// opposite: no data have such counts.
fn digit(signs: impl Iterator<Item = bool> + Clone) -> Option<u64> {
    let found = signs.clone().take_while(|negative| *negative).count();
    (!signs.skip(found).any(|negative| negative)).then_some(found as u64)
}

/// Sets bits of a key that were 0: those of `digit`, moved up by `shift`.
fn put_bits(key: &mut [u64], digit: u64, shift: usize) {
    let (limb, bit) = (shift / 64, shift % 64);
    key[limb] |= digit << bit;
    if let (Some(next), true) = (key.get_mut(limb + 1), bit > 0) {
        *next |= digit >> (64 - bit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_that_no_data_have_are_noticed() {
        let of = |signs: &[u8]| digit(signs.iter().map(|sign| *sign == 1));
        assert_eq!(
            [of(&[0, 0, 0]), of(&[1, 0, 0]), of(&[1, 1, 1]), of(&[])],
            [Some(0), Some(1), Some(3), Some(0)]
        );
        assert_eq!([of(&[0, 1, 0]), of(&[1, 0, 1]), of(&[0, 0, 1])], [None; 3]);
    }
}
