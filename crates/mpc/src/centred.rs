//! Sums, and sums of squares and products about the mean, over all parties: what variances and covariances are made of.
//!
//! - **How**: two rounds of pairwise masks ([`crate::mask`]). [`sums`] opens, for each column, how many values there are and their sum X, exact on the grid. The integer M next to the mean
//!   is then public; each party subtracts it from its own values, exactly, and [`products`] opens Σ(x − M)(y − M') as an integer, in a ring that holds it whatever the data. The remainder
//!   R = X − n·M (the mean is hardly ever on the grid) is corrected for afterwards: n·Σ(x − mean)(y − mean') = n·Σ(x − M)(y − M') − R·R'. Nothing is rounded and nothing cancels.
//! - **What each party sees**: masked vectors, uniformly random up to their sums, and the sums. Those follow from the declared outputs: the exact mean, variance and covariance say what the exact
//!   sums are, and the other way round. So a simulator that is given them draws the rest as in [`crate::mask`].
//! - **Adversary**: semi-honest, any number of colluding parties. With all parties but one colluding, the remaining one's own sums follow by subtraction.
//! - **Source**: for two passes instead of power sums, Chan, Golub, LeVeque: *Algorithms for computing the sample variance*, The American Statistician 37(3), 1983.

use num_bigint::BigInt;
use zeroize::Zeroizing;

use crate::exact::{self, Float, Ratio, integer, unit};
use crate::mask;
use crate::net::{Abort, Net};
use crate::number::Grid;
use crate::opening::Opens;
use crate::ring::Ring;
use crate::threshold::{self, MOST_SAMPLES, SAMPLES, Thresholds, Why};

/// What [`sums`] opens, with the numbers of missing values as further counts.
pub const OPENS_SUMS: [Opens; 4] = [
    threshold::OPENS_ENOUGH,
    Opens::Value(SAMPLES),
    Opens::Value(MISSING),
    Opens::Value(SUMS),
];
/// What [`products`] opens.
pub const OPENS_PRODUCTS: Opens = Opens::Value(PRODUCTS);

const SUMS: &str = "sums";
/// Of values.
pub(crate) const MISSING: &str = "number of missing values";
const PRODUCTS: &str = "sums of squares and products about the means";

/// The values of one column that a party has: elements of the grid's ring, one behind the other. Private.
pub type Column = Zeroizing<Vec<u64>>;

/// Where a column's values are, all parties' together.
#[derive(Clone, Debug)]
pub struct Centre {
    /// How many there are: at least one.
    pub samples: u64,
    /// Their sum, in steps of the grid.
    pub sum: BigInt,
    /// The integer next to the mean, in steps of the grid.
    mean: BigInt,
    /// The sum without samples · mean.
    rest: BigInt,
}

impl Centre {
    #[cfg(test)]
    pub(crate) fn of(samples: u64, sum: i64) -> Centre {
        Centre::new(samples, sum.into()).expect("some samples")
    }

    fn new(samples: u64, sum: BigInt) -> Result<Centre, Why> {
        if samples == 0 {
            return Err(Why::NoValues);
        }
        let count = BigInt::from(samples);
        // To the nearest: the floor of (2·sum + n) / 2n.
        let twice: BigInt = (&sum << 1_u8) + &count;
        let mean = floor(&twice, &(&count << 1_u8));
        let rest = &sum - &mean * &count;
        Ok(Centre {
            samples,
            sum,
            mean,
            rest,
        })
    }

    /// The mean, in steps of the grid.
    #[must_use]
    pub fn exact_mean(&self) -> Option<Ratio> {
        Ratio::new(self.sum.clone(), self.samples)
    }

    /// The mean.
    #[must_use]
    pub fn mean(&self, grid: &Grid) -> f64 {
        self.exact_mean()
            .map_or(f64::NAN, |mean| mean.shifted(unit(grid)).to_f64())
    }

    /// The integer next to the mean, as an element of the grid's ring.
    fn element(&self, grid: &Grid) -> Vec<u64> {
        exact::element(&self.mean, grid.ring().limbs())
    }

    /// How far the mean is from the integer next to it: at most half a step.
    #[must_use]
    pub fn remainder(&self) -> f64 {
        Ratio::new(self.rest.clone(), self.samples).map_or(0.0, |rest| rest.to_f64())
    }
}

/// n·Σ(x − mean)(y − mean'), in squared steps of the grid, of columns with as many samples.
#[derive(Clone, Debug)]
pub struct Product {
    samples: u64,
    /// Exact.
    scaled: BigInt,
}

impl Product {
    /// Σ(x − mean)(y − mean').
    #[must_use]
    pub fn exact_sum(&self) -> Option<Ratio> {
        Ratio::new(self.scaled.clone(), self.samples)
    }

    /// Σ(x − mean)(y − mean') divided by n − `less`, in squared steps of the grid.
    ///
    /// # Errors
    /// Too few values.
    pub fn exact_mean(&self, less: u64) -> Result<Ratio, Why> {
        let divisor = self.samples.saturating_sub(less);
        let ratio = Ratio::new(self.scaled.clone(), BigInt::from(self.samples) * divisor);
        ratio.ok_or(Why::TooFewValues)
    }

    /// The same as a number: a variance or a covariance.
    ///
    /// # Errors
    /// Too few values.
    pub fn mean(&self, grid: &Grid, less: u64) -> Result<f64, Why> {
        Ok(self.exact_mean(less)?.shifted(2 * unit(grid)).to_f64())
    }

    /// The square root of it: a standard deviation.
    ///
    /// # Errors
    /// Too few values.
    pub fn deviation(&self, grid: &Grid, less: u64) -> Result<f64, Why> {
        Ok(self.exact_mean(less)?.shifted(2 * unit(grid)).root().to_f64())
    }

    /// This one divided by another one of as many samples, if that is not 0.
    #[must_use]
    pub fn quotient(&self, other: &Product) -> Option<Ratio> {
        Ratio::new(self.scaled.clone(), other.scaled.clone())
    }

    /// Whether it is less than 0.
    #[must_use]
    pub fn is_negative(&self) -> bool {
        self.scaled < BigInt::ZERO
    }

    /// n·Σx·y, in squared steps of the grid, for columns with these centres.
    #[must_use]
    pub fn about_zero(&self, one: &Centre, other: &Centre) -> BigInt {
        &self.scaled + &one.sum * &other.sum
    }

    /// Whether it is 0: for a column's square, whether all values are equal.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.scaled == BigInt::ZERO
    }
}

/// How the values of several columns are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counting {
    /// Each column has values of its own.
    Each,
    /// They have the same rows, which are counted once.
    Rows,
}

impl Counting {
    fn counts(self, columns: usize) -> usize {
        match self {
            Counting::Each => columns,
            Counting::Rows => columns.min(1),
        }
    }
}

/// What opens of columns first.
#[derive(Debug)]
pub struct Sums {
    /// By column.
    pub centres: Vec<Result<Centre, Why>>,
    /// By column: how many values there are, if that may be told.
    pub samples: Vec<Result<u64, Why>>,
    /// The counts that were to be added besides.
    pub counts: Vec<u64>,
}

/// Rounds of [`sums`].
#[must_use]
pub fn sums_rounds(parties: usize, thresholds: &Thresholds) -> u32 {
    if thresholds.want_samples() {
        threshold::totals_rounds(parties, thresholds) + 1
    } else {
        1
    }
}

/// Longest message of [`sums`] and [`products`].
#[must_use]
pub fn message_bytes(grid: &Grid, parties: usize, columns: usize, counts: usize, products: usize) -> usize {
    let sums = (2 * columns + counts) * grid.ring().element_bytes();
    let products = products * product_ring(grid).element_bytes();
    sums.max(products)
        .max(threshold::totals_message_bytes(parties, columns))
}

/// The sum of each column, and how many values it has; and the sums of further `counts`, of which the first `of_columns` belong to a column each, in order (or to all of them, if rows are counted), and the
/// others to none. What has too few samples does not open, nor what belongs to it.
///
/// # Errors
/// A peer that breaks the protocol.
pub async fn sums(
    net: &mut Net,
    grid: &Grid,
    thresholds: &Thresholds,
    (columns, counting): (&[Column], Counting),
    (counts, of_columns): (&[u64], usize),
) -> Result<Sums, Abort> {
    let ring = grid.ring();
    let limbs = ring.limbs();
    let counted = counting.counts(columns.len());
    let place = |column: usize| column.min(counted.saturating_sub(1));
    let own = columns.iter().take(counted).map(|column| (column.len() / limbs) as u64);
    let own = Zeroizing::new(own.collect::<Vec<u64>>());
    let mut samples: Option<Vec<Option<u64>>> = None;
    if thresholds.want_samples() {
        samples = Some(threshold::totals(net, thresholds, &own).await?);
    }
    let work = columns.iter().map(|column| column.len() * 2).sum();
    net.work_ahead(work).await;
    let own = if samples.is_some() { &[][..] } else { &own };
    let mut vector = Zeroizing::new(vec![0; (columns.len() + own.len() + counts.len()) * limbs]);
    let mut slots = vector.chunks_exact_mut(limbs);
    let may_open = |column: usize| samples.as_ref().is_none_or(|samples| samples[place(column)].is_some());
    for (index, (column, slot)) in columns.iter().zip(&mut slots).enumerate() {
        // What must not open is added as 0: messages are as long as otherwise.
        if may_open(index) {
            let elements = column.chunks_exact(limbs);
            elements.for_each(|element| ring.add_assign(slot, element));
        }
    }
    for (count, slot) in own.iter().zip(&mut slots) {
        slot[0] = *count;
    }
    for (index, (count, slot)) in counts.iter().zip(slots).enumerate() {
        if index >= of_columns || may_open(index) {
            slot[0] = *count;
        }
    }
    net.will_open_parts(&[(SUMS, columns.len()), (SAMPLES, own.len()), (MISSING, counts.len())]);
    let opened = mask::sum(net, ring, vector).await?;
    let mut opened = opened.chunks_exact(limbs);
    let sums: Vec<BigInt> = opened.by_ref().take(columns.len()).map(integer).collect();
    // Honest parties have no more; the limit keeps what follows in range whatever the others send.
    let mut rest = opened.map(|element| element[0].min(MOST_SAMPLES));
    let samples = samples.unwrap_or_else(|| rest.by_ref().take(counted).map(Some).collect());
    let count = |column: usize| samples[place(column)].ok_or(Why::FewSamples);
    let samples: Vec<Result<u64, Why>> = (0..columns.len()).map(count).collect();
    let centre = |(sum, samples): (BigInt, &Result<u64, Why>)| Centre::new((*samples)?, sum);
    Ok(Sums {
        centres: sums.into_iter().zip(&samples).map(centre).collect(),
        counts: rest.collect(),
        samples,
    })
}

/// Σ(x − mean)(y − mean') of pairs of columns; both have as many values at each party, in the same order of rows. One round.
///
/// # Errors
/// A peer that breaks the protocol.
pub async fn products(
    net: &mut Net,
    grid: &Grid,
    columns: &[Column],
    centres: &[Result<Centre, Why>],
    pairs: &[(usize, usize)],
) -> Result<Vec<Result<Product, Why>>, Abort> {
    let ring = product_ring(grid);
    let work = pairs.iter().map(|(one, _)| columns[*one].len() * 8).sum();
    net.work_ahead(work).await;
    let mut vector = Zeroizing::new(vec![0; pairs.len() * ring.limbs()]);
    fill(grid, ring, &mut vector, columns, centres, pairs);
    net.will_open(PRODUCTS);
    let opened = mask::sum(net, ring, vector).await?;
    read(ring, &opened, centres, pairs)
}

/// This party's part of [`products`], in a ring that is at least as wide as [`product_ring`].
pub fn fill(
    grid: &Grid,
    ring: Ring,
    vector: &mut [u64],
    columns: &[Column],
    centres: &[Result<Centre, Why>],
    pairs: &[(usize, usize)],
) {
    for ((one, other), slot) in pairs.iter().zip(vector.chunks_exact_mut(ring.limbs())) {
        if let (Ok(first), Ok(second)) = (&centres[*one], &centres[*other]) {
            let deviations = [
                Deviations::new(grid, &columns[*one], first),
                Deviations::new(grid, &columns[*other], second),
            ];
            add_products(ring, slot, deviations);
        }
    }
}

/// What has opened of [`products`].
///
/// # Errors
/// A sum of squares below 0, which no data have: somebody has not added up what is there.
pub fn read(
    ring: Ring,
    opened: &[u64],
    centres: &[Result<Centre, Why>],
    pairs: &[(usize, usize)],
) -> Result<Vec<Result<Product, Why>>, Abort> {
    let product = |((one, other), element): (&(usize, usize), &[u64])| {
        let (Ok(first), Ok(second)) = (&centres[*one], &centres[*other]) else {
            let why = [one, other].map(|column| centres[*column].as_ref().err().copied());
            return Ok(Err(why.into_iter().flatten().next().unwrap_or(Why::NoValues)));
        };
        let product = Product {
            samples: first.samples,
            scaled: integer(element) * first.samples - &first.rest * &second.rest,
        };
        if one == other && product.is_negative() {
            return Err(Abort::StoriesDiffer);
        }
        Ok(Ok(product))
    };
    let elements = opened.chunks_exact(ring.limbs());
    pairs.iter().zip(elements).map(product).collect()
}

/// A ring for sums of products of two deviations, whatever the data: |x − M| < 4·10^digits (x may be a difference of two numbers), at most 2^31 summands, a sign.
#[must_use]
pub fn product_ring(grid: &Grid) -> Ring {
    let bits = 2 * (bits(grid) + 2) + 31 + 1;
    Ring::new(bits.next_multiple_of(64)).expect("2 · 2022 + 32 bits at most, which is below 4096")
}

/// Bits of the largest magnitude on a grid.
#[must_use]
pub fn bits(grid: &Grid) -> u32 {
    let bound = grid.bound();
    let top = bound.iter().rposition(|word| *word != 0);
    top.map_or(0, |top| 64 * top as u32 + 64 - bound[top].leading_zeros())
}

/// One party's x − M, one after the other. Private.
pub struct Deviations<'a> {
    ring: Ring,
    column: &'a [u64],
    mean: Vec<u64>,
    at: usize,
    magnitude: Zeroizing<Vec<u64>>,
}

impl std::fmt::Debug for Deviations<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deviations").finish_non_exhaustive()
    }
}

impl<'a> Deviations<'a> {
    /// Of a column.
    #[must_use]
    pub fn new(grid: &Grid, column: &'a [u64], centre: &Centre) -> Deviations<'a> {
        let ring = grid.ring();
        Deviations {
            ring,
            column,
            mean: centre.element(grid),
            at: 0,
            magnitude: Zeroizing::new(vec![0; ring.limbs()]),
        }
    }

    /// The magnitude of the next one, and whether it is negative.
    pub fn next_exact(&mut self) -> Option<(&[u64], bool)> {
        let limbs = self.ring.limbs();
        let element = self.column.get(self.at..self.at + limbs)?;
        self.at += limbs;
        self.magnitude.copy_from_slice(element);
        self.ring.sub_assign(&mut self.magnitude, &self.mean);
        let negative = self.magnitude.last().is_some_and(|top| top >> 63 == 1);
        if negative {
            self.ring.neg_assign(&mut self.magnitude);
        }
        Some((&self.magnitude, negative))
    }

    /// The next one as a number: x − mean in steps of the grid, the remainder taken into account.
    pub fn next_float(&mut self, remainder: f64) -> Option<Float> {
        let (magnitude, negative) = self.next_exact()?;
        // Beyond 2^53 steps half a step makes no difference.
        let small = magnitude[0] >> 53 == 0 && magnitude[1..].iter().all(|word| *word == 0);
        if small {
            #[allow(clippy::cast_precision_loss)] // below 2^53
            let exact = magnitude[0] as f64;
            return Some(Float::new(if negative { -exact } else { exact } - remainder));
        }
        Some(Float::of_magnitude(magnitude, negative))
    }
}

fn add_products(ring: Ring, sum: &mut [u64], [mut one, mut other]: [Deviations<'_>; 2]) {
    let mut product = Zeroizing::new(vec![0; sum.len()]);
    while let (Some((x, x_negative)), Some((y, y_negative))) = (one.next_exact(), other.next_exact()) {
        product.fill(0);
        multiply(&mut product, x, y);
        if x_negative == y_negative {
            ring.add_assign(sum, &product);
        } else {
            ring.sub_assign(sum, &product);
        }
    }
}

/// `product += x · y`; what does not fit is 0.
fn multiply(product: &mut [u64], x: &[u64], y: &[u64]) {
    for (place, x) in x.iter().enumerate() {
        let mut carry = 0_u128;
        let Some(slots) = product.get_mut(place..) else { return };
        let factors = y.iter().copied().chain(std::iter::repeat(0));
        for (slot, y) in slots.iter_mut().zip(factors) {
            carry += u128::from(*slot) + u128::from(*x) * u128::from(y);
            *slot = carry as u64;
            carry >>= 64;
        }
    }
}

/// Divided and rounded down; the divisor is greater than 0.
fn floor(number: &BigInt, divisor: &BigInt) -> BigInt {
    let quotient = number / divisor;
    if number.sign() == num_bigint::Sign::Minus && &quotient * divisor != *number {
        quotient - 1
    } else {
        quotient
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::number::Digits;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_centre_is_next_to_the_mean(samples in 1u64..1000, sum in -100_000i64..100_000) {
            let centre = Centre::of(samples, sum);
            prop_assert_eq!(&centre.mean * samples + &centre.rest, sum.into());
            prop_assert!((&centre.rest * BigInt::from(2)).magnitude() <= BigInt::from(samples).magnitude());
            prop_assert!(centre.remainder().abs() <= 0.5);
        }

        #[test]
        fn products_are_exact(pairs in proptest::collection::vec((-999_999i64..999_999, -999_999i64..999_999), 1..20), words in 1u16..3) {
            let grid = Grid::new(Digits::new(6 * words * words, 0).unwrap());
            let elements = |pick: &dyn Fn(&(i64, i64)) -> i64| -> Column {
                Zeroizing::new(pairs.iter().flat_map(|pair| exact::element(&pick(pair).into(), grid.ring().limbs())).collect())
            };
            let (x, y) = (elements(&|pair| pair.0), elements(&|pair| pair.1));
            let n = pairs.len() as i64;
            let centre = |sum: i64| Centre::of(n as u64, sum);
            let (sx, sy) = (pairs.iter().map(|pair| pair.0).sum::<i64>(), pairs.iter().map(|pair| pair.1).sum::<i64>());
            let (cx, cy) = (centre(sx), centre(sy));
            let ring = product_ring(&grid);
            let mut sum = vec![0; ring.limbs()];
            add_products(ring, &mut sum, [Deviations::new(&grid, &x, &cx), Deviations::new(&grid, &y, &cy)]);
            let scaled = integer(&sum) * n - &cx.rest * &cy.rest;
            let expected: i128 = pairs.iter().map(|(x, y)| (i128::from(n * x) - i128::from(sx)) * (i128::from(n * y) - i128::from(sy))).sum();
            prop_assert_eq!(scaled * n, BigInt::from(expected));
        }
    }

    #[test]
    fn the_ring_holds_the_largest_sums() {
        for (before, after) in [(1, 0), (18, 12), (18, 0), (300, 308), (608, 0)] {
            let grid = Grid::new(Digits::new(before, after).unwrap());
            let ring = product_ring(&grid);
            let largest = BigInt::from(10).pow(u32::from(before) + u32::from(after)) * 4;
            let sum: BigInt = &largest * &largest * BigInt::from(1u64 << 31);
            assert!(sum.bits() < u64::from(ring.bits()), "{before} {after}");
            assert!(ring.bits() < 2 * bits(&grid) + 36 + 64);
        }
    }
}
