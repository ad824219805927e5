//! Rows of a group and a number: what the tests that compare groups read.

use std::collections::HashMap;
use std::fmt;

use zeroize::Zeroizing;

use super::categories;
use super::columns::{self, chosen, missing_counts, missing_rounds, most_rows, opened_missing, wrong_width};
use super::parameters::{Given, unusable};
use super::summary::Summary;
use crate::centred::{self, Column, Counting};
use crate::data::{self, Category, Cells, Kind, MISSING, Reason, Table};
use crate::microprotocol::{Refusal, SeeRow, Shape};
use crate::net::{Abort, Net};
use crate::number::Grid;
use crate::threshold::{self, Thresholds, Why};

/// The parameter that declares them.
pub(super) const GROUPS: &str = "groups";
const EXAMPLE: &str = "for example \"groups\": [\"control\", \"treated\"]";

/// Reads [`GROUPS`]: from `least` to `most` distinct ones.
pub(super) fn declared(given: &Given, least: usize, most: usize) -> Result<Vec<Category>, Refusal> {
    let text = given.text(GROUPS).ok_or_else(|| given.lacks(GROUPS, EXAMPLE))?;
    let groups = categories::declared(GROUPS, text, EXAMPLE)?;
    if !(least..=most).contains(&groups.len()) {
        let range = if least == most {
            least.to_string()
        } else {
            format!("{least} to {most}")
        };
        return Err(unusable(GROUPS, &format!("groups are {range} categories, {EXAMPLE}")));
    }
    Ok(groups)
}

/// The numbers of one party by group. Private but for names.
pub struct Grouped {
    names: Option<Vec<String>>,
    columns: Vec<Column>,
    samples: u64,
    missing: u64,
}

impl fmt::Debug for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grouped")
            .field("groups", &self.columns.len())
            .finish_non_exhaustive()
    }
}

/// First the group, then the number.
fn kind(index: usize, _name: Option<&str>) -> Kind {
    if index == 0 { Kind::Categories } else { Kind::Numbers }
}

impl Grouped {
    pub(super) fn read(grid: &Grid, parties: usize, texts: &[&str], groups: &[Category]) -> Result<Grouped, Refusal> {
        let table = Table::read(grid, most_rows(grid, parties), texts, &kind)?;
        let table = table.at_least(grid, &[Kind::Categories, Kind::Numbers]);
        table.even(grid)?;
        if table.columns.len() != 2 {
            return Err(wrong_width(&(2..=2), table.columns.len()));
        }
        let places = places(grid, &table, 0, groups)?;
        let complete = table.complete(&[0, 1]);
        let samples = complete.iter().filter(|complete| **complete).count() as u64;
        let of_group = |group: u32| {
            let rows = places
                .iter()
                .zip(complete.iter())
                .map(|(place, complete)| *complete && *place == group);
            let rows: Zeroizing<Vec<bool>> = Zeroizing::new(rows.collect());
            chosen(grid, &table.columns[1], &rows)
        };
        Ok(Grouped {
            columns: (0..groups.len() as u32).map(of_group).collect(),
            samples,
            missing: table.rows as u64 - samples,
            names: table.names,
        })
    }

    pub(super) fn samples(&self) -> Zeroizing<Vec<u64>> {
        Zeroizing::new(vec![self.samples])
    }

    pub(super) fn shape(&self, grid: &Grid, parties: usize) -> Shape {
        let groups = self.columns.len();
        let bytes = centred::message_bytes(grid, parties, groups, 1, groups);
        columns::shape(
            self.names.as_deref(),
            2,
            bytes.max(threshold::cells_message_bytes(parties, 1)),
        )
    }
}

pub(super) fn rows(grid: &Grid, texts: &[&str], see: &mut SeeRow<'_>) -> Result<(), Refusal> {
    Ok(Table::show(grid, texts, &kind, see)?)
}

/// For each row the place of its category among the declared ones, or [`MISSING`].
pub(super) fn places(
    grid: &Grid,
    table: &Table,
    column: usize,
    declared: &[Category],
) -> Result<Zeroizing<Vec<u32>>, Refusal> {
    let Cells::Categories {
        codes,
        categories,
        first,
    } = &table.columns[column]
    else {
        return Ok(Zeroizing::new(Vec::new()));
    };
    let known: HashMap<&Category, u32> = declared.iter().zip(0..).collect();
    let mut place_of = Vec::with_capacity(categories.len());
    for (category, row) in categories.iter().zip(first) {
        let place = known.get(category).copied();
        place_of.push(place.ok_or_else(|| data::Refusal {
            at: table.at(*row, column),
            reason: Reason::UnknownCategory,
            declared: grid.digits(),
        })?);
    }
    let place = |code: &u32| place_of.get(*code as usize).copied().unwrap_or(MISSING);
    Ok(Zeroizing::new(codes.iter().map(place).collect()))
}

/// Rounds of [`open`].
pub(super) fn rounds(parties: usize, thresholds: &Thresholds) -> u32 {
    let thresholds = thresholds.of_groups();
    centred::sums_rounds(parties, &thresholds) + missing_rounds(parties, &thresholds) + 1
}

/// What has opened of all groups.
pub(super) struct Opened {
    pub(super) groups: Vec<Result<Summary, Why>>,
    pub(super) samples: Vec<Result<u64, Why>>,
    pub(super) missing: Result<u64, Why>,
}

/// Two passes over each group: how many, sum, squares about the mean; and how many rows are not complete, of all groups together.
pub(super) async fn open(
    net: &mut Net,
    grid: &Grid,
    thresholds: &Thresholds,
    input: &Grouped,
) -> Result<Opened, Abort> {
    let thresholds = thresholds.of_groups();
    let own = [input.missing];
    let columns = (&input.columns[..], Counting::Each);
    // Rows that are not complete have no group that could be too small.
    let counts = (opened_missing(&thresholds, &own), 0);
    let sums = centred::sums(net, grid, &thresholds, columns, counts).await?;
    let missing = missing_counts(net, &thresholds, &[Ok(0)], (&own, &sums.counts)).await?;
    let squares = centred::squares(net, grid, &input.columns, &sums.centres).await?;
    let groups = sums.centres.iter().zip(&squares);
    Ok(Opened {
        groups: groups.map(|(centre, square)| Summary::new(centre, square)).collect(),
        samples: sums.samples,
        missing: missing[0],
    })
}
