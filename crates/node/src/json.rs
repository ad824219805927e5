//! Bounded handling of client JSON, without a detour through `f64`.
//!
//! A body is [`check`]ed once: valid, and nested no deeper than the limit, by a scan that does not recurse. After that, parts of
//! it travel as the text that came: numbers such as `0.10`, `1e300` or 2^70 reach the place that understands them unharmed.

use std::borrow::Cow;

use zeroize::Zeroizing;

use crate::problem::Problem;

mod parameters;
mod references;
mod scan;

pub use parameters::nearest;
pub use parameters::{Parameters, Raw};
pub use references::{Form, HANDLES, ObjectRef, REPRESENTATIONS, resolve};
use scan::{Flaw, Large, What, is_space, skip_space, skip_value, string_end, validate};

/// Depth to which references are resolved: the parameter itself is at depth 0.
pub const REFERENCE_DEPTH: usize = 8;
/// Most members of an object that is taken apart: each takes more memory than its text.
const MAX_MEMBERS: usize = 1000;

/// What [`check`] accepts.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most arrays and objects open at once.
    pub depth: usize,
    /// Most bytes of text: of a body, and of all parameters after their references are resolved.
    pub bytes: usize,
    /// Most bytes of one string, escapes and quotes included.
    pub string_bytes: usize,
    /// Most values of all kinds.
    pub values: usize,
    /// Most members of one object.
    pub members: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        crate::config::Limits::default().json()
    }
}

/// The text of a body: UTF-8 and one valid JSON value, nested no deeper than the limit, without the space around it.
///
/// # Errors
/// 413 for too many bytes, values or members; 400 for everything else; with the byte position `at`.
pub fn check<'a>(bytes: &'a [u8], limits: &Limits) -> Result<&'a str, Problem> {
    if bytes.len() > limits.bytes {
        return Err(too_large(limits.bytes));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        Problem::malformed(
            "NOT_UTF8",
            format!("the body is not UTF-8 text: see byte {at}"),
            "send JSON encoded as UTF-8",
        )
        .with("at", at)
    })?;
    let text = text.trim_matches(is_space);
    if text.is_empty() {
        return Err(Problem::malformed(
            "BODY_EMPTY",
            "the body is empty",
            "send a JSON object, at least {}",
        ));
    }
    // The trimmed text starts where the leading space ends; positions are told in the body as it came.
    let lead = bytes.iter().take_while(|byte| is_space(char::from(**byte))).count();
    validate(text.as_bytes(), limits).map_err(|flaw| flaw.problem(lead, limits))?;
    Ok(text)
}

/// Names and raw texts of the members of a JSON object, in their order.
///
/// # Errors
/// 400 when the text is not a JSON object, 413 when it has more than 1000 members.
pub fn members(text: &str) -> Result<Vec<(Cow<'_, str>, &str)>, Problem> {
    let bytes = text.as_bytes();
    let mut at = skip_space(bytes, 0);
    if bytes.get(at) != Some(&b'{') {
        let found = Kind::of(text).name();
        return Err(Problem::malformed(
            "WRONG_TYPE",
            format!("a JSON object is needed here, found {found}"),
            "send names and values between { and }",
        ));
    }
    let mut found = Vec::new();
    at = skip_space(bytes, at + 1);
    if bytes.get(at) == Some(&b'}') {
        return Ok(found);
    }
    loop {
        let member = Member::read(text, at)?;
        if found.len() == MAX_MEMBERS {
            return Err(Problem::too_large(
                "BODY_TOO_LARGE",
                format!("a JSON object here has more than {MAX_MEMBERS} members"),
                "send many values as one list",
            ));
        }
        found.push((member.name, &text[member.start..member.end]));
        at = skip_space(bytes, member.end);
        match bytes.get(at) {
            Some(b',') => at = skip_space(bytes, at + 1),
            Some(b'}') => return Ok(found),
            _ => return Err(invalid(at)),
        }
    }
}

/// Raw texts of the elements of a JSON list, in their order; no more than `most`.
///
/// # Errors
/// 400 when the text is not a JSON list, 422 when it is longer.
pub fn elements(text: &str, most: usize) -> Result<Vec<&str>, Problem> {
    let bytes = text.as_bytes();
    let mut at = skip_space(bytes, 0);
    if bytes.get(at) != Some(&b'[') {
        return Err(invalid(at));
    }
    let mut found = Vec::new();
    at = skip_space(bytes, at + 1);
    if bytes.get(at) == Some(&b']') {
        return Ok(found);
    }
    loop {
        let end = skip_value(bytes, at).ok_or_else(|| invalid(at))?;
        if found.len() == most {
            let message = format!("there are more than {most} values in the list");
            return Err(Problem::input(
                "PARAMETER_UNKNOWN",
                message,
                "leave out what the function does not take",
            ));
        }
        found.push(&text[at..end]);
        at = skip_space(bytes, end);
        match bytes.get(at) {
            Some(b',') => at = skip_space(bytes, at + 1),
            Some(b']') => return Ok(found),
            _ => return Err(invalid(at)),
        }
    }
}

/// Appends to a private text. When it moves to more room, what it leaves behind is erased, which `Vec` alone would not do.
pub(crate) fn append(text: &mut Zeroizing<Vec<u8>>, part: &[u8]) {
    let needed = text.len() + part.len();
    if needed > text.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity(needed.max(2 * text.capacity())));
        larger.extend_from_slice(text);
        *text = larger;
    }
    text.extend_from_slice(part);
}

/// The kinds of JSON value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Boolean,
    /// A number of any size.
    Number,
    /// Text in quotes.
    String,
    /// A list.
    Array,
    /// Names and values.
    Object,
}

impl Kind {
    /// The kind of a valid JSON text.
    pub fn of(text: &str) -> Kind {
        match text.trim_start_matches(is_space).as_bytes().first() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b'"') => Kind::String,
            Some(b't' | b'f') => Kind::Boolean,
            Some(b'n') | None => Kind::Null,
            Some(_) => Kind::Number,
        }
    }

    /// The kind, with its article, for a message.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::Boolean => "true or false",
            Kind::Number => "a number",
            Kind::String => "a string",
            Kind::Array => "a list",
            Kind::Object => "an object",
        }
    }
}

/// One member of an object: its name, and where its value stands in the text.
struct Member<'a> {
    name: Cow<'a, str>,
    start: usize,
    end: usize,
}

impl<'a> Member<'a> {
    fn read(text: &'a str, at: usize) -> Result<Member<'a>, Problem> {
        let (name, start) = Member::read_name(text, at)?;
        let end = skip_value(text.as_bytes(), start).ok_or_else(|| invalid(start))?;
        Ok(Member { name, start, end })
    }

    /// The name at `at`, and where the value after it starts.
    fn read_name(text: &'a str, at: usize) -> Result<(Cow<'a, str>, usize), Problem> {
        let bytes = text.as_bytes();
        let end = match bytes.get(at) {
            Some(b'"') => string_end(bytes, at).map_err(|flaw| invalid(flaw.at))?,
            _ => return Err(invalid(at)),
        };
        let inner = &text[at + 1..end - 1];
        let name = if inner.contains('\\') {
            serde_json::from_str(&text[at..end])
                .map(Cow::Owned)
                .map_err(|_| invalid(at))?
        } else {
            Cow::Borrowed(inner)
        };
        let colon = skip_space(bytes, end);
        if bytes.get(colon) != Some(&b':') {
            return Err(invalid(colon));
        }
        Ok((name, skip_space(bytes, colon + 1)))
    }
}

impl Flaw {
    fn problem(&self, lead: usize, limits: &Limits) -> Problem {
        let at = self.at + lead;
        let problem = match self.what {
            What::Deep => Problem::malformed(
                "NESTED_TOO_DEEP",
                format!("the JSON text is nested deeper than {} at byte {at}", limits.depth),
                "send flatter data: lists of numbers, or lists of columns",
            )
            .exceeds("json_depth", limits.depth),
            What::Large(what) => {
                let (name, most) = match what {
                    Large::String => ("a string that is longer than", limits.string_bytes),
                    Large::Values => ("more values than", limits.values),
                    Large::Members => ("an object with more members than", limits.members),
                };
                Problem::too_large(
                    "JSON_TOO_LARGE",
                    format!("the JSON text has {name} {most}: see byte {at}"),
                    format!(
                        "send less at once, or ask this node's operator to raise limits.{}",
                        what.limit()
                    ),
                )
                .exceeds(what.limit(), most)
            }
            What::NotANumber => Problem::malformed(
                "NOT_A_NUMBER",
                format!("NaN is not a JSON number, and neither is Infinity: see byte {at}"),
                "remove the missing or infinite values before sending the data",
            ),
            What::End => Problem::malformed(
                "JSON_INVALID",
                format!("the JSON text is cut off: it ends at byte {at} in the middle of a value"),
                "send the whole text",
            ),
            What::Expected(what) => Problem::malformed(
                "JSON_INVALID",
                format!("the body is not valid JSON: expected {what} at byte {at}"),
                "check the text with a JSON library; names need double quotes",
            ),
        };
        problem.with("at", at)
    }
}

fn invalid(at: usize) -> Problem {
    Flaw {
        at,
        what: What::Expected("a value"),
    }
    .problem(0, &Limits::default())
}

fn too_large(bytes: usize) -> Problem {
    Problem::too_large(
        "BODY_TOO_LARGE",
        format!("the JSON text is larger than {bytes} bytes"),
        "send the data in parts, or fewer columns",
    )
    .exceeds("body_bytes", bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refused(body: &[u8]) -> Problem {
        check(body, &Limits::default()).unwrap_err()
    }

    #[test]
    fn a_valid_body_is_given_back_without_the_space_around_it() {
        assert_eq!(
            check(b" \r\n{\"a\": 0.10}\t", &Limits::default()).unwrap(),
            "{\"a\": 0.10}"
        );
    }

    #[test]
    fn an_empty_body_has_its_own_message() {
        for body in [&b""[..], b"  \n"] {
            let refused = refused(body);
            assert_eq!((refused.status, refused.code), (400, "BODY_EMPTY"));
        }
    }

    #[test]
    fn a_hundred_thousand_brackets_are_refused() {
        for bracket in ["[", "{\"a\":"] {
            let refused = refused(bracket.repeat(100_000).as_bytes());
            assert_eq!((refused.status, refused.code), (400, "NESTED_TOO_DEEP"));
        }
    }

    #[test]
    fn nan_and_infinities_are_told_with_their_place() {
        for word in ["NaN", "Infinity", "-Infinity", "nan", "-inf"] {
            let refused = refused(format!("  {{\"value\": [1, {word}]}}").as_bytes());
            assert_eq!((refused.status, refused.code), (400, "NOT_A_NUMBER"), "{word}");
            assert!(refused.message.ends_with("see byte 16"), "{}", refused.message);
            assert_eq!(refused.body()["at"], 16);
        }
    }

    #[test]
    fn invalid_text_is_told_with_its_place_and_not_repeated() {
        let cut = refused(b"{\"handle\": ");
        assert_eq!((cut.status, cut.code), (400, "JSON_INVALID"));
        assert!(cut.message.contains("cut off"));
        let colon = refused(b"{\"secret\" 4711}");
        assert!(
            colon.message.ends_with("expected a colon at byte 10"),
            "{}",
            colon.message
        );
        assert!(!colon.body().to_string().contains("4711"));
        let latin1 = refused(b"{\"a\": \"\xfc\"}");
        assert_eq!((latin1.code, latin1.body()["at"].as_u64()), ("NOT_UTF8", Some(7)));
    }

    #[test]
    fn too_many_bytes_are_refused_before_they_are_read() {
        let limits = Limits {
            bytes: 4,
            ..Limits::default()
        };
        assert!(check(b"1234", &limits).is_ok());
        assert_eq!(check(b"\xff\xff\xff\xff\xff", &limits).unwrap_err().status, 413);
    }

    #[test]
    fn members_keep_order_and_text() {
        let found = members(" { \"b\" : [1, 2] ,\"a\\n\":\"x\"} ").unwrap();
        assert_eq!(found, [("b".into(), "[1, 2]"), ("a\n".into(), "\"x\"")]);
        assert!(members("{}").unwrap().is_empty());
    }

    #[test]
    fn elements_keep_order_and_text() {
        assert_eq!(
            elements(" [1.50 , [2], \"a,b\"]", 3).unwrap(),
            ["1.50", "[2]", "\"a,b\""]
        );
        assert!(elements("[ ]", 0).unwrap().is_empty());
        assert_eq!(elements("[1, 2]", 1).unwrap_err().status, 422);
        for text in ["", "{}", "[1", "[1 2]", "[,]"] {
            assert_eq!(elements(text, 3).unwrap_err().status, 400, "{text}");
        }
    }
}
