//! From text to tables.

use std::collections::HashMap;

use zeroize::Zeroizing;

use super::super::{self as data, MAX_COLUMNS, MAX_SUM_LIMBS, Reader, Reason, Refusal, shown, string_length};
use super::{Category, Cells, Form, Kind, MAX_CATEGORIES, MISSING, Table};
use crate::microprotocol::{self, SeeRow};
use crate::number::{Grid, canonical};

/// A column while it is read.
pub(super) struct Growing {
    pub(super) cells: Cells,
    index: HashMap<Category, u32>,
}

impl Growing {
    /// Memory is taken at once, since what grows leaves copies of private values behind.
    pub(super) fn new(kind: Kind, limbs: usize, rows: usize) -> Growing {
        let cells = match kind {
            Kind::Numbers => Cells::Numbers {
                elements: Zeroizing::new(Vec::with_capacity(rows * limbs)),
                present: Zeroizing::new(Vec::with_capacity(rows)),
            },
            Kind::Categories => Cells::Categories {
                codes: Zeroizing::new(Vec::with_capacity(rows)),
                categories: Vec::new(),
                first: Vec::new(),
            },
        };
        Growing {
            cells,
            index: HashMap::new(),
        }
    }

    fn rows(&self) -> usize {
        match &self.cells {
            Cells::Numbers { present, .. } => present.len(),
            Cells::Categories { codes, .. } => codes.len(),
        }
    }

    fn push_category(&mut self, category: Category) -> Result<(), Reason> {
        let Cells::Categories {
            codes,
            categories,
            first,
        } = &mut self.cells
        else {
            return Ok(());
        };
        let next = categories.len();
        let code = *self.index.entry(category.clone()).or_insert(next as u32);
        if code as usize == next {
            if next == MAX_CATEGORIES {
                return Err(Reason::TooManyCategories);
            }
            categories.push(category);
            first.push(codes.len());
        }
        codes.push(code);
        Ok(())
    }

    fn push_missing(&mut self, limbs: usize) {
        match &mut self.cells {
            Cells::Numbers { elements, present } => {
                let end = elements.len() + limbs;
                elements.resize(end, 0);
                present.push(false);
            }
            Cells::Categories { codes, .. } => codes.push(MISSING),
        }
    }
}

pub(super) struct TableReader<'a, 'see> {
    pub(super) text: Reader<'a>,
    kind: &'a dyn Fn(usize, Option<&str>) -> Kind,
    pub(super) see: Option<&'see mut SeeRow<'see>>,
}

impl<'a, 'see> TableReader<'a, 'see> {
    pub(super) fn new(
        grid: &'a Grid,
        limit: u64,
        json: &'a str,
        kind: &'a dyn Fn(usize, Option<&str>) -> Kind,
        claimed: usize,
    ) -> TableReader<'a, 'see> {
        let text = Reader {
            grid,
            bytes: json.as_bytes(),
            at: 0,
            limit,
            claimed,
        };
        TableReader { text, kind, see: None }
    }

    pub(super) fn table(&mut self) -> Result<Table, Refusal> {
        let table = match self.text.peek() {
            Some(b'{') => self.object()?,
            Some(b'[') => {
                let start = self.text.at;
                self.text.at += 1;
                let rows = self.text.peek() == Some(b'[');
                self.text.at = start;
                if rows {
                    self.rows(None, Form::Rows)?
                } else {
                    self.list()?
                }
            }
            _ => self.list()?,
        };
        match self.text.peek() {
            None => Ok(table),
            Some(_) => Err(self.text.not_json("")),
        }
    }

    /// One column without a name. An empty list has no column at all: it does not say how many there are.
    fn list(&mut self) -> Result<Table, Refusal> {
        let column = self.column("", (0, None))?;
        let rows = column.rows();
        let columns = if rows == 0 { Vec::new() } else { vec![column.cells] };
        Ok(Table {
            names: None,
            rows,
            columns,
            form: Form::List,
        })
    }

    fn object(&mut self) -> Result<Table, Refusal> {
        let start = self.text.at;
        self.text.at += 1;
        if self.text.peek() == Some(b'"') {
            let key = self.text.key("")?;
            match (key.as_str(), self.text.peek()) {
                ("rows", _) => return self.rows_before_names(),
                ("columns", Some(b'[')) => return self.names_before_rows(),
                ("columns", Some(b'{')) => {
                    let table = self.columns("columns.", Form::Columns)?;
                    return match self.text.next() {
                        Some(b'}') => Ok(table),
                        Some(b',') => Err(self.other_members()),
                        _ => Err(self.text.not_json_before("")),
                    };
                }
                ("columns", _) => {
                    let what = "must be names, or an object of lists, such as {\"columns\": {\"age\": [31, 40]}}";
                    return Err(self.shape("columns", what));
                }
                _ => {}
            }
        }
        self.text.at = start;
        self.columns("", Form::Direct)
    }

    /// `{"columns": ["x", "y"], "rows": …}`, behind the first key.
    fn names_before_rows(&mut self) -> Result<Table, Refusal> {
        let names = self.names()?;
        if self.text.next() != Some(b',') {
            return Err(self.lacks("rows"));
        }
        if self.text.key("")? != "rows" {
            return Err(self.other_members());
        }
        let table = self.rows(Some(names), Form::NamedRows)?;
        match self.text.next() {
            Some(b'}') => Ok(table),
            _ => Err(self.other_members()),
        }
    }

    /// `{"rows": …, "columns": ["x", "y"]}`, behind the first key.
    fn rows_before_names(&mut self) -> Result<Table, Refusal> {
        let start = self.text.at;
        self.text.at += value_length(&self.text.bytes[start..]);
        if self.text.next() != Some(b',') {
            return Err(self.lacks("columns"));
        }
        if self.text.key("")? != "columns" || self.text.peek() != Some(b'[') {
            return Err(self.other_members());
        }
        let names = self.names()?;
        if self.text.next() != Some(b'}') {
            return Err(self.other_members());
        }
        let end = std::mem::replace(&mut self.text.at, start);
        let table = self.rows(Some(names), Form::NamedRows)?;
        if self.text.peek() != Some(b',') {
            return Err(self.text.not_json("rows"));
        }
        self.text.at = end;
        Ok(table)
    }

    /// A list of distinct names.
    fn names(&mut self) -> Result<Vec<String>, Refusal> {
        let mut names: Vec<String> = Vec::new();
        self.text.at += 1;
        loop {
            if names.len() == MAX_COLUMNS {
                return Err(self.text.refuse("columns", Reason::TooManyColumns));
            }
            if self.text.peek() != Some(b'"') {
                let at = format!("columns[{}]", names.len());
                return Err(self.shape(&at, "is not a name"));
            }
            let name = self.text.name("columns")?;
            if names.contains(&name) {
                return Err(self
                    .text
                    .refuse(&format!("columns.{}", shown(&name)), Reason::DuplicateName));
            }
            names.push(name);
            if !self.text.more().map_err(|reason| self.text.refuse("columns", reason))? {
                return Ok(names);
            }
        }
    }

    fn rows(&mut self, names: Option<Vec<String>>, form: Form) -> Result<Table, Refusal> {
        let prefix = if form == Form::NamedRows { "rows" } else { "" };
        if self.text.peek() != Some(b'[') {
            return Err(self.shape(prefix, "is not a list of rows"));
        }
        let all = items(&self.text.bytes[self.text.at..]);
        self.text.at += 1;
        let mut columns: Vec<Growing> = Vec::new();
        let mut rows = 0;
        let mut more = all > 0;
        if let Some(names) = names.as_ref().filter(|_| !more) {
            columns = self.growing(names.len(), 0, Some(names))?;
        }
        if !more {
            // The bracket that closes it.
            let _ = self.text.next();
        }
        while more {
            if rows as u64 == self.text.limit {
                return Err(self.text.too_many_rows(prefix));
            }
            if self.text.peek() != Some(b'[') {
                let at = format!("{prefix}[{rows}]");
                return Err(self.shape(&at, "is not a row: rows are lists, all of them"));
            }
            let width = items(&self.text.bytes[self.text.at..]);
            if rows == 0 {
                let expected = names.as_ref().map_or(width, Vec::len);
                columns = self.growing(expected, all, names.as_deref())?;
            }
            if width != columns.len() || width == 0 {
                let expected = columns.len();
                let at = format!("{prefix}[{rows}]");
                return Err(self.text.refuse(&at, Reason::RowWidth { expected, found: width }));
            }
            self.row(prefix, rows, &mut columns, names.as_deref())?;
            rows += 1;
            more = self
                .text
                .more()
                .map_err(|reason| self.text.refuse(&format!("{prefix}[{rows}]"), reason))?;
        }
        Ok(Table {
            names,
            rows,
            columns: columns.into_iter().map(|column| column.cells).collect(),
            form,
        })
    }

    fn row(
        &mut self,
        prefix: &str,
        row: usize,
        columns: &mut [Growing],
        names: Option<&[String]>,
    ) -> Result<(), Refusal> {
        self.text.at += 1;
        let width = columns.len();
        for (index, column) in columns.iter_mut().enumerate() {
            let known = match names {
                Some(names) => microprotocol::Column::Named(&names[index]),
                None => microprotocol::Column::Position(index),
            };
            let more = self.cell(column, known).and_then(|()| self.text.more());
            let more = more.map_err(|reason| self.text.refuse(&format!("{prefix}[{row}][{index}]"), reason))?;
            if more != (index + 1 < width) {
                return Err(self.text.not_json(&format!("{prefix}[{row}]")));
            }
        }
        Ok(())
    }

    /// Columns of a table that will have so many rows.
    fn growing(&mut self, width: usize, rows: usize, names: Option<&[String]>) -> Result<Vec<Growing>, Refusal> {
        if width > MAX_COLUMNS {
            return Err(self.text.refuse("", Reason::TooManyColumns));
        }
        let mut columns = Vec::with_capacity(width);
        for index in 0..width {
            let name = names.map(|names| names[index].as_str());
            self.begin(name.map_or(microprotocol::Column::Position(index), microprotocol::Column::Named));
            columns.push(self.grow("", (self.kind)(index, name), rows)?);
        }
        Ok(columns)
    }

    /// `{"age": […], …}`.
    fn columns(&mut self, prefix: &str, form: Form) -> Result<Table, Refusal> {
        let whole = prefix.trim_end_matches('.');
        let mut names: Vec<String> = Vec::new();
        let mut columns: Vec<Growing> = Vec::new();
        self.text.at += 1;
        if self.text.peek() == Some(b'}') {
            return Err(self.text.refuse(whole, Reason::Empty));
        }
        loop {
            let name = self.text.key(whole)?;
            let path = format!("{prefix}{}", shown(&name));
            if form == Form::Direct && matches!(name.as_str(), "columns" | "rows" | "vectors") {
                return Err(self.other_members());
            }
            if names.contains(&name) {
                return Err(self.text.refuse(&path, Reason::DuplicateName));
            }
            if columns.len() == MAX_COLUMNS {
                return Err(self.text.refuse(whole, Reason::TooManyColumns));
            }
            columns.push(self.column(&path, (columns.len(), Some(&name)))?);
            names.push(name);
            match self.text.next() {
                Some(b',') => {}
                Some(b'}') => break,
                _ => return Err(self.text.not_json_before(&path)),
            }
        }
        Ok(Table {
            names: Some(names),
            rows: columns.iter().map(Growing::rows).max().unwrap_or(0),
            columns: columns.into_iter().map(|column| column.cells).collect(),
            form,
        })
    }

    /// A value, or a list of values.
    fn column(&mut self, path: &str, (index, name): (usize, Option<&str>)) -> Result<Growing, Refusal> {
        let known = name.map_or(microprotocol::Column::Unnamed, microprotocol::Column::Named);
        let kind = (self.kind)(index, name);
        self.begin(known);
        if self.text.peek() != Some(b'[') {
            if self.text.limit == 0 {
                return Err(self.text.too_many_rows(path));
            }
            let mut column = self.grow(path, kind, 1)?;
            self.cell(&mut column, known)
                .map_err(|reason| self.text.refuse(path, reason))?;
            return Ok(column);
        }
        let all = items(&self.text.bytes[self.text.at..]);
        self.text.at += 1;
        let mut column = self.grow(path, kind, all)?;
        if all == 0 {
            let _ = self.text.next();
            return Ok(column);
        }
        loop {
            let row = column.rows();
            if row as u64 == self.text.limit {
                return Err(self.text.too_many_rows(path));
            }
            let more = self.cell(&mut column, known).and_then(|()| self.text.more());
            if !more.map_err(|reason| self.text.refuse(&format!("{path}[{row}]"), reason))? {
                return Ok(column);
            }
        }
    }

    /// One cell, which goes to the end of its column.
    #[inline]
    fn cell(&mut self, column: &mut Growing, known: microprotocol::Column<'_>) -> Result<(), Reason> {
        self.text.skip_space();
        let start = self.text.at;
        let rest = &self.text.bytes[start..];
        if rest.starts_with(b"null") {
            self.text.at += 4;
            column.push_missing(self.text.grid.ring().limbs());
            return Ok(());
        }
        if let Cells::Numbers { elements, present } = &mut column.cells {
            let begin = elements.len();
            elements.resize(begin + self.text.grid.ring().limbs(), 0);
            self.text.number(&mut elements[begin..])?;
            present.push(true);
            if let Some(see) = &mut self.see {
                see(
                    known,
                    canonical(&self.text.bytes[start..self.text.at])
                        .as_ref()
                        .map(|form| &form[..]),
                );
            }
            return Ok(());
        }
        let length = match rest.first() {
            Some(b'"') => string_length(rest).ok_or(Reason::NotJson {
                byte: self.text.bytes.len(),
            })?,
            Some(b'-' | b'0'..=b'9') => rest.iter().take_while(|byte| is_of_number(**byte)).count(),
            _ => return Err(data::kind(rest).map_or(Reason::NotJson { byte: start }, Reason::NotACategory)),
        };
        let category = Category::read(&rest[..length])?;
        self.text.at += length;
        if let Some(see) = &mut self.see {
            let form = match &category {
                Category::Number(number) => canonical(number.to_string().as_bytes()),
                // No number's form begins so.
                Category::Text(text) => Some(Zeroizing::new([&[0xff], text.as_bytes()].concat())),
            };
            see(known, form.as_ref().map(|form| &form[..]));
        }
        column.push_category(category)
    }

    fn begin(&mut self, known: microprotocol::Column<'_>) {
        if let Some(see) = &mut self.see {
            see(known, None);
        }
    }

    /// Short texts must not claim large memory in wide rings.
    fn grow(&mut self, path: &str, kind: Kind, rows: usize) -> Result<Growing, Refusal> {
        let limbs = self.text.grid.ring().limbs();
        let words = if kind == Kind::Numbers { limbs } else { 1 };
        let claimed = rows.saturating_mul(words).saturating_add(self.text.claimed);
        if claimed > MAX_SUM_LIMBS {
            let limit = MAX_SUM_LIMBS / words;
            return Err(self.text.refuse(path, Reason::TooManySums { limit }));
        }
        self.text.claimed = claimed;
        Ok(Growing::new(kind, limbs, rows))
    }

    pub(super) fn shape(&self, at: &str, what: &str) -> Refusal {
        self.text.refuse(at, Reason::Table(what.to_owned()))
    }

    fn lacks(&self, what: &str) -> Refusal {
        self.shape(
            "",
            &format!("has no member `{what}`: a table is {{\"columns\": [\"x\", \"y\"], \"rows\": [[1, 2], [3, 4]]}}"),
        )
    }

    fn other_members(&self) -> Refusal {
        self.shape(
            "",
            "has other members beside `columns` and `rows`, or these in a form that no table has",
        )
    }
}

/// Puts tables of the same columns together, each column at once.
pub(super) fn merge(grid: &Grid, max_rows: u64, parts: &[Table]) -> Result<Table, Refusal> {
    let refuse = |reason| Refusal {
        at: String::new(),
        reason,
        declared: grid.digits(),
    };
    let first = parts.first().ok_or_else(|| refuse(Reason::Empty))?;
    let rows: usize = parts.iter().map(|part| part.rows).sum();
    if rows as u64 > max_rows {
        return Err(refuse(Reason::TooManyRows { limit: max_rows }));
    }
    let limbs = grid.ring().limbs();
    let mut columns = Vec::with_capacity(first.columns.len());
    for index in 0..first.columns.len() {
        let kind = match first.columns[index] {
            Cells::Numbers { .. } => Kind::Numbers,
            Cells::Categories { .. } => Kind::Categories,
        };
        let mut whole = Growing::new(kind, limbs, rows);
        for part in parts {
            append(&mut whole, &part.columns[index]).map_err(refuse)?;
        }
        columns.push(whole.cells);
    }
    Ok(Table {
        names: first.names.clone(),
        rows,
        columns,
        form: first.form,
    })
}

fn append(whole: &mut Growing, part: &Cells) -> Result<(), Reason> {
    match (&mut whole.cells, part) {
        (
            Cells::Numbers { elements, present },
            Cells::Numbers {
                elements: more,
                present: which,
            },
        ) => {
            elements.extend_from_slice(more);
            present.extend_from_slice(which);
        }
        (Cells::Categories { .. }, Cells::Categories { codes, categories, .. }) => {
            for code in codes.iter() {
                match categories.get(*code as usize) {
                    Some(category) => whole.push_category(category.clone())?,
                    None => whole.push_missing(0),
                }
            }
        }
        _ => {}
    }
    Ok(())
}

fn is_of_number(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')
}

/// Length of the JSON value that begins here, as far as brackets and strings go.
fn value_length(text: &[u8]) -> usize {
    walk(text).0
}

/// Items of the list that begins here, as far as brackets, commas and strings go.
fn items(text: &[u8]) -> usize {
    walk(text).1
}

/// Length, and items at the first level.
fn walk(text: &[u8]) -> (usize, usize) {
    let (mut at, mut depth, mut commas, mut any) = (0, 0_usize, 0, false);
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                any |= depth == 1;
                at += string_length(&text[at..]).unwrap_or(text.len() - at);
                if depth == 0 {
                    break;
                }
                continue;
            }
            b'[' | b'{' => {
                any |= depth == 1;
                depth += 1;
            }
            b']' | b'}' => {
                if depth <= 1 {
                    at += usize::from(depth == 1);
                    break;
                }
                depth -= 1;
            }
            b',' if depth == 0 => break,
            b',' if depth == 1 => commas += 1,
            b' ' | b'\n' | b'\t' | b'\r' => {}
            _ => any |= depth == 1,
        }
        at += 1;
    }
    (at, if any || commas > 0 { commas + 1 } else { 0 })
}
