//! KthElement: the k-th smallest of everybody's numbers.
//!
//! - **Declared outputs**, everything that opens: for each column the number of values of all parties (`samples`), and the value of the given rank. Whether
//!   there are enough samples, where rules want that compared.
//! - **How**: search with public pivots, private counts and secure comparisons ([`crate::order`]: Aggarwal, Mishra, Pinkas 2010); counts by [`crate::threshold`].
//! - **Rounds** after the last input: 1 for the counts (16 if they are compared), 2 for triples, 7 for each 5 bits of the declared digits, for three parties (see [`crate::order::rounds`]).
//! - **Adversary**: semi-honest, any number of colluding parties. What one that miscounts can do: [`crate::order`].
//! - **What each party sees**: see [`crate::order`].
//! - **Not protected**: the result is one party's value. With extreme ranks it may be known whose.
//!
//! Parameters: `rank` from 1 over the pooled data (older name: `k`), `digits_before`, `digits_after`, `min_samples`, `min_cell` (values on either side of the one that
//! opens). A rank beyond the number of samples gives `null`. Inputs: a list of numbers, or named columns.

use zeroize::Zeroizing;

use super::answer::{Answer, Answers, Field};
use super::parameters::{Canonical, DIGITS, Given, MIN_CELL, MIN_SAMPLES, unusable};
use super::ranked::Ranked;
use crate::keys::KeySpace;
use crate::microprotocol::{Microprotocol, Refusal, Release, Shape};
use crate::net::{Abort, Net};
use crate::number::{Digits, Grid};
use crate::order::{self, Wanted};
use crate::threshold::{MOST_SAMPLES, Thresholds, Why};

/// See the [module](self).
#[derive(Debug)]
pub struct KthElement;

/// What all parties agree on.
#[derive(Clone, Debug)]
pub struct Params {
    grid: Grid,
    thresholds: Thresholds,
    rank: u64,
}

impl Microprotocol for KthElement {
    const NAME: &'static str = "KthElement";
    const ALIASES: &'static [&'static str] = &[];
    const RELEASES: &'static [Release] = &[Release::Order];
    const COMPARES: bool = true;
    type Params = Params;
    type Input = Ranked;
    type Output = Answers;

    fn params(json: &str) -> Result<Params, Refusal> {
        let [after, before] = DIGITS;
        let given = Given::read(Self::NAME, json, &["rank", "k", after, before, MIN_SAMPLES, MIN_CELL])?;
        let rank = |name| given.whole(name, 1, MOST_SAMPLES);
        let rank = match (rank("rank")?, rank("k")?) {
            (Some(rank), None) | (None, Some(rank)) => rank,
            (Some(_), Some(_)) => return Err(unusable("k", "rank and k are the same parameter: give one of them")),
            (None, None) => return Err(given.lacks("rank", "1 for the smallest of all values")),
        };
        Ok(Params {
            grid: given.grid()?,
            thresholds: given.thresholds()?,
            rank,
        })
    }

    fn canonical(params: &Params) -> String {
        let canonical = Canonical::new(&params.grid, &params.thresholds);
        canonical.with("rank", params.rank.to_string()).text()
    }

    fn input(params: &Params, parties: usize, texts: &[&str]) -> Result<Ranked, Refusal> {
        Ranked::read(&params.grid, parties, texts, 1)
    }

    fn rounds(params: &Params, parties: usize, thresholds: &Thresholds) -> u32 {
        let thresholds = params.thresholds.strictest(*thresholds);
        order::rounds(parties, &KeySpace::new(&params.grid), &thresholds, 1)
    }

    fn shape(params: &Params, parties: usize, input: &Ranked) -> Shape {
        input.shape(&params.grid, parties, 1)
    }

    fn digits(params: &Params) -> Option<Digits> {
        Some(params.grid.digits())
    }

    fn samples(input: &Ranked) -> Zeroizing<Vec<u64>> {
        input.samples()
    }

    async fn run(params: Params, input: Ranked, net: &mut Net) -> Result<Answers, Abort> {
        let space = KeySpace::new(&params.grid);
        let thresholds = params.thresholds.strictest(net.session().thresholds);
        let one = Wanted { values: 1, together: 1 };
        let rank = |_samples| vec![params.rank];
        let found = order::values(net, &space, &thresholds, &input.columns, one, rank).await?;
        let answer = |found: order::Found| {
            let value = found.values.into_iter().next().unwrap_or(Err(Why::NoValues));
            Answer::new(vec![
                ("samples", Field::Count(found.samples)),
                ("rank", Field::Public(params.rank.into())),
                (
                    "value",
                    Field::Number(value.map(|element| params.grid.to_total(&element))),
                ),
            ])
        };
        Ok(Answers::new(input.shape, found.into_iter().map(answer).collect()))
    }
}
