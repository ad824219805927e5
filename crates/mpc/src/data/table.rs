//! The private inputs of statistics: tables of numbers and categories, in which cells may be missing.
//!
//! Accepted forms: `[1, 2, null]`, one column; `[[1, "a"], [2, null]]`, rows; `{"columns": ["age", "arm"], "rows": [[…], …]}`; `{"columns": {"age": […], "arm": […]}}` or the
//! inner object alone, columns by name. `null` is a missing value. No tree is built.

mod read;
#[cfg(test)]
mod tests;

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

use super::{Reason, Refusal, shown};
use crate::microprotocol::SeeRow;
use crate::number::Grid;
use read::{Growing, TableReader, merge};

/// Most different categories of one column of one party.
pub const MAX_CATEGORIES: usize = 10_000;
/// Longest text of a category, in bytes.
pub const MAX_CATEGORY_BYTES: usize = 128;
/// The code of a missing category.
pub const MISSING: u32 = u32::MAX;

/// What the cells of a column are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Numbers on the grid.
    Numbers,
    /// Whole numbers and texts that stand for something.
    Categories,
}

/// One of the values of a categorical variable. The number 1 and the text "1" are two.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Category {
    /// A whole number.
    Number(i64),
    /// A text.
    Text(String),
}

/// Which categories a party has is private.
impl Drop for Category {
    fn drop(&mut self) {
        if let Category::Text(text) = self {
            text.zeroize();
        }
    }
}

/// Names may be private.
impl fmt::Debug for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Category")
    }
}

impl Category {
    /// From JSON text: a whole number (also written as 1.0) or a text.
    ///
    /// # Errors
    /// What else it is, or what is wrong with it; never the value.
    pub fn read(json: &[u8]) -> Result<Category, Reason> {
        if json.first() == Some(&b'"') {
            let text: String =
                serde_json::from_slice(json).map_err(|_| Reason::NotACategory("a text that is not valid JSON"))?;
            if text.len() > MAX_CATEGORY_BYTES {
                return Err(Reason::CategoryLength);
            }
            return Ok(Category::Text(text));
        }
        let text = std::str::from_utf8(json).map_err(|_| Reason::NotACategory("not text"))?;
        if let Ok(number) = text.parse() {
            return Ok(Category::Number(number));
        }
        // What pandas makes of whole numbers when some are missing.
        let whole = text
            .parse::<f64>()
            .ok()
            .filter(|number| number.fract() == 0.0 && number.abs() < 9e15);
        #[allow(clippy::cast_possible_truncation)] // just compared
        whole
            .map(|number| Category::Number(number as i64))
            .ok_or(Reason::NotACategory("a number that is not whole, or too large,"))
    }

    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Category::Number(number) => (*number).into(),
            Category::Text(text) => text.as_str().into(),
        }
    }
}

/// The cells of one column. Private.
pub enum Cells {
    /// Elements of the grid's ring, one behind the other; 0 where there is none.
    Numbers {
        /// The elements.
        elements: Zeroizing<Vec<u64>>,
        /// Which rows have one.
        present: Zeroizing<Vec<bool>>,
    },
    /// Codes.
    Categories {
        /// The place of each row's category in `categories`, or [`MISSING`].
        codes: Zeroizing<Vec<u32>>,
        /// Those that occur, in the order of their first rows.
        categories: Vec<Category>,
        /// The first row of each.
        first: Vec<usize>,
    },
}

impl fmt::Debug for Cells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cells::Numbers { .. } => "Numbers",
            Cells::Categories { .. } => "Categories",
        })
    }
}

impl Cells {
    /// Whether a row has a value here.
    #[must_use]
    pub fn has(&self, row: usize) -> bool {
        match self {
            Cells::Numbers { present, .. } => present[row],
            Cells::Categories { codes, .. } => codes[row] != MISSING,
        }
    }
}

/// A table of one party. Private but for names and width.
#[derive(Debug)]
pub struct Table {
    /// In the order of the text; `None` where columns have no names.
    pub names: Option<Vec<String>>,
    /// How many rows.
    pub rows: usize,
    /// The columns.
    pub columns: Vec<Cells>,
    form: Form,
}

/// How it was written, for positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    List,
    Rows,
    NamedRows,
    Columns,
    Direct,
}

impl Table {
    /// Reads inputs of one party and puts their rows together. `kind` says what a column holds, by its place and name.
    ///
    /// # Errors
    /// [`Refusal`] for the first thing in the texts that cannot be taken.
    pub fn read(
        grid: &Grid,
        max_rows: u64,
        texts: &[&str],
        kind: &dyn Fn(usize, Option<&str>) -> Kind,
    ) -> Result<Table, Refusal> {
        let mut parts: Vec<Table> = Vec::with_capacity(texts.len());
        let mut claimed = 0;
        for text in texts {
            let mut reader = TableReader::new(grid, max_rows, text, kind, claimed);
            let part = reader.table()?;
            claimed = reader.text.claimed;
            if parts
                .first()
                .is_some_and(|first| (&first.names, first.columns.len()) != (&part.names, part.columns.len()))
            {
                return Err(reader.shape("", "has other columns than an earlier input of this party"));
            }
            parts.push(part);
        }
        if parts.len() == 1
            && let Some(table) = parts.pop()
        {
            return Ok(table);
        }
        merge(grid, max_rows, &parts)
    }

    /// Shows every cell of texts that [`Table::read`] accepts.
    ///
    /// # Errors
    /// As there.
    pub fn show(
        grid: &Grid,
        texts: &[&str],
        kind: &dyn Fn(usize, Option<&str>) -> Kind,
        see: &mut SeeRow<'_>,
    ) -> Result<(), Refusal> {
        for text in texts {
            let mut reader = TableReader::new(grid, u64::MAX, text, kind, 0);
            reader.see = Some(see);
            reader.table()?;
        }
        Ok(())
    }

    /// With so many columns, if it is an empty list, which does not say how many it has.
    #[must_use]
    pub fn at_least(mut self, grid: &Grid, kinds: &[Kind]) -> Table {
        if self.names.is_none() && self.rows == 0 && self.columns.is_empty() {
            let empty = |kind: &Kind| Growing::new(*kind, grid.ring().limbs(), 0).cells;
            self.columns = kinds.iter().map(empty).collect();
        }
        self
    }

    /// That all columns have as many rows.
    ///
    /// # Errors
    /// The first column that has another number of them than the first one.
    pub fn even(&self, grid: &Grid) -> Result<(), Refusal> {
        let rows = |cells: &Cells| match cells {
            Cells::Numbers { present, .. } => present.len(),
            Cells::Categories { codes, .. } => codes.len(),
        };
        let expected = self.columns.first().map_or(0, rows);
        let Some(column) = self.columns.iter().position(|cells| rows(cells) != expected) else {
            return Ok(());
        };
        let at = self.at(0, column);
        Err(Refusal {
            at: at.trim_end_matches("[0]").to_owned(),
            reason: Reason::Uneven {
                expected,
                found: rows(&self.columns[column]),
            },
            declared: grid.digits(),
        })
    }

    /// The position of a cell as the client would write it. (Of several inputs the first one that has such a row.)
    #[must_use]
    pub fn at(&self, row: usize, column: usize) -> String {
        let name = || {
            self.names
                .as_ref()
                .and_then(|names| names.get(column))
                .map_or_else(String::new, |name| shown(name))
        };
        match self.form {
            Form::List => format!("[{row}]"),
            Form::Rows => format!("[{row}][{column}]"),
            Form::NamedRows => format!("rows[{row}][{column}]"),
            Form::Columns => format!("columns.{}[{row}]", name()),
            Form::Direct => format!("{}[{row}]", name()),
        }
    }

    /// Which rows have all of these columns.
    #[must_use]
    pub fn complete(&self, columns: &[usize]) -> Zeroizing<Vec<bool>> {
        let complete = |row| columns.iter().all(|column| self.columns[*column].has(row));
        Zeroizing::new((0..self.rows).map(complete).collect())
    }
}
