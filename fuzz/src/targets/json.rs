//! The scanner of client JSON against `serde_json` as an oracle.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use fdrtd::json::{HANDLES, Limits, Parameters, REPRESENTATIONS, check, members};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

const LIMITS: Limits = Limits {
    depth: 64,
    bytes: 1 << 20,
    // These three are this project's own; the oracle knows none of them.
    string_bytes: usize::MAX,
    values: usize::MAX,
    members: usize::MAX,
};

/// Accepts exactly what `serde_json` accepts, within the limits, and leaves the text as it is.
pub(super) fn json(data: &[u8]) {
    let theirs: Result<Box<RawValue>, _> = serde_json::from_slice(data);
    let text = match (check(data, &LIMITS), &theirs) {
        (Err(problem), Ok(_)) => {
            assert!(depth(data) > LIMITS.depth, "refused: {problem:?}");
            return;
        }
        (Ok(text), Err(error)) => {
            panic!("accepted: {error} {text:?}");
        }
        (Err(_), Err(_)) => return,
        (Ok(text), Ok(theirs)) => {
            assert_eq!(text, theirs.get());
            text
        }
    };
    let Ok(found) = members(text) else {
        let theirs = serde_json::from_str::<Pairs>(text);
        // Names with lone surrogates are no text, and an object of very many members is not taken apart.
        assert!(
            theirs.is_err() || theirs.is_ok_and(|pairs| pairs.0.len() > 1000),
            "an object can be taken apart"
        );
        return;
    };
    compare_members(text, &found);
    let names: HashSet<&str> = found.iter().map(|(name, _)| &**name).collect();
    if let Ok(mut parameters) = Parameters::parse("create", text) {
        assert_eq!(names.len(), found.len(), "no name stands twice");
        parameters.resolve(&HANDLES, &LIMITS, |_, _| panic_free()).ok();
        parameters.resolve(&REPRESENTATIONS, &LIMITS, |_, _| panic_free()).ok();
        for name in ["data", "value", "timeout", "tokens"] {
            if let Some(raw) = parameters.optional(name) {
                let _ = (
                    raw.string(),
                    raw.u64(),
                    raw.bool(),
                    raw.seconds(),
                    raw.object(),
                    raw.strings(),
                );
            }
        }
        let _ = parameters.finish();
    }
}

fn panic_free<T: Default>() -> Result<T, fdrtd::problem::Problem> {
    Ok(T::default())
}

/// Containers open at once, in a text that is valid.
fn depth(data: &[u8]) -> usize {
    let (mut now, mut most, mut inside, mut escaped) = (0_usize, 0, false, false);
    for byte in data {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if inside => escaped = true,
            b'"' => inside = !inside,
            b'{' | b'[' if !inside => {
                now += 1;
                most = most.max(now);
            }
            b'}' | b']' if !inside => now -= 1,
            _ => {}
        }
    }
    most
}

/// Names and values as `serde_json` sees them, in their order.
struct Pairs(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pairs, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

fn compare_members(text: &str, found: &[(Cow<'_, str>, &str)]) {
    // Names with lone surrogates are no text: there the two may differ.
    let Ok(Pairs(theirs)) = serde_json::from_str(text) else {
        return;
    };
    assert_eq!(found.len(), theirs.len());
    for ((name, value), (their_name, their_value)) in found.iter().zip(&theirs) {
        assert_eq!(name, their_name);
        assert_eq!(*value, their_value.get());
    }
}

pub(super) fn json_seeds() -> Vec<Vec<u8>> {
    let texts = [
        r#"{"handle":"x","function":"create","parameters":{"value":[1,2.50,-0,1e300]}}"#,
        r#" [null, true, false, "\u00e4\ud83d\ude00", "\"\\\/\b\f\n\r\t"] "#,
        r#"{"a":{"handle":"00","callback":"5f1b6b0e-0000-4000-8000-000000000000"},"a ":{}}"#,
        r#"{"data":1180591620717411303424,"value":0.10,"timeout":3.5,"tokens":["a","b"]}"#,
        r#"{"\ud800":1,"\u0061":2,"a":3}"#,
        "-1.5E+07",
        "[[[[[[]]]]]]",
        "{}",
        "NaN",
        "[1,]",
    ];
    let mut seeds: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    for depth in [63, 64, 65, 127] {
        seeds.push(["[".repeat(depth), "]".repeat(depth)].concat().into_bytes());
    }
    seeds
}
