//! Object references inside a value: found without building the value, replaced in its text.

use std::sync::Arc;

use serde_json::Value;
use zeroize::Zeroizing;

use super::scan::{skip_space, skip_value};
use super::{Limits, Member, append, check, invalid, too_large};
use crate::problem::Problem;

/// Most bytes of a callback; the longest that a service gives out has about 300.
const MAX_CALLBACK: usize = 4096;

/// A reference to an object of this node: a JSON object with exactly the keys `handle` and `callback`.
#[derive(Clone, PartialEq)]
pub struct ObjectRef {
    /// Names the service.
    pub handle: String,
    /// Names the object within the service.
    pub callback: Value,
}

/// Shows the service only: a callback opens the object.
impl std::fmt::Debug for ObjectRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObjectRef")
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}

/// A reference and where it ends, if there is one.
type Read<R> = Result<Option<(R, usize)>, Problem>;

/// How references look on a face.
pub struct Form<R> {
    /// Stands in each of them, unless written with escapes.
    word: &'static str,
    /// The reference that the object at a place is, if it is one, and the end of the object.
    read: fn(&str, usize) -> Read<R>,
}

/// On the handle face: an object with exactly the keys `handle` and `callback`.
pub const HANDLES: Form<ObjectRef> = Form {
    word: "\"handle\"",
    read: handle,
};

/// On the face of representations: an object with exactly the key `representation_uuid`. The reference is its value.
pub const REPRESENTATIONS: Form<String> = Form {
    word: "\"representation_uuid\"",
    read: representation,
};

/// Replaces each object reference in a JSON text by the text that `look_up` gives for it. `None` if there is none.
///
/// A reference counts when it is the value itself (depth 0) or a member of members down to `depth`. All other text stays as it is
/// to the byte; what is put in is not searched again.
///
/// # Errors
/// Those of `look_up`; 422 for a reference whose handle is no string; 413 when the result is larger than the limits; 400 when it is
/// nested too deeply.
pub fn resolve<R>(
    form: &Form<R>,
    raw: &str,
    depth: usize,
    limits: &Limits,
    look_up: impl FnMut(&R) -> Result<Arc<Zeroizing<String>>, Problem>,
) -> Result<Option<Zeroizing<String>>, Problem> {
    // A name may be written with escapes, so only a text without any backslash can be passed over.
    if !raw.contains(form.word) && !raw.contains('\\') {
        return Ok(None);
    }
    let mut resolver = Resolver {
        form,
        text: raw,
        out: Zeroizing::default(),
        copied: 0,
        limits,
        look_up,
    };
    resolver.value(skip_space(raw.as_bytes(), 0), depth)?;
    if resolver.copied == 0 {
        return Ok(None);
    }
    resolver.push(&raw[resolver.copied..])?;
    // Values put into values could otherwise grow a nesting that nobody can read any more.
    check(&resolver.out, limits)?;
    // Whole strings, cut at brackets.
    let text = String::from_utf8(std::mem::take(&mut resolver.out)).map_err(|_| invalid(0))?;
    Ok(Some(Zeroizing::new(text)))
}

struct Resolver<'a, R, F> {
    form: &'a Form<R>,
    text: &'a str,
    out: Zeroizing<Vec<u8>>,
    /// Everything before this position is in `out`; 0 as long as there was no reference.
    copied: usize,
    limits: &'a Limits,
    look_up: F,
}

impl<R, F: FnMut(&R) -> Result<Arc<Zeroizing<String>>, Problem>> Resolver<'_, R, F> {
    /// Walks the value at `at` and returns its end. Recursion is bounded by `depth`.
    fn value(&mut self, at: usize, depth: usize) -> Result<usize, Problem> {
        let bytes = self.text.as_bytes();
        let close = match bytes.get(at) {
            Some(b'{') => {
                if let Some((reference, end)) = (self.form.read)(self.text, at)? {
                    let found = (self.look_up)(&reference)?;
                    self.push(&self.text[self.copied..at])?;
                    self.push(&found)?;
                    self.copied = end;
                    return Ok(end);
                }
                b'}'
            }
            Some(b'[') => b']',
            _ => return skip_value(bytes, at).ok_or_else(|| invalid(at)),
        };
        if depth == 0 {
            return skip_value(bytes, at).ok_or_else(|| invalid(at));
        }
        let mut at = skip_space(bytes, at + 1);
        if bytes.get(at) == Some(&close) {
            return Ok(at + 1);
        }
        loop {
            let start = if close == b'}' {
                Member::read_name(self.text, at)?.1
            } else {
                at
            };
            at = skip_space(bytes, self.value(start, depth - 1)?);
            match bytes.get(at) {
                Some(b',') => at = skip_space(bytes, at + 1),
                Some(byte) if *byte == close => return Ok(at + 1),
                _ => return Err(invalid(at)),
            }
        }
    }

    fn push(&mut self, part: &str) -> Result<(), Problem> {
        if self.out.len() + part.len() > self.limits.bytes {
            return Err(too_large(self.limits.bytes));
        }
        append(&mut self.out, part.as_bytes());
        Ok(())
    }
}

fn handle(text: &str, at: usize) -> Read<ObjectRef> {
    let bytes = text.as_bytes();
    let start = skip_space(bytes, at + 1);
    // Looking at the first name alone spares nearly all objects a second scan.
    if bytes.get(start) == Some(&b'}') || !is_reference_name(&Member::read_name(text, start)?.0) {
        return Ok(None);
    }
    let first = Member::read(text, start)?;
    let comma = skip_space(bytes, first.end);
    if bytes.get(comma) != Some(&b',') {
        return Ok(None);
    }
    let start = skip_space(bytes, comma + 1);
    if !is_reference_name(&Member::read_name(text, start)?.0) {
        return Ok(None);
    }
    let second = Member::read(text, start)?;
    let close = skip_space(bytes, second.end);
    if bytes.get(close) != Some(&b'}') || first.name == second.name {
        return Ok(None);
    }
    let (handle, callback) = if first.name == "handle" {
        (first, second)
    } else {
        (second, first)
    };
    let callback = &text[callback.start..callback.end];
    let unusable = || {
        Problem::input(
            "REFERENCE_INVALID",
            "an object with the keys \"handle\" and \"callback\" refers to an object of this node; this one cannot",
            "send the reference as the node gave it out: the handle is a string",
        )
        .with("at", at)
    };
    if callback.len() > MAX_CALLBACK {
        return Err(unusable());
    }
    let reference = ObjectRef {
        handle: serde_json::from_str(&text[handle.start..handle.end]).map_err(|_| unusable())?,
        callback: serde_json::from_str(callback).map_err(|_| unusable())?,
    };
    Ok(Some((reference, close + 1)))
}

fn is_reference_name(name: &str) -> bool {
    name == "handle" || name == "callback"
}

fn representation(text: &str, at: usize) -> Read<String> {
    let bytes = text.as_bytes();
    let start = skip_space(bytes, at + 1);
    if bytes.get(start) == Some(&b'}') || Member::read_name(text, start)?.0 != "representation_uuid" {
        return Ok(None);
    }
    let only = Member::read(text, start)?;
    let close = skip_space(bytes, only.end);
    if bytes.get(close) != Some(&b'}') {
        return Ok(None);
    }
    let value = &text[only.start..only.end];
    let uuid = serde_json::from_str(value).ok().filter(|_| value.len() <= MAX_CALLBACK);
    let uuid = uuid.ok_or_else(|| {
        Problem::input(
            "REFERENCE_INVALID",
            "an object with the one key \"representation_uuid\" refers to an object of this node; this one cannot",
            "send the reference as the node gave it out: the uuid is a string",
        )
        .with("at", at)
    })?;
    Ok(Some((uuid, close + 1)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const REFERENCE: &str = r#"{"handle": "h", "callback": {"uuid": "u"}}"#;

    type Found = Result<Arc<Zeroizing<String>>, Problem>;

    fn found(text: &str) -> Found {
        Ok(Arc::new(Zeroizing::new(text.to_owned())))
    }

    fn seven(_: &ObjectRef) -> Found {
        found("7")
    }

    fn never(_: &ObjectRef) -> Found {
        Err(invalid(0))
    }

    fn resolved(text: &str) -> String {
        resolve(&HANDLES, text, 8, &Limits::default(), seven)
            .unwrap()
            .unwrap()
            .to_string()
    }

    #[test]
    fn a_reference_is_replaced_wherever_it_stands() {
        assert_eq!(resolved(REFERENCE), "7");
        assert_eq!(resolved(&format!(" {REFERENCE} ")), " 7 ");
        assert_eq!(resolved(&format!("[1, {REFERENCE},{REFERENCE} ]")), "[1, 7,7 ]");
        assert_eq!(
            resolved(&format!(r#"{{"a": {{"b": [{REFERENCE}]}}}}"#)),
            r#"{"a": {"b": [7]}}"#
        );
    }

    #[test]
    fn the_look_up_gets_handle_and_callback_in_either_order() {
        for text in [
            r#"{"handle":"h","callback":[1]}"#,
            r#"{ "callback" : [1] , "h\u0061ndle" : "h" }"#,
        ] {
            let mut seen = Vec::new();
            resolve(&HANDLES, text, 8, &Limits::default(), |reference| {
                seen.push(reference.clone());
                found("0")
            })
            .unwrap();
            assert_eq!(
                seen,
                [ObjectRef {
                    handle: "h".into(),
                    callback: serde_json::json!([1])
                }]
            );
        }
    }

    #[test]
    fn anything_but_exactly_the_two_keys_is_a_value() {
        let values = [
            r#"{"handle": "h"}"#,
            r#"{"callback": 1}"#,
            r#"{"handle": "h", "handle": "h"}"#,
            r#"{"handle": "h", "callback": 1, "more": 2}"#,
            r#"{"more": 2, "handle": "h", "callback": 1}"#,
            r#"{"handle": "h", "other": 1}"#,
            r#"["handle", "callback"]"#,
            r#""{\"handle\": \"h\", \"callback\": 1}""#,
            "{}",
            "\"handle\"",
        ];
        for text in values {
            assert_eq!(
                resolve(&HANDLES, text, 8, &Limits::default(), never).unwrap(),
                None,
                "{text}"
            );
        }
    }

    #[test]
    fn numbers_keep_their_text() {
        let text = format!("[0.10, 1e300, 1180591620717411303424, {REFERENCE}, -0, 1E+2]");
        assert_eq!(resolved(&text), "[0.10, 1e300, 1180591620717411303424, 7, -0, 1E+2]");
    }

    #[test]
    fn references_are_found_to_depth_eight_and_no_deeper() {
        let nested = |depth: usize, inner: &str| format!("{}{inner}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(resolved(&nested(8, REFERENCE)), nested(8, "7"));
        let deep = nested(9, REFERENCE);
        assert_eq!(resolve(&HANDLES, &deep, 8, &Limits::default(), never).unwrap(), None);
    }

    #[test]
    fn what_is_put_in_is_not_searched_again() {
        let text = format!("[{REFERENCE}]");
        let once = resolve(&HANDLES, &text, 8, &Limits::default(), |_| found(REFERENCE))
            .unwrap()
            .unwrap();
        assert_eq!(*once, text);
    }

    #[test]
    fn a_malformed_reference_is_refused() {
        let long = format!(r#"{{"handle": "h", "callback": "{}"}}"#, "x".repeat(MAX_CALLBACK));
        for text in [
            r#"{"handle": 5, "callback": 1}"#,
            r#"{"handle": null, "callback": 1}"#,
            &long,
        ] {
            let refused = resolve(&HANDLES, text, 8, &Limits::default(), seven).unwrap_err();
            assert_eq!((refused.status, refused.code), (422, "REFERENCE_INVALID"));
        }
    }

    #[test]
    fn representations_are_objects_with_one_key() {
        let eight = |uuid: &String| {
            assert_eq!(uuid, "u");
            found("8")
        };
        let resolved = |text: &str| resolve(&REPRESENTATIONS, text, 8, &Limits::default(), eight).unwrap();
        for text in [
            r#"{"representation_uuid": "u"}"#,
            r#"{ "represent\u0061tion_uuid":"u" }"#,
        ] {
            assert_eq!(resolved(text).unwrap().as_str(), "8");
            assert_eq!(
                resolved(&format!("[1, {{\"a\": {text}}}]")).unwrap().as_str(),
                r#"[1, {"a": 8}]"#
            );
        }
        for text in [
            r#"{"representation_uuid": "u", "more": 1}"#,
            r#"{"more": 1, "representation_uuid": "u"}"#,
            r#"{"handle": "h", "callback": "u"}"#,
            r#""representation_uuid""#,
            "{}",
        ] {
            assert_eq!(resolved(text), None, "{text}");
        }
        for value in ["5", "null", "{}", &format!("\"{}\"", "x".repeat(MAX_CALLBACK))] {
            let text = format!("{{\"representation_uuid\": {value}}}");
            let refused = resolve(&REPRESENTATIONS, &text, 8, &Limits::default(), eight).unwrap_err();
            assert_eq!((refused.status, refused.code), (422, "REFERENCE_INVALID"));
        }
    }

    #[test]
    fn a_failed_look_up_is_told() {
        let refused = resolve(&HANDLES, REFERENCE, 8, &Limits::default(), |_| {
            Err(crate::services::object_unknown("X"))
        })
        .unwrap_err();
        assert_eq!(refused.status, 404);
    }

    #[test]
    fn the_result_is_bounded_in_size_and_depth() {
        let many = format!("[{}{REFERENCE}]", format!("{REFERENCE},").repeat(99));
        let large = format!("\"{}\"", "x".repeat(1 << 20));
        let refused = resolve(&HANDLES, &many, 8, &Limits::default(), |_| found(&large)).unwrap_err();
        assert_eq!(refused.status, 413);
        let deep = format!("{}{}", "[".repeat(64), "]".repeat(64));
        assert!(resolve(&HANDLES, REFERENCE, 8, &Limits::default(), |_| found(&deep)).is_ok());
        let one_more = format!("[{REFERENCE}]");
        let refused = resolve(&HANDLES, &one_more, 8, &Limits::default(), |_| found(&deep)).unwrap_err();
        assert_eq!(refused.code, "NESTED_TOO_DEEP");
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in r#"[\[\]{}",:\\ü1 a-eln]{0,40}|\{"handle":.{0,20}"#) {
            let _ = resolve(&HANDLES, &text, 8, &Limits::default(), seven);
            let _ = resolve(&HANDLES, &format!("[\"handle\",{text}"), 8, &Limits::default(), seven);
            let _ = resolve(&REPRESENTATIONS, &format!("[{{\"representation_uuid\":{text}"), 8, &Limits::default(), |_| found("8"));
        }

        #[test]
        fn valid_text_without_references_stays(text in r#"\[("handle"|1|"\\\\u0061é"|\{"handle": \[\]\}|\{"callback":\{\},"x":0\})\]"#) {
            prop_assert_eq!(resolve(&HANDLES, &text, 8, &Limits::default(), never).unwrap(), None);
        }
    }
}
