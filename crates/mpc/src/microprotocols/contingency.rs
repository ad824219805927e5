//! StatisticsContingency: how many of everybody's rows have each combination of two categories, and whether these are associated.
//!
//! - **Declared outputs**, everything that opens: for each cell of the table, for rows with a category in none of its rows or columns where these are counted (`other`), and for rows with a missing value, how many rows of all parties there are; where rules want
//!   a minimum (`min_cell`), two bits for each: whether it counts some but fewer, and then its count does not open; and whether it is empty. Whether there are enough samples, where rules want that compared. **Where categories are not
//!   declared**: the names of all categories that at least one party proposes for each of both variables, not in which combinations they occur; and to a party, for each name that it proposes, whether anybody else does ([`crate::sketch`]).
//! - **How**: as [`super::frequency`]. With small cells others are hidden so that the small ones do not follow from the totals of rows and columns, whoever knows these from elsewhere ([`crate::threshold::suppress_table`]). If any cell is hidden so is all that follows
//!   from the table: totals, samples, modes, tests. The numbers of others and of missing values are hidden if they are small, and hide no cell: whoever knows the number of all rows from elsewhere may compute them.
//! - **Statistics** are computed from the counts that have opened ([`crate::association`]).
//! - **Rounds** after the last input: 1; with a minimum 17 for three parties; two more to find the categories, or four, and one before them where samples are compared, too.
//! - **Adversary**: semi-honest, any number of colluding parties.
//! - **What each party sees**: see [`crate::threshold`], [`crate::mask`] and [`crate::sketch`]: masked or shared values, and what is declared.
//! - **Not protected**: counts and names that open. An empty cell is shown as 0.
//!
//! Categories are texts and whole numbers; 1 and "1" are two. Parameters: `categories` (`{"rows": […], "columns": […]}`, in the order of the result), `other`, `min_samples`, `min_cell`, `digits_before`, `digits_after` as [`super::frequency`].
//! Input: rows of two, or two named columns of which the first one gives the table's row; `null` is a missing value, and a row with one is left out.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::answer::{Answer, Field};
use super::categories::{self, CATEGORIES, Params, Tally, public};
use super::parameters::unusable;
use crate::association::{self, Ratio};
use crate::data::Category;
use crate::microprotocol::{Microprotocol, Refusal, Release, SeeRow, Shape};
use crate::net::{Abort, Net};
use crate::number::Digits;
use crate::opening::Opens;
use crate::threshold::{self, Thresholds, Why};

/// See the [module](self).
#[derive(Debug)]
pub struct StatisticsContingency;

const EXAMPLE: &str =
    "for example parameters={\"categories\": {\"rows\": [\"treated\", \"control\"], \"columns\": [\"ill\", \"well\"]}}";

impl Microprotocol for StatisticsContingency {
    const NAME: &'static str = "StatisticsContingency";
    const ALIASES: &'static [&'static str] = &[];
    const RELEASES: &'static [Release] = &[Release::Cells, Release::Names];
    const OPENS: &'static [Opens] = &categories::OPENS;
    const COMPARES: bool = true;
    const TABLES: bool = true;
    type Params = Params;
    type Input = Tally;
    type Output = Answer;

    fn params(json: &str) -> Result<Params, Refusal> {
        Params::read(Self::NAME, json, declared)
    }

    fn canonical(params: &Params) -> String {
        params.canonical(
            |variables| json!({"rows": categories::json(&variables[0]), "columns": categories::json(&variables[1])}),
        )
    }

    fn releases(params: &Params) -> &'static [Release] {
        categories::releases(params)
    }

    fn input(params: &Params, parties: usize, texts: &[&str]) -> Result<Tally, Refusal> {
        Tally::read(params, 2, parties, texts)
    }

    fn rounds(params: &Params, parties: usize, thresholds: &Thresholds) -> u32 {
        params.rounds(parties, thresholds)
    }

    fn shape(params: &Params, parties: usize, input: &Tally) -> Shape {
        input.shape(params, parties)
    }

    fn digits(_params: &Params) -> Option<Digits> {
        None
    }

    fn samples(input: &Tally) -> Zeroizing<Vec<u64>> {
        input.samples()
    }

    fn rows(params: &Params, texts: &[&str], see: &mut SeeRow<'_>) -> Result<(), Refusal> {
        params.show(texts, see)
    }

    async fn run(params: Params, input: Tally, net: &mut Net) -> Result<Answer, Abort> {
        let hidden = |cells: &[threshold::Cell], table: usize, columns: usize| {
            let mut hidden = threshold::suppress_table(&cells[..table], columns);
            hidden.extend(cells[table..].iter().map(|cell| cell.small));
            hidden
        };
        let opened = categories::open(&params, &input, net, hidden).await?;
        let [rows, columns] = match opened.names {
            Ok(names) => <[_; 2]>::try_from(names)
                .map(|names| names.map(Ok))
                .map_err(|_| Abort::Internal("not two variables"))?,
            Err(why) => [Err(why), Err(why)],
        };
        let table = Table {
            width: columns.as_ref().map_or(0, Vec::len),
            height: rows.as_ref().map_or(0, Vec::len),
            cells: opened.cells,
            absent: columns.as_ref().err().copied(),
        };
        net.work_ahead(table.work()).await;
        let samples = table
            .shown()
            .map(|cells| cells.iter().sum::<u64>())
            .and_then(|sum| opened.other.map(|other| sum + other));
        let mut fields = vec![
            ("samples", Field::Count(samples)),
            ("missing", Field::Count(opened.missing)),
        ];
        if params.other {
            fields.push(("other", Field::Count(opened.other)));
        }
        let modes = table.absent.map_or_else(|| categories::modes(&table.cells), Err);
        let name = |cell: &usize| match (&rows, &columns) {
            (Ok(rows), Ok(columns)) => json!([
                rows[cell / table.width].to_json(),
                columns[cell % table.width].to_json()
            ]),
            _ => Value::Null,
        };
        let list = |names: &Result<Vec<Category>, Why>| {
            public(names.as_ref().map(|names| categories::json(names)).map_err(|why| *why))
        };
        fields.extend([
            (
                "mode",
                public(modes.as_ref().map(|modes| name(&modes[0])).map_err(|why| *why)),
            ),
            (
                "modes",
                public(
                    modes
                        .as_ref()
                        .map(|modes| modes.iter().map(name).collect())
                        .map_err(|why| *why),
                ),
            ),
            ("rows", list(&rows)),
            ("columns", list(&columns)),
        ]);
        fields.extend(table.fields());
        Ok(Answer::new(fields))
    }
}

/// The parameter `categories`.
fn declared(text: &str) -> Result<Vec<Vec<Category>>, Refusal> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).unwrap_or_default();
    let (Some(rows), Some(columns), 2) = (members.get("rows"), members.get("columns"), members.len()) else {
        let message = "categories has the members rows and columns, and no other ones";
        return Err(Refusal {
            hint: EXAMPLE.to_owned(),
            ..unusable(CATEGORIES, message)
        });
    };
    Ok(vec![
        categories::declared("categories.rows", rows.get(), EXAMPLE)?,
        categories::declared("categories.columns", columns.get(), EXAMPLE)?,
    ])
}

/// The counts, row by row.
struct Table {
    width: usize,
    height: usize,
    cells: Vec<Result<u64, Why>>,
    /// Why there is no table at all.
    absent: Option<Why>,
}

impl Table {
    /// All counts, or why one is missing.
    fn shown(&self) -> Result<Vec<u64>, Why> {
        self.absent.map_or_else(|| self.cells.iter().copied().collect(), Err)
    }

    fn rows(&self) -> Result<Vec<Vec<u64>>, Why> {
        let cells = self.shown()?;
        Ok((0..self.height)
            .map(|row| cells[row * self.width..(row + 1) * self.width].to_vec())
            .collect())
    }

    /// As long as Fisher's test takes, in the bytes of [`Net::work_ahead`]: it adds some 20 terms for each root of a sample.
    fn work(&self) -> usize {
        let samples = self.shown().map_or(0, |cells| cells.iter().sum());
        if (self.height, self.width) == (2, 2) {
            400 * libm::sqrt(samples as f64) as usize
        } else {
            20 * self.cells.len()
        }
    }

    fn fields(&self) -> Vec<(&'static str, Field)> {
        let rows = self.rows();
        let totals = |length: usize, total: &dyn Fn(&[Vec<u64>], usize) -> u64| match &rows {
            Ok(rows) => Field::counts((0..length).map(|index| Ok(total(rows, index)))),
            Err(why) => Field::Count(Err(*why)),
        };
        let mut fields = vec![
            ("table", self.table()),
            ("row_totals", totals(self.height, &|rows, row| rows[row].iter().sum())),
            (
                "column_totals",
                totals(self.width, &|rows, column| rows.iter().map(|row| row[column]).sum()),
            ),
        ];
        let test = rows
            .as_ref()
            .map_err(|why| *why)
            .and_then(|rows| association::chi_square(rows));
        let statistic = Field::Double(test.map(|test| test.statistic));
        let degrees_of_freedom = Field::Count(test.map(|test| test.degrees_of_freedom));
        let p = Field::Double(test.map(|test| test.p));
        let test = vec![
            ("statistic", statistic),
            ("degrees_of_freedom", degrees_of_freedom),
            ("p", p),
        ];
        fields.push(("chi_square", Field::Object(Answer::new(test))));
        if (self.height, self.width) == (2, 2) {
            let counts = rows.map(|rows| [[rows[0][0], rows[0][1]], [rows[1][0], rows[1][1]]]);
            let fisher = Field::Double(counts.and_then(association::fisher_exact));
            fields.extend([
                ("odds_ratio", ratio(counts.map(association::odds_ratio))),
                ("risk_ratio", ratio(counts.map(association::risk_ratio))),
                ("fisher_exact", Field::Object(Answer::new(vec![("p", fisher)]))),
            ]);
        }
        fields
    }

    fn table(&self) -> Field {
        if let Some(why) = self.absent {
            return Field::Count(Err(why));
        }
        let row = |row| Field::counts(self.cells[row * self.width..(row + 1) * self.width].iter().copied());
        Field::List((0..self.height).map(row).collect())
    }
}

fn ratio(ratio: Result<Ratio, Why>) -> Field {
    let value = ratio.and_then(|ratio| ratio.value);
    let interval = match ratio.and_then(|ratio| ratio.interval) {
        Ok(ends) => Field::List(ends.map(|end| Field::Double(Ok(end))).into()),
        Err(why) => Field::Double(Err(why)),
    };
    Field::Object(Answer::new(vec![
        ("value", Field::Double(value)),
        ("confidence_interval", interval),
    ]))
}
