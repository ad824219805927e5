//! Rows of a group and a number: what the tests that compare groups read.

use std::collections::HashMap;
use std::fmt;

use zeroize::Zeroizing;

use super::categories;
use super::columns::{self, Missing, most_rows, pass_bytes, wrong_width};
use super::parameters::{Given, unusable};
use super::summary::Summary;
use crate::centred::{Column, Counting};
use crate::data::{self, Category, Cells, Kind, MISSING, Reason, Table};
use crate::microprotocol::{Refusal, SeeRow, Shape};
use crate::net::{Abort, Net};
use crate::number::Grid;
use crate::threshold::{Thresholds, Why};

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
        let columns = by_group(grid, &table.columns[1], &places, groups.len());
        let samples = columns
            .iter()
            .map(|column| column.len() / grid.ring().limbs())
            .sum::<usize>() as u64;
        Ok(Grouped {
            columns,
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
        columns::shape(self.names.as_deref(), 2, pass_bytes(grid, parties, groups, 1, groups))
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

/// The numbers of a column by the places of their groups; rows that lack either are left out. Memory is taken at once, since what grows leaves copies of private values behind.
pub(super) fn by_group(grid: &Grid, cells: &Cells, places: &[u32], groups: usize) -> Vec<Column> {
    let limbs = grid.ring().limbs();
    let Cells::Numbers { elements, present } = cells else {
        return Vec::new();
    };
    let group_of = |row: usize| (present[row] && places[row] != MISSING).then_some(places[row] as usize);
    let mut sizes = vec![0; groups];
    (0..present.len())
        .filter_map(group_of)
        .for_each(|group| sizes[group] += limbs);
    let mut columns: Vec<Column> = sizes
        .into_iter()
        .map(|size| Zeroizing::new(Vec::with_capacity(size)))
        .collect();
    for (row, element) in elements.chunks_exact(limbs).enumerate() {
        if let Some(group) = group_of(row) {
            columns[group].extend_from_slice(element);
        }
    }
    columns
}

/// Rounds of [`open`].
pub(super) fn rounds(parties: usize, thresholds: &Thresholds) -> u32 {
    columns::pass_rounds(parties, &thresholds.of_groups())
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
    // Rows that are not complete have no group that could be too small.
    let missing = Missing {
        counts: &[input.missing],
        of_columns: 0,
    };
    let columns = (&input.columns[..], Counting::Each);
    let pairs = columns::squares(input.columns.len());
    let (first, squares) = columns::passes(net, grid, &thresholds.of_groups(), columns, missing, &pairs).await?;
    Ok(Opened {
        groups: Summary::all(&first, &squares),
        samples: first.samples,
        missing: first.missing[0],
    })
}
