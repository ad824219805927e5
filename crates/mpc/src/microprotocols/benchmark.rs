//! Benchmark: where does each party's number stand among all? Its percentile rank to that party alone, the quartiles to all.
//!
//! - **Declared outputs**, everything that opens. To all: the number of parties, the quartiles (`type` 7: for each, the two values between which it lies; see
//!   [`super::quantiles`]). To each party alone: how many numbers are smaller than its own, and how many are equal (its own among them); its percentile
//!   rank is 100 · (smaller + equal / 2) / parties. Whether there are enough samples, where rules want that compared.
//! - **How**: a circuit ([`crate::circuit`]) compares every two numbers, a second one counts for each party; the shares of each party's counts are sent to it alone. The quartiles are
//!   searched for as in [`crate::order`].
//! - **Rounds** after the last input: those of [`super::quantiles`], then 2 for triples, 8 for the comparisons, some 3 for the counts, 1.
//! - **Adversary**: semi-honest, any number of colluding parties.
//! - **What each party sees**: openings of circuits, uniformly random; shares of its own counts, random but for their sum, which is its output. Which of the others
//!   are smaller it does not see.
//! - **Not protected**: the quartiles are single parties' values. Colluding parties put their ranks together and so learn how many of the others lie between their
//!   numbers. A party may take part with any number: its rank tells how many are smaller than *that*.
//!
//! Input: one number. Parameters: `type` (1 or 7), `digits_before`, `digits_after`, `min_samples`, `min_cell`.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::answer::{Answer, Answers, Field};
use super::parameters::{Canonical, DIGITS, Given, MIN_CELL, MIN_SAMPLES, unusable};
use super::quantiles::{Interpolation, Params, Probability};
use super::ranked::Ranked;
use crate::circuit::{Bit, Builder, Circuit, Lanes, Triples, cached, open_to};
use crate::data;
use crate::keys::KeySpace;
use crate::microprotocol::{Microprotocol, Refusal, Release, Shape};
use crate::net::{Abort, Net, Party};
use crate::number::Digits;
use crate::threshold::{self, Thresholds};

/// See the [module](self).
#[derive(Debug)]
pub struct Benchmark;

impl Microprotocol for Benchmark {
    const NAME: &'static str = "Benchmark";
    const ALIASES: &'static [&'static str] = &[];
    const RELEASES: &'static [Release] = &[Release::Order];
    const COMPARES: bool = true;
    type Params = Params;
    type Input = Ranked;
    type Output = Answers;

    fn params(json: &str) -> Result<Params, Refusal> {
        let [after, before] = DIGITS;
        let given = Given::read(Self::NAME, json, &["type", after, before, MIN_SAMPLES, MIN_CELL])?;
        let params = Params {
            grid: given.grid()?,
            thresholds: given.thresholds()?,
            probabilities: Probability::QUARTILES.to_vec(),
            interpolation: Interpolation::read(given.text("type"))?,
        };
        params.check_room()
    }

    fn canonical(params: &Params) -> String {
        let canonical = Canonical::new(&params.grid, &params.thresholds);
        canonical.with("type", params.interpolation.number().to_string()).text()
    }

    fn input(params: &Params, parties: usize, texts: &[&str]) -> Result<Ranked, Refusal> {
        let input = Ranked::read(&params.grid, parties, texts, params.wanted())?;
        if input.shape != data::Shape::Scalar || *input.samples() != [1] {
            return Err(Refusal {
                code: "INPUT_SHAPE",
                hint: "give the one number that is to be compared, for example 31.5".to_owned(),
                ..unusable("", "the input is not one number")
            });
        }
        Ok(input)
    }

    fn rounds(params: &Params, parties: usize, thresholds: &Thresholds) -> u32 {
        let (compare, count) = circuits(params, parties);
        let depth = compare.depth() + count.depth();
        let triples = Triples::rounds(&[(&compare, parties * (parties - 1)), (&count, 2 * parties)], parties);
        params.rounds(parties, thresholds) + threshold::count(triples + depth + 1)
    }

    fn shape(params: &Params, parties: usize, input: &Ranked) -> Shape {
        let (compare, count) = circuits(params, parties);
        let (pairs, counts) = (parties * (parties - 1), 2 * parties);
        let quartiles = input.shape(&params.grid, parties, params.wanted());
        let triples = Triples::message_bytes(&[(&compare, pairs), (&count, counts)], parties);
        let bytes = triples
            .max(compare.message_bytes(pairs))
            .max(count.message_bytes(counts));
        Shape {
            text: "one number".to_owned(),
            message_bytes: quartiles.message_bytes.max(bytes),
            ..quartiles
        }
    }

    fn digits(params: &Params) -> Option<Digits> {
        Some(params.grid.digits())
    }

    fn samples(input: &Ranked) -> Zeroizing<Vec<u64>> {
        input.samples()
    }

    async fn run(params: Params, input: Ranked, net: &mut Net) -> Result<Answers, Abort> {
        let parties = net.session().parties;
        let (samples, quartiles) = params
            .find(&input, net)
            .await?
            .pop()
            .ok_or(Abort::Internal("no column"))?;
        if samples.is_ok() {
            let [smaller, greater] = place(&params, &input, net).await?;
            let equal = (parties as u64).saturating_sub(smaller + greater);
            let rank = 100.0 * (smaller as f64 + equal as f64 / 2.0) / parties as f64;
            let own = Place {
                percentile_rank: rank,
                smaller,
                equal,
            };
            let own = serde_json::to_string(&own).map_err(|_| Abort::Internal("a place cannot be written"))?;
            net.tell_owner(Zeroizing::new(own));
        }
        let answer = Answer::new(vec![
            ("samples", Field::Count(samples)),
            ("quartiles", Field::numbers(quartiles)),
        ]);
        Ok(Answers::new(input.shape, vec![answer]))
    }
}

/// Where the own number stands, for its owner alone.
#[derive(serde::Serialize)]
struct Place {
    percentile_rank: f64,
    smaller: u64,
    equal: u64,
}

/// How many numbers are smaller than this party's, and how many are greater: to it alone.
async fn place(params: &Params, input: &Ranked, net: &mut Net) -> Result<[u64; 2], Abort> {
    let (me, parties) = (net.session().me, net.session().parties);
    let space = KeySpace::new(&params.grid);
    let (compare, count) = circuits(params, parties);
    let pairs: Vec<(Party, Party)> = Party::all(parties)
        .flat_map(|one| {
            Party::all(parties)
                .filter(move |other| *other != one)
                .map(move |other| (one, other))
        })
        .collect();
    let mut triples = Triples::generate(net, &[(&compare, pairs.len()), (&count, 2 * parties)]).await?;
    let key = input
        .columns
        .first()
        .and_then(|column| column.first())
        .ok_or(Abort::Internal("no number"))?;
    let nothing = space.below_all();
    let side = |is_mine: &dyn Fn(&(Party, Party)) -> bool| {
        let keys = pairs.iter().flat_map(|pair| if is_mine(pair) { key } else { &nothing });
        let keys = Zeroizing::new(keys.copied().collect::<Vec<u64>>());
        Lanes::columns(&keys, space.limbs(), space.bits())
    };
    let mut inputs = side(&|(one, _)| *one == me);
    inputs.extend(side(&|(_, other)| *other == me));
    let less = compare.run(net, &mut triples, &inputs).await?;
    let less = less.first().ok_or(Abort::Internal("no output"))?;
    // Lane 2·p counts who is smaller than party p, lane 2·p + 1 who is greater.
    let mut votes = vec![Zeroizing::new(Vec::with_capacity(2 * parties)); parties - 1];
    for party in 0..parties {
        let smaller = pairs
            .iter()
            .enumerate()
            .filter(|(_, (_, other))| other.index() == party);
        let greater = pairs.iter().enumerate().filter(|(_, (one, _))| one.index() == party);
        for (vote, ((below, _), (above, _))) in votes.iter_mut().zip(smaller.zip(greater)) {
            vote.extend([less.get(below), less.get(above)]);
        }
    }
    let votes: Vec<Lanes> = votes.iter().map(|vote| Lanes::from_bools(vote)).collect();
    let sums = count.run(net, &mut triples, &votes).await?;
    let of = |party: Party| {
        let lanes = [2 * party.index(), 2 * party.index() + 1];
        sums.iter()
            .map(|bit| Lanes::from_bools(&lanes.map(|lane| bit.get(lane))))
            .collect()
    };
    let shares: Vec<Vec<Lanes>> = Party::all(parties).map(of).collect();
    let opened = Lanes::numbers(&open_to(net, &shares).await?);
    let [smaller, greater] = opened[..] else {
        return Err(Abort::Internal("not two counts"));
    };
    Ok([smaller, greater])
}

/// Is one key less than another? And: how many of so many bits are 1?
fn circuits(params: &Params, parties: usize) -> (Arc<Circuit>, Arc<Circuit>) {
    let bits = KeySpace::new(&params.grid).bits();
    let compare = cached(("less", [bits as u64, 0, 0, 0]), || build_compare(bits));
    let count = cached(("count of others", [parties as u64, 0, 0, 0]), || build_count(parties));
    (compare, count)
}

fn build_compare(bits: usize) -> Circuit {
    let mut circuit = Builder::new();
    let (one, other) = (circuit.inputs(bits), circuit.inputs(bits));
    let less = circuit.less(&one, &other);
    circuit.output(less);
    circuit.finish()
}

fn build_count(parties: usize) -> Circuit {
    let mut circuit = Builder::new();
    let width = (usize::BITS - parties.leading_zeros()) as usize;
    let zero = circuit.constant(false);
    let votes: Vec<Vec<Bit>> = (1..parties)
        .map(|_| {
            let mut number = vec![zero; width];
            number[0] = circuit.input();
            number
        })
        .collect();
    let sum = circuit.sum(&votes);
    circuit.outputs(&sum);
    circuit.finish()
}
