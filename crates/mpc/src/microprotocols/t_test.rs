//! TTest: Student's and Welch's tests of means.
//!
//! - **Declared outputs**, everything that opens: for the sample (one-sample, paired) or each of the two groups how many values all parties have, and their exact mean and variance (as a sum, and a sum of squares
//!   about the mean); how many rows are not complete. Where rules want a minimum of samples: whether it is reached, for each group; if not, nothing else of it opens. The test follows.
//! - **How**: two passes of masked sums ([`crate::centred`]); t² is an exact quotient and rounded once.
//! - **Source**: Student, *The probable error of a mean*, Biometrika 6, 1908; Welch, *The generalization of "Student's" problem*, Biometrika 34, 1947.
//! - **Rounds** after the last input: 2; with a minimum of samples 16 more for three parties.
//! - **Adversary**: semi-honest, any number of colluding parties.
//! - **What each party sees**: masked vectors, uniformly random up to their sums ([`crate::mask`]); those follow from the declared outputs, so a simulator that has them draws the rest.
//! - **Not protected**: the outputs.
//!
//! Parameters: `test` ("one-sample", "paired", "two-sample" with equal variances, "welch"), `mean` (the mean, or difference, that is tested; 0), `alternative` ("two-sided", "less", "greater"), `confidence`
//! (0.95), `groups` (two, for "two-sample" and "welch"), `digits_before`, `digits_after`, `min_samples`, `min_cell` (for the number of rows left out). Inputs: a list; rows of two numbers; or rows of a group and a number.

use num_bigint::BigInt;
use zeroize::Zeroizing;

use super::answer::{Answer, Field};
use super::categories;
use super::columns::{self, Rows, most_rows};
use super::groups::{self, GROUPS, Grouped};
use super::parameters::{Canonical, DIGITS, Given, MIN_CELL, MIN_SAMPLES, unusable};
use super::summary::{Summary, root};
use crate::centred::Column;
use crate::data::{self, Category};
use crate::distributions::{student_both, student_quantile, student_upper};
use crate::exact::{Ratio, element, integer, unit};
use crate::microprotocol::{Microprotocol, Refusal, Release, SeeRow, Shape};
use crate::net::{Abort, Net};
use crate::number::{Digits, Grid};
use crate::opening::Opens;
use crate::threshold::{Thresholds, Why};

/// See the [module](self).
#[derive(Debug)]
pub struct TTest;

/// Which test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Test {
    OneSample,
    Paired,
    TwoSample,
    Welch,
}

impl Test {
    const ALL: [Test; 4] = [Test::OneSample, Test::Paired, Test::TwoSample, Test::Welch];

    fn name(self) -> &'static str {
        match self {
            Test::OneSample => "one-sample",
            Test::Paired => "paired",
            Test::TwoSample => "two-sample",
            Test::Welch => "welch",
        }
    }

    fn compares_groups(self) -> bool {
        matches!(self, Test::TwoSample | Test::Welch)
    }
}

/// What is claimed if the tested mean is not the true one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alternative {
    TwoSided,
    Less,
    Greater,
}

impl Alternative {
    const ALL: [Alternative; 3] = [Alternative::TwoSided, Alternative::Less, Alternative::Greater];

    fn name(self) -> &'static str {
        match self {
            Alternative::TwoSided => "two-sided",
            Alternative::Less => "less",
            Alternative::Greater => "greater",
        }
    }

    fn p(self, t: f64, degrees: f64) -> Option<f64> {
        match self {
            Alternative::TwoSided => student_both(t, degrees),
            Alternative::Less => student_upper(-t, degrees),
            Alternative::Greater => student_upper(t, degrees),
        }
    }
}

/// What all parties agree on.
#[derive(Clone, Debug)]
pub struct Params {
    grid: Grid,
    thresholds: Thresholds,
    test: Test,
    /// In steps of the grid.
    mean: BigInt,
    alternative: Alternative,
    confidence: f64,
    groups: Vec<Category>,
}

/// One party's numbers. Private but for the shape.
#[derive(Debug)]
pub enum Input {
    /// One sample: a list, or differences of pairs.
    One(Rows),
    /// Two groups.
    Two(Grouped),
}

const KNOWN: [&str; 9] = [
    "test",
    "mean",
    "alternative",
    "confidence",
    GROUPS,
    DIGITS[0],
    DIGITS[1],
    MIN_SAMPLES,
    MIN_CELL,
];

impl Microprotocol for TTest {
    const NAME: &'static str = "TTest";
    const ALIASES: &'static [&'static str] = &[];
    const RELEASES: &'static [Release] = &[Release::Statistic];
    const OPENS: &'static [Opens] = &columns::OPENS_PASSES;
    const COMPARES: bool = true;
    const TABLES: bool = true;
    type Params = Params;
    type Input = Input;
    type Output = Answer;

    fn params(json: &str) -> Result<Params, Refusal> {
        let given = Given::read(Self::NAME, json, &KNOWN)?;
        let test = given.choice("test", &Test::ALL.map(|test| (test.name(), test)))?;
        let test = test.ok_or_else(|| {
            given.lacks(
                "test",
                "which is \"one-sample\", \"paired\", \"two-sample\" or \"welch\"",
            )
        })?;
        let groups = match (test.compares_groups(), given.text(GROUPS)) {
            (true, _) => groups::declared(&given, 2, 2)?,
            (false, None) => Vec::new(),
            (false, Some(_)) => {
                return Err(unusable(
                    GROUPS,
                    "groups are for the tests \"two-sample\" and \"welch\"",
                ));
            }
        };
        let grid = given.grid()?;
        let mut mean = vec![0; grid.ring().limbs()];
        if let Some(text) = given.text("mean") {
            let read = grid.add_token(text.as_bytes(), &mut mean);
            read.map_err(|error| unusable("mean", &format!("mean: {error}")))?;
        }
        let alternative = given.choice("alternative", &Alternative::ALL.map(|one| (one.name(), one)))?;
        Ok(Params {
            thresholds: given.thresholds()?,
            test,
            mean: integer(&mean),
            alternative: alternative.unwrap_or(Alternative::TwoSided),
            confidence: given.confidence()?,
            groups,
            grid,
        })
    }

    fn canonical(params: &Params) -> String {
        let text = |text: &str| format!("\"{text}\"");
        let mut canonical = Canonical::new(&params.grid, &params.thresholds)
            .with("test", text(params.test.name()))
            .with(
                "mean",
                params
                    .grid
                    .to_decimal(&element(&params.mean, params.grid.ring().limbs())),
            )
            .with("alternative", text(params.alternative.name()))
            .with("confidence", serde_json::Value::from(params.confidence).to_string());
        if params.test.compares_groups() {
            canonical = canonical.with(GROUPS, categories::json(&params.groups).to_string());
        }
        canonical.text()
    }

    fn releases(params: &Params) -> &'static [Release] {
        if params.test.compares_groups() {
            &[Release::Statistic, Release::Groups]
        } else {
            Self::RELEASES
        }
    }

    fn input(params: &Params, parties: usize, texts: &[&str]) -> Result<Input, Refusal> {
        let grid = &params.grid;
        match params.test {
            Test::OneSample => Ok(Input::One(Rows::read(grid, parties, texts, 1..=1, false)?)),
            Test::Paired => Ok(Input::One(differences(grid, parties, texts)?)),
            Test::TwoSample | Test::Welch => Ok(Input::Two(Grouped::read(grid, parties, texts, &params.groups)?)),
        }
    }

    fn rounds(params: &Params, parties: usize, thresholds: &Thresholds) -> u32 {
        let thresholds = params.thresholds.strictest(*thresholds);
        if params.test.compares_groups() {
            return groups::rounds(parties, &thresholds);
        }
        columns::pass_rounds(parties, &thresholds)
    }

    fn shape(params: &Params, parties: usize, input: &Input) -> Shape {
        match input {
            Input::One(rows) => {
                let width = if params.test == Test::Paired { 2 } else { 1 };
                rows.shape(&params.grid, parties, width, 1)
            }
            Input::Two(grouped) => grouped.shape(&params.grid, parties),
        }
    }

    fn digits(params: &Params) -> Option<Digits> {
        Some(params.grid.digits())
    }

    fn samples(input: &Input) -> Zeroizing<Vec<u64>> {
        match input {
            Input::One(rows) => rows.samples(),
            Input::Two(grouped) => grouped.samples(),
        }
    }

    fn rows(params: &Params, texts: &[&str], see: &mut SeeRow<'_>) -> Result<(), Refusal> {
        if params.test.compares_groups() {
            return groups::rows(&params.grid, texts, see);
        }
        columns::show(&params.grid, texts, see)
    }

    async fn run(params: Params, input: Input, net: &mut Net) -> Result<Answer, Abort> {
        let thresholds = params.thresholds.strictest(net.session().thresholds);
        match input {
            Input::One(rows) => one(&params, &thresholds, &rows, net).await,
            Input::Two(grouped) => {
                let opened = groups::open(net, &params.grid, &thresholds, &grouped).await?;
                Ok(two(&params, &opened))
            }
        }
    }
}

/// Of each complete pair the first number minus the second.
fn differences(grid: &Grid, parties: usize, texts: &[&str]) -> Result<Rows, Refusal> {
    let mut rows = Rows::read(grid, parties, texts, 2..=2, false)?;
    // A difference is up to twice as large as a number.
    let limit = most_rows(grid, parties) / 2;
    if rows.samples > limit {
        return Err(Refusal::from(data::Refusal {
            at: String::new(),
            reason: data::Reason::TooManyRows { limit },
            declared: grid.digits(),
        }));
    }
    let second: Option<Column> = rows.columns.pop();
    if let (Some(first), Some(second)) = (rows.columns.first_mut(), second) {
        grid.ring().sub_assign(first, &second);
    }
    Ok(rows)
}

async fn one(params: &Params, thresholds: &Thresholds, rows: &Rows, net: &mut Net) -> Result<Answer, Abort> {
    let grid = &params.grid;
    let (first, squares) = rows.passes(net, grid, thresholds, &[(0, 0)]).await?;
    let summary = Summary::all(&first, &squares)
        .pop()
        .ok_or(Abort::Internal("no sample"))?;
    let of = |value: &dyn Fn(&Summary) -> Result<f64, Why>| {
        Field::Double(summary.as_ref().map_err(|why| *why).and_then(value))
    };
    let mut fields = vec![
        ("test", Field::Public(params.test.name().into())),
        ("samples", Field::Count(first.samples[0])),
        ("missing", Field::Count(first.missing[0])),
        ("mean", of(&|summary| summary.mean(grid))),
        ("standard_deviation", of(&|summary| summary.deviation(grid))),
        ("standard_error", of(&|summary| summary.error(grid))),
    ];
    let tested = summary.and_then(|summary| {
        Ok(Tested {
            difference: summary.exact_mean()?,
            squared_error: summary.squared_error()?,
            degrees: summary.degrees() as f64,
        })
    });
    fields.extend(conclusion(params, tested));
    Ok(Answer::new(fields))
}

fn two(params: &Params, opened: &groups::Opened) -> Answer {
    let grid = &params.grid;
    let each = |value: &dyn Fn(&Summary) -> Result<f64, Why>| {
        let values = opened.groups.iter();
        Field::doubles(values.map(|summary| summary.as_ref().map_err(|why| *why).and_then(value)))
    };
    let tested = compared(params.test, &opened.groups);
    let number = |value: &dyn Fn(&Tested) -> f64| Field::Double(tested.as_ref().map(value).map_err(|why| *why));
    let difference = difference(&opened.groups).map(|difference| difference.shifted(unit(grid)).to_f64());
    let mut fields = vec![
        ("test", Field::Public(params.test.name().into())),
        ("groups", Field::Public(categories::json(&params.groups))),
        ("samples", Field::counts(opened.samples.iter().copied())),
        ("missing", Field::Count(opened.missing)),
        ("means", each(&|summary| summary.mean(grid))),
        ("standard_deviations", each(&|summary| summary.deviation(grid))),
        ("difference", Field::Double(difference)),
        (
            "standard_error",
            number(&|tested| root(grid, tested.squared_error.clone())),
        ),
    ];
    fields.extend(conclusion(params, tested));
    Answer::new(fields)
}

fn difference(groups: &[Result<Summary, Why>]) -> Result<Ratio, Why> {
    let [first, second] = both(groups)?;
    Ok(first.exact_mean()?.plus(&second.exact_mean()?.negated()))
}

fn both(groups: &[Result<Summary, Why>]) -> Result<[&Summary; 2], Why> {
    let [first, second] = groups else {
        return Err(Why::NoValues);
    };
    Ok([
        first.as_ref().map_err(|why| *why)?,
        second.as_ref().map_err(|why| *why)?,
    ])
}

/// A difference and how far it may be off by chance. In steps of the grid, exact.
struct Tested {
    difference: Ratio,
    squared_error: Ratio,
    degrees: f64,
}

/// Two groups, with variances that are the same or not.
fn compared(test: Test, groups: &[Result<Summary, Why>]) -> Result<Tested, Why> {
    let [first, second] = both(groups)?;
    let difference = difference(groups)?;
    if test == Test::TwoSample {
        let degrees = first.degrees() + second.degrees();
        let share = |ratio: Ratio, number: u64| ratio.divided(number).ok_or(Why::TooFewValues);
        let variance = share(first.squares().plus(second.squares()), degrees)?;
        let [one, other] = [first, second].map(|group| share(Ratio::whole(1), group.samples));
        let shares = one?.plus(&other?);
        return Ok(Tested {
            difference,
            squared_error: variance.times(&shares),
            degrees: degrees as f64,
        });
    }
    // Welch and Satterthwaite.
    let (one, other) = (first.squared_error()?, second.squared_error()?);
    let sum = one.plus(&other);
    let part = |error: &Ratio, degrees: u64| error.times(error).divided(degrees);
    let parts = part(&one, first.degrees())
        .zip(part(&other, second.degrees()))
        .ok_or(Why::TooFewValues)?;
    let degrees = sum.times(&sum).over(&parts.0.plus(&parts.1)).ok_or(Why::Constant)?;
    Ok(Tested {
        difference,
        squared_error: sum,
        degrees: degrees.to_f64(),
    })
}

fn conclusion(params: &Params, tested: Result<Tested, Why>) -> [(&'static str, Field); 4] {
    let degrees = tested.as_ref().map(|tested| tested.degrees).map_err(|why| *why);
    let statistic = tested.as_ref().map_err(|why| *why).and_then(|tested| {
        let away = tested.difference.plus(&Ratio::whole(params.mean.clone()).negated());
        let square = away.times(&away).over(&tested.squared_error).ok_or(Why::Constant)?;
        let size = square.root().to_f64();
        Ok(if away.is_positive() { size } else { -size })
    });
    let p = statistic.and_then(|t| params.alternative.p(t, degrees?).ok_or(Why::TooFewValues));
    let interval = match tested.and_then(|tested| interval(params, &tested)) {
        Ok(bounds) => Field::List(
            bounds
                .map(|bound| bound.map_or(Field::Public(serde_json::Value::Null), |bound| Field::Double(Ok(bound))))
                .into(),
        ),
        Err(why) => Field::doubles([Err(why), Err(why)]),
    };
    [
        ("statistic", Field::Double(statistic)),
        ("degrees_of_freedom", Field::Double(degrees)),
        ("p", Field::Double(p)),
        ("confidence_interval", interval),
    ]
}

/// Without a bound on the side that the alternative leaves open.
fn interval(params: &Params, tested: &Tested) -> Result<[Option<f64>; 2], Why> {
    if tested.squared_error.is_zero() {
        return Err(Why::Constant);
    }
    let probability = match params.alternative {
        Alternative::TwoSided => f64::midpoint(1.0, params.confidence),
        _ => params.confidence,
    };
    let quantile = student_quantile(probability, tested.degrees).ok_or(Why::TooFewValues)?;
    let reach = quantile * root(&params.grid, tested.squared_error.clone());
    let centre = tested.difference.clone().shifted(unit(&params.grid)).to_f64();
    let (low, high) = (Some(centre - reach), Some(centre + reach));
    Ok(match params.alternative {
        Alternative::TwoSided => [low, high],
        Alternative::Less => [None, high],
        Alternative::Greater => [low, None],
    })
}
