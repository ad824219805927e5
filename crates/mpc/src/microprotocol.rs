//! What a computation is to the node: a name, parameters everybody agrees on, a private input, and a protocol.
//!
//! A microprotocol is one file that implements [`Microprotocol`] and one line in [`ALL`]. The table's entries are plain function pointers, so
//! that the node needs to know no types.

use std::fmt;
use std::future::Future;

use serde::Serialize;
use zeroize::Zeroizing;

use crate::data;
use crate::microprotocols::anova_one_way::AnovaOneWay;
use crate::microprotocols::benchmark::Benchmark;
use crate::microprotocols::contingency::StatisticsContingency;
use crate::microprotocols::correlation_matrix::CorrelationMatrix;
use crate::microprotocols::frequency::StatisticsFrequency;
use crate::microprotocols::histogram::Histogram;
use crate::microprotocols::kth_element::KthElement;
use crate::microprotocols::minimum_maximum::MinimumMaximum;
use crate::microprotocols::quantiles::{Quantiles, SecureMedian};
use crate::microprotocols::secure_sum::SecureSum;
use crate::microprotocols::statistics_bivariate::StatisticsBivariate;
use crate::microprotocols::statistics_univariate::StatisticsUnivariate;
use crate::microprotocols::t_test::TTest;
use crate::microprotocols::table_one::Table1;
use crate::net::{Abort, Machine, Net, Session};
use crate::number::Digits;
use crate::opening::Opens;
use crate::threshold::Thresholds;

/// All microprotocols of this build.
pub static ALL: &[Entry] = &[
    Entry::of::<SecureSum>(),
    Entry::of::<MinimumMaximum>(),
    Entry::of::<KthElement>(),
    Entry::of::<SecureMedian>(),
    Entry::of::<Quantiles>(),
    Entry::of::<Histogram>(),
    Entry::of::<Benchmark>(),
    Entry::of::<StatisticsUnivariate>(),
    Entry::of::<StatisticsBivariate>(),
    Entry::of::<CorrelationMatrix>(),
    Entry::of::<TTest>(),
    Entry::of::<AnovaOneWay>(),
    Entry::of::<Table1>(),
    Entry::of::<StatisticsFrequency>(),
    Entry::of::<StatisticsContingency>(),
];

/// Parameters or an input that cannot be used. Shown to the party whose they are; never contains a value of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Stable name of the reason.
    pub code: &'static str,
    /// Where: `""` for the whole, else for example `columns.age[4]`.
    pub at: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<data::Refusal> for Refusal {
    fn from(refusal: data::Refusal) -> Refusal {
        Refusal {
            code: refusal.code(),
            message: refusal.message(),
            hint: refusal.hint(),
            at: refusal.at,
        }
    }
}

/// The public part of an input: it must be the same at every party, and is compared before anything is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// For people; sizes but no names, since names may be private: "a vector of 5 numbers".
    pub text: String,
    /// Everything that has to agree, in a form that is hashed with the session id before it travels.
    pub exact: String,
    /// The longest message of any round, in bytes.
    pub message_bytes: usize,
}

/// A kind of output that rules of disclosure speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// A statistic of all values of a column: a sum, a mean.
    Statistic,
    /// Such a statistic of each group of a column: no party has checked how many samples it has of each.
    Groups,
    /// Counts of cells: tables, histograms.
    Cells,
    /// Names of categories that nobody has declared, from the data.
    Names,
    /// Single values of somebody that may be the smallest or greatest.
    Extremes,
    /// Single values of somebody with others on both sides: medians, quantiles.
    Order,
}

/// A column of an input, by what it is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column<'a> {
    /// The only one.
    Unnamed,
    /// Of vectors.
    Position(usize),
    /// With a name, which may be private.
    Named(&'a str),
}

/// Is shown each column of an input (then there is no row), and each of its rows in one fixed form, so that equal values look equal however they are
/// written.
pub type SeeRow<'a> = dyn FnMut(Column<'_>, Option<&[u8]>) + 'a;

/// A multi-party computation, for any number of parties.
pub trait Microprotocol: 'static {
    /// Its name in the API.
    const NAME: &'static str;
    /// Names that older clients use.
    const ALIASES: &'static [&'static str];
    /// What opens, as far as rules of disclosure speak of it, whatever the parameters.
    const RELEASES: &'static [Release];
    /// Everything that may open, in words: its declared outputs. The protocol says them before each opening ([`Net::will_open`]).
    const OPENS: &'static [Opens];
    /// Whether it compares with the session's [`Thresholds`] before anything opens. If not, rules that need it refuse it.
    const COMPARES: bool;
    /// Whether inputs are tables ([`data::Table`]): rows belong together, `null` is a missing value, and texts may be categories.
    const TABLES: bool = false;
    /// Agreed by all, part of the task's descriptor.
    type Params: Clone + Send + Sync + 'static;
    /// This party's private input, parsed and validated.
    type Input: Send + 'static;
    /// What opens: the same at every party.
    type Output: Serialize;

    /// Reads parameters from a JSON object; `{}` gives the defaults.
    ///
    /// # Errors
    /// Unknown or unusable parameters.
    fn params(json: &str) -> Result<Self::Params, Refusal>;

    /// The parameters as JSON text, all of them, in one fixed form.
    fn canonical(params: &Self::Params) -> String;

    /// What opens with these parameters.
    fn releases(_params: &Self::Params) -> &'static [Release] {
        Self::RELEASES
    }

    /// Reads this party's inputs (JSON texts; several ones are taken together) and checks that the result has room for `parties` of them.
    ///
    /// # Errors
    /// What cannot be held exactly enough, with its position.
    fn input(params: &Self::Params, parties: usize, texts: &[&str]) -> Result<Self::Input, Refusal>;

    /// Rounds of data messages after the last input, if there are base oblivious transfers, and for inputs of a few columns.
    fn rounds(params: &Self::Params, parties: usize, thresholds: &Thresholds) -> u32;

    /// The public part of the input.
    fn shape(params: &Self::Params, parties: usize, input: &Self::Input) -> Shape;

    /// The declared precision of numbers that open, if they have one.
    fn digits(params: &Self::Params) -> Option<Digits>;

    /// How many samples this party's input has, for each thing that opens on its own (each column). Private: for this party's node alone, which
    /// compares it with its owner's rules.
    fn samples(input: &Self::Input) -> Zeroizing<Vec<u64>>;

    /// Shows all rows of inputs that [`Microprotocol::input`] has accepted. Private, as above: for the node's record of what it has released. As it stands, for
    /// inputs of numbers ([`crate::data`]); others are refused, so nothing is released that is not recorded.
    ///
    /// # Errors
    /// Texts that it would not accept.
    fn rows(_params: &Self::Params, texts: &[&str], see: &mut SeeRow<'_>) -> Result<(), Refusal> {
        texts.iter().try_for_each(|text| numbers_in(text, see))
    }

    /// The protocol.
    fn run(
        params: Self::Params,
        input: Self::Input,
        net: &mut Net,
    ) -> impl Future<Output = Result<Self::Output, Abort>> + Send;
}

/// Shows the rows of one input of numbers.
pub(crate) fn numbers_in(text: &str, see: &mut SeeRow<'_>) -> Result<(), Refusal> {
    data::rows(text, see).ok_or_else(|| Refusal {
        code: "INPUT_SHAPE",
        at: String::new(),
        message: "the input is not one of numbers".to_owned(),
        hint: "give a number, a list of numbers, vectors or named columns".to_owned(),
    })
}

/// A microprotocol in the table.
#[derive(Clone, Copy)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// Older names.
    pub aliases: &'static [&'static str],
    /// Its declared outputs, in words.
    pub opens: &'static [Opens],
    /// Whether it compares with thresholds before anything opens.
    pub compares: bool,
    /// Whether inputs are tables, in which values may be missing.
    pub tables: bool,
    configure: fn(&str) -> Result<Configured, Refusal>,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Entry {
    /// The entry of a microprotocol.
    pub const fn of<M: Microprotocol>() -> Entry {
        Entry {
            name: M::NAME,
            aliases: M::ALIASES,
            opens: M::OPENS,
            compares: M::COMPARES,
            tables: M::TABLES,
            configure: Configured::of::<M>,
        }
    }

    /// The microprotocol of that name or older name.
    pub fn find(name: &str) -> Option<&'static Entry> {
        ALL.iter()
            .find(|entry| entry.name == name || entry.aliases.contains(&name))
    }

    /// Fixes the parameters: a JSON object.
    ///
    /// # Errors
    /// Parameters that the microprotocol does not know or cannot use.
    pub fn configure(&self, params: &str) -> Result<Configured, Refusal> {
        (self.configure)(params)
    }
}

type Accept = dyn Fn(usize, &[&str]) -> Result<Prepared, Refusal> + Send + Sync;
type Rounds = dyn Fn(usize, &Thresholds) -> u32 + Send + Sync;
type Rows = dyn Fn(&[&str], &mut SeeRow<'_>) -> Result<(), Refusal> + Send + Sync;

/// A microprotocol with its parameters.
pub struct Configured {
    /// The parameters as JSON text in one fixed form.
    pub canonical: String,
    /// What opens.
    pub releases: &'static [Release],
    /// The declared precision of numbers that open, if they have one.
    pub digits: Option<Digits>,
    accept: Box<Accept>,
    rounds: Box<Rounds>,
    rows: Box<Rows>,
}

impl fmt::Debug for Configured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Configured").field(&self.canonical).finish()
    }
}

impl Configured {
    fn of<M: Microprotocol>(params: &str) -> Result<Configured, Refusal> {
        let params = M::params(params)?;
        let canonical = M::canonical(&params);
        let digits = M::digits(&params);
        let releases = M::releases(&params);
        let seen = params.clone();
        let rows = Box::new(move |texts: &[&str], see: &mut SeeRow<'_>| M::rows(&seen, texts, see));
        let counted = params.clone();
        let rounds = Box::new(move |parties: usize, thresholds: &Thresholds| M::rounds(&counted, parties, thresholds));
        let accept = Box::new(move |parties: usize, texts: &[&str]| {
            let input = M::input(&params, parties, texts)?;
            let shape = M::shape(&params, parties, &input);
            let samples = M::samples(&input);
            let params = params.clone();
            let start = Box::new(move |session| Machine::new(session, |net| drive::<M>(params, input, net)));
            Ok(Prepared { shape, samples, start })
        });
        Ok(Configured {
            canonical,
            releases,
            digits,
            accept,
            rounds,
            rows,
        })
    }

    /// Reads and checks this party's inputs.
    ///
    /// # Errors
    /// An input that cannot be used, with its position.
    pub fn input(&self, parties: usize, texts: &[&str]) -> Result<Prepared, Refusal> {
        (self.accept)(parties, texts)
    }

    /// Rounds of data messages after the last input, if that has to be compared.
    pub fn rounds(&self, parties: usize, thresholds: &Thresholds) -> u32 {
        (self.rounds)(parties, thresholds)
    }

    /// Shows all rows of inputs that [`Configured::input`] has accepted.
    ///
    /// # Errors
    /// Texts that it would not accept.
    pub fn rows(&self, texts: &[&str], see: &mut SeeRow<'_>) -> Result<(), Refusal> {
        (self.rows)(texts, see)
    }
}

/// A validated input, ready to be computed with.
pub struct Prepared {
    /// Its public part.
    pub shape: Shape,
    /// How many samples it has, for each column. Private.
    pub samples: Zeroizing<Vec<u64>>,
    start: Box<dyn FnOnce(Session) -> Machine + Send>,
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Prepared").field(&self.shape).finish()
    }
}

impl Prepared {
    /// The samples of the column that has the fewest.
    pub fn fewest_samples(&self) -> u64 {
        self.samples.iter().copied().min().unwrap_or(0)
    }

    /// The machine that computes with this input, once.
    pub fn start(self, session: Session) -> Machine {
        (self.start)(session)
    }
}

async fn drive<M: Microprotocol>(params: M::Params, input: M::Input, mut net: Net) -> (Net, Result<String, Abort>) {
    let output = M::run(params, input, &mut net).await;
    let text = output
        .and_then(|output| serde_json::to_string(&output).map_err(|_| Abort::Internal("a result that is not JSON")));
    (net, text)
}
