//! The private inputs of sums: raw JSON text scanned straight into sums in the ring.
//!
//! Accepted forms: a number; a list of numbers; `{"vectors": [[…], […]]}`, equally long vectors that are added
//! element-wise; `{"columns": {"age": […], "bmi": […]}}` or the inner object alone, named columns of numbers.
//! No tree is built: memory is one element per sum, and nesting is never followed deeper than these forms.

use crate::number::{Grid, NumberError};
use std::collections::BTreeMap;
use std::fmt;
use zeroize::Zeroizing;

mod refusal;
mod rows;
mod table;
mod values;
pub use refusal::{Reason, Refusal};
pub use rows::rows;
pub use table::{Category, Cells, Kind, MAX_CATEGORIES, MAX_CATEGORY_BYTES, MISSING, Table};
pub use values::{Values, read_values};

/// Most columns of one input.
pub const MAX_COLUMNS: usize = 4096;
/// Longest column name, in bytes.
pub const MAX_NAME_BYTES: usize = 128;
/// Most 64-bit words of one input's sums, or of its numbers where these are kept (256 MiB): short texts must not claim large memory in wide rings.
const MAX_SUM_LIMBS: usize = 1 << 25;
/// Names in positions are cut to that many characters.
const SHOWN_NAME_CHARS: usize = 64;

/// What an input looks like: public, and the same for all parties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Numbers with one sum.
    Scalar,
    /// Vectors of this length, added element-wise.
    Vector(u32),
    /// Columns by name, sorted and distinct.
    Columns(Vec<String>),
}

impl Shape {
    /// How many sums there are.
    #[must_use]
    pub fn elements(&self) -> usize {
        match self {
            Shape::Scalar => 1,
            Shape::Vector(length) => *length as usize,
            Shape::Columns(names) => names.len(),
        }
    }
}

/// Sizes but no names: names may be private.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shape::Scalar => f.write_str("a number or a list of numbers"),
            Shape::Vector(length) => write!(f, "vectors of length {length}"),
            Shape::Columns(names) if names.len() == 1 => f.write_str("one named column"),
            Shape::Columns(names) => write!(f, "{} named columns", names.len()),
        }
    }
}

/// The sums of one party's input. Everything but the shape is private and erased on drop.
pub struct Sums {
    /// The public part.
    pub shape: Shape,
    /// One ring element per sum, in the order of the shape.
    pub sums: Zeroizing<Vec<u64>>,
    /// How many values went in: one count per column, one for all otherwise (for vectors their number).
    pub samples: Zeroizing<Vec<u64>>,
}

impl fmt::Debug for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sums")
            .field("shape", &self.shape)
            .finish_non_exhaustive()
    }
}

impl Sums {
    /// Adds another input of the same party.
    ///
    /// # Errors
    /// [`Refusal`] if the shapes differ or more than `max_rows` values came together; `self` is unchanged then.
    pub fn merge(&mut self, grid: &Grid, max_rows: u64, other: Sums) -> Result<(), Refusal> {
        let refuse = |reason| Refusal {
            at: String::new(),
            reason,
            declared: grid.digits(),
        };
        if self.shape != other.shape {
            let (this, earlier) = (other.shape.to_string(), self.shape.to_string());
            return Err(refuse(Reason::Shape(if this == earlier {
                "has other column names than an earlier input of this party".to_owned()
            } else {
                format!("has {this}, an earlier input of this party has {earlier}")
            })));
        }
        let limit = max_rows.min(grid.max_rows());
        let both = || self.samples.iter().zip(other.samples.iter());
        if both().any(|(a, b)| a.checked_add(*b).is_none_or(|rows| rows > limit)) {
            return Err(refuse(Reason::TooManyRows { limit }));
        }
        for (mine, more) in self.samples.iter_mut().zip(other.samples.iter()) {
            *mine += more;
        }
        grid.ring().add_assign(&mut self.sums, &other.sums);
        Ok(())
    }
}

/// Reads one input and sums it.
///
/// `max_rows` bounds the values of a list or column and the number of vectors; the capacity of the grid's ring does too.
///
/// # Errors
/// [`Refusal`] for the first thing in the text that cannot be taken.
pub fn read(grid: &Grid, max_rows: u64, json: &str) -> Result<Sums, Refusal> {
    let mut reader = Reader {
        grid,
        bytes: json.as_bytes(),
        at: 0,
        limit: max_rows.min(grid.max_rows()),
        claimed: 0,
    };
    let sums = match reader.peek() {
        Some(b'{') => reader.object()?,
        _ => {
            let (sum, count) = reader.column::<Sum>("")?;
            Sums {
                shape: Shape::Scalar,
                sums: sum.0,
                samples: Zeroizing::new(vec![count]),
            }
        }
    };
    match reader.peek() {
        None => Ok(sums),
        Some(_) => Err(reader.not_json("")),
    }
}

/// What becomes of the numbers of a list.
trait Sink: Sized {
    /// Whether it takes memory for every number.
    const KEEPS: bool;

    /// For a list of up to `capacity` numbers (0 where none are kept): memory is taken at once, since what grows leaves copies of private values
    /// behind.
    fn new(grid: &Grid, capacity: usize) -> Self;

    /// The element that the next number is added to.
    fn slot(&mut self) -> &mut [u64];
}

/// Adds them up.
struct Sum(Zeroizing<Vec<u64>>);

impl Sink for Sum {
    const KEEPS: bool = false;

    fn new(grid: &Grid, _capacity: usize) -> Sum {
        Sum(Zeroizing::new(vec![0; grid.ring().limbs()]))
    }

    fn slot(&mut self) -> &mut [u64] {
        &mut self.0
    }
}

struct Reader<'a> {
    grid: &'a Grid,
    bytes: &'a [u8],
    at: usize,
    limit: u64,
    /// Words that numbers have been given room for.
    claimed: usize,
}

impl Reader<'_> {
    /// An object: vectors, or columns with or without the outer key.
    fn object(&mut self) -> Result<Sums, Refusal> {
        let start = self.at;
        self.at += 1;
        if self.peek() == Some(b'"') {
            let key = self.key("")?;
            if key == "vectors" || key == "columns" {
                let sums = if key == "vectors" {
                    self.vectors()?
                } else if self.peek() == Some(b'{') {
                    self.columns("columns.", false)?
                } else {
                    let what = "must be an object of lists, such as {\"columns\": {\"age\": [31, 40]}}";
                    return Err(self.shape("columns", what));
                };
                return match self.next() {
                    Some(b'}') => Ok(sums),
                    Some(b',') => Err(self.only_key()),
                    _ => Err(self.not_json_before("")),
                };
            }
        }
        self.at = start;
        self.columns("", true)
    }

    fn columns(&mut self, prefix: &str, direct: bool) -> Result<Sums, Refusal> {
        let columns = self.named_columns::<Sum>(prefix, direct)?;
        let mut sums = Zeroizing::new(Vec::with_capacity(columns.len() * self.grid.ring().limbs()));
        let mut samples = Zeroizing::new(Vec::with_capacity(columns.len()));
        for (sum, count) in columns.values() {
            sums.extend_from_slice(&sum.0);
            samples.push(*count);
        }
        Ok(Sums {
            shape: Shape::Columns(columns.into_keys().collect()),
            sums,
            samples,
        })
    }

    /// `{"name": numbers, …}`. In the direct form the keys of the other forms are reserved.
    fn named_columns<S: Sink>(&mut self, prefix: &str, direct: bool) -> Result<BTreeMap<String, (S, u64)>, Refusal> {
        let whole = prefix.trim_end_matches('.');
        let mut columns: BTreeMap<String, (S, u64)> = BTreeMap::new();
        self.at += 1;
        if self.peek() == Some(b'}') {
            return Err(self.refuse(whole, Reason::Empty));
        }
        loop {
            let name = self.key(whole)?;
            let path = format!("{prefix}{}", shown(&name));
            if direct && (name == "vectors" || name == "columns") {
                return Err(self.only_key());
            }
            if columns.contains_key(&name) {
                return Err(self.refuse(&path, Reason::DuplicateName));
            }
            if columns.len() == MAX_COLUMNS {
                return Err(self.refuse(whole, Reason::TooManyColumns));
            }
            let column = self.column(&path)?;
            columns.insert(name, column);
            match self.next() {
                Some(b',') => {}
                Some(b'}') => return Ok(columns),
                _ => return Err(self.not_json_before(&path)),
            }
        }
    }

    /// A number or a list of numbers, and how many there are.
    fn column<S: Sink>(&mut self, path: &str) -> Result<(S, u64), Refusal> {
        if self.peek() != Some(b'[') {
            if self.limit == 0 {
                return Err(self.too_many_rows(path));
            }
            let mut sink = self.sink::<S>(path, 1)?;
            self.number(sink.slot()).map_err(|reason| self.refuse(path, reason))?;
            return Ok((sink, 1));
        }
        self.at += 1;
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok((S::new(self.grid, 0), 0));
        }
        let capacity = if S::KEEPS {
            count_elements(&self.bytes[self.at..])
        } else {
            0
        };
        let mut sink = self.sink::<S>(path, capacity)?;
        let mut count = 0;
        loop {
            if count == self.limit {
                return Err(self.too_many_rows(path));
            }
            let more = self
                .number(sink.slot())
                .and_then(|()| self.more())
                .map_err(|reason| self.refuse(&format!("{path}[{count}]"), reason))?;
            count += 1;
            if !more {
                return Ok((sink, count));
            }
        }
    }

    /// Short texts must not claim large memory in wide rings.
    fn sink<S: Sink>(&mut self, path: &str, capacity: usize) -> Result<S, Refusal> {
        if S::KEEPS {
            let limbs = self.grid.ring().limbs();
            let claimed = capacity.saturating_mul(limbs).saturating_add(self.claimed);
            if claimed > MAX_SUM_LIMBS {
                let limit = MAX_SUM_LIMBS / limbs;
                return Err(self.refuse(path, Reason::TooManySums { limit }));
            }
            self.claimed = claimed;
        }
        Ok(S::new(self.grid, capacity))
    }

    /// `[[…], […]]`, behind the key.
    fn vectors(&mut self) -> Result<Sums, Refusal> {
        if self.peek() != Some(b'[') {
            return Err(self.shape("vectors", "is not a list of lists of numbers"));
        }
        self.at += 1;
        if self.peek() == Some(b']') {
            return Err(self.refuse("vectors", Reason::Empty));
        }
        let mut sums = Zeroizing::new(Vec::new());
        let mut count = 0;
        loop {
            let path = format!("vectors[{count}]");
            if count == self.limit {
                return Err(self.too_many_rows("vectors"));
            }
            if self.peek() != Some(b'[') {
                return Err(self.shape(&path, "is not a list of numbers"));
            }
            self.at += 1;
            if count == 0 {
                // The exact size at once: a vector that grows would leave copies of private sums behind.
                sums = Zeroizing::new(vec![0; self.vector_limbs(&path)?]);
            }
            self.vector(&path, &mut sums)?;
            count += 1;
            if !self.more().map_err(|reason| self.refuse(&path, reason))? {
                break;
            }
        }
        let length = sums.len() / self.grid.ring().limbs();
        Ok(Sums {
            shape: Shape::Vector(length as u32),
            sums,
            samples: Zeroizing::new(vec![count]),
        })
    }

    /// The first vector's size in limbs.
    fn vector_limbs(&mut self, path: &str) -> Result<usize, Refusal> {
        if self.peek() == Some(b']') {
            return Err(self.refuse(path, Reason::Empty));
        }
        let limbs = self.grid.ring().limbs();
        let length = count_elements(&self.bytes[self.at..]);
        if length > MAX_SUM_LIMBS / limbs {
            let limit = MAX_SUM_LIMBS / limbs;
            return Err(self.refuse(path, Reason::TooManySums { limit }));
        }
        Ok(length * limbs)
    }

    /// Adds one vector, behind its bracket.
    fn vector(&mut self, path: &str, sums: &mut [u64]) -> Result<(), Refusal> {
        let start = self.at;
        let limbs = self.grid.ring().limbs();
        let expected = sums.len() / limbs;
        let mut found = 0;
        let mut more = self.peek() != Some(b']');
        if !more {
            self.at += 1;
        }
        for sum in sums.chunks_exact_mut(limbs) {
            if !more {
                break;
            }
            more = self
                .number(sum)
                .and_then(|()| self.more())
                .map_err(|reason| self.refuse(&format!("{path}[{found}]"), reason))?;
            found += 1;
        }
        if more {
            found = count_elements(&self.bytes[start..]).max(expected + 1);
        }
        if found != expected {
            return Err(self.refuse(path, Reason::Ragged { expected, found }));
        }
        Ok(())
    }

    /// One number, added to one element.
    #[inline]
    fn number(&mut self, sum: &mut [u64]) -> Result<(), Reason> {
        self.skip_space();
        match self.grid.add_prefix(&self.bytes[self.at..], sum) {
            Ok(length) => {
                self.at += length;
                Ok(())
            }
            Err(NumberError::NotANumber) => Err(match kind(&self.bytes[self.at..]) {
                Some(kind) => Reason::NotANumber(kind),
                None => Reason::NotJson { byte: self.at },
            }),
            Err(error) => Err(Reason::Number(error)),
        }
    }

    /// Behind an element of a list: does another follow?
    #[inline]
    fn more(&mut self) -> Result<bool, Reason> {
        match self.next() {
            Some(b',') => Ok(true),
            Some(b']') => Ok(false),
            _ => Err(Reason::NotJson {
                byte: self.at.saturating_sub(1).min(self.bytes.len()),
            }),
        }
    }

    /// A member's key and the colon.
    fn key(&mut self, whole: &str) -> Result<String, Refusal> {
        let name = self.name(whole)?;
        match self.next() {
            Some(b':') => Ok(name),
            _ => Err(self.not_json_before(whole)),
        }
    }

    /// The name of a column.
    fn name(&mut self, whole: &str) -> Result<String, Refusal> {
        if self.peek() != Some(b'"') {
            return Err(self.not_json(whole));
        }
        let text = &self.bytes[self.at..];
        let Some(length) = string_length(text) else {
            self.at = self.bytes.len();
            return Err(self.not_json(whole));
        };
        // The longest way to write a byte is \u00XX.
        if length > 6 * MAX_NAME_BYTES + 2 {
            return Err(self.refuse(whole, Reason::NameLength));
        }
        let Ok(name) = serde_json::from_slice::<String>(&text[..length]) else {
            return Err(self.not_json(whole));
        };
        if name.is_empty() || name.len() > MAX_NAME_BYTES {
            return Err(self.refuse(whole, Reason::NameLength));
        }
        self.at += length;
        Ok(name)
    }

    #[inline]
    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    /// The next byte that is not white space.
    #[inline]
    fn peek(&mut self) -> Option<u8> {
        self.skip_space();
        self.bytes.get(self.at).copied()
    }

    /// The same, taken. At the end the position moves on too, so that it is always one behind what was looked at.
    #[inline]
    fn next(&mut self) -> Option<u8> {
        let byte = self.peek();
        self.at += 1;
        byte
    }

    fn refuse(&self, at: &str, reason: Reason) -> Refusal {
        Refusal {
            at: at.to_owned(),
            reason,
            declared: self.grid.digits(),
        }
    }

    fn shape(&self, at: &str, what: &str) -> Refusal {
        self.refuse(at, Reason::Shape(what.to_owned()))
    }

    fn only_key(&self) -> Refusal {
        self.shape(
            "",
            "has other members beside `vectors` or `columns`, each of which must be the only one",
        )
    }

    fn too_many_rows(&self, at: &str) -> Refusal {
        self.refuse(at, Reason::TooManyRows { limit: self.limit })
    }

    fn not_json(&self, at: &str) -> Refusal {
        self.refuse(at, Reason::NotJson { byte: self.at })
    }

    /// The byte that was just taken is wrong.
    fn not_json_before(&self, at: &str) -> Refusal {
        let byte = self.at.saturating_sub(1).min(self.bytes.len());
        self.refuse(at, Reason::NotJson { byte })
    }
}

/// What something that is not a number is, by its beginning; never its value.
fn kind(text: &[u8]) -> Option<&'static str> {
    let starts = |word: &str| text.starts_with(word.as_bytes());
    match text.first()? {
        b'"' => Some("text"),
        b'[' => Some("a list"),
        b'{' => Some("an object"),
        _ if starts("true") || starts("false") => Some("true or false"),
        _ if starts("null") => Some("null"),
        _ if starts("NaN") => Some("NaN"),
        _ if starts("Infinity") || starts("-Infinity") => Some("infinite"),
        _ => None,
    }
}

/// Elements of a list of numbers that begins here, behind its bracket: exact for a list of at least one number.
fn count_elements(text: &[u8]) -> usize {
    let inside = |byte: &&u8| {
        matches!(
            byte,
            b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E' | b',' | b' ' | b'\n' | b'\t' | b'\r'
        )
    };
    let numbers = text.iter().take_while(inside);
    numbers.filter(|&&byte| byte == b',').count() + 1
}

/// Length of the JSON string that begins here, with both quotes.
fn string_length(text: &[u8]) -> Option<usize> {
    let mut escaped = false;
    let inner = text.get(1..)?;
    let end = inner.iter().position(|&byte| {
        let end = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        end
    })?;
    Some(end + 2)
}

/// A name as it may appear in messages and logs: short, on one line.
fn shown(name: &str) -> String {
    let visible = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    name.chars().take(SHOWN_NAME_CHARS).map(visible).collect()
}
