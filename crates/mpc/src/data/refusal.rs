//! Why an input is not taken: position, reason and remedy, never a value.

use super::{MAX_CATEGORIES, MAX_CATEGORY_BYTES, MAX_COLUMNS, MAX_NAME_BYTES};
use crate::number::{Digits, MAX_DIGITS, NumberError};
use std::fmt;

/// Why an input is not taken, and where. Holds no value of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The position as it would be written in the client: empty for the whole input, `[17]`, `vectors[3][17]`,
    /// `columns.age[4]` (`age[4]` if the columns were given without the key `columns`).
    pub at: String,
    /// What is wrong there.
    pub reason: Reason,
    /// The digits that are declared, for the remedy.
    pub declared: Digits,
}

/// What is wrong with an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A number that the declared digits do not hold.
    Number(NumberError),
    /// Something else where a number (or, for a column, a list of numbers) is expected: what kind of thing.
    NotANumber(&'static str),
    /// A vector as long as `found` after ones as long as `expected`.
    Ragged {
        /// Length of the first vector.
        expected: usize,
        /// Length of this one.
        found: usize,
    },
    /// A row that has `found` values after a first one that has `expected`, or with so many names.
    RowWidth {
        /// Values of the first row, or names.
        expected: usize,
        /// Values of this one.
        found: usize,
    },
    /// A column that has `found` rows beside a first one that has `expected`.
    Uneven {
        /// Rows of the first column.
        expected: usize,
        /// Rows of this one.
        found: usize,
    },
    /// Something else where a category (a text or a whole number) is expected: what kind of thing.
    NotACategory(&'static str),
    /// A text that is too long for a category.
    CategoryLength,
    /// More different categories than a column may have.
    TooManyCategories,
    /// A category that is none of the declared ones.
    UnknownCategory,
    /// No vector, a vector of length 0 or no column: the shape would be unknown.
    Empty,
    /// More values (of one column) or vectors than can be summed.
    TooManyRows {
        /// The most that are allowed.
        limit: u64,
    },
    /// The text is not JSON from this byte on.
    NotJson {
        /// Offset in the input's text.
        byte: usize,
    },
    /// The form is none of those that exist, or differs from an earlier input's: a phrase that follows "the input".
    Shape(String),
    /// The form is none of those that tables have, or differs from an earlier input's: a phrase that follows "the input".
    Table(String),
    /// A column name appears twice.
    DuplicateName,
    /// A column name is empty or longer than [`MAX_NAME_BYTES`].
    NameLength,
    /// More than [`MAX_COLUMNS`] columns.
    TooManyColumns,
    /// More sums than can be held at the declared digits.
    TooManySums {
        /// The most that are allowed.
        limit: usize,
    },
}

impl Refusal {
    /// A stable name for the reason.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self.reason {
            Reason::Number(NumberError::TooLarge { .. }) => "NUMBER_TOO_LARGE",
            Reason::Number(NumberError::TooFine { .. }) => "NUMBER_TOO_FINE",
            Reason::Number(NumberError::NotANumber) | Reason::NotANumber(_) => "NUMBER_EXPECTED",
            Reason::Ragged { .. } => "VECTORS_RAGGED",
            Reason::RowWidth { .. } => "ROWS_RAGGED",
            Reason::Uneven { .. } => "COLUMNS_UNEVEN",
            Reason::NotACategory(_) => "CATEGORY_EXPECTED",
            Reason::CategoryLength => "CATEGORY_LENGTH",
            Reason::TooManyCategories => "TOO_MANY_CATEGORIES",
            Reason::UnknownCategory => "CATEGORY_UNKNOWN",
            Reason::Empty => "INPUT_EMPTY",
            Reason::TooManyRows { .. } => "TOO_MANY_ROWS",
            Reason::NotJson { .. } => "JSON_INVALID",
            Reason::Shape(_) | Reason::Table(_) => "INPUT_SHAPE",
            Reason::DuplicateName => "COLUMN_DUPLICATE",
            Reason::NameLength => "COLUMN_NAME_LENGTH",
            Reason::TooManyColumns => "TOO_MANY_COLUMNS",
            Reason::TooManySums { .. } => "TOO_MANY_SUMS",
        }
    }

    /// What is wrong, and where.
    #[must_use]
    pub fn message(&self) -> String {
        let place = match self.at.as_str() {
            "" => "the input".to_owned(),
            row if row.starts_with('[') => format!("row {row}"),
            path => path.to_owned(),
        };
        let fault = match &self.reason {
            Reason::Number(error) => self.number_message(*error),
            Reason::NotANumber(kind) => format!("is {kind} where a number is expected"),
            Reason::Ragged { expected, found } => {
                format!("has {found} elements, vectors[0] has {expected}")
            }
            Reason::RowWidth { expected, found } => format!("has {found} values where {expected} are expected"),
            Reason::Uneven { expected, found } => {
                format!("has {found} rows, the first column has {expected}")
            }
            Reason::NotACategory(kind) => format!("is {kind} where a category is expected"),
            Reason::CategoryLength => format!("is longer than {MAX_CATEGORY_BYTES} bytes, the most for a category"),
            Reason::TooManyCategories => format!("has more than {MAX_CATEGORIES} different categories"),
            Reason::UnknownCategory => "is none of the declared categories".to_owned(),
            Reason::Empty => "is empty, so it does not say how many sums there are".to_owned(),
            Reason::TooManyRows { limit } => {
                format!("has more than {limit} values, the most that one party may give")
            }
            Reason::NotJson { byte } => format!("is not valid JSON at byte {byte}"),
            Reason::Shape(fault) | Reason::Table(fault) => fault.clone(),
            Reason::DuplicateName => "appears twice".to_owned(),
            Reason::NameLength => {
                format!("has a column name that is empty or longer than {MAX_NAME_BYTES} bytes")
            }
            Reason::TooManyColumns => format!("has more than {MAX_COLUMNS} columns"),
            Reason::TooManySums { limit } => {
                format!("has more than {limit} elements, the most at the declared digits")
            }
        };
        format!("{place} {fault}")
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        let hint = match &self.reason {
            Reason::Number(NumberError::TooLarge {
                digits_before_needed: needed,
            }) => return declare("digits_before", *needed, self.declared.after()),
            Reason::Number(NumberError::TooFine {
                digits_after_needed: needed,
            }) => return declare("digits_after", *needed, self.declared.before()),
            Reason::Number(NumberError::NotANumber) | Reason::NotANumber(_) => {
                "give numbers such as 31 or -0.5 and leave missing values out"
            }
            Reason::Ragged { .. } => "vectors are added element by element: make them equally long",
            Reason::RowWidth { .. } => "give every row as many values, with null for those that are missing",
            Reason::Uneven { .. } => "give all columns as many rows, with null for values that are missing",
            Reason::NotACategory(_) => "categories are texts and whole numbers; null is a missing value",
            Reason::CategoryLength => "use shorter names for the categories",
            Reason::TooManyCategories => "put categories together: this many look like identifiers of single persons",
            Reason::UnknownCategory => {
                "declare it in the task's parameters, give null, or correct the row; \"1\" and 1 are two categories"
            }
            Reason::Empty => "give at least one element, for example {\"vectors\": [[1, 2]]} or {\"age\": []}",
            Reason::TooManyRows { .. } => "add some of the values up first",
            Reason::NotJson { .. } | Reason::Shape(_) => {
                "the forms are 31, [31, -0.5], {\"vectors\": [[1, 2], [3, 4]]} and {\"columns\": {\"age\": [31, 40]}}, \
                 the same one in all inputs"
            }
            Reason::Table(_) => {
                "the forms are [31, null, 40], [[31, \"a\"], [40, \"b\"]], {\"columns\": [\"age\", \"arm\"], \"rows\": [[31, \"a\"], [40, \"b\"]]} and \
                 {\"columns\": {\"age\": [31, 40], \"arm\": [\"a\", \"b\"]}}, the same one in all inputs"
            }
            Reason::DuplicateName => "give each column a name of its own",
            Reason::NameLength => "rename the column",
            Reason::TooManyColumns => {
                "use {\"vectors\": [[1, 2], [3, 4]]}, or several tasks with some of the columns each"
            }
            Reason::TooManySums { .. } => "declare fewer digits or use several tasks",
        };
        hint.to_owned()
    }

    fn number_message(&self, error: NumberError) -> String {
        let (needed, declared, side) = match error {
            NumberError::NotANumber => return "is not a number".to_owned(),
            NumberError::TooLarge {
                digits_before_needed: needed,
            } => (needed, self.declared.before(), "before"),
            NumberError::TooFine {
                digits_after_needed: needed,
            } => (needed, self.declared.after(), "after"),
        };
        let plural = if needed == 1 { "" } else { "s" };
        format!("needs {needed} digit{plural} {side} the point, {declared} are declared")
    }
}

impl std::error::Error for Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.message(), self.hint())
    }
}

/// The remedy for a number that needs more digits on one side, while `other` are declared on the other side.
fn declare(parameter: &str, needed: u32, other: u16) -> String {
    if needed.saturating_add(u32::from(other)) <= MAX_DIGITS {
        return format!("create the task with parameters={{\"{parameter}\": {needed}}}");
    }
    format!(
        "no more than {MAX_DIGITS} digits can be declared on both sides together: round the values or use another unit"
    )
}
