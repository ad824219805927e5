//! StatisticsUnivariate: what describes everybody's numbers, column by column.
//!
//! - **Declared outputs**, everything that opens, for each column: how many numbers all parties have, and how many are missing; their exact sum; the exact sum of squares about the mean (mean and variance
//!   say the same); the sums of third to sixth powers of (x − mean)/σ, of mean/x and of ln(x/mean) to 2^−64, from which skewness to hyper-flatness and the harmonic and geometric means follow; whether there is a
//!   number that is not greater than 0 (then the last two are random); the smallest and the greatest, unless rules or parameters say no. Where rules want a minimum of samples: whether it is reached; if not, nothing else opens.
//! - **How**: three passes of masked sums, each about what the pass before has found ([`crate::centred`]), so that nothing overflows or cancels, and raw sums of powers never open: exact ones would tell far
//!   more about single numbers than the rounded moments do. Extremes by comparison ([`super::minimum_maximum`]).
//! - **A number that is not greater than 0** makes harmonic and geometric mean undefined. Its party adds uniform ring elements to both sums and to a flag of at least 128 bits: a flag that is not 0 means
//!   `null`, and nobody learns whose numbers these are or how many.
//! - **Rounds** after the last input: 3, and 12 for the extremes of three parties; with a minimum of samples 16 more, with one for counts 17.
//! - **Adversary**: semi-honest, any number of colluding parties.
//!   A party that makes mean or variance up chooses the scale on which powers open: within what its peers' own numbers allow (|z| ≤ √n), or they stop.
//! - **What each party sees**: masked vectors, uniformly random up to their sums ([`crate::mask`]); those sums are the declared outputs, or uniform where the flag says so. Each pass depends on the public results of
//!   the one before only, so a simulator that has the outputs draws the passes one after the other.
//! - **Not protected**: the outputs. A number far from all others shows in the higher moments, and one near 0 in the harmonic mean, also where extremes are hidden. Of few numbers, exact sums and sums of squares can be solved for. Columns with different numbers of samples tell how many of one are missing where the other is not.
//!
//! Inputs: a list of numbers, or named columns; `null` is missing. Parameters: `digits_before`, `digits_after`, `min_samples`, `min_cell` (for the number of missing values), `extremes`.

use num_bigint::BigInt;
use zeroize::Zeroizing;

use super::answer::{Answer, Answers, Field};
use super::columns::{self, Columns, Missing, first_pass, first_rounds, pass_bytes, squares};
use super::minimum_maximum::{self, check_size, extreme_keys, minimum_and_maximum, smallest_bytes, smallest_rounds};
use super::parameters::{Canonical, DIGITS, Given, MIN_CELL, MIN_SAMPLES};
use super::ranked;
use crate::centred::{self, Centre, Column, Counting, Deviations, Product};
use crate::exact::{Float, Ratio, element, integer, unit};
use crate::keys::KeySpace;
use crate::mask::{self, Prg};
use crate::microprotocol::{Microprotocol, Refusal, Release, SeeRow, Shape};
use crate::net::{Abort, Net};
use crate::number::{Digits, Grid, Total};
use crate::opening::Opens;
use crate::ring::Ring;
use crate::threshold::{Thresholds, Why};

const SQUARES: &str = "sums of squares about the means";
const RECIPROCALS: &str = "sums of mean/x";
const LOGARITHMS: &str = "sums of ln(x/mean)";
const NOT_POSITIVE: &str = "whether some value is not greater than 0 (then neither of the next two)";
const POWERS_OPEN: &str = "sums of third to sixth powers of (x − mean)/σ";

/// See the [module](self).
#[derive(Debug)]
pub struct StatisticsUnivariate;

/// What all parties agree on.
#[derive(Clone, Debug)]
pub struct Params {
    grid: Grid,
    thresholds: Thresholds,
    extremes: bool,
}

impl Params {
    fn thresholds(&self, session: &Thresholds) -> Thresholds {
        self.thresholds.strictest(*session)
    }

    fn extremes(&self, thresholds: &Thresholds) -> bool {
        self.extremes && !thresholds.no_extremes
    }
}

impl Microprotocol for StatisticsUnivariate {
    const NAME: &'static str = "StatisticsUnivariate";
    const ALIASES: &'static [&'static str] = &[];
    const RELEASES: &'static [Release] = &[Release::Statistic];
    const OPENS: &'static [Opens] = &{
        let [enough, samples, few, none, missing, sums] = columns::OPENS;
        let [extremes] = minimum_maximum::OPENS_SMALLEST;
        [
            enough,
            samples,
            few,
            none,
            missing,
            sums,
            Opens::Value(SQUARES),
            Opens::Random(NOT_POSITIVE),
            Opens::Unless(RECIPROCALS),
            Opens::Unless(LOGARITHMS),
            Opens::Value(POWERS_OPEN),
            extremes,
        ]
    };
    const COMPARES: bool = true;
    const TABLES: bool = true;
    type Params = Params;
    type Input = Columns;
    type Output = Answers;

    fn params(json: &str) -> Result<Params, Refusal> {
        let [after, before] = DIGITS;
        let given = Given::read(Self::NAME, json, &[after, before, MIN_SAMPLES, MIN_CELL, "extremes"])?;
        Ok(Params {
            grid: given.grid()?,
            thresholds: given.thresholds()?,
            extremes: given.flag("extremes")?.unwrap_or(true),
        })
    }

    fn canonical(params: &Params) -> String {
        let canonical = Canonical::new(&params.grid, &params.thresholds);
        canonical.with("extremes", params.extremes.to_string()).text()
    }

    fn input(params: &Params, parties: usize, texts: &[&str]) -> Result<Columns, Refusal> {
        let columns = Columns::read(&params.grid, parties, texts)?;
        if params.extremes {
            check_size(&params.grid, parties, columns.columns.len())?;
        }
        Ok(columns)
    }

    fn rounds(params: &Params, parties: usize, thresholds: &Thresholds) -> u32 {
        let thresholds = params.thresholds(thresholds);
        let extremes = if params.extremes(&thresholds) {
            smallest_rounds(&params.grid, parties)
        } else {
            0
        };
        first_rounds(parties, &thresholds) + extremes + 2
    }

    fn shape(params: &Params, parties: usize, input: &Columns) -> Shape {
        let count = input.columns.len();
        let mut bytes = pass_bytes(&params.grid, parties, count, count, 0)
            .max(4 * count * second_ring(&params.grid).element_bytes())
            .max(4 * count * POWERS.element_bytes());
        if params.extremes {
            bytes = bytes.max(smallest_bytes(&params.grid, parties, count));
        }
        ranked::shape(&input.shape, bytes)
    }

    fn digits(params: &Params) -> Option<Digits> {
        Some(params.grid.digits())
    }

    fn samples(input: &Columns) -> Zeroizing<Vec<u64>> {
        input.samples.clone()
    }

    fn rows(params: &Params, texts: &[&str], see: &mut SeeRow<'_>) -> Result<(), Refusal> {
        columns::show(&params.grid, texts, see)
    }

    async fn run(params: Params, input: Columns, net: &mut Net) -> Result<Answers, Abort> {
        let grid = &params.grid;
        let thresholds = params.thresholds(&net.session().thresholds);
        let Columns {
            shape,
            columns,
            missing,
            ..
        } = input;
        let missing = Missing {
            counts: &missing,
            of_columns: missing.len(),
        };
        let first = first_pass(net, grid, &thresholds, (&columns, Counting::Each), missing).await?;
        let second = second_pass(net, grid, &columns, &first.centres).await?;
        let powers = third_pass(net, grid, &columns, &first.centres, &second).await?;
        let extremes = if params.extremes(&thresholds) {
            let enough: Vec<bool> = first.samples.iter().map(Result::is_ok).collect();
            net.work_ahead(columns.iter().map(|column| column.len() * 4).sum())
                .await;
            let mut keys = extreme_keys(&KeySpace::new(grid), &columns);
            Some(minimum_and_maximum(net, grid, &mut keys, &enough).await?)
        } else {
            None
        };
        let answer = |column: usize| {
            let hidden = || [Err(Why::ExtremesHidden), Err(Why::ExtremesHidden)];
            let described = Described {
                grid,
                samples: first.samples[column],
                missing: first.missing[column],
                centre: &first.centres[column],
                second: &second[column],
                powers: powers[column],
            };
            described.answer(extremes.as_ref().map_or_else(hidden, |all| all[column].clone()))
        };
        let answers = (0..columns.len()).map(answer).collect();
        Ok(Answers::new(shape, answers))
    }
}

/// What the second pass opens of a column.
#[derive(Debug)]
struct Second {
    square: Result<Product, Why>,
    /// The sum of mean/x.
    reciprocals: Result<f64, Why>,
    /// The sum of ln(x/mean).
    logarithms: Result<f64, Why>,
}

/// A ring for squares, and for sums of mean/x with 64 bits behind the point: mean and 1/x are at most the grid's bound; and for a flag.
fn second_ring(grid: &Grid) -> Ring {
    let reciprocals = centred::bits(grid) + 64 + 31 + 1;
    let bits = centred::product_ring(grid)
        .bits()
        .max(reciprocals.next_multiple_of(64))
        .max(128);
    Ring::new(bits).expect("no wider than the ring of products but for few digits")
}

async fn second_pass(
    net: &mut Net,
    grid: &Grid,
    columns: &[Column],
    centres: &[Result<Centre, Why>],
) -> Result<Vec<Second>, Abort> {
    let ring = second_ring(grid);
    let limbs = ring.limbs();
    net.work_ahead(columns.iter().map(|column| column.len() * 32).sum())
        .await;
    let pairs = squares(columns.len());
    let mut vector = Zeroizing::new(vec![0; 4 * columns.len() * limbs]);
    let (own, others) = vector.split_at_mut(columns.len() * limbs);
    centred::fill(grid, ring, own, columns, centres, &pairs);
    let mut coins = Prg::new(&net.session().own_key("undefined means", 0));
    for ((column, centre), slots) in columns.iter().zip(centres).zip(others.chunks_exact_mut(3 * limbs)) {
        if let Some(mean) = positive_mean(centre)
            && !add_means(grid, column, mean, slots, limbs)
        {
            // Whole words: the ring's width is a multiple of 64.
            coins.fill(slots);
        }
    }
    let each = [(RECIPROCALS, 1), (LOGARITHMS, 1), (NOT_POSITIVE, 1)].repeat(columns.len());
    net.will_open_parts(&[vec![(SQUARES, columns.len())], each].concat());
    let opened = mask::sum(net, ring, vector).await?;
    let (squares, others) = opened.split_at(columns.len() * limbs);
    let squares = centred::read(ring, squares, centres, &pairs)?;
    let centred = centres.iter().zip(others.chunks_exact(3 * limbs));
    let second = |(square, (centre, slots)): (Result<Product, Why>, Slots<'_>)| {
        let fixed = |place: usize| {
            let centre = centre.as_ref().map_err(|why| *why)?;
            let defined = centre.sum > BigInt::ZERO && slots[2 * limbs..].iter().all(|word| *word == 0);
            let sum = Ratio::new(
                integer(&slots[place * limbs..(place + 1) * limbs]),
                BigInt::from(1) << 64,
            );
            sum.filter(|_| defined).map(|sum| sum.to_f64()).ok_or(Why::NotPositive)
        };
        Second {
            reciprocals: fixed(0),
            logarithms: fixed(1),
            square,
        }
    };
    Ok(squares.into_iter().zip(centred).map(second).collect())
}

/// A column's centre, and what has opened of its means.
type Slots<'a> = (&'a Result<Centre, Why>, &'a [u64]);

/// The mean in steps of the grid, if it is greater than 0: otherwise some number is not, and there is nothing to add.
fn positive_mean(centre: &Result<Centre, Why>) -> Option<Float> {
    let mean = centre.as_ref().ok()?.exact_mean()?;
    mean.is_positive().then(|| mean.float())
}

/// Adds mean/x and ln(x/mean) of all numbers to the first two slots. `false` if one is not greater than 0.
fn add_means(grid: &Grid, column: &Column, mean: Float, slots: &mut [u64], limbs: usize) -> bool {
    let (reciprocals, rest) = slots.split_at_mut(limbs);
    let logarithms = &mut rest[..limbs];
    for element in column.chunks_exact(grid.ring().limbs()) {
        let negative = element.last().is_some_and(|top| top >> 63 == 1);
        let x = Float::of_magnitude(element, negative);
        if negative || !x.is_positive() {
            return false;
        }
        mean.over(x).add_fixed(reciprocals);
        Float::new(x.over(mean).ln()).add_fixed(logarithms);
    }
    true
}

/// Sums of z^3 to z^6 with 64 bits behind the point: |z| ≤ √n, so that of z^6 is at most n^3 with n < 2^31.
#[allow(clippy::unwrap_used)] // 192 is a width of a ring
const POWERS: Ring = Ring::new(192).unwrap();

/// Σ((x − mean)/σ)^k for k from 3 to 6, of each column; 0 where all numbers are equal.
async fn third_pass(
    net: &mut Net,
    grid: &Grid,
    columns: &[Column],
    centres: &[Result<Centre, Why>],
    second: &[Second],
) -> Result<Vec<[f64; 4]>, Abort> {
    let limbs = POWERS.limbs();
    net.work_ahead(columns.iter().map(|column| column.len() * 32).sum())
        .await;
    let mut vector = Zeroizing::new(vec![0; 4 * columns.len() * limbs]);
    for (column, slots) in vector.chunks_exact_mut(4 * limbs).enumerate() {
        if let (Ok(centre), Ok(square)) = (&centres[column], &second[column].square)
            && let Ok(variance) = square.exact_mean(0)
            && variance.is_positive()
        {
            let mut deviations = Deviations::new(grid, &columns[column], centre);
            let most = libm::sqrt(centre.samples as f64) * (1.0 + 1e-9);
            add_powers(&mut deviations, centre.remainder(), (variance.root(), most), slots)?;
        }
    }
    net.will_open(POWERS_OPEN);
    let opened = mask::sum(net, POWERS, vector).await?;
    let sum = |element: &[u64]| Ratio::new(integer(element), BigInt::from(1) << 64).map_or(0.0, |sum| sum.to_f64());
    let sums = |slots: &[u64]| [0, 1, 2, 3].map(|place| sum(&slots[place * limbs..(place + 1) * limbs]));
    Ok(opened.chunks_exact(4 * limbs).map(sums).collect())
}

/// Adds powers of z = (x − mean)/σ of all numbers.
///
/// # Errors
/// |z| beyond `most`, which is √n: of all numbers together none is farther from the mean. Somebody has made mean or variance up, to choose the scale on which powers of others' numbers open.
fn add_powers(
    deviations: &mut Deviations<'_>,
    remainder: f64,
    (deviation, most): (Float, f64),
    slots: &mut [u64],
) -> Result<(), Abort> {
    let limbs = POWERS.limbs();
    while let Some(distance) = deviations.next_float(remainder) {
        let z = distance.over(deviation).to_f64();
        if z.abs() > most {
            return Err(Abort::StoriesDiffer);
        }
        let (square, cube) = (z * z, z * z * z);
        let powers = [cube, square * square, square * cube, cube * cube];
        for (power, slot) in powers.into_iter().zip(slots.chunks_exact_mut(limbs)) {
            Float::new(power).add_fixed(slot);
        }
    }
    Ok(())
}

/// Everything that has opened of one column.
struct Described<'a> {
    grid: &'a Grid,
    samples: Result<u64, Why>,
    missing: Result<u64, Why>,
    centre: &'a Result<Centre, Why>,
    second: &'a Second,
    powers: [f64; 4],
}

impl Described<'_> {
    fn answer(&self, [minimum, maximum]: [Result<Total, Why>; 2]) -> Answer {
        let grid = self.grid;
        let square = || self.second.square.as_ref().map_err(|why| *why);
        let double = |value: Result<f64, Why>| Field::Double(value);
        let mean = self.centre.as_ref().map(|centre| centre.mean(grid)).map_err(|why| *why);
        let variance = |less| square()?.mean(grid, less);
        let deviation = |less| square()?.deviation(grid, less);
        let of_mean = |root: bool| {
            let count = self.samples?;
            let square = square()?
                .exact_mean(1)?
                .times(&Ratio::new(1, count).ok_or(Why::NoValues)?)
                .shifted(2 * unit(grid));
            Ok(if root { square.root().to_f64() } else { square.to_f64() })
        };
        let count = self.samples.map(|count| count as f64);
        let power = |place: usize, less: f64| {
            if square()?.is_zero() {
                return Err(Why::Constant);
            }
            Ok(self.powers[place] / count? - less)
        };
        Answer::new(vec![
            ("samples", Field::Count(self.samples)),
            ("missing", Field::Count(self.missing)),
            ("minimum", Field::Number(minimum)),
            ("maximum", Field::Number(maximum)),
            ("sum", Field::Number(self.sum())),
            ("mean", double(mean)),
            (
                "harmonic_mean",
                double(self.second.reciprocals.and_then(|sum| Ok(mean? * (count? / sum)))),
            ),
            (
                "geometric_mean",
                double(
                    self.second
                        .logarithms
                        .and_then(|sum| Ok(mean? * libm::exp(sum / count?))),
                ),
            ),
            ("variance", double(variance(1))),
            ("variance_mle", double(variance(0))),
            ("variance_of_sample_mean", double(of_mean(false))),
            ("standard_deviation", double(deviation(1))),
            ("standard_deviation_mle", double(deviation(0))),
            ("standard_error_of_sample_mean", double(of_mean(true))),
            ("coefficient_of_variation", double(self.variation(1))),
            ("coefficient_of_variation_mle", double(self.variation(0))),
            ("root_mean_square", double(self.root_mean_square())),
            ("root_mean_square_deviation", double(deviation(0))),
            ("skewness", double(power(0, 0.0))),
            ("kurtosis", double(power(1, 0.0))),
            ("kurtosis_excess", double(power(1, 3.0))),
            ("hyper_skewness", double(power(2, 0.0))),
            ("hyper_flatness", double(power(3, 0.0))),
        ])
    }

    /// Of no numbers it is 0.
    fn sum(&self) -> Result<Total, Why> {
        let limbs = self.grid.ring().limbs();
        match self.centre {
            Ok(centre) => Ok(self.grid.to_total(&element(&centre.sum, limbs))),
            Err(Why::NoValues) => Ok(self.grid.to_total(&vec![0; limbs])),
            Err(why) => Err(*why),
        }
    }

    /// Standard deviation by mean.
    fn variation(&self, less: u64) -> Result<f64, Why> {
        let centre = self.centre.as_ref().map_err(|why| *why)?;
        let variance = self.second.square.as_ref().map_err(|why| *why)?.exact_mean(less)?;
        let mean = centre.exact_mean().ok_or(Why::NoValues)?;
        if mean.is_zero() {
            return Err(Why::ZeroMean);
        }
        Ok(variance.root().over(mean.float()).to_f64())
    }

    fn root_mean_square(&self) -> Result<f64, Why> {
        let centre = self.centre.as_ref().map_err(|why| *why)?;
        let square = self.second.square.as_ref().map_err(|why| *why)?;
        let samples = BigInt::from(centre.samples);
        let mean_square = Ratio::new(square.about_zero(centre, centre), &samples * &samples).ok_or(Why::NoValues)?;
        Ok(mean_square.shifted(2 * unit(self.grid)).root().to_f64())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The farthest that one of n numbers can be from the mean is √(n − 1) standard deviations.
    #[test]
    fn a_scale_that_no_data_have_is_noticed_before_powers_open() {
        let grid = Grid::new(Digits::new(6, 0).unwrap());
        let column = Zeroizing::new(vec![0_u64, 0, 0, 10]);
        let first = Centre::of(4, 10);
        let tried = |variance: Ratio| {
            let mut slots = vec![0; 4 * POWERS.limbs()];
            let mut deviations = Deviations::new(&grid, &column, &first);
            add_powers(&mut deviations, first.remainder(), (variance.root(), 2.0), &mut slots).map(|()| slots)
        };
        // Σ(x − 2.5)² / 4 = 18.75.
        let slots = tried(Ratio::new(75, 4).unwrap()).unwrap();
        assert!(slots.iter().any(|word| *word != 0));
        assert!(tried(Ratio::new(55, 4).unwrap()).is_err());
    }
}
