//! The grammar of JSON (RFC 8259) over bytes: validation and skipping, without recursion and without building values.

use super::Limits;

/// What is wrong with a JSON text, and at which byte.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Flaw {
    pub(super) at: usize,
    pub(super) what: What,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum What {
    /// More containers open than allowed.
    Deep,
    /// More of something else than allowed.
    Large(Large),
    /// NaN or an infinity.
    NotANumber,
    /// The text ends inside a value.
    End,
    /// Something else should stand here.
    Expected(&'static str),
}

/// What a text may have too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Large {
    /// Bytes of a string.
    String,
    /// Values.
    Values,
    /// Members of an object.
    Members,
}

impl Large {
    /// The member of `[limits]`.
    pub(super) fn limit(self) -> &'static str {
        match self {
            Large::String => "json_string_bytes",
            Large::Values => "json_values",
            Large::Members => "json_members",
        }
    }
}

/// What may stand next while a text is validated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Value,
    FirstElement,
    FirstName,
    Name,
    CommaOrEnd,
}

/// Whether the bytes are one JSON value (RFC 8259) within the limits, except that of the bytes. Does not recurse.
pub(super) fn validate(bytes: &[u8], limits: &Limits) -> Result<(), Flaw> {
    // With the number of members so far.
    let mut open: Vec<(u8, usize)> = Vec::new();
    let mut values = 0_usize;
    let mut next = Next::Value;
    let mut at = 0;
    loop {
        at = skip_space(bytes, at);
        let Some(&byte) = bytes.get(at) else {
            let done = open.is_empty() && next == Next::CommaOrEnd;
            return if done {
                Ok(())
            } else {
                Err(Flaw { at, what: What::End })
            };
        };
        let begins = next == Next::Value || (next == Next::FirstElement && byte != b']');
        if begins {
            values += 1;
            if values > limits.values {
                return Err(large(at, Large::Values));
            }
        }
        match (next, byte) {
            (Next::Value | Next::FirstElement, b'{' | b'[') => {
                if open.len() == limits.depth {
                    return Err(Flaw { at, what: What::Deep });
                }
                open.push((byte, 0));
                next = if byte == b'{' {
                    Next::FirstName
                } else {
                    Next::FirstElement
                };
                at += 1;
            }
            (Next::FirstElement, b']') | (Next::FirstName, b'}') => {
                open.pop();
                next = Next::CommaOrEnd;
                at += 1;
            }
            (Next::Value | Next::FirstElement, _) => {
                let end = scalar_end(bytes, at)?;
                if byte == b'"' && end - at > limits.string_bytes {
                    return Err(large(at, Large::String));
                }
                at = end;
                next = Next::CommaOrEnd;
            }
            (Next::FirstName | Next::Name, b'"') => {
                let end = string_end(bytes, at)?;
                if end - at > limits.string_bytes {
                    return Err(large(at, Large::String));
                }
                if let Some((_, members)) = open.last_mut() {
                    *members += 1;
                    if *members > limits.members {
                        return Err(large(at, Large::Members));
                    }
                }
                at = skip_space(bytes, end);
                if bytes.get(at) != Some(&b':') {
                    return Err(expected(bytes, at, "a colon"));
                }
                next = Next::Value;
                at += 1;
            }
            (Next::FirstName | Next::Name, _) => {
                return Err(expected(bytes, at, "a name in double quotes"));
            }
            (Next::CommaOrEnd, _) => {
                next = match (open.last().map(|(kind, _)| kind), byte) {
                    (Some(b'{'), b',') => Next::Name,
                    (Some(b'['), b',') => Next::Value,
                    (Some(b'{'), b'}') | (Some(b'['), b']') => {
                        open.pop();
                        Next::CommaOrEnd
                    }
                    (Some(b'{'), _) => return Err(expected(bytes, at, "a comma or }")),
                    (Some(_), _) => return Err(expected(bytes, at, "a comma or ]")),
                    (None, _) => return Err(expected(bytes, at, "the end of the text")),
                };
                at += 1;
            }
        }
    }
}

fn large(at: usize, what: Large) -> Flaw {
    Flaw {
        at,
        what: What::Large(what),
    }
}

fn expected(bytes: &[u8], at: usize, what: &'static str) -> Flaw {
    Flaw {
        at,
        what: if at < bytes.len() {
            What::Expected(what)
        } else {
            What::End
        },
    }
}

/// End of the string, number or literal at `at`.
fn scalar_end(bytes: &[u8], at: usize) -> Result<usize, Flaw> {
    match bytes.get(at) {
        Some(b'"') => string_end(bytes, at),
        Some(b'-' | b'0'..=b'9') => number_end(bytes, at),
        _ => {
            let rest = bytes.get(at..).unwrap_or_default();
            for literal in ["true", "false", "null"] {
                if rest.starts_with(literal.as_bytes()) {
                    return Ok(at + literal.len());
                }
                if !rest.is_empty() && literal.as_bytes().starts_with(rest) {
                    return Err(Flaw {
                        at: bytes.len(),
                        what: What::End,
                    });
                }
            }
            Err(not_a_number(rest, at).unwrap_or_else(|| expected(bytes, at, "a value")))
        }
    }
}

fn not_a_number(rest: &[u8], at: usize) -> Option<Flaw> {
    let word = rest.strip_prefix(b"-").or(rest.strip_prefix(b"+")).unwrap_or(rest);
    let found = |name: &str| {
        word.get(..name.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()))
    };
    (found("nan") || found("inf")).then_some(Flaw {
        at,
        what: What::NotANumber,
    })
}

fn number_end(bytes: &[u8], start: usize) -> Result<usize, Flaw> {
    let digits = |at: usize| {
        let count = bytes
            .get(at..)
            .unwrap_or_default()
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        if count > 0 {
            Ok(at + count)
        } else {
            Err(expected(bytes, at, "a digit"))
        }
    };
    let mut at = start + usize::from(bytes.get(start) == Some(&b'-'));
    at = match bytes.get(at) {
        Some(b'0') => at + 1,
        Some(b'N' | b'n' | b'I' | b'i') => {
            let rest = bytes.get(start..).unwrap_or_default();
            return Err(not_a_number(rest, start).unwrap_or_else(|| expected(bytes, at, "a digit")));
        }
        _ => digits(at)?,
    };
    if bytes.get(at) == Some(&b'.') {
        at = digits(at + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        at = digits(at + 1 + sign)?;
    }
    Ok(at)
}

/// End of the string whose opening quote is at `start`.
pub(super) fn string_end(bytes: &[u8], start: usize) -> Result<usize, Flaw> {
    let mut at = start + 1;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        at += rest.iter().take_while(|byte| !SPECIAL[usize::from(**byte)]).count();
        match bytes.get(at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => match bytes.get(at + 1) {
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => at += 2,
                Some(b'u') => {
                    let hex = bytes.get(at + 2..).unwrap_or_default().iter().take(4);
                    let good = hex.take_while(|byte| byte.is_ascii_hexdigit()).count();
                    if good < 4 {
                        return Err(expected(bytes, at + 2 + good, "four hexadecimal digits"));
                    }
                    at += 6;
                }
                _ => return Err(expected(bytes, at + 1, "an escape such as \\n")),
            },
            _ => return Err(expected(bytes, at, "no control character inside a string")),
        }
    }
}

/// Bytes at which the scan of a string stops: the quote, the backslash and control characters.
const SPECIAL: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table
};

/// End of the value at `at`. Finds it in valid text; elsewhere it may find a wrong end, never one outside the text.
pub(super) fn skip_value(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    loop {
        match bytes.get(at)? {
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                at += 1;
            }
            b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' if depth > 0 => {
                at += 1;
                continue;
            }
            _ => at = scalar_end(bytes, at).ok()?,
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

pub(super) fn skip_space(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest
        .iter()
        .take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
        .count()
}

pub(super) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn deep(depth: usize) -> Limits {
        Limits {
            depth,
            ..Limits::default()
        }
    }

    #[test]
    fn strings_values_and_members_are_bounded_exactly() {
        let limits = Limits {
            string_bytes: 5,
            values: 4,
            members: 2,
            ..Limits::default()
        };
        for fits in [
            r#""abc""#,
            "[1,[],2]",
            "[[[[]]]]",
            r#"{"a":1,"a":2}"#,
            r#"[{"a":1,"b":2}]"#,
            "[]",
        ] {
            assert_eq!(validate(fits.as_bytes(), &limits), Ok(()), "{fits}");
        }
        let flaw = |text: &str| validate(text.as_bytes(), &limits).unwrap_err();
        assert_eq!(flaw(r#"["abcd"]"#), large(1, Large::String));
        assert_eq!(flaw(r#"{"abcd":1}"#), large(1, Large::String));
        // As many bytes as they take in the text, not as many as they mean.
        assert_eq!(flaw(r#""\u0041""#), large(0, Large::String));
        assert_eq!(flaw("[1,[],{},2]"), large(9, Large::Values));
        assert_eq!(flaw("[[[[[]]]]]"), large(4, Large::Values));
        assert_eq!(flaw(r#"{"a":1,"a":2,"a":3}"#), large(13, Large::Members));
    }

    /// serde_json as the oracle: valid when it can pass over the value.
    fn oracle(text: &str) -> bool {
        serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
    }

    #[test]
    fn agrees_with_serde_on_cases() {
        let cases = [
            "0",
            "-0",
            "01",
            "-",
            "1.",
            ".5",
            "1.5e",
            "1e+",
            "1E-7",
            "1e999",
            "-1.25e+3",
            "tru",
            "true",
            "truex",
            "null",
            "\"\"",
            "\"\\u00e\"",
            "\"\\ud800\"",
            "\"\\x\"",
            "\"a\tb\"",
            "\"a",
            "[",
            "[]",
            "[,]",
            "[1,]",
            "[1 2]",
            "[1,2]",
            "{",
            "{}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1}",
            "{\"a\":1,}",
            "{\"a\":1 \"b\":2}",
            "{a:1}",
            "{1:1}",
            "[}",
            "{]",
            "1 2",
            "[] []",
            "\u{a0}1",
            "// x",
            "'a'",
            "+1",
            "0x10",
            "[1]]",
            "{\"a\":[{\"b\":null}]}",
            "\"ü\u{2028}\"",
        ];
        for text in cases {
            assert_eq!(validate(text.as_bytes(), &deep(64)).is_ok(), oracle(text), "{text}");
        }
    }

    #[test]
    fn depth_counts_open_containers() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(validate(nested(64).as_bytes(), &deep(64)).is_ok());
        let flaw = validate(nested(65).as_bytes(), &deep(64)).unwrap_err();
        assert_eq!(
            flaw,
            Flaw {
                at: 64,
                what: What::Deep
            }
        );
        assert!(validate(b"[[],[],{},[]]", &deep(2)).is_ok());
    }

    #[test]
    fn skipping_finds_the_end_of_valid_values() {
        for value in [
            "1",
            "-1.5e3",
            "\"a]\\\"\"",
            "true",
            "[1, [2, {\"a\": \"}\"}]]",
            "{}",
            "{\"a\" : [ ] }",
        ] {
            for after in ["", ",", "]", " "] {
                let text = format!("{value}{after}");
                assert_eq!(skip_value(text.as_bytes(), 0), Some(value.len()), "{text}");
            }
        }
        assert_eq!(skip_value(b"]", 0), None);
        assert_eq!(skip_value(b"[1", 0), None);
        assert_eq!(skip_value(b"", 5), None);
    }

    proptest! {
        #[test]
        fn agrees_with_serde_on_token_soup(tokens in proptest::collection::vec(
            prop::sample::select(vec!["[", "]", "{", "}", ",", ":", "\"a\"", "\"\\n\"", "1", "-2.5e1", "true", "null", " ", "\n", "e", "0"]), 0..12,
        )) {
            let text = tokens.concat();
            prop_assert_eq!(validate(text.as_bytes(), &deep(64)).is_ok(), oracle(&text), "{}", text);
        }

        #[test]
        fn agrees_with_serde_on_damaged_text(at in 0_usize..64, byte in 0x09_u8..0x7f) {
            let mut bytes = br#"{"a": [1, -2.50e+3, "x\u00e9\n", true], "b": {"c": null}, "d": ""}"#.to_vec();
            bytes[at] = byte;
            let text = String::from_utf8(bytes).unwrap();
            prop_assert_eq!(validate(text.as_bytes(), &deep(64)).is_ok(), oracle(&text), "{}", text);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), at in 0_usize..70) {
            let _ = validate(&bytes, &deep(4));
            let end = skip_value(&bytes, at);
            prop_assert!(end.is_none_or(|end| end <= bytes.len()));
        }
    }
}
