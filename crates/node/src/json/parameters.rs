//! Parameters of a call: taken by name, refused when missing, unknown or of the wrong type.

use std::sync::Arc;

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{Form, Kind, Limits, REFERENCE_DEPTH, elements, members, resolve, too_large};
use crate::problem::{Problem, quoted};

/// Most bytes of a parameter that is read as an object or a list of strings, whose values take several times the memory.
const MAX_STRUCTURE: usize = 1 << 20;
/// Most parameters of one call.
const MAX_PARAMETERS: usize = 64;

/// The parameters of one call: names, and raw JSON text for each.
///
/// A function takes what it knows with [`required`](Parameters::required) and [`optional`](Parameters::optional) and then calls
/// [`finish`](Parameters::finish), which refuses what is left.
pub struct Parameters {
    function: String,
    /// Taken entries become `None`; so an unknown one is whatever remains.
    entries: Vec<(String, Option<Zeroizing<String>>)>,
    known: Vec<&'static str>,
}

impl Parameters {
    /// Parameters of `function` from the raw text of a JSON object.
    ///
    /// # Errors
    /// 400 when the text is not a JSON object, 422 when a name stands twice or there are more than 64 names.
    pub fn parse(function: &str, text: &str) -> Result<Parameters, Problem> {
        let mut entries: Vec<(String, Option<Zeroizing<String>>)> = Vec::new();
        for (name, raw) in members(text)? {
            if entries.iter().any(|(known, _)| *known == name) {
                return Err(Problem::input(
                    "PARAMETER_DUPLICATE",
                    format!("the parameter {} is given more than once", quoted(&name)),
                    "give each parameter once",
                ));
            }
            if entries.len() == MAX_PARAMETERS {
                return Err(Problem::input(
                    "PARAMETER_UNKNOWN",
                    format!("there are more than {MAX_PARAMETERS} parameters"),
                    "no function has so many; data belongs into one list or object",
                ));
            }
            entries.push((name.into_owned(), Some(Zeroizing::new(raw.to_owned()))));
        }
        Ok(Parameters {
            function: function.to_owned(),
            entries,
            known: Vec::new(),
        })
    }

    /// Replaces the object references in all parameters, see [`resolve`]; `look_up` is told in which.
    ///
    /// # Errors
    /// Those of [`resolve`]; the bound on the size holds for all parameters together.
    pub fn resolve<R>(
        &mut self,
        form: &Form<R>,
        limits: &Limits,
        mut look_up: impl FnMut(&str, &R) -> Result<Arc<Zeroizing<String>>, Problem>,
    ) -> Result<(), Problem> {
        let mut total = 0;
        for (name, entry) in &mut self.entries {
            let Some(raw) = entry else { continue };
            if let Some(resolved) = resolve(form, raw, REFERENCE_DEPTH, limits, |found: &R| look_up(name, found))? {
                *raw = resolved;
            }
            total += raw.len();
            if total > limits.bytes {
                return Err(too_large(limits.bytes));
            }
        }
        Ok(())
    }

    /// Adds parameters that are given by their place, from the raw text of a JSON list; `names` are those of the function, in its order.
    ///
    /// # Errors
    /// 422 for more than the function has, and for one that is given by name as well.
    pub fn add_positional(&mut self, names: &[&'static str], list: &str) -> Result<(), Problem> {
        let values = elements(list, names.len()).map_err(|problem| match problem.status {
            422 => Problem::input(
                "PARAMETER_UNKNOWN",
                format!(
                    "{} takes at most {} parameters by their place",
                    quoted(&self.function),
                    names.len()
                ),
                match names {
                    [] => "it takes none".to_owned(),
                    names => format!("it takes: {}", names.join(", ")),
                },
            ),
            _ => problem,
        })?;
        for (name, raw) in names.iter().zip(values) {
            if self.entries.iter().any(|(known, _)| known == name) {
                return Err(Problem::input(
                    "PARAMETER_DUPLICATE",
                    format!("the parameter \"{name}\" is given by its place and by its name"),
                    "give each parameter once",
                ));
            }
            self.entries
                .push(((*name).to_owned(), Some(Zeroizing::new(raw.to_owned()))));
        }
        Ok(())
    }

    /// Takes a parameter that must be there (`null` is a value).
    ///
    /// # Errors
    /// 422 with an example when it is missing.
    pub fn required(&mut self, name: &'static str) -> Result<Raw, Problem> {
        if let Some(text) = self.take(name) {
            return Ok(Raw { name, text });
        }
        let call = format!("{}({name}={})", short(&self.function), example(name));
        let left = self
            .entries
            .iter()
            .filter(|(_, text)| text.is_some())
            .map(|(name, _)| &**name);
        let hint = match nearest(name, left) {
            Some(close) => format!("did you mean {name} with {}? Write {call}", quoted(close)),
            None => format!("write {call}"),
        };
        let function = quoted(&self.function);
        Err(Problem::input(
            "PARAMETER_MISSING",
            format!("{function} needs the parameter \"{name}\", which is missing"),
            hint,
        )
        .with("parameter", name))
    }

    /// Whether a parameter is there, be it `null`, and not taken yet.
    pub fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|(given, text)| given == name && text.is_some())
    }

    /// Takes a parameter that may be missing; `null` counts as missing.
    pub fn optional(&mut self, name: &'static str) -> Option<Raw> {
        let text = self.take(name)?;
        (*text != "null").then_some(Raw { name, text })
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// 422 when a parameter was given that nobody took; it lists the known ones and the nearest.
    pub fn finish(self) -> Result<(), Problem> {
        let Some((unknown, _)) = self.entries.iter().find(|(_, text)| text.is_some()) else {
            return Ok(());
        };
        let function = quoted(&self.function);
        let known = match &self.known[..] {
            [] => "it takes none".to_owned(),
            known => format!("it takes: {}", known.join(", ")),
        };
        let hint = match nearest(unknown, self.known.iter().copied()) {
            Some(close) => format!("did you mean \"{close}\"?"),
            None => "leave it out".to_owned(),
        };
        Err(Problem::input(
            "PARAMETER_UNKNOWN",
            format!("{function} has no parameter {}; {known}", quoted(unknown)),
            hint,
        ))
    }

    fn take(&mut self, name: &'static str) -> Option<Zeroizing<String>> {
        if !self.known.contains(&name) {
            self.known.push(name);
        }
        self.entries
            .iter_mut()
            .find(|(given, _)| given == name)
            .and_then(|(_, text)| text.take())
    }
}

/// Shows the names only: values are private.
impl std::fmt::Debug for Parameters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.entries.iter().map(|(name, _)| &**name).collect();
        f.debug_struct("Parameters")
            .field("function", &self.function)
            .field("names", &names)
            .finish()
    }
}

/// One parameter: its name and its value as JSON text.
#[derive(PartialEq, Eq)]
pub struct Raw {
    name: &'static str,
    text: Zeroizing<String>,
}

impl Raw {
    /// The JSON text, to the byte as it came.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The JSON text, to the byte as it came; erased when it is dropped.
    pub fn into_text(self) -> Zeroizing<String> {
        self.text
    }

    /// The name of the parameter.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Which of the six JSON kinds the value is.
    pub fn kind(&self) -> Kind {
        Kind::of(&self.text)
    }

    /// The value as a string.
    ///
    /// # Errors
    /// 422 when it is no string, or not one of whole Unicode characters.
    pub fn string(&self) -> Result<String, Problem> {
        self.read(Kind::String, "a string")
    }

    /// The value as a whole number that is not negative.
    ///
    /// # Errors
    /// 422 when it is something else, or 2^64 and above.
    pub fn u64(&self) -> Result<u64, Problem> {
        self.read(Kind::Number, "a whole number, not negative and below 2^64")
    }

    /// The value as `true` or `false`.
    ///
    /// # Errors
    /// 422 when it is something else.
    pub fn bool(&self) -> Result<bool, Problem> {
        self.read(Kind::Boolean, "true or false")
    }

    /// The value as a span of time in seconds: finite, not negative.
    ///
    /// # Errors
    /// 422 when it is something else.
    pub fn seconds(&self) -> Result<f64, Problem> {
        let expected = "a number of seconds, not negative";
        let seconds: f64 = self.read(Kind::Number, expected)?;
        if seconds.is_finite() && seconds >= 0.0 {
            Ok(seconds)
        } else {
            Err(self.out_of_range(expected))
        }
    }

    /// The value as an object. Its numbers are read as `f64` where they do not fit 64 bits: for structure, not for data.
    ///
    /// # Errors
    /// 422 when it is something else.
    pub fn object(&self) -> Result<Map<String, Value>, Problem> {
        self.read(Kind::Object, "an object")
    }

    /// The value as a list of strings.
    ///
    /// # Errors
    /// 422 when it is something else.
    pub fn strings(&self) -> Result<Vec<String>, Problem> {
        self.read(Kind::Array, "a list of strings")
    }

    /// The refusal of this parameter for its type: tells what was expected and the kind found, not the value.
    pub fn wrong_type(&self, expected: &str) -> Problem {
        let (name, found) = (self.name, self.kind().name());
        Problem::input(
            "WRONG_TYPE",
            format!("the parameter \"{name}\" must be {expected}, found {found}"),
            format!("for example {name}={}", example(name)),
        )
        .with("parameter", name)
    }

    fn read<T: serde::de::DeserializeOwned>(&self, kind: Kind, expected: &str) -> Result<T, Problem> {
        let structure = matches!(kind, Kind::Object | Kind::Array);
        if structure && self.text.len() > MAX_STRUCTURE {
            return Err(too_large(MAX_STRUCTURE).with("parameter", self.name));
        }
        serde_json::from_str(&self.text).map_err(|_| {
            if self.kind() == kind {
                self.out_of_range(expected)
            } else {
                self.wrong_type(expected)
            }
        })
    }

    fn out_of_range(&self, expected: &str) -> Problem {
        let name = self.name;
        Problem::input(
            "VALUE_OUT_OF_RANGE",
            format!("the parameter \"{name}\" must be {expected}"),
            format!("for example {name}={}", example(name)),
        )
        .with("parameter", name)
    }
}

/// Shows the kind only: values are private.
impl std::fmt::Debug for Raw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.name, self.kind().name())
    }
}

/// What a call could look like: a value for each parameter the services know.
fn example(parameter: &str) -> &'static str {
    match parameter {
        "value" => "10",
        "key" => "\"k\"",
        "uuid" => "\"ward-7-2027\"",
        "count" => "3",
        "task_id" => "\"…\"",
        "storage" => "\"default\"",
        "tokens" => "[\"t1\", \"t2\"]",
        "party" => "\"alice\"",
        "message" => "\"hello\"",
        "microprotocol" => "\"SecureSum\"",
        "network" => "{\"nodes\": [\"https://a.example\", \"https://b.example\"], \"myself\": 0}",
        "data" => "[1, 2.5, 3]",
        "timeout" => "10",
        "parameters" => "{}",
        "durations" => "{\"join\": 3600, \"input\": 3600}",
        "invitation" => "\"fdrtd:https://a.example#…\"",
        _ => "…",
    }
}

/// A name from the request inside an example: short, and without quotes.
fn short(name: &str) -> &str {
    match name.char_indices().nth(40) {
        Some((end, _)) => &name[..end],
        None => name,
    }
}

/// The candidate that a typing error may have turned into `name`, if any.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 40;
    candidates
        .filter(|candidate| name.len() <= LONGEST && candidate.len() <= LONGEST)
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().max(name.len()).div_ceil(3))
        .min()
        .map(|(_, candidate)| candidate)
}

/// Edit distance (Levenshtein) of two short names, in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(!x.eq_ignore_ascii_case(&y));
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(text: &str) -> Parameters {
        Parameters::parse("create", text).unwrap()
    }

    fn raw(text: &str) -> Raw {
        Raw {
            name: "timeout",
            text: Zeroizing::new(text.to_owned()),
        }
    }

    #[test]
    fn values_keep_their_text_to_the_byte() {
        let mut given = parse(r#"{ "value" : {"a": [0.10, 1e300,1180591620717411303424]} , "storage":"s"}"#);
        let value = given.required("value").unwrap();
        assert_eq!(value.text(), r#"{"a": [0.10, 1e300,1180591620717411303424]}"#);
        assert_eq!(given.optional("storage").unwrap().string().unwrap(), "s");
        given.finish().unwrap();
    }

    #[test]
    fn what_is_taken_out_is_still_erased_when_it_is_dropped() {
        let mut given = parse(r#"{"value": 1, "data": {"handle": "h", "callback": 1}}"#);
        let erased: Arc<Zeroizing<String>> = Arc::new("[2]".to_owned().into());
        given
            .resolve(&super::super::HANDLES, &Limits::default(), |_, _| {
                Ok(Arc::clone(&erased))
            })
            .unwrap();
        let texts: [Zeroizing<String>; 2] = ["value", "data"].map(|name| given.required(name).unwrap().into_text());
        assert_eq!(texts.each_ref().map(|text| text.as_str()), ["1", "[2]"]);
    }

    #[test]
    fn null_is_a_value_where_required_and_absent_where_optional() {
        let mut given = parse(r#"{"value": null, "storage": null}"#);
        assert_eq!(given.required("value").unwrap().kind(), Kind::Null);
        assert!(given.optional("storage").is_none());
        given.finish().unwrap();
    }

    #[test]
    fn a_missing_parameter_is_refused_with_an_example() {
        let refused = parse("{}").required("value").unwrap_err();
        assert_eq!((refused.status, refused.code), (422, "PARAMETER_MISSING"));
        assert_eq!(refused.hint, "write create(value=10)");
        let refused = parse(r#"{"vlaue": 4711}"#).required("value").unwrap_err();
        assert!(
            refused.hint.contains("did you mean value with \"vlaue\"?"),
            "{}",
            refused.hint
        );
        assert!(!refused.body().to_string().contains("4711"));
    }

    #[test]
    fn an_unknown_parameter_is_refused_with_the_nearest() {
        let mut given = parse(r#"{"value": 1, "Storag": 4711}"#);
        given.required("value").unwrap();
        assert!(given.optional("storage").is_none());
        let refused = given.finish().unwrap_err();
        assert_eq!((refused.status, refused.code), (422, "PARAMETER_UNKNOWN"));
        assert_eq!(
            refused.message,
            "\"create\" has no parameter \"Storag\"; it takes: value, storage"
        );
        assert_eq!(refused.hint, "did you mean \"storage\"?");
        let refused = parse(r#"{"foo": 1}"#).finish().unwrap_err();
        assert!(refused.message.ends_with("it takes none"));
        assert_eq!(refused.hint, "leave it out");
    }

    #[test]
    fn a_name_given_twice_is_refused_even_when_written_with_escapes() {
        for text in [r#"{"a": 1, "a": 2}"#, r#"{"a": 1, "\u0061": 2}"#] {
            let refused = Parameters::parse("create", text).unwrap_err();
            assert_eq!((refused.status, refused.code), (422, "PARAMETER_DUPLICATE"));
        }
    }

    #[test]
    fn only_objects_with_a_bounded_number_of_members_are_parameters() {
        for text in ["null", "[]", "1", "\"x\"", ""] {
            let refused = Parameters::parse("create", text).unwrap_err();
            assert_eq!((refused.status, refused.code), (400, "WRONG_TYPE"), "{text}");
        }
        let many = |count: usize| {
            let members: Vec<String> = (0..count).map(|i| format!("\"p{i}\":0")).collect();
            Parameters::parse("create", &format!("{{{}}}", members.join(",")))
        };
        assert!(many(64).is_ok());
        assert_eq!(many(65).unwrap_err().status, 422);
        assert_eq!(many(1001).unwrap_err().status, 413);
    }

    #[test]
    fn text_that_is_no_json_is_refused_without_panic() {
        for text in [
            "{",
            "{\"a",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":1",
            "{\"a\":1,",
            "{\"a\":]}",
            "{a:1}",
            "{\"a\":\"ü",
        ] {
            assert_eq!(Parameters::parse("create", text).unwrap_err().status, 400, "{text}");
        }
    }

    #[test]
    fn typed_readers_tell_the_kind_and_never_the_value() {
        assert_eq!(raw("10").u64().unwrap(), 10);
        assert_eq!(raw("18446744073709551615").u64().unwrap(), u64::MAX);
        assert!(raw("true").bool().unwrap());
        assert_eq!(raw("2.5").seconds().unwrap(), 2.5);
        assert_eq!(raw(r#"["a","b"]"#).strings().unwrap(), ["a", "b"]);
        assert_eq!(raw(r#"{"a": 1}"#).object().unwrap().len(), 1);
        let refusals = [
            raw("4711").string().unwrap_err(),
            raw("\"4711\"").u64().unwrap_err(),
            raw("-4711").u64().unwrap_err(),
            raw("4711.5").u64().unwrap_err(),
            raw("47110000000000000000000000").u64().unwrap_err(),
            raw("4711").bool().unwrap_err(),
            raw("-4711").seconds().unwrap_err(),
            raw("4711e999").seconds().unwrap_err(),
            raw("[4711]").strings().unwrap_err(),
            raw("[4711]").object().unwrap_err(),
            raw(r#""\ud8004711""#).string().unwrap_err(),
        ];
        for refused in refusals {
            assert_eq!(refused.status, 422);
            assert!(matches!(refused.code, "WRONG_TYPE" | "VALUE_OUT_OF_RANGE"));
            assert!(!refused.body().to_string().contains("4711"), "{refused}");
        }
        let refused = raw("[4711]").object().unwrap_err();
        assert_eq!(
            refused.message,
            "the parameter \"timeout\" must be an object, found a list"
        );
        assert!(!format!("{:?}", raw("4711")).contains("4711"));
        assert!(!format!("{:?}", parse(r#"{"a": 4711}"#)).contains("4711"));
    }

    #[test]
    fn structures_are_bounded() {
        let large = format!("[{}]", " ".repeat(MAX_STRUCTURE));
        assert_eq!(raw(&large).strings().unwrap_err().status, 413);
        assert_eq!(raw(&large).object().unwrap_err().status, 413);
    }

    #[test]
    fn references_are_resolved_in_each_parameter() {
        let reference = r#"{"handle": "h", "callback": 1}"#;
        let mut given = parse(&format!(
            r#"{{"value": {reference}, "storage": "s", "data": [{reference}]}}"#
        ));
        given
            .resolve(&super::super::HANDLES, &Limits::default(), |_, _| {
                Ok(Arc::new("0.10".to_owned().into()))
            })
            .unwrap();
        assert_eq!(given.required("value").unwrap().text(), "0.10");
        assert_eq!(given.required("storage").unwrap().text(), "\"s\"");
        assert_eq!(given.required("data").unwrap().text(), "[0.10]");
    }

    #[test]
    fn the_parameters_themselves_are_no_reference() {
        let mut given = parse(r#"{"handle": "h", "callback": 1}"#);
        given
            .resolve(&super::super::HANDLES, &Limits::default(), |_, _| Err(too_large(0)))
            .unwrap();
        assert_eq!(given.required("handle").unwrap().text(), "\"h\"");
    }

    #[test]
    fn all_parameters_together_are_bounded() {
        let reference = r#"{"handle": "h", "callback": 1}"#;
        let mut given = parse(&format!(r#"{{"a": {reference}, "b": {reference}}}"#));
        let half = Arc::new(Zeroizing::new(format!("[{}]", " ".repeat((64 << 20) / 2))));
        assert_eq!(
            given
                .resolve(&super::super::HANDLES, &Limits::default(), |_, _| Ok(half.clone()))
                .unwrap_err()
                .status,
            413
        );
    }

    #[test]
    fn distances() {
        assert_eq!(distance("storage", "storage"), 0);
        assert_eq!(distance("storge", "storage"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
