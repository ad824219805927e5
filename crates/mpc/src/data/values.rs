//! The private inputs of order statistics: the same texts as for sums, without vectors; every number is kept.

use std::fmt;

use zeroize::Zeroizing;

use super::{Reader, Reason, Refusal, Shape, Sink};
use crate::number::Grid;

/// The numbers of one party's input. Everything but the shape is private and erased on drop.
pub struct Values {
    /// The public part: a list, or columns by name.
    pub shape: Shape,
    /// For each column its numbers, as elements of the grid's ring, one behind the other.
    pub columns: Vec<Zeroizing<Vec<u64>>>,
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Values")
            .field("shape", &self.shape)
            .finish_non_exhaustive()
    }
}

/// Keeps numbers one behind the other.
struct Kept {
    limbs: usize,
    elements: Zeroizing<Vec<u64>>,
}

impl Sink for Kept {
    const KEEPS: bool = true;

    fn new(grid: &Grid, capacity: usize) -> Kept {
        let limbs = grid.ring().limbs();
        Kept {
            limbs,
            elements: Zeroizing::new(Vec::with_capacity(capacity.saturating_mul(limbs))),
        }
    }

    fn slot(&mut self) -> &mut [u64] {
        let begin = self.elements.len();
        self.elements.resize(begin + self.limbs, 0);
        &mut self.elements[begin..]
    }
}

/// Reads inputs of one party, and puts their numbers together.
///
/// `max_rows` bounds the numbers of each column.
///
/// # Errors
/// [`Refusal`] for the first thing in the texts that cannot be taken.
pub fn read_values(grid: &Grid, max_rows: u64, texts: &[&str]) -> Result<Values, Refusal> {
    let refuse = |reason| Refusal {
        at: String::new(),
        reason,
        declared: grid.digits(),
    };
    let mut parts = Vec::with_capacity(texts.len());
    let mut claimed = 0;
    for text in texts {
        let part = read_one(grid, max_rows, text, &mut claimed)?;
        if parts.first().is_some_and(|first: &Values| first.shape != part.shape) {
            let what = "has other columns than an earlier input of this party";
            return Err(refuse(Reason::Shape(what.to_owned())));
        }
        parts.push(part);
    }
    if parts.len() > 1 {
        return merge(grid, max_rows, &parts);
    }
    parts.pop().ok_or(refuse(Reason::Empty))
}

/// `claimed` is what all texts together have been given room for.
fn read_one(grid: &Grid, max_rows: u64, json: &str, claimed: &mut usize) -> Result<Values, Refusal> {
    let mut reader = Reader {
        grid,
        bytes: json.as_bytes(),
        at: 0,
        limit: max_rows,
        claimed: *claimed,
    };
    let values = if reader.peek() == Some(b'{') {
        columns(&mut reader)?
    } else {
        let (column, _) = reader.column::<Kept>("")?;
        Values {
            shape: Shape::Scalar,
            columns: vec![column.elements],
        }
    };
    *claimed = reader.claimed;
    match reader.peek() {
        None => Ok(values),
        Some(_) => Err(reader.not_json("")),
    }
}

/// An object: columns with or without the outer key.
fn columns(reader: &mut Reader<'_>) -> Result<Values, Refusal> {
    let start = reader.at;
    reader.at += 1;
    let key = if reader.peek() == Some(b'"') {
        Some(reader.key("")?)
    } else {
        None
    };
    let outer = key.as_deref() == Some("columns");
    if key.as_deref() == Some("vectors") {
        let what = "has vectors, of which there is no order: give a list of numbers, or named columns";
        return Err(reader.shape("", what));
    }
    let columns = if outer {
        if reader.peek() != Some(b'{') {
            let what = "must be an object of lists, such as {\"columns\": {\"age\": [31, 40]}}";
            return Err(reader.shape("columns", what));
        }
        let columns = reader.named_columns::<Kept>("columns.", false)?;
        match reader.next() {
            Some(b'}') => columns,
            Some(b',') => return Err(reader.only_key()),
            _ => return Err(reader.not_json_before("")),
        }
    } else {
        reader.at = start;
        reader.named_columns::<Kept>("", true)?
    };
    let (names, columns): (Vec<String>, Vec<_>) = columns.into_iter().unzip();
    Ok(Values {
        shape: Shape::Columns(names),
        columns: columns.into_iter().map(|(column, _)| column.elements).collect(),
    })
}

/// Puts inputs of one shape together, each column at once: what grows leaves copies of private values behind.
fn merge(grid: &Grid, max_rows: u64, parts: &[Values]) -> Result<Values, Refusal> {
    let limbs = grid.ring().limbs();
    let mut columns = Vec::new();
    for index in 0..parts[0].columns.len() {
        let pieces = || parts.iter().map(|part| &part.columns[index]);
        let all: usize = pieces().map(|piece| piece.len()).sum();
        if (all / limbs) as u64 > max_rows {
            return Err(Refusal {
                at: String::new(),
                reason: Reason::TooManyRows { limit: max_rows },
                declared: grid.digits(),
            });
        }
        let mut column = Zeroizing::new(Vec::with_capacity(all));
        pieces().for_each(|piece| column.extend_from_slice(piece));
        columns.push(column);
    }
    Ok(Values {
        shape: parts[0].shape.clone(),
        columns,
    })
}
