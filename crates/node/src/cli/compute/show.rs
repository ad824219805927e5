//! Results and progress for people.

use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;

use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use serde_json::{Map, Value};

use super::super::failure::printable;

/// Progress on standard error: rewritten in place on a terminal, one line per change with `--verbose`, nothing otherwise.
pub(crate) struct Progress {
    terminal: bool,
    lines: bool,
    last: Mutex<String>,
}

impl Progress {
    pub(crate) fn new(verbose: bool) -> Progress {
        Progress {
            terminal: io::stderr().is_terminal(),
            lines: verbose,
            last: Mutex::default(),
        }
    }

    /// Whether anybody sees states.
    pub(crate) fn is_shown(&self) -> bool {
        self.terminal || self.lines
    }

    /// A state that replaces the last one.
    pub(crate) fn show(&self, text: &str) {
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if *last == text {
            return;
        }
        text.clone_into(&mut last);
        if self.terminal {
            // Without wrapping: a line that has become two could not be rewritten.
            let _ = write!(io::stderr(), "\r\x1b[K\x1b[?7l{text}\x1b[?7h");
        } else if self.lines {
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// The state that was shown last, to whomever.
    pub(super) fn last(&self) -> String {
        self.last
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    /// Something that stays, and is told to everybody.
    pub(crate) fn say(&self, text: &str) {
        self.clear();
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// A link as a QR code.
    pub(super) fn say_qr(&self, link: &str) {
        match qr(link) {
            // White on black by order: on a light terminal the code would be its own negative.
            Some(code) if self.terminal => {
                let lines: Vec<String> = code.lines().map(|line| format!("\x1b[97;40m{line}\x1b[0m")).collect();
                self.say(&lines.join("\n"));
            }
            Some(code) => self.say(&code),
            None => self.say("the link is too long for a QR code"),
        }
    }

    /// Takes the state off the terminal.
    pub(crate) fn clear(&self) {
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if self.terminal && !last.is_empty() {
            let _ = write!(io::stderr(), "\r\x1b[K");
            last.clear();
        }
    }
}

/// A QR code of half blocks: the light modules are drawn, as most terminals are dark. `None` if the text is too long for one.
fn qr(text: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    let image = code
        .render::<Dense1x2>()
        .dark_color(Dense1x2::Light)
        .light_color(Dense1x2::Dark)
        .build();
    Some(image)
}

/// A result as a small table.
pub(super) fn table(result: &Value) -> String {
    let mut text = String::new();
    if let Some(parties) = result.get("inputs") {
        text.push_str(&format!("parties  {parties}\n"));
    }
    text.push_str(values_of(&result["result"]).trim_end());
    if let Some(own) = result.get("own") {
        text.push_str(&format!("\nfor you alone: {}", own_of(own)));
    }
    text
}

/// What only this party's owner learns, in one line.
fn own_of(own: &Value) -> String {
    let Some(values) = own.as_object() else {
        return cell(own);
    };
    let all = values.iter();
    let told = all.map(|(name, value)| format!("{} {}", printable(name), cell(value)));
    told.collect::<Vec<_>>().join(", ")
}

fn values_of(result: &Value) -> String {
    let Some(values) = result.as_object() else {
        return cell(result);
    };
    let mut text = String::new();
    if !values.is_empty() && values.values().all(Value::is_object) {
        text.push_str(&rows(values));
    } else {
        let width = values.keys().map(|name| name.chars().count()).max().unwrap_or(0).max(7);
        for (name, value) in values {
            text.push_str(&format!("{:width$}  {}\n", printable(name), cell(value)));
        }
    }
    text
}

/// Named groups of equal form: a line each.
fn rows(values: &Map<String, Value>) -> String {
    let mut heads: Vec<&str> = Vec::new();
    for group in values.values().filter_map(Value::as_object) {
        for name in group.keys() {
            if !heads.contains(&name.as_str()) {
                heads.push(name);
            }
        }
    }
    let mut lines = vec![
        std::iter::once(String::new())
            .chain(heads.iter().map(|head| printable(head)))
            .collect::<Vec<String>>(),
    ];
    for (name, group) in values {
        let cells = heads.iter().map(|head| cell(&group[*head]));
        lines.push(std::iter::once(printable(name)).chain(cells).collect());
    }
    let width = |at: usize| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..=heads.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let padded = line.iter().zip(&widths).enumerate().map(|(at, (cell, width))| {
            if at == 0 {
                format!("{cell:width$}")
            } else {
                format!("{cell:>width$}")
            }
        });
        text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => printable(text),
        Value::Array(list) => list.iter().map(cell).collect::<Vec<_>>().join(" "),
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| format!("{} {}", printable(name), cell(value));
            members.iter().map(member).collect::<Vec<_>>().join(", ")
        }
        other => printable(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn results_are_small_tables() {
        let one = json!({"inputs": 3, "result": {"samples": 3, "sum": 0.3}});
        assert_eq!(table(&one), "parties  3\nsamples  3\nsum      0.3");
        let vectors = json!({"inputs": 2, "result": {"samples": 2, "sum": [1, 2.5]}});
        assert!(table(&vectors).ends_with("sum      1 2.5"));
        let hidden =
            json!({"inputs": 2, "result": {"sum": null, "reasons": {"samples": "FEW_SAMPLES", "sum": "FEW_SAMPLES"}}});
        assert!(
            table(&hidden).contains("reasons  samples FEW_SAMPLES, sum FEW_SAMPLES"),
            "{}",
            table(&hidden)
        );
        let columns =
            json!({"inputs": 3, "result": {"age": {"samples": 12, "sum": 7}, "b\u{1b}mi": {"samples": 3, "sum": 100}}});
        assert_eq!(
            table(&columns),
            "parties  3\n      samples  sum\nage        12    7\nb mi        3  100"
        );
    }

    #[test]
    fn what_is_for_one_party_alone_is_a_line_of_its_own() {
        let result = json!({"inputs": 3, "result": {"samples": 3}, "own": {"percentile": 66.7, "be\u{7}low": [1, 2]}});
        assert_eq!(
            table(&result),
            "parties  3\nsamples  3\nfor you alone: be low 1 2, percentile 66.7"
        );
        let result = json!({"inputs": 3, "result": null, "own": 7});
        assert_eq!(table(&result), "parties  3\nnull\nfor you alone: 7");
    }

    #[test]
    fn a_link_fits_into_a_code() {
        let code = qr(&format!(
            "fdrtd:https://node.example.org/public1#{}.{}",
            "a".repeat(52),
            "b".repeat(52)
        ))
        .unwrap();
        assert!(code.lines().count() > 20 && code.contains('█') && code.contains('▄'));
        assert!(qr(&"x".repeat(5000)).is_none());
    }
}
