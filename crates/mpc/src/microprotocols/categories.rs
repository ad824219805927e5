//! What the microprotocols that count categories have in common: declared categories, inputs, counts by category, keys.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use serde_json::value::RawValue;
use zeroize::{Zeroize, Zeroizing};

use super::answer::Field;
use super::parameters::{Canonical, DIGITS, Given, MIN_CELL, MIN_SAMPLES, unusable};
use crate::data::{self, Category, Cells, Kind, MAX_CATEGORY_BYTES, Reason, Table};
use crate::microprotocol::{Refusal, Release, SeeRow, Shape};
use crate::net::{Abort, Net};
use crate::number::Grid;
use crate::opening::Opens;
use crate::sketch;
use crate::threshold::{self, Thresholds, Why, most_of_each};

/// Most cells of a table.
pub(super) const MOST_CELLS: usize = 10_000;
/// Most variables of a table.
const MOST_VARIABLES: usize = 2;
/// The categories, as they are declared.
pub(super) const CATEGORIES: &str = "categories";
/// Whether values outside the declared categories are counted together.
const OTHER: &str = "other";

/// What all parties agree on.
#[derive(Clone, Debug)]
pub struct Params {
    grid: Grid,
    pub(super) thresholds: Thresholds,
    /// Of each variable; `None` where they are to be found.
    pub(super) declared: Option<Vec<Vec<Category>>>,
    /// Whether other values are counted, too.
    pub(super) other: bool,
}

impl Params {
    /// `declared` reads the parameter [`CATEGORIES`].
    pub(super) fn read(
        microprotocol: &'static str,
        json: &str,
        declared: impl Fn(&str) -> Result<Vec<Vec<Category>>, Refusal>,
    ) -> Result<Params, Refusal> {
        let [after, before] = DIGITS;
        let known = [CATEGORIES, OTHER, after, before, MIN_SAMPLES, MIN_CELL];
        let given = Given::read(microprotocol, json, &known)?;
        let declared = given.text(CATEGORIES).map(declared).transpose()?;
        if let Some(variables) = &declared
            && variables.iter().map(Vec::len).product::<usize>() > MOST_CELLS
        {
            let message = format!("there would be more than {MOST_CELLS} cells");
            return Err(unusable(CATEGORIES, &message));
        }
        let other = match (given.text(OTHER), &declared) {
            (None | Some("false"), _) => declared.is_none(),
            (Some("true"), Some(_)) => true,
            (Some("true"), None) => {
                return Err(unusable(
                    OTHER,
                    "other needs declared categories, or there is nothing that it is other than",
                ));
            }
            _ => return Err(unusable(OTHER, "other is true or false")),
        };
        Ok(Params {
            grid: given.grid()?,
            thresholds: given.thresholds()?,
            declared,
            other,
        })
    }

    /// `json` writes the declared categories.
    pub(super) fn canonical(&self, json: impl Fn(&[Vec<Category>]) -> Value) -> String {
        let mut canonical = Canonical::new(&self.grid, &self.thresholds);
        if let Some(declared) = &self.declared {
            canonical = canonical.with(CATEGORIES, json(declared).to_string());
            if self.other {
                canonical = canonical.with(OTHER, "true".to_owned());
            }
        }
        canonical.text()
    }

    /// Cells that are counted besides the table: other values, missing ones.
    fn besides(&self) -> usize {
        usize::from(self.other) + 1
    }

    fn most_cells(&self) -> usize {
        let table = self
            .declared
            .as_ref()
            .map_or(MOST_CELLS, |declared| declared.iter().map(Vec::len).product());
        table + self.besides()
    }

    pub(super) fn rounds(&self, parties: usize, thresholds: &Thresholds) -> u32 {
        let thresholds = self.thresholds.strictest(*thresholds);
        let (find, cells) = match &self.declared {
            Some(_) => (0, self.most_cells()),
            None => (sketch::rounds() + u32::from(thresholds.want_samples()), 1),
        };
        find + threshold::enough_rounds(parties, &thresholds) + threshold::cells_rounds(parties, thresholds.cell, cells)
    }

    pub(super) fn show(&self, texts: &[&str], see: &mut SeeRow<'_>) -> Result<(), Refusal> {
        Ok(Table::show(&self.grid, texts, &|_, _| Kind::Categories, see)?)
    }
}

/// What opens with these parameters.
pub(super) fn releases(params: &Params) -> &'static [Release] {
    if params.declared.is_some() {
        &[Release::Cells]
    } else {
        &[Release::Cells, Release::Names]
    }
}

/// Reads a list of distinct categories; `at` is its name.
pub(super) fn declared(at: &str, text: &str, example: &str) -> Result<Vec<Category>, Refusal> {
    let refuse = |at: &str, what: &str| Refusal {
        hint: format!("categories are distinct texts and whole numbers, {example}"),
        ..unusable(at, &format!("{at} {what}"))
    };
    let list: Vec<&RawValue> = serde_json::from_str(text).map_err(|_| refuse(at, "is not a list"))?;
    if list.is_empty() {
        return Err(refuse(at, "is empty"));
    }
    if list.len() > MOST_CELLS {
        return Err(refuse(at, &format!("has more than {MOST_CELLS} categories")));
    }
    let mut places: HashMap<Category, usize> = HashMap::new();
    let mut categories = Vec::with_capacity(list.len());
    for (place, text) in list.iter().enumerate() {
        let at = format!("{at}[{place}]");
        let text = text.get().as_bytes();
        if !matches!(text.first(), Some(b'"' | b'-' | b'0'..=b'9')) {
            return Err(refuse(&at, "is neither a text nor a whole number"));
        }
        let category = Category::read(text).map_err(|reason| match reason {
            Reason::CategoryLength => refuse(&at, &format!("is longer than {MAX_CATEGORY_BYTES} bytes")),
            _ => refuse(&at, "is neither a text nor a whole number of at most 63 bits"),
        })?;
        if let Some(earlier) = places.insert(category.clone(), place) {
            return Err(refuse(&at, &format!("is the same as the one at {earlier}")));
        }
        categories.push(category);
    }
    Ok(categories)
}

/// A list of categories as JSON.
pub(super) fn json(categories: &[Category]) -> Value {
    categories.iter().map(Category::to_json).collect()
}

/// How often this party has each combination of categories. Private but for the names of its columns.
pub struct Tally {
    names: Option<Vec<String>>,
    /// Of each variable, in any order.
    variables: Vec<Vec<Category>>,
    /// By the places of the categories; 0 behind the last variable.
    counts: BTreeMap<[u32; MOST_VARIABLES], u64>,
    samples: u64,
    missing: u64,
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.counts.values_mut().for_each(Zeroize::zeroize);
    }
}

impl std::fmt::Debug for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tally")
    }
}

impl Tally {
    /// Reads this party's inputs: tables with so many columns.
    pub(super) fn read(params: &Params, variables: usize, parties: usize, texts: &[&str]) -> Result<Tally, Refusal> {
        let grid = &params.grid;
        let most = most_of_each(parties);
        let table = Table::read(grid, most, texts, &|_, _| Kind::Categories)?
            .at_least(grid, &vec![Kind::Categories; variables]);
        table.even(grid)?;
        if table.columns.len() != variables {
            let wanted = if variables == 1 {
                "one column is"
            } else {
                "two columns are"
            };
            let message = format!("the input has {} columns where {wanted} expected", table.columns.len());
            return Err(Refusal {
                code: "INPUT_SHAPE",
                hint: if variables == 1 {
                    "give the categories as a list"
                } else {
                    "give rows of two categories, or two named columns"
                }
                .to_owned(),
                ..unusable("", &message)
            });
        }
        let mut coded = Vec::with_capacity(variables);
        for column in 0..variables {
            coded.push(check(params, &table, column)?);
        }
        let mut tally = Tally {
            variables: coded.iter().map(|(_, categories)| categories.to_vec()).collect(),
            counts: BTreeMap::new(),
            samples: 0,
            missing: 0,
            names: table.names.clone(),
        };
        let all: Vec<usize> = (0..variables).collect();
        let complete = table.complete(&all);
        let mut key = [0; MOST_VARIABLES];
        for row in 0..table.rows {
            if !complete[row] {
                tally.missing += 1;
                continue;
            }
            tally.samples += 1;
            for (slot, (codes, _)) in key.iter_mut().zip(&coded) {
                *slot = codes[row];
            }
            *tally.counts.entry(key).or_insert(0) += 1;
        }
        Ok(tally)
    }

    pub(super) fn samples(&self) -> Zeroizing<Vec<u64>> {
        Zeroizing::new(vec![self.samples])
    }

    pub(super) fn shape(&self, params: &Params, parties: usize) -> Shape {
        let cells = threshold::cells_message_bytes(parties, params.most_cells());
        let found = if params.declared.is_none() {
            sketch::message_bytes()
        } else {
            0
        };
        let what = if self.variables.len() == 1 {
            "a list of categories"
        } else {
            "rows of two categories"
        };
        let (text, exact) = match &self.names {
            None => (what.to_owned(), "list".to_owned()),
            Some(names) => (
                format!("{what}, named"),
                format!("columns {}", Value::from(names.clone())),
            ),
        };
        Shape {
            text,
            exact,
            message_bytes: threshold::totals_message_bytes(parties, 1).max(cells).max(found),
        }
    }

    /// The categories of each variable that at least so many of this party's samples have.
    fn proposed(&self, least: u64) -> Vec<Vec<Category>> {
        let mut sums: Vec<Vec<u64>> = self.variables.iter().map(|names| vec![0; names.len()]).collect();
        for (key, count) in &self.counts {
            for (sums, code) in sums.iter_mut().zip(key) {
                sums[*code as usize] += count;
            }
        }
        let proposed = |(names, sums): (&Vec<Category>, &Vec<u64>)| {
            let enough = names.iter().zip(sums).filter(|(_, sum)| **sum >= least);
            enough.map(|(name, _)| name.clone()).collect()
        };
        self.variables.iter().zip(&sums).map(proposed).collect()
    }

    /// Counts of the table of these categories, row by row, and behind them those of other values and of missing ones.
    fn counts(&self, names: &[Vec<Category>], other: bool) -> Zeroizing<Vec<u64>> {
        let cells: usize = names.iter().map(Vec::len).product();
        let mut counts = Zeroizing::new(vec![0; cells + usize::from(other) + 1]);
        let places: Vec<Vec<Option<usize>>> = self
            .variables
            .iter()
            .zip(names)
            .map(|(own, names)| {
                let all: HashMap<&Category, usize> = names.iter().zip(0..).collect();
                own.iter().map(|category| all.get(category).copied()).collect()
            })
            .collect();
        for (key, count) in &self.counts {
            let mut cell = Some(0);
            for ((code, places), names) in key.iter().zip(&places).zip(names) {
                cell = cell
                    .zip(places[*code as usize])
                    .map(|(cell, place)| cell * names.len() + place);
            }
            // Without a cell for others the input was checked: there are none.
            counts[cell.unwrap_or(cells)] += count;
        }
        if let Some(missing) = counts.last_mut() {
            *missing += self.missing;
        }
        counts
    }
}

/// The codes and categories of a column whose categories may be counted.
fn check<'a>(params: &Params, table: &'a Table, column: usize) -> Result<(&'a [u32], &'a [Category]), Refusal> {
    let Some(Cells::Categories {
        codes,
        categories,
        first,
    }) = table.columns.get(column)
    else {
        return Ok((&[], &[]));
    };
    let known: Option<HashMap<&Category, ()>> = params
        .declared
        .as_ref()
        .filter(|_| !params.other)
        .map(|declared| declared[column].iter().map(|category| (category, ())).collect());
    for (category, row) in categories.iter().zip(first) {
        let refusal = |reason| data::Refusal {
            at: table.at(*row, column),
            reason,
            declared: params.grid.digits(),
        };
        if known.as_ref().is_some_and(|known| !known.contains_key(category)) {
            return Err(refusal(Reason::UnknownCategory).into());
        }
        if params.declared.is_none() && !sketch::fits(category) {
            let longest = sketch::MAX_TEXT_BYTES;
            let refusal: Refusal = refusal(Reason::CategoryLength).into();
            return Err(Refusal {
                message: format!(
                    "{} is longer than {longest} bytes, the most for a category that is to be found",
                    refusal.at
                ),
                hint: "declare the categories in the task's parameters, where they may be longer, or use shorter names"
                    .to_owned(),
                ..refusal
            });
        }
    }
    Ok((codes, categories))
}

/// What [`open`] opens. Others and missing values are cells as well.
pub(super) const OPENS: [Opens; 5] = {
    let [small, empty, counts] = threshold::OPENS_CELLS;
    [threshold::OPENS_ENOUGH, sketch::OPENS, small, empty, counts]
};

/// What has opened.
pub(super) struct Opened {
    /// Of each variable.
    pub(super) names: Result<Vec<Vec<Category>>, Why>,
    /// Of the table, row by row.
    pub(super) cells: Vec<Result<u64, Why>>,
    pub(super) other: Result<u64, Why>,
    pub(super) missing: Result<u64, Why>,
}

/// Finds the categories if they are not declared, and opens the counts. `hidden` says which cells of the table, and behind it of the others if they are counted, are hidden; it is told how many categories the last variable has.
/// The number of missing values is hidden if it is small, and hides nothing.
pub(super) async fn open(
    params: &Params,
    tally: &Tally,
    net: &mut Net,
    hidden: impl Fn(&[threshold::Cell], usize, usize) -> Vec<bool>,
) -> Result<Opened, Abort> {
    let thresholds = params.thresholds.strictest(net.session().thresholds);
    let enough = threshold::enough(net, &thresholds, &[tally.samples]).await? == [true];
    if params.declared.is_none() && thresholds.want_samples() {
        // Here, and here only, that bit decides which messages come next.
        net.agree().await?;
    }
    let names = match &params.declared {
        Some(declared) => declared.clone(),
        None if enough => sketch::find(net, &tally.proposed(thresholds.cell.max(1))).await?,
        None => vec![Vec::new(); tally.variables.len()],
    };
    let table: usize = names.iter().map(Vec::len).product();
    if table > MOST_CELLS {
        return Err(Abort::TooManyNames);
    }
    let columns = names.last().map_or(0, Vec::len);
    let mut counts = tally.counts(&names, params.other);
    if !enough {
        // What must not open is computed as if nobody had any: messages are as long as otherwise.
        counts.fill(0);
    }
    let missing = counts.len() - 1;
    let choose = |cells: &[threshold::Cell]| {
        let mut all = hidden(&cells[..missing], table, columns);
        all.push(cells[missing].small);
        all
    };
    let opened = threshold::cells_but(net, thresholds.cell, &counts, choose).await?;
    let why = if enough { Why::FewInCell } else { Why::FewSamples };
    let mut cells: Vec<Result<u64, Why>> = opened
        .into_iter()
        .map(|count| count.filter(|_| enough).ok_or(why))
        .collect();
    let missing = cells.pop().ok_or(Abort::Internal("no cell for missing values"))?;
    let other = if params.other {
        cells.pop().ok_or(Abort::Internal("no cell for others"))?
    } else {
        Ok(0).and_then(|none| if enough { Ok(none) } else { Err(why) })
    };
    let known = enough || params.declared.is_some();
    Ok(Opened {
        names: if known { Ok(names) } else { Err(why) },
        cells,
        other,
        missing,
    })
}

/// The cells with the greatest count, in order; there is one at least, and it counts some.
pub(super) fn modes(cells: &[Result<u64, Why>]) -> Result<Vec<usize>, Why> {
    let counts: Vec<u64> = cells.iter().copied().collect::<Result<_, Why>>()?;
    let greatest = counts
        .iter()
        .max()
        .copied()
        .filter(|count| *count > 0)
        .ok_or(Why::NoValues)?;
    Ok((0..counts.len()).filter(|cell| counts[*cell] == greatest).collect())
}

/// Something public, or why it is not there.
pub(super) fn public(value: Result<Value, Why>) -> Field {
    match value {
        Ok(value) => Field::Public(value),
        Err(why) => Field::Count(Err(why)),
    }
}

/// A category as the key of an object: a whole number's decimal form, a text itself; the JSON text of a text that would be read as a number or begins with a quote. So no two have the same.
pub(super) fn key(category: &Category) -> String {
    match category {
        Category::Number(number) => number.to_string(),
        Category::Text(text) if text.starts_with('"') || serde_json::from_str::<serde_json::Number>(text).is_ok() => {
            Value::from(text.as_str()).to_string()
        }
        Category::Text(text) => text.clone(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_never_collide() {
        let text = |text: &str| Category::Text(text.to_owned());
        let keys = [
            (Category::Number(1), "1"),
            (text("1"), "\"1\""),
            (text("\"1\""), "\"\\\"1\\\"\""),
            (text("1.0"), "\"1.0\""),
            (text(" 1"), "\" 1\""),
            (text("-0e3"), "\"-0e3\""),
            (Category::Number(-7), "-7"),
            (text("one"), "one"),
            (text(""), ""),
            (text("null"), "null"),
            (text("a\"b"), "a\"b"),
        ];
        for (category, expected) in keys {
            assert_eq!(key(&category), expected);
        }
    }

    #[test]
    fn unusable_categories_are_refused_with_their_position() {
        let refused = |text: &str| {
            let refusal = declared("categories", text, "for example [1]").unwrap_err();
            (refusal.code, refusal.at)
        };
        let at = |at: &str| ("PARAMETERS_UNUSABLE", at.to_owned());
        for text in ["{}", "1", "null", "[]", "\"a\""] {
            assert_eq!(refused(text), at("categories"), "{text}");
        }
        for text in [
            "1.5",
            "null",
            "true",
            "[1]",
            "{}",
            "9223372036854775808",
            "1e99",
            "\"\\ud800\"",
        ] {
            assert_eq!(refused(&format!("[\"a\", {text}]")), at("categories[1]"), "{text}");
        }
        assert_eq!(refused("[1, \"1\", \"a\", \"\\u0061\"]"), at("categories[3]"));
        assert_eq!(refused("[1, 1.0]"), at("categories[1]"));
        let long = "ä".repeat(65);
        assert_eq!(refused(&format!("[\"{long}\"]")), at("categories[0]"));
        assert_eq!(refused(&format!("[{}0]", "0,".repeat(MOST_CELLS))), at("categories"));
        let all = declared("categories", "[-1, \"-1\", \"\", 9223372036854775807]", "").unwrap();
        assert_eq!(json(&all), serde_json::json!([-1, "-1", "", i64::MAX]));
    }
}
