//! Results in which single numbers may be missing: these are `null`, and `reasons` says why.

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::data;
use crate::number::Total;
use crate::threshold::Why;

/// Something that opens, or why it does not.
#[derive(Debug)]
pub enum Field {
    /// A count.
    Count(Result<u64, Why>),
    /// A number.
    Number(Result<Total, Why>),
    /// Several counts.
    Counts(Vec<Result<u64, Why>>),
    /// Several numbers.
    Numbers(Vec<Result<Total, Why>>),
    /// Public from the beginning: a parameter, as JSON.
    Public(serde_json::Value),
}

/// What opens of one column.
#[derive(Debug)]
pub struct Answer(pub(super) Vec<(&'static str, Field)>);

/// What opens: of a list, or of each named column.
#[derive(Debug)]
pub enum Answers {
    /// Of a list.
    One(Answer),
    /// By name.
    Columns(Vec<(String, Answer)>),
}

impl Answers {
    /// In the form of the input.
    pub(super) fn new(shape: data::Shape, answers: Vec<Answer>) -> Answers {
        match shape {
            data::Shape::Columns(names) => Answers::Columns(names.into_iter().zip(answers).collect()),
            _ => Answers::One(answers.into_iter().next().unwrap_or(Answer(Vec::new()))),
        }
    }
}

impl Field {
    fn reasons(&self, name: &str) -> Vec<(String, &'static str)> {
        fn of<T>(name: &str, all: &[Result<T, Why>]) -> Vec<(String, &'static str)> {
            let missing = all
                .iter()
                .enumerate()
                .filter_map(|(index, one)| Some((index, one.as_ref().err()?)));
            missing
                .map(|(index, why)| (format!("{name}[{index}]"), why.code()))
                .collect()
        }
        match self {
            Field::Count(Err(why)) | Field::Number(Err(why)) => vec![(name.to_owned(), why.code())],
            Field::Counts(all) => of(name, all),
            Field::Numbers(all) => of(name, all),
            _ => Vec::new(),
        }
    }
}

impl Serialize for Field {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Field::Count(count) => count.as_ref().ok().serialize(serializer),
            Field::Number(number) => number.as_ref().ok().serialize(serializer),
            Field::Counts(all) => serializer.collect_seq(all.iter().map(|one| one.as_ref().ok())),
            Field::Numbers(all) => serializer.collect_seq(all.iter().map(|one| one.as_ref().ok())),
            Field::Public(value) => value.serialize(serializer),
        }
    }
}

impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, field) in &self.0 {
            map.serialize_entry(name, field)?;
        }
        let reasons = self.0.iter().flat_map(|(name, field)| field.reasons(name));
        let reasons: Vec<(String, &str)> = reasons.collect();
        if !reasons.is_empty() {
            map.serialize_entry("reasons", &Reasons(&reasons))?;
        }
        map.end()
    }
}

/// In the order of what they are about.
struct Reasons<'a>(&'a [(String, &'a str)]);

impl Serialize for Reasons<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, why)| (name, why)))
    }
}

impl Serialize for Answers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Answers::One(answer) => answer.serialize(serializer),
            Answers::Columns(columns) => serializer.collect_map(columns.iter().map(|(name, answer)| (name, answer))),
        }
    }
}
