//! What the microprotocols that ask for values by rank have in common: inputs, shapes, limits.

use zeroize::Zeroizing;

use super::parameters::unusable;
use crate::data::{self, Values};
use crate::keys::{KeySpace, Sorted};
use crate::microprotocol::{Refusal, Shape};
use crate::number::Grid;
use crate::order::{self, MOST_TARGETS, MOST_TRANSFERS};
use crate::threshold::most_of_each;

/// The numbers of one party, sorted. Private but for the shape.
#[derive(Debug)]
pub struct Ranked {
    pub(super) shape: data::Shape,
    pub(super) columns: Vec<Sorted>,
}

impl Ranked {
    /// Reads this party's inputs; `wanted` values will be asked for in each column.
    pub(super) fn read(grid: &Grid, parties: usize, texts: &[&str], wanted: usize) -> Result<Ranked, Refusal> {
        let values = read(grid, parties, texts)?;
        let space = KeySpace::new(grid);
        let targets = values.columns.len().saturating_mul(wanted);
        if targets > MOST_TARGETS || order::transfers(parties, &space, targets) > MOST_TRANSFERS {
            let message = format!(
                "{} columns with {wanted} values each are too much to search for in one task, with {parties} parties and the declared digits",
                values.columns.len()
            );
            let hint = "use several tasks with some of the columns each, or declare fewer digits".to_owned();
            return Err(Refusal {
                code: "TOO_MANY_COLUMNS",
                hint,
                ..unusable("", &message)
            });
        }
        let Values { shape, columns } = values;
        let columns = columns.into_iter().map(|column| Sorted::new(&space, column)).collect();
        Ok(Ranked { shape, columns })
    }

    pub(super) fn samples(&self) -> Zeroizing<Vec<u64>> {
        Zeroizing::new(self.columns.iter().map(Sorted::count).collect())
    }

    pub(super) fn shape(&self, grid: &Grid, parties: usize, wanted: usize) -> Shape {
        let columns = self.columns.len();
        let bytes = order::message_bytes(parties, &KeySpace::new(grid), columns, columns * wanted);
        shape(&self.shape, bytes)
    }
}

/// Reads the numbers of one party.
pub(super) fn read(grid: &Grid, parties: usize, texts: &[&str]) -> Result<Values, Refusal> {
    Ok(data::read_values(grid, most_of_each(parties), texts)?)
}

pub(super) fn shape(shape: &data::Shape, message_bytes: usize) -> Shape {
    let exact = match shape {
        data::Shape::Columns(names) => format!("columns {}", serde_json::Value::from(names.clone())),
        _ => "list".to_owned(),
    };
    Shape {
        text: shape.to_string(),
        exact,
        message_bytes,
    }
}
