//! What the microprotocols over tables have in common: numbers by column or by row, missing values, shapes.

use std::fmt;

use zeroize::Zeroizing;

use super::parameters::unusable;
use crate::centred::Column;
use crate::data::{self, Cells, Kind, Table};
use crate::microprotocol::{Refusal, Shape};
use crate::net::{Abort, Net};
use crate::number::Grid;
use crate::threshold::{self, Thresholds, Why, most_of_each};

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

    pub(super) fn shape(&self, message_bytes: usize) -> Shape {
        shape(self.names.as_deref(), self.columns.len(), message_bytes)
    }
}

/// The public part of a table.
pub(super) fn shape(names: Option<&[String]>, width: usize, message_bytes: usize) -> Shape {
    let exact = match names {
        Some(names) => format!("table {}", serde_json::Value::from(names.to_vec())),
        None => format!("rows {width}"),
    };
    let text = match names {
        Some(_) => format!("a table of {width} named columns"),
        None => format!("rows of {width} values"),
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

/// What is added up of missing values together with the sums: all of them, if there is no minimum for counts.
pub(super) fn opened_missing<'a>(thresholds: &Thresholds, missing: &'a [u64]) -> &'a [u64] {
    if thresholds.cell > 1 { &[] } else { missing }
}

/// Rounds of [`missing_counts`].
pub(super) fn missing_rounds(parties: usize, thresholds: &Thresholds) -> u32 {
    if thresholds.cell > 1 {
        threshold::cells_rounds(parties, thresholds.cell, 1)
    } else {
        0
    }
}

/// How many values are missing, as far as that may be told; nothing is told of what has too few samples. `own` are this party's numbers, `opened` those of all, if they have opened
/// already.
pub(super) async fn missing_counts(
    net: &mut Net,
    thresholds: &Thresholds,
    samples: &[Result<u64, Why>],
    (own, opened): (&[u64], &[u64]),
) -> Result<Vec<Result<u64, Why>>, Abort> {
    let counts: Vec<Option<u64>> = if thresholds.cell > 1 {
        // What must not open is computed as if nobody had any.
        let counts = own
            .iter()
            .zip(samples)
            .map(|(count, samples)| if samples.is_ok() { *count } else { 0 });
        let counts: Zeroizing<Vec<u64>> = Zeroizing::new(counts.collect());
        net.will_open("how many values are missing");
        threshold::each(net, thresholds.cell, &counts).await?
    } else {
        opened.iter().copied().map(Some).collect()
    };
    let missing = |(count, samples): (Option<u64>, &Result<u64, Why>)| samples.and(count.ok_or(Why::FewInCell));
    Ok(counts.into_iter().zip(samples).map(missing).collect())
}
