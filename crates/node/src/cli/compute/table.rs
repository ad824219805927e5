//! Columns of a CSV file as JSON text. Numbers are passed on as the decimal digits that stand in the file, never through floating point, and
//! no message repeats a cell: it is private.

use std::io::Read;

use csv::{ByteRecord, ReaderBuilder, Trim};
use fdrtd::json::nearest;
use zeroize::Zeroizing;

use super::super::failure::{Exit, Failure, printable};

/// How to read a file.
pub(super) struct Format {
    pub(super) delimiter: u8,
    pub(super) decimal_comma: bool,
    pub(super) skip_empty: bool,
    pub(super) meaning: Meaning,
}

/// What a cell without a number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A mistake: the computation is of numbers, column by column. An empty cell may be left out.
    Mistake,
    /// A missing value, or a category: the computation is of tables, whose rows belong together.
    Table,
    /// One or the other: the computation is not known here.
    Unknown,
}

/// The input of a task.
#[derive(Debug)]
pub(super) struct Numbers {
    /// A list, or `{"columns": {…}}` if there are several columns.
    pub(super) json: Zeroizing<String>,
    /// How many numbers there are.
    pub(super) count: usize,
    /// How many empty cells were left out.
    pub(super) skipped: usize,
    /// How many empty cells are missing values.
    pub(super) missing: usize,
}

/// Why a cell is no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Empty,
    DecimalComma,
    Separators,
    Text,
}

struct Column {
    name: String,
    /// Its place in a row.
    at: usize,
    numbers: Zeroizing<String>,
    /// Numbers or categories.
    count: usize,
    missing: usize,
}

impl Column {
    /// Appends a cell. `false` if it was left out.
    fn push(&mut self, cell: &[u8], format: &Format) -> Result<bool, Refusal> {
        let length = self.numbers.len();
        if length > 0 {
            self.numbers.push(',');
        }
        let table = format.meaning == Meaning::Table;
        match number(cell, format.decimal_comma, &mut self.numbers) {
            Ok(()) => self.count += 1,
            Err(Refusal::Empty) if table => {
                self.numbers.push_str("null");
                self.missing += 1;
            }
            Err(Refusal::Empty) if format.skip_empty => {
                self.numbers.truncate(length);
                return Ok(false);
            }
            Err(Refusal::Text) if table => {
                let text = str::from_utf8(cell.trim_ascii()).map_err(|_| Refusal::Text)?;
                let text = Zeroizing::new(serde_json::to_string(text).map_err(|_| Refusal::Text)?);
                self.numbers.push_str(&text);
                self.count += 1;
            }
            Err(why) => return Err(why),
        }
        Ok(true)
    }
}

/// Reads the chosen columns of a file with a header row; without a choice, the only one. `file` is its name for people.
pub(super) fn read(text: &[u8], file: &str, wanted: &[String], format: &Format) -> Result<Numbers, Failure> {
    if text.starts_with(&[0xff, 0xfe]) || text.starts_with(&[0xfe, 0xff]) {
        let hint = "save it as CSV in UTF-8 (Excel: \"CSV UTF-8\")";
        return Err(unusable(format!("{file} is in UTF-16, not a plain CSV file"), hint));
    }
    let mut reader = ReaderBuilder::new()
        .delimiter(format.delimiter)
        .flexible(true)
        .trim(Trim::Headers)
        .from_reader(text);
    let header = reader.byte_headers().map_err(|_| broken(file))?.clone();
    let mut columns = choose(&header, file, wanted, format.delimiter)?;
    let (mut record, mut skipped, mut rows, mut last_end) = (ByteRecord::new(), 0, 0, None);
    loop {
        let start = usize::try_from(reader.position().byte()).unwrap_or(usize::MAX);
        if !reader.read_byte_record(&mut record).map_err(|_| broken(file))? {
            break;
        }
        rows += 1;
        let line = || line_of(text, start);
        // In a file of one column an empty cell is an empty line, which CSV readers pass over.
        if header.len() == 1 && last_end.is_some() {
            let blank = blank_lines(text, start);
            for _ in 0..blank {
                let taken = columns[0].push(b"", format);
                let taken = taken.map_err(|why| refused(file, &columns[0], line() - blank, why, format))?;
                skipped += usize::from(!taken);
            }
        }
        last_end = Some(start);
        if record.len() != header.len() {
            return Err(ragged(file, line(), record.len(), header.len()));
        }
        for column in &mut columns {
            let cell = record.get(column.at).unwrap_or_default();
            let taken = column.push(cell, format);
            skipped += usize::from(!taken.map_err(|why| refused(file, column, line(), why, format))?);
        }
    }
    if unclosed(&text[last_end.unwrap_or_default()..], format.delimiter) {
        let line = line_of(text, last_end.unwrap_or_default());
        return Err(unusable(
            format!(
                "{file}: a quotation mark in line {line} has no second one, so the rest of the file would be one cell"
            ),
            "close the quotation, or write the mark twice in quotation marks",
        ));
    }
    if rows == 0 {
        return Err(unusable(
            format!("{file} has no rows below its first line"),
            "the first line holds the names of the columns, the others the data",
        ));
    }
    if skipped > 0 && columns.len() > 1 && format.meaning == Meaning::Unknown {
        return Err(unusable(
            format!("{file} has empty cells, and the computation is not named"),
            "name it on the command line: whether an empty cell may be left out, or its whole row, depends on that",
        ));
    }
    assemble(&columns, file, skipped, wanted.len() > 1)
}

/// Appends a decimal number as JSON wants it: `+07.50` becomes `7.50`.
pub(super) fn number(cell: &[u8], decimal_comma: bool, to: &mut String) -> Result<(), Refusal> {
    let cell = cell.trim_ascii();
    if cell.is_empty() {
        return Err(Refusal::Empty);
    }
    let point = if decimal_comma { b',' } else { b'.' };
    if let Some(number) = Decimal::parse(cell, point) {
        number.write(to);
        return Ok(());
    }
    let numeric = |b: &u8| b.is_ascii_digit() || b"+-.,' ".contains(b);
    let digits = cell.iter().any(u8::is_ascii_digit);
    Err(match cell {
        _ if !decimal_comma && Decimal::parse(cell, b',').is_some() => Refusal::DecimalComma,
        _ if digits && cell.iter().all(numeric) => Refusal::Separators,
        _ => Refusal::Text,
    })
}

struct Decimal<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent: &'a [u8],
}

impl<'a> Decimal<'a> {
    fn parse(text: &'a [u8], point: u8) -> Option<Decimal<'a>> {
        let (negative, rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        let (whole, rest) = digits(rest);
        let (fraction, rest) = match rest {
            [first, rest @ ..] if *first == point => digits(rest),
            _ => (&rest[..0], rest),
        };
        let exponent = match rest {
            [] => rest,
            [b'e' | b'E', exponent @ ..] => {
                let unsigned = exponent.strip_prefix(b"+").or_else(|| exponent.strip_prefix(b"-"));
                let (found, left) = digits(unsigned.unwrap_or(exponent));
                if found.is_empty() || !left.is_empty() {
                    return None;
                }
                exponent
            }
            _ => return None,
        };
        (whole.len() + fraction.len() > 0).then_some(Decimal {
            negative,
            whole,
            fraction,
            exponent,
        })
    }

    fn write(&self, to: &mut String) {
        let mut push = |digits: &[u8]| to.extend(digits.iter().map(|digit| char::from(*digit)));
        if self.negative {
            push(b"-");
        }
        let zeros = self.whole.iter().take_while(|digit| **digit == b'0').count();
        match &self.whole[zeros..] {
            [] => push(b"0"),
            whole => push(whole),
        }
        if !self.fraction.is_empty() {
            push(b".");
            push(self.fraction);
        }
        if !self.exponent.is_empty() {
            push(b"e");
            push(self.exponent);
        }
    }
}

fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().take_while(|byte| byte.is_ascii_digit()).count())
}

fn choose(header: &ByteRecord, file: &str, wanted: &[String], delimiter: u8) -> Result<Vec<Column>, Failure> {
    let names: Vec<String> = header
        .iter()
        .map(|name| String::from_utf8_lossy(name).trim().to_owned())
        .collect();
    let other = [b';', b'\t', b',', b'|'].into_iter().find(|other| {
        let held = |name: &String| name.as_bytes().contains(other);
        *other != delimiter && names.len() == 1 && names.iter().any(held)
    });
    if let Some(other) = other {
        let shown = if other == b'\t' {
            "tab".to_owned()
        } else {
            format!("'{}'", char::from(other))
        };
        return Err(unusable(
            format!("the first line of {file} has {shown} between its words, and the delimiter is another"),
            &format!("give --delimiter {shown}"),
        ));
    }
    let places = match wanted {
        [] if names.len() == 1 && !names[0].is_empty() => vec![0],
        [] => {
            let what = format!("{file} has {} columns: {}", names.len(), shown(&names));
            return Err(unusable(what, "choose one with --column NAME; several are possible"));
        }
        _ => wanted
            .iter()
            .map(|name| place(&names, file, name))
            .collect::<Result<Vec<usize>, Failure>>()?,
    };
    let mut columns: Vec<Column> = Vec::new();
    for at in places {
        if columns.iter().any(|column| column.at == at) {
            let what = format!("the column {} is chosen twice", printable(&names[at]));
            return Err(unusable(what, "name each column once"));
        }
        if columns.iter().any(|column| column.name == names[at]) {
            let what = format!("two of the chosen columns are called {}", printable(&names[at]));
            return Err(unusable(what, "the result has them by name: rename one of them"));
        }
        // Names are compared with those of the other parties, who have them in UTF-8.
        if header.get(at).is_some_and(|name| std::str::from_utf8(name).is_err()) {
            let what = format!("the name of column {} of {file} is not in UTF-8", at + 1);
            return Err(unusable(what, "save the table as CSV in UTF-8"));
        }
        let mut digits = String::new();
        if number(names[at].as_bytes(), false, &mut digits).is_ok() {
            return Err(unusable(
                format!(
                    "the first line of {file} holds a number where the name of column {} should be",
                    at + 1
                ),
                "add a first line with the names of the columns",
            ));
        }
        columns.push(Column {
            name: names[at].clone(),
            at,
            numbers: Zeroizing::default(),
            count: 0,
            missing: 0,
        });
    }
    Ok(columns)
}

/// By name, else by number from 1.
fn place(names: &[String], file: &str, wanted: &str) -> Result<usize, Failure> {
    let mut matching = names.iter().enumerate().filter(|(_, name)| *name == wanted.trim());
    match (matching.next(), matching.next()) {
        (Some((at, _)), None) => return Ok(at),
        (Some((at, _)), Some((other, _))) => {
            return Err(unusable(
                format!(
                    "{file} has two columns {}: the {}. and the {}.",
                    printable(wanted),
                    at + 1,
                    other + 1
                ),
                "choose by number: --column 1 is the first",
            ));
        }
        _ => {}
    }
    if let Ok(place) = wanted.trim().parse::<usize>()
        && (1..=names.len()).contains(&place)
    {
        return Ok(place - 1);
    }
    let all = format!("the columns are: {}", shown(names));
    let hint = match nearest(wanted, names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean {}? {all}", printable(near)),
        None => all,
    };
    Err(unusable(format!("{file} has no column {}", printable(wanted)), &hint))
}

fn shown(names: &[String]) -> String {
    let mut shown: Vec<String> = names.iter().take(20).map(|name| printable(name)).collect();
    if names.len() > shown.len() {
        shown.push("…".to_owned());
    }
    shown.join(", ")
}

fn assemble(columns: &[Column], file: &str, skipped: usize, named: bool) -> Result<Numbers, Failure> {
    if let Some(empty) = columns.iter().find(|column| column.count == 0) {
        let what = format!("the column {} of {file} has no numbers", printable(&empty.name));
        return Err(unusable(what, "check the file"));
    }
    let lists = columns
        .iter()
        .map(|column| column.numbers.len() + column.name.len() + 16);
    let mut json = Zeroizing::new(String::with_capacity(lists.sum::<usize>() + 16));
    if named {
        json.push_str("{\"columns\":{");
    }
    for (index, column) in columns.iter().enumerate() {
        if index > 0 {
            json.push(',');
        }
        if named {
            json.push_str(&serde_json::Value::from(column.name.as_str()).to_string());
            json.push(':');
        }
        json.push('[');
        json.push_str(&column.numbers);
        json.push(']');
    }
    if named {
        json.push_str("}}");
    }
    Ok(Numbers {
        json,
        count: columns.iter().map(|column| column.count).sum(),
        skipped,
        missing: columns.iter().map(|column| column.missing).sum(),
    })
}

/// Whether the last row, which begins here, ends within quotation marks: then a line after it is a part of it.
fn unclosed(row: &[u8], delimiter: u8) -> bool {
    let mut reader = ReaderBuilder::new()
        .delimiter(delimiter)
        .flexible(true)
        .has_headers(false)
        .from_reader(row.chain(&b"\nend"[..]));
    let (mut record, mut rows) = (ByteRecord::new(), 0);
    while reader.read_byte_record(&mut record).unwrap_or(false) {
        rows += 1;
    }
    let alone = row.iter().all(|byte| matches!(byte, b'\r' | b'\n'));
    !alone && rows < 2
}

/// Where the row begins that a reader at byte `start` finds next: lines are ended by LF, CR LF or CR, and empty ones are passed over.
fn row_start(text: &[u8], start: usize) -> usize {
    let rest = text.get(start..).unwrap_or_default();
    start + rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count()
}

/// The number of that line, from 1.
fn line_of(text: &[u8], start: usize) -> usize {
    1 + line_ends(&text[..row_start(text, start).min(text.len())])
}

/// Empty lines between a reader at byte `start` and the next row. It may stand between CR and LF.
fn blank_lines(text: &[u8], start: usize) -> usize {
    let mut start = start;
    if start > 0 && text.get(start - 1) == Some(&b'\r') && text.get(start) == Some(&b'\n') {
        start += 1;
    }
    let end = row_start(text, start);
    line_ends(text.get(start..end).unwrap_or_default())
}

fn line_ends(text: &[u8]) -> usize {
    let lone = |(at, byte): (usize, &u8)| *byte == b'\n' || (*byte == b'\r' && text.get(at + 1) != Some(&b'\n'));
    text.iter().enumerate().filter(|pair| lone(*pair)).count()
}

fn unusable(what: String, hint: &str) -> Failure {
    Failure::usage(what, hint, "DATA_UNUSABLE")
}

fn broken(file: &str) -> Failure {
    unusable(format!("{file} is no CSV file"), "save the table as CSV in UTF-8")
}

fn ragged(file: &str, line: usize, cells: usize, names: usize) -> Failure {
    unusable(
        format!("{file}, line {line}: {cells} cells, but the first line has {names}"),
        "every row has a cell for each column; numbers with commas in them must be quoted, or the file must have another --delimiter",
    )
}

fn refused(file: &str, column: &Column, line: usize, why: Refusal, format: &Format) -> Failure {
    let (what, hint) = why.text(format.decimal_comma);
    Failure {
        exit: Exit::Usage,
        what: format!("{file}, line {line}, column {}: {what}", printable(&column.name)),
        side: "your call",
        hint: hint.to_owned(),
        code: "DATA_UNUSABLE".to_owned(),
    }
}

impl Refusal {
    /// What is wrong, and what to do.
    pub(super) fn text(self, decimal_comma: bool) -> (&'static str, &'static str) {
        match self {
            Refusal::Empty => (
                "the cell is empty",
                "fill it in, or leave empty cells out with --skip-empty",
            ),
            Refusal::DecimalComma => (
                "the number has a comma",
                "if it is a decimal comma (1,5 is one and a half), give --decimal-comma; separators of thousands must go",
            ),
            Refusal::Separators if decimal_comma => (
                "the number cannot be read with a decimal comma",
                "write 1234,5: no separators of thousands, and no points",
            ),
            Refusal::Separators => (
                "the number cannot be read",
                "write 1234.5: a point before the decimals, no separators of thousands",
            ),
            Refusal::Text => (
                "the cell is not a number",
                "correct it; for missing values leave the cell empty and give --skip-empty",
            ),
        }
    }
}

#[cfg(test)]
mod tests;
