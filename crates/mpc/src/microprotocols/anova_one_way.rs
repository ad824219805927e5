//! AnovaOneWay: whether the means of several groups differ.
//!
//! - **Declared outputs**, everything that opens: for each group how many values all parties have, and their exact mean and variance (as a sum, and a sum of squares about the mean); how many rows are not
//!   complete. Where rules want a minimum of samples: whether it is reached, for each group; if not, nothing else of it opens, and there is no test.
//! - **How**: two passes of masked sums ([`crate::centred`]); sums of squares and F are exact quotients and rounded once.
//! - **Source**: Fisher, *Statistical Methods for Research Workers*, 1925, chapter VII.
//! - **Rounds**, **adversary**, **what each party sees**, **not protected**: as [`super::t_test`].
//!
//! Parameters: `groups` (2 to 1000), `digits_before`, `digits_after`, `min_samples`, `min_cell` (for the number of rows left out). Inputs: rows of a group and a number.

use zeroize::Zeroizing;

use super::answer::{Answer, Field};
use super::categories;
use super::columns;
use super::groups::{self, GROUPS, Grouped, Opened};
use super::parameters::{Canonical, DIGITS, Given, MIN_CELL, MIN_SAMPLES};
use super::summary::Summary;
use crate::data::Category;
use crate::distributions::fisher_upper;
use crate::exact::{Ratio, unit};
use crate::microprotocol::{Microprotocol, Refusal, Release, SeeRow, Shape};
use crate::net::{Abort, Net};
use crate::number::{Digits, Grid};
use crate::opening::Opens;
use crate::threshold::{Thresholds, Why};

/// Most groups.
const MOST: usize = 1000;

/// See the [module](self).
#[derive(Debug)]
pub struct AnovaOneWay;

/// What all parties agree on.
#[derive(Clone, Debug)]
pub struct Params {
    grid: Grid,
    thresholds: Thresholds,
    groups: Vec<Category>,
}

impl Microprotocol for AnovaOneWay {
    const NAME: &'static str = "AnovaOneWay";
    const ALIASES: &'static [&'static str] = &[];
    const RELEASES: &'static [Release] = &[Release::Statistic, Release::Groups];
    const OPENS: &'static [Opens] = &columns::OPENS_PASSES;
    const COMPARES: bool = true;
    const TABLES: bool = true;
    type Params = Params;
    type Input = Grouped;
    type Output = Answer;

    fn params(json: &str) -> Result<Params, Refusal> {
        let [after, before] = DIGITS;
        let given = Given::read(Self::NAME, json, &[GROUPS, after, before, MIN_SAMPLES, MIN_CELL])?;
        Ok(Params {
            grid: given.grid()?,
            thresholds: given.thresholds()?,
            groups: groups::declared(&given, 2, MOST)?,
        })
    }

    fn canonical(params: &Params) -> String {
        let canonical = Canonical::new(&params.grid, &params.thresholds);
        canonical
            .with(GROUPS, categories::json(&params.groups).to_string())
            .text()
    }

    fn input(params: &Params, parties: usize, texts: &[&str]) -> Result<Grouped, Refusal> {
        Grouped::read(&params.grid, parties, texts, &params.groups)
    }

    fn rounds(params: &Params, parties: usize, thresholds: &Thresholds) -> u32 {
        groups::rounds(parties, &params.thresholds.strictest(*thresholds))
    }

    fn shape(params: &Params, parties: usize, input: &Grouped) -> Shape {
        input.shape(&params.grid, parties)
    }

    fn digits(params: &Params) -> Option<Digits> {
        Some(params.grid.digits())
    }

    fn samples(input: &Grouped) -> Zeroizing<Vec<u64>> {
        input.samples()
    }

    fn rows(params: &Params, texts: &[&str], see: &mut SeeRow<'_>) -> Result<(), Refusal> {
        groups::rows(&params.grid, texts, see)
    }

    async fn run(params: Params, input: Grouped, net: &mut Net) -> Result<Answer, Abort> {
        let thresholds = params.thresholds.strictest(net.session().thresholds);
        let opened = groups::open(net, &params.grid, &thresholds, &input).await?;
        Ok(answer(&params, &opened))
    }
}

fn answer(params: &Params, opened: &Opened) -> Answer {
    let grid = &params.grid;
    let each = |value: &dyn Fn(&Summary) -> Result<f64, Why>| {
        let values = opened.groups.iter();
        Field::doubles(values.map(|summary| summary.as_ref().map_err(|why| *why).and_then(value)))
    };
    let analysis = Analysis::new(&opened.groups);
    let of = |value: &dyn Fn(&Analysis) -> Result<f64, Why>| {
        Field::Double(analysis.as_ref().map_err(|why| *why).and_then(value))
    };
    let count = |value: &dyn Fn(&Analysis) -> u64| Field::Count(analysis.as_ref().map(value).map_err(|why| *why));
    let squares = |squares: &Ratio| Ok(squares.clone().shifted(2 * unit(grid)).to_f64());
    Answer::new(vec![
        ("groups", Field::Public(categories::json(&params.groups))),
        ("samples", Field::counts(opened.samples.iter().copied())),
        ("missing", Field::Count(opened.missing)),
        ("means", each(&|summary| summary.mean(grid))),
        ("standard_deviations", each(&|summary| summary.deviation(grid))),
        ("sum_of_squares_between", of(&|analysis| squares(&analysis.between))),
        ("sum_of_squares_within", of(&|analysis| squares(&analysis.within))),
        ("degrees_of_freedom_between", count(&|analysis| analysis.above)),
        ("degrees_of_freedom_within", count(&|analysis| analysis.below)),
        ("statistic", of(&Analysis::statistic)),
        ("p", of(&Analysis::p)),
        ("eta_squared", of(&Analysis::eta_squared)),
    ])
}

/// In squared steps of the grid, exact.
struct Analysis {
    between: Ratio,
    within: Ratio,
    above: u64,
    below: u64,
}

impl Analysis {
    fn new(groups: &[Result<Summary, Why>]) -> Result<Analysis, Why> {
        if let Some(why) = groups.iter().find_map(|group| group.as_ref().err()) {
            return Err(*why);
        }
        let all = Summary::together(groups)?;
        let mut within = Ratio::whole(0);
        for group in groups.iter().flatten() {
            within = within.plus(group.squares());
        }
        Ok(Analysis {
            between: all.squares().plus(&within.clone().negated()),
            within,
            above: groups.len() as u64 - 1,
            below: all.samples.saturating_sub(groups.len() as u64),
        })
    }

    fn statistic(&self) -> Result<f64, Why> {
        let below = self.within.clone().divided(self.below).ok_or(Why::TooFewValues)?;
        let above = self.between.clone().divided(self.above).ok_or(Why::TooFewValues)?;
        Ok(above.over(&below).ok_or(Why::Constant)?.to_f64())
    }

    fn p(&self) -> Result<f64, Why> {
        fisher_upper(self.statistic()?, self.above as f64, self.below as f64).ok_or(Why::TooFewValues)
    }

    /// The share of the variation that is between groups.
    fn eta_squared(&self) -> Result<f64, Why> {
        let all = self.between.plus(&self.within);
        Ok(self.between.over(&all).ok_or(Why::Constant)?.to_f64())
    }
}
