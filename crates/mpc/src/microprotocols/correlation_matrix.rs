//! CorrelationMatrix: covariances and correlations of several numbers of everybody's rows.
//!
//! - **Declared outputs**, everything that opens: how many complete rows all parties have, and how many are not complete; the exact means, variances and covariances (as sums, and sums of squares and products
//!   about the means). Where rules want a minimum of samples: whether it is reached; if not, nothing else opens. Correlations and their p-values follow.
//! - **How**, **rounds**, **adversary**, **what each party sees**, **not protected**: as [`super::statistics_bivariate`], with k(k+1)/2 products.
//! - p is the probability of a correlation at least as strong if there is none, by Student's t with n − 2 degrees of freedom.
//!
//! Inputs: rows of 2 to 256 numbers, or named columns; named ones come in the order of their names. Rows with `null` are left out and counted. Parameters: `digits_before`, `digits_after`, `min_samples`,
//! `min_cell` (for the number of rows left out).

use zeroize::Zeroizing;

use super::answer::{Answer, Field};
use super::columns::{self, First, Rows};
use super::parameters::Common;
use super::statistics_bivariate::{correlation, squared};
use crate::centred::Product;
use crate::distributions::student_both;
use crate::exact::Ratio;
use crate::microprotocol::{Microprotocol, Refusal, Release, SeeRow, Shape};
use crate::net::{Abort, Net};
use crate::number::{Digits, Grid};
use crate::opening::Opens;
use crate::threshold::{Thresholds, Why};

/// Most columns.
const MOST: usize = 256;

/// See the [module](self).
#[derive(Debug)]
pub struct CorrelationMatrix;

impl Microprotocol for CorrelationMatrix {
    const NAME: &'static str = "CorrelationMatrix";
    const ALIASES: &'static [&'static str] = &[];
    const RELEASES: &'static [Release] = &[Release::Statistic];
    const OPENS: &'static [Opens] = &columns::OPENS_PASSES;
    const COMPARES: bool = true;
    const TABLES: bool = true;
    type Params = Common;
    type Input = Rows;
    type Output = Answer;

    fn params(json: &str) -> Result<Common, Refusal> {
        Common::with_cells(Self::NAME, json)
    }

    fn canonical(params: &Common) -> String {
        params.canonical()
    }

    fn input(params: &Common, parties: usize, texts: &[&str]) -> Result<Rows, Refusal> {
        Rows::read(&params.grid, parties, texts, 2..=MOST, true)
    }

    fn rounds(params: &Common, parties: usize, thresholds: &Thresholds) -> u32 {
        columns::pass_rounds(parties, &params.thresholds.strictest(*thresholds))
    }

    fn shape(params: &Common, parties: usize, input: &Rows) -> Shape {
        let width = input.columns.len();
        input.shape(&params.grid, parties, width, pairs(width).len())
    }

    fn digits(params: &Common) -> Option<Digits> {
        Some(params.grid.digits())
    }

    fn samples(input: &Rows) -> Zeroizing<Vec<u64>> {
        input.samples()
    }

    fn rows(params: &Common, texts: &[&str], see: &mut SeeRow<'_>) -> Result<(), Refusal> {
        columns::show(&params.grid, texts, see)
    }

    async fn run(params: Common, input: Rows, net: &mut Net) -> Result<Answer, Abort> {
        let grid = &params.grid;
        let thresholds = params.thresholds.strictest(net.session().thresholds);
        let pairs = pairs(input.columns.len());
        let (first, products) = input.passes(net, grid, &thresholds, &pairs).await?;
        // Some ten microseconds an entry.
        net.work_ahead(pairs.len() * 10_000).await;
        let names = input.names.map(|names| ("columns", Field::Public(names.into())));
        let mut fields = vec![
            ("samples", Field::Count(first.samples[0])),
            ("missing", Field::Count(first.missing[0])),
        ];
        fields.extend(names);
        fields.extend(Matrix { grid, first, products }.fields());
        Ok(Answer::new(fields))
    }
}

/// The lower triangle, row by row.
fn pairs(width: usize) -> Vec<(usize, usize)> {
    let row = |row: usize| (0..=row).map(move |column| (row, column));
    (0..width).flat_map(row).collect()
}

/// What has opened.
struct Matrix<'a> {
    grid: &'a Grid,
    first: First,
    /// Of [`pairs`].
    products: Vec<Result<Product, Why>>,
}

impl Matrix<'_> {
    fn fields(&self) -> [(&'static str, Field); 5] {
        let centres = self.first.centres.iter();
        let means = centres.map(|centre| centre.as_ref().map(|centre| centre.mean(self.grid)).map_err(|why| *why));
        let deviation = |column: usize| self.product(column, column)?.deviation(self.grid, 1);
        [
            ("means", Field::doubles(means)),
            ("standard_deviations", Field::doubles((0..self.width()).map(deviation))),
            (
                "covariance",
                self.square(|row, column| self.product(row, column)?.mean(self.grid, 1)),
            ),
            ("correlation", self.square(|row, column| self.correlation(row, column))),
            ("p", self.square(|row, column| self.p(row, column))),
        ]
    }

    fn width(&self) -> usize {
        self.first.centres.len()
    }

    /// A symmetric matrix. Each entry is computed once.
    fn square(&self, entry: impl Fn(usize, usize) -> Result<f64, Why>) -> Field {
        let entries: Vec<Result<f64, Why>> = pairs(self.width())
            .into_iter()
            .map(|(row, column)| entry(row, column))
            .collect();
        let row = |row: usize| Field::doubles((0..self.width()).map(|column| entries[place(row, column)]));
        Field::List((0..self.width()).map(row).collect())
    }

    fn product(&self, row: usize, column: usize) -> Result<&Product, Why> {
        self.products[place(row, column)].as_ref().map_err(|why| *why)
    }

    fn correlation(&self, row: usize, column: usize) -> Result<f64, Why> {
        let [xx, yy, xy] = self.products(row, column)?;
        correlation(xx, yy, xy)
    }

    /// Of two columns: each with itself, both.
    fn products(&self, row: usize, column: usize) -> Result<[&Product; 3], Why> {
        Ok([
            self.product(row, row)?,
            self.product(column, column)?,
            self.product(row, column)?,
        ])
    }

    /// Two-sided, by t² = (n − 2)·r² / (1 − r²), exact up to the root.
    fn p(&self, row: usize, column: usize) -> Result<f64, Why> {
        let [xx, yy, xy] = self.products(row, column)?;
        let degrees = self.first.samples[0]?.saturating_sub(2);
        if degrees == 0 {
            return Err(Why::TooFewValues);
        }
        let square = squared(xx, yy, xy)?;
        let rest = Ratio::whole(1).plus(&square.clone().negated());
        let Some(odds) = square.over(&rest) else { return Ok(0.0) };
        let t = odds.times(&Ratio::whole(degrees)).root().to_f64();
        student_both(t, degrees as f64).ok_or(Why::TooFewValues)
    }
}

/// Where an entry is in the lower triangle; the upper one is its mirror image.
fn place(row: usize, column: usize) -> usize {
    let (high, low) = (row.max(column), row.min(column));
    high * (high + 1) / 2 + low
}
