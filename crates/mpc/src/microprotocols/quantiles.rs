//! Quantiles: values that given parts of everybody's numbers do not exceed; and **SecureMedian**, the one for one half.
//!
//! - **Declared outputs**, everything that opens: for each column the number of values of all parties (`samples`); for each probability its quantile. With `type` 7 the quantile lies
//!   between two neighbouring values of the pooled data, and *both open*; likewise the two middle ones of an even number for the median, which is their mean.
//!   With `type` 1 one value opens for each probability. Whether there are enough samples, where rules want that compared.
//! - **How, rounds, adversary, what each party sees, not protected**: as [`super::kth_element`]. All ranks are searched for at once, so the rounds are the same.
//!
//! Types are numbered as in R (`quantile(x, type = …)`; Hyndman, Fan: *Sample Quantiles in Statistical Packages*, 1996). With n values x_1 ≤ … ≤ x_n and
//! probability p: type 1 is x_k, k = max(1, ⌈n·p⌉); type 7 (also numpy's default) is x_k + (h − k)·(x_{k+1} − x_k), h = (n − 1)·p + 1, k = ⌊h⌋. Probabilities are
//! decimals and all of this is exact; only the result is rounded, once, to the nearest double.
//!
//! Parameters: `probabilities` (a list, for example `[0.25, 0.5, 0.75]`), `type` (1 or 7, which is the default), `digits_before`, `digits_after`, `min_samples`,
//! `min_cell` (values on either side of each one that opens). SecureMedian has neither of the first two.

use zeroize::Zeroizing;

use super::answer::{Answer, Answers, Field};
use super::parameters::{Canonical, DIGITS, Given, MIN_CELL, MIN_SAMPLES, unusable};
use super::ranked::Ranked;
use crate::keys::KeySpace;
use crate::microprotocol::{Microprotocol, Refusal, Release, Shape};
use crate::net::{Abort, Net};
use crate::number::{Digits, Grid, MAX_DIGITS, Total};
use crate::order::{self, Found, Wanted};
use crate::threshold::{Thresholds, Why};

/// Most probabilities.
const MOST_PROBABILITIES: usize = 100;
/// Most decimals of a probability.
const MOST_DECIMALS: u16 = 15;

/// See the [module](self).
#[derive(Debug)]
pub struct OfProbabilities<const MEDIAN: bool>;

/// The quantiles of probabilities that are parameters.
pub type Quantiles = OfProbabilities<false>;
/// The one of one half.
pub type SecureMedian = OfProbabilities<true>;

/// How a quantile is computed from the ordered values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interpolation {
    /// R's type 1: the inverse of the empirical distribution function.
    Inverse,
    /// R's type 7: linear between the two neighbours.
    Linear,
}

impl Interpolation {
    /// From the parameter `type`.
    pub(super) fn read(text: Option<&str>) -> Result<Interpolation, Refusal> {
        match text {
            None | Some("7") => Ok(Interpolation::Linear),
            Some("1") => Ok(Interpolation::Inverse),
            Some(_) => Err(unusable(
                "type",
                "type is 1 (a value of the data) or 7 (linear between two), numbered as in R",
            )),
        }
    }

    /// As in R.
    pub(super) fn number(self) -> u8 {
        match self {
            Interpolation::Inverse => 1,
            Interpolation::Linear => 7,
        }
    }
}

/// What all parties agree on.
#[derive(Clone, Debug)]
pub struct Params {
    pub(super) grid: Grid,
    pub(super) thresholds: Thresholds,
    pub(super) probabilities: Vec<Probability>,
    pub(super) interpolation: Interpolation,
}

/// A decimal from 0 to 1: `units` / 10^`decimals`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Probability {
    units: u64,
    decimals: u16,
}

impl Probability {
    const HALF: Probability = Probability { units: 5, decimals: 1 };

    /// A quarter and three quarters enclose it.
    pub(super) const QUARTILES: [Probability; 3] = [
        Probability { units: 25, decimals: 2 },
        Probability::HALF,
        Probability { units: 75, decimals: 2 },
    ];

    fn read(text: &str) -> Option<Probability> {
        let digits = Digits::new(1, MOST_DECIMALS).ok()?;
        let grid = Grid::new(digits);
        let mut element = vec![0; grid.ring().limbs()];
        grid.add_token(text.as_bytes(), &mut element).ok()?;
        let (mut units, mut decimals) = (element[0], MOST_DECIMALS);
        // A grid that rounds would take what has more decimals.
        let exact = element[1..].iter().all(|limb| *limb == 0) && units <= 10u64.pow(MOST_DECIMALS.into());
        while decimals > 0 && units % 10 == 0 {
            (units, decimals) = (units / 10, decimals - 1);
        }
        let probability = Probability { units, decimals };
        let same =
            crate::number::canonical(text.as_bytes())? == crate::number::canonical(probability.text().as_bytes())?;
        (exact && same).then_some(probability)
    }

    fn text(self) -> String {
        if self.decimals == 0 {
            return self.units.to_string();
        }
        let digits = format!("{:0>width$}", self.units, width = usize::from(self.decimals) + 1);
        let (whole, fraction) = digits.split_at(digits.len() - usize::from(self.decimals));
        format!("{whole}.{fraction}")
    }

    fn scale(self) -> u128 {
        10u128.pow(self.decimals.into())
    }

    /// The two ranks between which the quantile of `samples` values lies, from 1, and its place between them: `rest` / 10^`decimals`.
    fn ranks(self, samples: u64, interpolation: Interpolation) -> ([u64; 2], u64) {
        if samples == 0 {
            return ([0, 0], 0);
        }
        // Below 2^31 · 10^15.
        let (samples, units) = (u128::from(samples), u128::from(self.units));
        let rank = |rank: u128| u64::try_from(rank.clamp(1, samples)).unwrap_or(1);
        match interpolation {
            Interpolation::Inverse => {
                let only = rank((samples * units).div_ceil(self.scale()));
                ([only, only], 0)
            }
            Interpolation::Linear => {
                let place = (samples - 1) * units;
                let (below, rest) = (place / self.scale() + 1, place % self.scale());
                let above = if rest == 0 { below } else { below + 1 };
                ([rank(below), rank(above)], u64::try_from(rest).unwrap_or(0))
            }
        }
    }
}

impl Params {
    /// How many values are searched for: always as many, whatever the number of samples.
    pub(super) fn wanted(&self) -> usize {
        self.each() * self.probabilities.len()
    }

    /// How many for each probability.
    fn each(&self) -> usize {
        match self.interpolation {
            Interpolation::Inverse => 1,
            Interpolation::Linear => 2,
        }
    }

    fn ranks(&self, samples: u64) -> Vec<u64> {
        let all = self.probabilities.iter().flat_map(|probability| {
            let ([below, above], _) = probability.ranks(samples, self.interpolation);
            [
                Some(below),
                (self.interpolation == Interpolation::Linear).then_some(above),
            ]
        });
        all.flatten().collect()
    }

    /// The quantiles of each column.
    pub(super) async fn find(
        &self,
        input: &Ranked,
        net: &mut Net,
    ) -> Result<Vec<(Result<u64, Why>, Vec<Result<Total, Why>>)>, Abort> {
        let space = KeySpace::new(&self.grid);
        let thresholds = self.thresholds.strictest(net.session().thresholds);
        let ranks = |samples| self.ranks(samples);
        let wanted = Wanted {
            values: self.wanted(),
            together: self.each(),
        };
        let found = order::values(net, &space, &thresholds, &input.columns, wanted, ranks).await?;
        Ok(found
            .into_iter()
            .map(|found| (found.samples, self.quantiles(&found)))
            .collect())
    }

    fn quantiles(&self, found: &Found) -> Vec<Result<Total, Why>> {
        let quantile = |(probability, values): (&Probability, &[Result<Vec<u64>, Why>])| {
            let below = values.first().ok_or(Why::NoValues)?.as_ref().map_err(|why| *why)?;
            let above = values.last().ok_or(Why::NoValues)?.as_ref().map_err(|why| *why)?;
            let (_, rest) = probability.ranks(found.samples?, self.interpolation);
            Ok(between(&self.grid, below, above, rest, probability.decimals))
        };
        self.probabilities
            .iter()
            .zip(found.values.chunks(self.each()))
            .map(quantile)
            .collect()
    }

    /// Interpolated results have more decimals than the data.
    pub(super) fn check_room(self) -> Result<Params, Refusal> {
        let digits = self.grid.digits();
        let more = self.probabilities.iter().map(|probability| probability.decimals).max();
        let total = u32::from(digits.before()) + u32::from(digits.after()) + u32::from(more.unwrap_or(0));
        if self.interpolation == Interpolation::Linear && total > MAX_DIGITS {
            let message = format!("interpolated values would have {total} digits, {MAX_DIGITS} are possible");
            return Err(unusable("", &message));
        }
        Ok(self)
    }

    pub(super) fn rounds(&self, parties: usize, thresholds: &Thresholds) -> u32 {
        let thresholds = self.thresholds.strictest(*thresholds);
        order::rounds(parties, &KeySpace::new(&self.grid), &thresholds, self.wanted())
    }
}

/// below + (above − below) · rest / 10^decimals, exactly, as a number that is rounded once. below ≤ above, rest < 10^decimals.
fn between(grid: &Grid, below: &[u64], above: &[u64], rest: u64, decimals: u16) -> Total {
    let digits = grid.digits();
    let finer = Digits::new(digits.before(), digits.after() + decimals);
    let Some(finer) = finer.ok().filter(|_| rest > 0).map(Grid::new) else {
        // Probabilities whose decimals the widest grid does not hold are refused.
        return grid.to_total(below);
    };
    let mut result = vec![0; finer.ring().limbs()];
    if finer.add_token(grid.to_decimal(below).as_bytes(), &mut result).is_err() {
        return grid.to_total(below);
    }
    let mut distance = above.to_vec();
    grid.ring().sub_assign(&mut distance, below);
    distance.resize(result.len(), 0);
    let mut carry = 0u128;
    for limb in &mut distance {
        carry += u128::from(*limb) * u128::from(rest);
        *limb = (carry & u128::from(u64::MAX)) as u64;
        carry >>= 64;
    }
    finer.ring().add_assign(&mut result, &distance);
    finer.to_total(&result)
}

fn read_quantiles(json: &str) -> Result<Params, Refusal> {
    let [after, before] = DIGITS;
    let known = ["probabilities", "type", after, before, MIN_SAMPLES, MIN_CELL];
    let given = Given::read(Quantiles::NAME, json, &known)?;
    let example = "for example [0.25, 0.5, 0.75]";
    let list = given
        .text("probabilities")
        .ok_or_else(|| given.lacks("probabilities", example))?;
    let expected = || {
        let message = format!(
            "probabilities is a list of 1 to {MOST_PROBABILITIES} numbers from 0 to 1 with at most {MOST_DECIMALS} decimals, {example}"
        );
        unusable("probabilities", &message)
    };
    let list: Vec<&serde_json::value::RawValue> = serde_json::from_str(list).map_err(|_| expected())?;
    let read: Option<Vec<Probability>> = list.iter().map(|text| Probability::read(text.get())).collect();
    let probabilities = read
        .filter(|all| (1..=MOST_PROBABILITIES).contains(&all.len()))
        .ok_or_else(expected)?;
    let params = Params {
        grid: given.grid()?,
        thresholds: given.thresholds()?,
        probabilities,
        interpolation: Interpolation::read(given.text("type"))?,
    };
    params.check_room()
}

fn read_median(json: &str) -> Result<Params, Refusal> {
    let [after, before] = DIGITS;
    let given = Given::read(SecureMedian::NAME, json, &[after, before, MIN_SAMPLES, MIN_CELL])?;
    let params = Params {
        grid: given.grid()?,
        thresholds: given.thresholds()?,
        probabilities: vec![Probability::HALF],
        interpolation: Interpolation::Linear,
    };
    params.check_room()
}

impl<const MEDIAN: bool> Microprotocol for OfProbabilities<MEDIAN> {
    const NAME: &'static str = if MEDIAN { "SecureMedian" } else { "Quantiles" };
    const ALIASES: &'static [&'static str] = &[];
    const RELEASES: &'static [Release] = &[Release::Order];
    const COMPARES: bool = true;
    type Params = Params;
    type Input = Ranked;
    type Output = Answers;

    fn params(json: &str) -> Result<Params, Refusal> {
        if MEDIAN {
            read_median(json)
        } else {
            read_quantiles(json)
        }
    }

    fn canonical(params: &Params) -> String {
        let canonical = Canonical::new(&params.grid, &params.thresholds);
        if MEDIAN {
            return canonical.text();
        }
        let all: Vec<String> = params.probabilities.iter().map(|one| one.text()).collect();
        let canonical = canonical.with("probabilities", format!("[{}]", all.join(",")));
        canonical.with("type", params.interpolation.number().to_string()).text()
    }

    fn input(params: &Params, parties: usize, texts: &[&str]) -> Result<Ranked, Refusal> {
        Ranked::read(&params.grid, parties, texts, params.wanted())
    }

    fn rounds(params: &Params, parties: usize, thresholds: &Thresholds) -> u32 {
        params.rounds(parties, thresholds)
    }

    fn shape(params: &Params, parties: usize, input: &Ranked) -> Shape {
        input.shape(&params.grid, parties, params.wanted())
    }

    fn digits(params: &Params) -> Option<Digits> {
        Some(params.grid.digits())
    }

    fn samples(input: &Ranked) -> Zeroizing<Vec<u64>> {
        input.samples()
    }

    async fn run(params: Params, input: Ranked, net: &mut Net) -> Result<Answers, Abort> {
        let found = params.find(&input, net).await?;
        let all: Vec<serde_json::Value> = params
            .probabilities
            .iter()
            .filter_map(|probability| serde_json::from_str(&probability.text()).ok())
            .collect();
        let answer = |(samples, mut quantiles): (_, Vec<_>)| {
            let mut fields = vec![("samples", Field::Count(samples))];
            if MEDIAN {
                let median = quantiles.pop().unwrap_or(Err(Why::NoValues));
                fields.push(("median", Field::Number(median)));
            } else {
                fields.push(("probabilities", Field::Public(all.clone().into())));
                fields.push(("quantiles", Field::numbers(quantiles)));
            }
            Answer::new(fields)
        };
        Ok(Answers::new(input.shape, found.into_iter().map(answer).collect()))
    }
}
