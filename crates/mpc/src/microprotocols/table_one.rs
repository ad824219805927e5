//! Table1: what a study shows first: of each column how many values there are, how many are missing, mean, standard deviation, standard error and an interval for the mean; for all, and by group.
//!
//! - **Declared outputs**, everything that opens: for each column, or each group of it, how many values all parties have, how many are missing, and the exact mean and variance (as a sum, and a sum of squares about
//!   the mean); how many rows have no group. Where rules want a minimum of samples: whether it is reached, for each group of a column; if not, nothing else of it opens. Where rules want a minimum for counts: whether a number of
//!   missing values is small but not 0 (then it does not open), and whether it is 0.
//! - **How**: two passes of masked sums ([`crate::centred`]). What is told of all groups together follows from the groups, exactly; if one is hidden, so is that.
//! - **Rounds** after the last input: 2; with a minimum of samples 16 more for three parties, with one for counts 17.
//! - **Adversary**: semi-honest, any number of colluding parties.
//! - **What each party sees**: masked vectors, uniformly random up to their sums ([`crate::mask`]), and what comparisons open ([`crate::threshold`]); all of that follows from the declared outputs, so a simulator that has
//!   them draws the rest.
//! - **Not protected**: the outputs. The columns have the same rows, so numbers of values that differ tell how many are missing, even where that number is hidden.
//!
//! Input: named columns of numbers, and one of groups, if these are declared; rows without a group are left out and counted. Parameters: `group` (`{"column": "arm", "categories": ["a", "b"]}`),
//! `confidence` (0.95, by Student's t), `digits_before`, `digits_after`, `min_samples`, `min_cell` (for numbers of missing values).

use std::fmt;

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::answer::{Answer, Field};
use super::categories;
use super::columns::{self, Missing, most_rows};
use super::groups::{by_group, places};
use super::parameters::{Canonical, DIGITS, Given, MIN_CELL, MIN_SAMPLES, unusable};
use super::summary::Summary;
use crate::centred::{Column, Counting};
use crate::data::{Category, Cells, Kind, Table};
use crate::microprotocol::{Microprotocol, Refusal, Release, SeeRow, Shape};
use crate::net::{Abort, Net};
use crate::number::{Digits, Grid};
use crate::opening::Opens;
use crate::threshold::{Thresholds, Why};

/// Most groups of all columns together.
const MOST_CELLS: usize = 10_000;
const GROUP: &str = "group";
const EXAMPLE: &str = "for example {\"column\": \"arm\", \"categories\": [\"control\", \"treated\"]}";

/// See the [module](self).
#[derive(Debug)]
pub struct Table1;

/// The column that says which group a row belongs to.
#[derive(Clone, Debug)]
struct Group {
    column: String,
    categories: Vec<Category>,
}

/// What all parties agree on.
#[derive(Clone, Debug)]
pub struct Params {
    grid: Grid,
    thresholds: Thresholds,
    group: Option<Group>,
    confidence: f64,
}

impl Params {
    fn groups(&self) -> usize {
        self.group.as_ref().map_or(1, |group| group.categories.len())
    }

    fn thresholds(&self, session: &Thresholds) -> Thresholds {
        let thresholds = self.thresholds.strictest(*session);
        if self.group.is_some() {
            thresholds.of_groups()
        } else {
            thresholds
        }
    }

    fn kind(&self) -> impl Fn(usize, Option<&str>) -> Kind + '_ {
        |_, name| match &self.group {
            Some(group) if name == Some(&group.column) => Kind::Categories,
            _ => Kind::Numbers,
        }
    }
}

/// One party's numbers: for each column, in the order of their names, those of each group. Private but for the names.
pub struct Input {
    names: Vec<String>,
    cells: Vec<Column>,
    /// By cell.
    missing: Zeroizing<Vec<u64>>,
    without_group: u64,
    /// By column.
    samples: Zeroizing<Vec<u64>>,
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input")
            .field("columns", &self.names.len())
            .finish_non_exhaustive()
    }
}

impl Microprotocol for Table1 {
    const NAME: &'static str = "Table1";
    const ALIASES: &'static [&'static str] = &[];
    const RELEASES: &'static [Release] = &[Release::Statistic];
    const OPENS: &'static [Opens] = &columns::OPENS_PASSES;
    const COMPARES: bool = true;
    const TABLES: bool = true;
    type Params = Params;
    type Input = Input;
    type Output = Answer;

    fn params(json: &str) -> Result<Params, Refusal> {
        let [after, before] = DIGITS;
        let known = [GROUP, "confidence", after, before, MIN_SAMPLES, MIN_CELL];
        let given = Given::read(Self::NAME, json, &known)?;
        Ok(Params {
            grid: given.grid()?,
            thresholds: given.thresholds()?,
            group: given.text(GROUP).map(read_group).transpose()?,
            confidence: given.confidence()?,
        })
    }

    fn canonical(params: &Params) -> String {
        let confidence = serde_json::Value::from(params.confidence).to_string();
        let mut canonical = Canonical::new(&params.grid, &params.thresholds).with("confidence", confidence);
        if let Some(group) = &params.group {
            let json = json!({"categories": categories::json(&group.categories), "column": group.column});
            canonical = canonical.with(GROUP, json.to_string());
        }
        canonical.text()
    }

    fn releases(params: &Params) -> &'static [Release] {
        if params.group.is_some() {
            &[Release::Statistic, Release::Groups]
        } else {
            Self::RELEASES
        }
    }

    fn input(params: &Params, parties: usize, texts: &[&str]) -> Result<Input, Refusal> {
        let grid = &params.grid;
        let table = Table::read(grid, most_rows(grid, parties), texts, &params.kind())?;
        let names = table.names.as_ref().ok_or_else(|| Refusal {
            code: "INPUT_SHAPE",
            hint: "for example {\"columns\": [\"arm\", \"age\"], \"rows\": [[\"a\", 31], [\"b\", null]]}".to_owned(),
            ..unusable("", "the input has no names of columns")
        })?;
        table.even(grid)?;
        let places = match &params.group {
            Some(group) => of_rows(params, &table, names, group)?,
            None => Zeroizing::new(vec![0; table.rows]),
        };
        let mut order: Vec<usize> = (0..names.len()).collect();
        order.retain(|column| matches!(table.columns[*column], Cells::Numbers { .. }));
        order.sort_by_key(|column| &names[*column]);
        if order.is_empty() || order.len() * params.groups() > MOST_CELLS {
            let message = format!(
                "the input has {} columns of numbers; from 1 to {} are possible",
                order.len(),
                MOST_CELLS / params.groups()
            );
            return Err(Refusal {
                code: "INPUT_SHAPE",
                hint: "give at least one column beside that of the groups; use several tasks for very many".to_owned(),
                ..unusable("", &message)
            });
        }
        Ok(collect(params, &table, &order, &places))
    }

    fn rounds(params: &Params, parties: usize, thresholds: &Thresholds) -> u32 {
        columns::pass_rounds(parties, &params.thresholds(thresholds))
    }

    fn shape(params: &Params, parties: usize, input: &Input) -> Shape {
        let cells = input.cells.len();
        let bytes = columns::pass_bytes(&params.grid, parties, cells, cells + 1, cells);
        columns::shape(Some(&input.names), input.names.len(), bytes)
    }

    fn digits(params: &Params) -> Option<Digits> {
        Some(params.grid.digits())
    }

    fn samples(input: &Input) -> Zeroizing<Vec<u64>> {
        input.samples.clone()
    }

    fn rows(params: &Params, texts: &[&str], see: &mut SeeRow<'_>) -> Result<(), Refusal> {
        Ok(Table::show(&params.grid, texts, &params.kind(), see)?)
    }

    async fn run(params: Params, input: Input, net: &mut Net) -> Result<Answer, Abort> {
        let grid = &params.grid;
        let thresholds = params.thresholds(&net.session().thresholds);
        let mut counts = input.missing;
        // Rows without a group belong to no cell that could have too few values.
        counts.push(input.without_group);
        let missing = Missing {
            counts: &counts,
            of_columns: input.cells.len(),
        };
        let columns = (&input.cells[..], Counting::Each);
        let pairs = columns::squares(input.cells.len());
        let (first, squares) = columns::passes(net, grid, &thresholds, columns, missing, &pairs).await?;
        let without_group = first.missing[input.cells.len()];
        let opened = Summary::all(&first, &squares).into_iter();
        let counts = first.samples.iter().zip(&first.missing);
        let cell = |(summary, (samples, missing)): (Result<Summary, Why>, Counts<'_>)| Cell {
            summary,
            samples: *samples,
            missing: *missing,
        };
        let cells: Vec<Cell> = opened.zip(counts).map(cell).collect();
        let columns = input.names.into_iter().zip(cells.chunks(params.groups()));
        let columns = columns.map(|(name, cells)| (name, Field::Object(describe(&params, cells))));
        let mut fields = vec![("columns", Field::Object(Answer::new(columns.collect())))];
        if let Some(group) = &params.group {
            fields.push(("groups", Field::Public(categories::json(&group.categories))));
            fields.push(("without_group", Field::Count(without_group)));
        }
        Ok(Answer::new(fields))
    }
}

/// How many values, and how many are missing.
type Counts<'a> = (&'a Result<u64, Why>, &'a Result<u64, Why>);

fn read_group(text: &str) -> Result<Group, Refusal> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Written<'a> {
        column: String,
        #[serde(borrow)]
        categories: &'a RawValue,
    }
    let written: Written<'_> = serde_json::from_str(text).map_err(|_| {
        unusable(
            GROUP,
            &format!("group has the members column and categories, {EXAMPLE}"),
        )
    })?;
    let categories = categories::declared("group.categories", written.categories.get(), EXAMPLE)?;
    Ok(Group {
        column: written.column,
        categories,
    })
}

/// For each row the place of its group.
fn of_rows(params: &Params, table: &Table, names: &[String], group: &Group) -> Result<Zeroizing<Vec<u32>>, Refusal> {
    let column = names
        .iter()
        .position(|name| *name == group.column)
        .ok_or_else(|| Refusal {
            code: "INPUT_SHAPE",
            hint: "name the column of the groups as the task's parameters do".to_owned(),
            ..unusable("", "the input lacks the column of the groups")
        })?;
    places(&params.grid, table, column, &group.categories)
}

/// Without groups all rows are of one.
fn collect(params: &Params, table: &Table, order: &[usize], places: &[u32]) -> Input {
    let groups = params.groups();
    let mut members = vec![0; groups];
    let mut without_group = 0;
    for place in places {
        *members.get_mut(*place as usize).unwrap_or(&mut without_group) += 1;
    }
    let mut cells = Vec::with_capacity(order.len() * groups);
    let mut missing = Zeroizing::new(Vec::with_capacity(order.len() * groups + 1));
    let mut samples = Zeroizing::new(Vec::with_capacity(order.len()));
    for column in order {
        let of_groups = by_group(&params.grid, &table.columns[*column], places, groups);
        let counts = of_groups
            .iter()
            .map(|values| (values.len() / params.grid.ring().limbs()) as u64);
        missing.extend(
            members
                .iter()
                .zip(counts.clone())
                .map(|(members, count)| members - count),
        );
        samples.push(counts.sum());
        cells.extend(of_groups);
    }
    let names = table.names.as_deref().unwrap_or_default();
    Input {
        names: order.iter().map(|column| names[*column].clone()).collect(),
        cells,
        missing,
        without_group,
        samples,
    }
}

/// What has opened of a column, or of a group of it.
struct Cell {
    summary: Result<Summary, Why>,
    samples: Result<u64, Why>,
    missing: Result<u64, Why>,
}

impl Cell {
    fn answer(&self, params: &Params) -> Answer {
        let grid = &params.grid;
        let summary = || self.summary.as_ref().map_err(|why| *why);
        let interval = match summary().and_then(|summary| summary.interval(grid, params.confidence)) {
            Ok(bounds) => bounds.map(Ok),
            Err(why) => [Err(why), Err(why)],
        };
        Answer::new(vec![
            ("n", Field::Count(self.samples)),
            ("missing", Field::Count(self.missing)),
            ("mean", Field::Double(summary().and_then(|summary| summary.mean(grid)))),
            (
                "standard_deviation",
                Field::Double(summary().and_then(|summary| summary.deviation(grid))),
            ),
            (
                "standard_error",
                Field::Double(summary().and_then(|summary| summary.error(grid))),
            ),
            ("confidence_interval", Field::doubles(interval)),
        ])
    }
}

fn describe(params: &Params, cells: &[Cell]) -> Answer {
    if params.group.is_none() {
        let all = cells.iter().map(|cell| ("all", Field::Object(cell.answer(params))));
        return Answer::new(all.collect());
    }
    let summaries: Vec<Result<Summary, Why>> = cells.iter().map(|cell| cell.summary.clone()).collect();
    let all = Cell {
        summary: Summary::together(&summaries),
        samples: cells.iter().map(|cell| cell.samples).sum(),
        missing: cells.iter().map(|cell| cell.missing).sum(),
    };
    Answer::new(vec![
        ("all", Field::Object(all.answer(params))),
        (
            "groups",
            Field::List(cells.iter().map(|cell| Field::Object(cell.answer(params))).collect()),
        ),
    ])
}
