//! What the microprotocols over tables have in common: numbers by column or by row, missing values, shapes.

use std::fmt;

use zeroize::Zeroizing;

use super::parameters::unusable;
use crate::centred::{self, Centre, Column, Counting, MISSING, OPENS_PRODUCTS, OPENS_SUMS, Product};
use crate::data::{self, Cells, Kind, Table};
use crate::microprotocol::{Refusal, SeeRow, Shape};
use crate::net::{Abort, Net};
use crate::number::Grid;
use crate::opening::Opens;
use crate::threshold::{self, Thresholds, Why, most_of_each};

/// What [`first_pass`] opens.
pub(super) const OPENS: [Opens; 6] = {
    let [enough, samples, missing, sums] = OPENS_SUMS;
    let few = [Opens::Value(MISSING_FEW), Opens::Value(MISSING_NONE)];
    [enough, samples, few[0], few[1], missing, sums]
};

/// What [`passes`] opens.
pub(super) const OPENS_PASSES: [Opens; 7] = {
    let [enough, samples, few, none, missing, sums] = OPENS;
    [enough, samples, few, none, missing, sums, OPENS_PRODUCTS]
};

const MISSING_FEW: &str = "whether some values are missing, but too few to say how many";
const MISSING_NONE: &str = "whether no value is missing";

/// Columns of numbers, each with as many as it has. Private but for the names.
pub struct Columns {
    pub(super) shape: data::Shape,
    pub(super) columns: Vec<Column>,
    /// By column: how many values it has.
    pub(super) samples: Zeroizing<Vec<u64>>,
    /// By column: rows without a value.
    pub(super) missing: Zeroizing<Vec<u64>>,
}

impl fmt::Debug for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Columns")
            .field("shape", &self.shape)
            .finish_non_exhaustive()
    }
}

impl Columns {
    /// Reads a list of numbers, or named columns.
    pub(super) fn read(grid: &Grid, parties: usize, texts: &[&str]) -> Result<Columns, Refusal> {
        let table = numbers(grid, parties, texts)?.at_least(grid, &[Kind::Numbers]);
        let mut order: Vec<usize> = (0..table.columns.len()).collect();
        let shape = match &table.names {
            None if table.columns.len() == 1 => data::Shape::Scalar,
            None => {
                return Err(Refusal {
                    code: "INPUT_SHAPE",
                    hint: "name the columns: {\"columns\": [\"age\", \"bmi\"], \"rows\": [[31, 22.5], [40, null]]}"
                        .to_owned(),
                    ..unusable("", "the input has rows of several values without names")
                });
            }
            Some(names) => {
                order.sort_by_key(|column| &names[*column]);
                data::Shape::Columns(order.iter().map(|column| names[*column].clone()).collect())
            }
        };
        let mut columns = Vec::with_capacity(order.len());
        let mut samples = Zeroizing::new(Vec::with_capacity(order.len()));
        let mut missing = Zeroizing::new(Vec::with_capacity(order.len()));
        for column in order {
            let present = present(&table.columns[column]);
            let count = present.iter().filter(|present| **present).count();
            samples.push(count as u64);
            missing.push((present.len() - count) as u64);
            columns.push(chosen(grid, &table.columns[column], present));
        }
        Ok(Columns {
            shape,
            columns,
            samples,
            missing,
        })
    }
}

/// Rows of numbers without those that lack one. Private but for names and width.
pub struct Rows {
    pub(super) names: Option<Vec<String>>,
    /// All of one length.
    pub(super) columns: Vec<Column>,
    /// Complete rows.
    pub(super) samples: u64,
    /// Rows that lack a value.
    pub(super) missing: u64,
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows")
            .field("width", &self.columns.len())
            .finish_non_exhaustive()
    }
}

impl Rows {
    /// Reads a table of so many columns: in the order of the text, or, if that must not matter, of their names.
    pub(super) fn read(
        grid: &Grid,
        parties: usize,
        texts: &[&str],
        width: std::ops::RangeInclusive<usize>,
        sorted: bool,
    ) -> Result<Rows, Refusal> {
        let mut table = numbers(grid, parties, texts)?;
        if width.start() == width.end() {
            table = table.at_least(grid, &vec![Kind::Numbers; *width.start()]);
        }
        table.even(grid)?;
        if !width.contains(&table.columns.len()) {
            return Err(wrong_width(&width, table.columns.len()));
        }
        let mut order: Vec<usize> = (0..table.columns.len()).collect();
        if let Some(names) = table.names.as_ref().filter(|_| sorted) {
            order.sort_by_key(|column| &names[*column]);
        }
        let complete = table.complete(&order);
        let samples = complete.iter().filter(|complete| **complete).count() as u64;
        let missing = complete.len() as u64 - samples;
        let columns = order
            .iter()
            .map(|column| chosen(grid, &table.columns[*column], &complete))
            .collect();
        let names = table
            .names
            .map(|names| order.iter().map(|column| names[*column].clone()).collect());
        Ok(Rows {
            names,
            columns,
            samples,
            missing,
        })
    }

    pub(super) fn samples(&self) -> Zeroizing<Vec<u64>> {
        Zeroizing::new(vec![self.samples])
    }

    /// The public part, for rows that so many values were read for.
    pub(super) fn shape(&self, grid: &Grid, parties: usize, width: usize, products: usize) -> Shape {
        let bytes = pass_bytes(grid, parties, self.columns.len(), 1, products);
        shape(self.names.as_deref(), width, bytes)
    }

    /// Two passes over complete rows. The first number is how many are not complete.
    pub(super) async fn passes(
        &self,
        net: &mut Net,
        grid: &Grid,
        thresholds: &Thresholds,
        pairs: &[(usize, usize)],
    ) -> Result<(First, Vec<Result<Product, Why>>), Abort> {
        let missing = Missing {
            counts: &[self.missing],
            of_columns: 1,
        };
        passes(net, grid, thresholds, (&self.columns, Counting::Rows), missing, pairs).await
    }
}

/// Rounds of [`passes`].
pub(super) fn pass_rounds(parties: usize, thresholds: &Thresholds) -> u32 {
    first_rounds(parties, thresholds) + 1
}

/// Shows the cells of tables of numbers.
pub(super) fn show(grid: &Grid, texts: &[&str], see: &mut SeeRow<'_>) -> Result<(), Refusal> {
    Ok(Table::show(grid, texts, &|_, _| Kind::Numbers, see)?)
}

/// The public part of a table.
pub(super) fn shape(names: Option<&[String]>, width: usize, message_bytes: usize) -> Shape {
    let exact = match names {
        Some(names) => format!("table {}", serde_json::Value::from(names.to_vec())),
        None => format!("rows {width}"),
    };
    let text = match (names, width) {
        (Some(_), 1) => "a table of one named column".to_owned(),
        (Some(_), _) => format!("a table of {width} named columns"),
        (None, 1) => "a list of numbers".to_owned(),
        (None, _) => format!("rows of {width} values"),
    };
    Shape {
        text,
        exact,
        message_bytes,
    }
}

pub(super) fn wrong_width(width: &std::ops::RangeInclusive<usize>, found: usize) -> Refusal {
    let expected = if width.start() == width.end() {
        width.start().to_string()
    } else {
        format!("from {} to {}", width.start(), width.end())
    };
    Refusal {
        code: "INPUT_SHAPE",
        hint: "for example [[31, 22.5], [40, null]] or {\"columns\": [\"age\", \"bmi\"], \"rows\": [[31, 22.5], [40, null]]}".to_owned(),
        ..unusable("", &format!("the input has {found} columns where {expected} are expected"))
    }
}

/// Most rows of one party: the total cannot overflow, and nobody needs to tell how many it has.
pub(super) fn most_rows(grid: &Grid, parties: usize) -> u64 {
    (grid.max_rows() / parties.max(1) as u64).min(most_of_each(parties))
}

fn numbers(grid: &Grid, parties: usize, texts: &[&str]) -> Result<Table, Refusal> {
    Ok(Table::read(grid, most_rows(grid, parties), texts, &|_, _| {
        Kind::Numbers
    })?)
}

fn present(cells: &Cells) -> &[bool] {
    match cells {
        Cells::Numbers { present, .. } => present,
        Cells::Categories { .. } => &[],
    }
}

/// The numbers of some rows, which have one. Memory is taken at once, since what grows leaves copies of private values behind.
pub(super) fn chosen(grid: &Grid, cells: &Cells, rows: &[bool]) -> Column {
    let limbs = grid.ring().limbs();
    let count = rows.iter().filter(|chosen| **chosen).count();
    let mut column = Zeroizing::new(Vec::with_capacity(count * limbs));
    if let Cells::Numbers { elements, .. } = cells {
        let all = elements.chunks_exact(limbs).zip(rows);
        all.filter(|(_, chosen)| **chosen)
            .for_each(|(element, _)| column.extend_from_slice(element));
    }
    column
}

/// Rounds of [`first_pass`].
pub(super) fn first_rounds(parties: usize, thresholds: &Thresholds) -> u32 {
    let missing = if thresholds.cell > 1 {
        threshold::cells_rounds(parties, thresholds.cell, 1)
    } else {
        0
    };
    centred::sums_rounds(parties, thresholds) + missing
}

/// Longest message of [`first_pass`] and [`passes`].
pub(super) fn pass_bytes(grid: &Grid, parties: usize, columns: usize, missing: usize, products: usize) -> usize {
    let passes = centred::message_bytes(grid, parties, columns, missing, products);
    passes.max(threshold::cells_message_bytes(parties, missing))
}

/// How many values are missing at a party. Private.
pub(super) struct Missing<'a> {
    pub(super) counts: &'a [u64],
    /// So many of them belong to a column each, in order (to all of them, if rows are counted); the others to none.
    pub(super) of_columns: usize,
}

/// What opens first of columns.
pub(super) struct First {
    /// By column.
    pub(super) samples: Vec<Result<u64, Why>>,
    /// By column.
    pub(super) centres: Vec<Result<Centre, Why>>,
    pub(super) missing: Vec<Result<u64, Why>>,
}

/// Numbers of values, sums, and how many values are missing, as far as that may be told. Nothing is told of what has too few samples. With a minimum for counts those of missing values
/// are compared first.
pub(super) async fn first_pass(
    net: &mut Net,
    grid: &Grid,
    thresholds: &Thresholds,
    columns: (&[Column], Counting),
    missing: Missing<'_>,
) -> Result<First, Abort> {
    let compared = thresholds.cell > 1;
    let counts = if compared { &[] } else { missing.counts };
    let sums = centred::sums(net, grid, thresholds, columns, (counts, missing.of_columns)).await?;
    let may_open = |place: usize| match sums.samples.get(place) {
        Some(samples) if place < missing.of_columns => *samples,
        _ => Ok(0),
    };
    let opened: Vec<Option<u64>> = if compared {
        // What must not open is computed as if nobody had any.
        let counts = missing.counts.iter().enumerate();
        let counts = counts.map(|(place, count)| if may_open(place).is_ok() { *count } else { 0 });
        let counts: Zeroizing<Vec<u64>> = Zeroizing::new(counts.collect());
        threshold::each(net, thresholds.cell, &counts, [MISSING_FEW, MISSING_NONE, MISSING]).await?
    } else {
        sums.counts.iter().copied().map(Some).collect()
    };
    let told = |(place, count): (usize, Option<u64>)| may_open(place).and(count.ok_or(Why::FewInCell));
    Ok(First {
        missing: opened.into_iter().enumerate().map(told).collect(),
        samples: sums.samples,
        centres: sums.centres,
    })
}

/// The same, and sums of squares and products about the means of pairs of columns: one round more.
pub(super) async fn passes(
    net: &mut Net,
    grid: &Grid,
    thresholds: &Thresholds,
    columns: (&[Column], Counting),
    missing: Missing<'_>,
    pairs: &[(usize, usize)],
) -> Result<(First, Vec<Result<Product, Why>>), Abort> {
    let first = first_pass(net, grid, thresholds, columns, missing).await?;
    let products = centred::products(net, grid, columns.0, &first.centres, pairs).await?;
    Ok((first, products))
}

/// Each column with itself.
pub(super) fn squares(columns: usize) -> Vec<(usize, usize)> {
    (0..columns).map(|column| (column, column)).collect()
}
