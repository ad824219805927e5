//! Results in which single numbers may be missing: these are `null`, and `reasons` says why.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

use crate::data;
use crate::number::Total;
use crate::threshold::Why;

/// Something that opens, or why it does not.
#[derive(Debug)]
pub enum Field {
    /// A count.
    Count(Result<u64, Why>),
    /// A number that is exact on a grid.
    Number(Result<Total, Why>),
    /// A number that was computed from what has opened.
    Double(Result<f64, Why>),
    /// Several ones.
    List(Vec<Field>),
    /// Several ones with names.
    Object(Answer),
    /// Public from the beginning: a parameter, as JSON.
    Public(Value),
}

/// What opens of one column.
#[derive(Debug, Default)]
pub struct Answer(Vec<(String, Field)>);

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
            _ => Answers::One(answers.into_iter().next().unwrap_or_default()),
        }
    }
}

impl Answer {
    /// Of these fields, in this order.
    pub(super) fn new<Name: Into<String>>(fields: Vec<(Name, Field)>) -> Answer {
        Answer(fields.into_iter().map(|(name, field)| (name.into(), field)).collect())
    }
}

impl Field {
    /// Counts of one kind.
    pub(super) fn counts(all: impl IntoIterator<Item = Result<u64, Why>>) -> Field {
        Field::List(all.into_iter().map(Field::Count).collect())
    }

    /// Numbers of one kind.
    pub(super) fn numbers(all: impl IntoIterator<Item = Result<Total, Why>>) -> Field {
        Field::List(all.into_iter().map(Field::Number).collect())
    }

    /// Computed numbers of one kind.
    #[allow(dead_code)]
    pub(super) fn doubles(all: impl IntoIterator<Item = Result<f64, Why>>) -> Field {
        Field::List(all.into_iter().map(Field::Double).collect())
    }

    /// Appends what is missing, as paths such as `counts[3]` or `groups.a.mean`.
    fn reasons(&self, path: &str, all: &mut Vec<(String, &'static str)>) {
        match self {
            Field::Count(Err(why)) | Field::Number(Err(why)) | Field::Double(Err(why)) => {
                all.push((path.to_owned(), why.code()));
            }
            Field::Double(Ok(number)) if !number.is_finite() => all.push((path.to_owned(), Why::BeyondDoubles.code())),
            Field::List(fields) => {
                for (index, field) in fields.iter().enumerate() {
                    field.reasons(&format!("{path}[{index}]"), all);
                }
            }
            Field::Object(answer) => answer.reasons(&format!("{path}."), all),
            _ => {}
        }
    }
}

impl Answer {
    fn reasons(&self, prefix: &str, all: &mut Vec<(String, &'static str)>) {
        for (name, field) in &self.0 {
            field.reasons(&format!("{prefix}{name}"), all);
        }
    }

    fn fields<S: Serializer>(&self, serializer: S, reasons: &[(String, &'static str)]) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, field) in &self.0 {
            map.serialize_entry(name, field)?;
        }
        if !reasons.is_empty() {
            map.serialize_entry("reasons", &Reasons(reasons))?;
        }
        map.end()
    }
}

impl Serialize for Field {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Field::Count(count) => count.as_ref().ok().serialize(serializer),
            Field::Number(number) => number.as_ref().ok().serialize(serializer),
            // Never −0: two ways to the same number must not differ in their text. What is not finite becomes `null`.
            Field::Double(number) => number.as_ref().ok().map(|number| number + 0.0).serialize(serializer),
            Field::List(fields) => fields.serialize(serializer),
            Field::Object(answer) => answer.fields(serializer, &[]),
            Field::Public(value) => value.serialize(serializer),
        }
    }
}

/// With all reasons at its end.
impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut reasons = Vec::new();
        self.reasons("", &mut reasons);
        self.fields(serializer, &reasons)
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
