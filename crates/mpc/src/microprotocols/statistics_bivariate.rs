//! StatisticsBivariate: how two numbers of everybody's rows belong together.
//!
//! - **Declared outputs**, everything that opens: how many complete rows all parties have, and how many are not complete; the exact means, variances and covariance (as sums, and sums of squares and products
//!   about the means). Where rules want a minimum of samples: whether it is reached; if not, nothing else opens. All other results follow from these.
//! - **How**: two passes of masked sums ([`crate::centred`]); quotients are rounded once, so that offsets of the data cancel exactly.
//! - **Rounds** after the last input: 2; with a minimum of samples 16 more for three parties.
//! - **Adversary**: semi-honest, any number of colluding parties.
//! - **What each party sees**: masked vectors, uniformly random up to their sums ([`crate::mask`]); those follow from the declared outputs, so a simulator that has them draws the rest.
//! - **Not protected**: the outputs. Of two or three rows they can be solved for the rows.
//!
//! Inputs: rows of two numbers, x and y; or two columns in the order of the text. Rows with `null` are left out and counted. Parameters: `digits_before`, `digits_after`, `min_samples`, `min_cell` (for the number
//! of rows left out).

use num_bigint::BigInt;
use zeroize::Zeroizing;

use super::answer::{Answer, Field};
use super::columns::{self, First, Rows};
use super::parameters::Common;
use crate::centred::{Centre, Product};
use crate::exact::{Ratio, unit};
use crate::microprotocol::{Microprotocol, Refusal, Release, SeeRow, Shape};
use crate::net::{Abort, Net};
use crate::number::{Digits, Grid};
use crate::opening::Opens;
use crate::threshold::{Thresholds, Why};

/// See the [module](self).
#[derive(Debug)]
pub struct StatisticsBivariate;

impl Microprotocol for StatisticsBivariate {
    const NAME: &'static str = "StatisticsBivariate";
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
        Rows::read(&params.grid, parties, texts, 2..=2, false)
    }

    fn rounds(params: &Common, parties: usize, thresholds: &Thresholds) -> u32 {
        columns::pass_rounds(parties, &params.thresholds.strictest(*thresholds))
    }

    fn shape(params: &Common, parties: usize, input: &Rows) -> Shape {
        input.shape(&params.grid, parties, 2, PAIRS.len())
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
        let thresholds = params.thresholds.strictest(net.session().thresholds);
        let (first, products) = input.passes(net, &params.grid, &thresholds, &PAIRS).await?;
        Ok(answer(&params.grid, &first, &products))
    }
}

/// x with itself, y with itself, both.
const PAIRS: [(usize, usize); 3] = [(0, 0), (1, 1), (0, 1)];

fn answer(grid: &Grid, first: &First, products: &[Result<Product, Why>]) -> Answer {
    let both = || -> Result<Line<'_>, Why> {
        let [x, y] = [0, 1].map(|column| first.centres[column].as_ref().map_err(|why| *why));
        let [xx, yy, xy] = [0, 1, 2].map(|pair| products[pair].as_ref().map_err(|why| *why));
        Ok(Line {
            x: x?,
            y: y?,
            xx: xx?,
            yy: yy?,
            xy: xy?,
        })
    };
    let places = unit(grid);
    let number = |value: &dyn Fn(Line<'_>) -> Result<f64, Why>| Field::Double(both().and_then(value));
    let intercept = || number(&|line| Ok(line.intercept()?.shifted(places).to_f64()));
    Answer::new(vec![
        ("samples", Field::Count(first.samples[0])),
        ("missing", Field::Count(first.missing[0])),
        ("mean_x", number(&|line| Ok(line.x.mean(grid)))),
        ("mean_y", number(&|line| Ok(line.y.mean(grid)))),
        ("variance_x", number(&|line| line.xx.mean(grid, 1))),
        ("variance_y", number(&|line| line.yy.mean(grid, 1))),
        ("covariance", number(&|line| line.xy.mean(grid, 1))),
        ("covariance_mle", number(&|line| line.xy.mean(grid, 0))),
        (
            "correlation_coefficient",
            number(&|line| correlation(line.xx, line.yy, line.xy)),
        ),
        ("regression_slope", number(&|line| Ok(line.slope()?.to_f64()))),
        ("regression_intercept", intercept()),
        // As it is spelled by older clients.
        ("regression_interceipt", intercept()),
        ("regression_slope_only", number(&|line| Ok(line.slope_only()?.to_f64()))),
    ])
}

/// Two columns.
struct Line<'a> {
    x: &'a Centre,
    y: &'a Centre,
    xx: &'a Product,
    yy: &'a Product,
    xy: &'a Product,
}

impl Line<'_> {
    /// Of the least squares of y.
    fn slope(&self) -> Result<Ratio, Why> {
        enough(self.xx)?;
        self.xy.quotient(self.xx).ok_or(Why::Constant)
    }

    fn intercept(&self) -> Result<Ratio, Why> {
        let [x, y] = [self.x, self.y].map(Centre::exact_mean);
        let rise = self.slope()?.times(&x.ok_or(Why::NoValues)?).negated();
        Ok(y.ok_or(Why::NoValues)?.plus(&rise))
    }

    /// Of the line through the origin: Σxy / Σx².
    fn slope_only(&self) -> Result<Ratio, Why> {
        let squares: BigInt = self.xx.about_zero(self.x, self.x);
        Ratio::new(self.xy.about_zero(self.x, self.y), squares).ok_or(Why::Constant)
    }
}

/// What needs a variance needs two values.
fn enough(square: &Product) -> Result<(), Why> {
    square.exact_mean(1).map(|_| ())
}

/// Pearson's r.
///
/// # Errors
/// Fewer than two rows, or a column without variation.
pub(super) fn correlation(xx: &Product, yy: &Product, xy: &Product) -> Result<f64, Why> {
    let size = squared(xx, yy, xy)?.root().to_f64();
    Ok(if xy.is_negative() { -size } else { size })
}

/// r², exactly.
pub(super) fn squared(xx: &Product, yy: &Product, xy: &Product) -> Result<Ratio, Why> {
    enough(xx)?;
    let (one, other) = xy.quotient(xx).zip(xy.quotient(yy)).ok_or(Why::Constant)?;
    Ok(one.times(&other))
}
