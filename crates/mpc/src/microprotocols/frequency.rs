//! StatisticsFrequency: how many of everybody's values are in each category, and which category has the most.
//!
//! - **Declared outputs**, everything that opens: for each category, for values in none of them where these are counted (`other`), and for missing values, how many values of all parties there are; where rules want a minimum (`min_cell`), two bits for
//!   each: whether it counts some but fewer, and then its count does not open; and whether it is empty. Whether there are enough samples, where rules want that compared. **Where categories are not declared**: the names of all categories that
//!   at least one party proposes; and to a party, for each name that it proposes, whether anybody else does ([`crate::sketch`]).
//! - **How**: each party counts for itself; counts are added under masks ([`crate::mask`]), or, with a minimum, in a circuit that compares them first ([`crate::threshold`]). A small count is not hidden alone: another one that counts some is hidden with it.
//!   Then all that follows from the counts is hidden, too: samples, mode. The number of missing values is hidden if it is small, and hides nothing: whoever knows the number of all rows from elsewhere may compute it.
//!   Categories that are not declared are found by a summed sketch ([`crate::sketch`]): a party proposes those that at least as many *of its own* samples have as a cell has to count, one at least. All values whose category nobody proposes are `other`.
//! - **Rounds** after the last input: 1; with a minimum 17 for three parties; two more to find the categories, or four, and one before them where samples are compared, too.
//! - **Adversary**: semi-honest, any number of colluding parties.
//! - **What each party sees**: see [`crate::threshold`], [`crate::mask`] and [`crate::sketch`]: masked or shared values, and what is declared.
//! - **Not protected**: counts and names that open. An empty category is shown as 0: nobody has such a value.
//!
//! Categories are texts and whole numbers; 1 and "1" are two. Parameters: `categories`, in the order of the result (found ones come in their own order: numbers first, then texts by their bytes); `other` (true: values in no declared
//! category are counted together; otherwise they are refused with their position), `min_samples`, `min_cell`, and `digits_before`, `digits_after`, which have no meaning for counts. Input: a list, or one named column; `null` is a missing value.

use zeroize::Zeroizing;

use super::answer::{Answer, Field};
use super::categories::{self, Params, Tally, public};
use crate::data::Category;
use crate::microprotocol::{Microprotocol, Refusal, Release, SeeRow, Shape};
use crate::net::{Abort, Net};
use crate::number::Digits;
use crate::opening::Opens;
use crate::threshold::{self, Thresholds, Why};

/// See the [module](self).
#[derive(Debug)]
pub struct StatisticsFrequency;

const EXAMPLE: &str = "for example parameters={\"categories\": [\"low\", \"high\", 3]}";

impl Microprotocol for StatisticsFrequency {
    const NAME: &'static str = "StatisticsFrequency";
    const ALIASES: &'static [&'static str] = &[];
    const RELEASES: &'static [Release] = &[Release::Cells, Release::Names];
    const OPENS: &'static [Opens] = &categories::OPENS;
    const COMPARES: bool = true;
    const TABLES: bool = true;
    type Params = Params;
    type Input = Tally;
    type Output = Answer;

    fn params(json: &str) -> Result<Params, Refusal> {
        Params::read(Self::NAME, json, |text| {
            Ok(vec![categories::declared(categories::CATEGORIES, text, EXAMPLE)?])
        })
    }

    fn canonical(params: &Params) -> String {
        params.canonical(|variables| categories::json(&variables[0]))
    }

    fn releases(params: &Params) -> &'static [Release] {
        categories::releases(params)
    }

    fn input(params: &Params, parties: usize, texts: &[&str]) -> Result<Tally, Refusal> {
        Tally::read(params, 1, parties, texts)
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
        let opened = categories::open(&params, &input, net, |cells, _, _| threshold::suppress(cells)).await?;
        let names: Result<Vec<Category>, Why> = opened.names.map(|variables| variables.into_iter().flatten().collect());
        let samples = opened
            .cells
            .iter()
            .copied()
            .chain([opened.other])
            .sum::<Result<u64, Why>>();
        // From the counts of others, too, although these are no category: if one is hidden all that is derived is.
        let modes = samples.and_then(|_| categories::modes(&opened.cells));
        let mode = |cell: &usize| {
            names
                .as_ref()
                .map_or(serde_json::Value::Null, |names| names[*cell].to_json())
        };
        let histogram = match &names {
            Ok(names) => {
                let counts = names.iter().zip(&opened.cells);
                Field::Object(Answer::new(
                    counts
                        .map(|(name, count)| (categories::key(name), Field::Count(*count)))
                        .collect(),
                ))
            }
            Err(why) => Field::Count(Err(*why)),
        };
        Ok(Answer::new(vec![
            ("samples", Field::Count(samples)),
            ("missing", Field::Count(opened.missing)),
            (
                "mode",
                public(modes.as_ref().map(|modes| mode(&modes[0])).map_err(|why| *why)),
            ),
            (
                "modes",
                public(
                    modes
                        .as_ref()
                        .map(|modes| modes.iter().map(mode).collect())
                        .map_err(|why| *why),
                ),
            ),
            (
                "categories",
                public(names.as_ref().map(|names| categories::json(names)).map_err(|why| *why)),
            ),
            ("counts", Field::counts(opened.cells)),
            ("other", Field::Count(opened.other)),
            ("histogram", histogram),
        ]))
    }
}
