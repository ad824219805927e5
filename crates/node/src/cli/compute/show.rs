//! Results and progress for people.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;

use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

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

/// JSON as a node gave it: with the members of objects in its order, which is the one that people expect.
pub(super) enum Shown {
    Members(Vec<(String, Shown)>),
    List(Vec<Shown>),
    Plain(Value),
}

impl Shown {
    /// What the node says beside the result, for people.
    pub(super) fn warnings(&self) -> Vec<String> {
        let Some(Shown::List(warnings)) = self.get("warnings") else {
            return Vec::new();
        };
        let message = |warning: &Shown| warning.get("message").map(cell).unwrap_or_default();
        warnings.iter().map(message).collect()
    }

    /// A result as a small table.
    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        if let Some(parties) = self.get("inputs") {
            text.push_str(&format!("parties  {}\n", cell(parties)));
        }
        let result = self.get("result").map(values_of).unwrap_or_default();
        text.push_str(result.trim_end());
        if let Some(own) = self.get("own") {
            text.push_str(&format!("\nfor you alone: {}", cell(own)));
        }
        text
    }

    fn list(&self) -> Option<&[Shown]> {
        match self {
            Shown::List(list) => Some(list),
            _ => None,
        }
    }

    fn get(&self, name: &str) -> Option<&Shown> {
        let Shown::Members(members) = self else { return None };
        members
            .iter()
            .find(|(member, _)| member == name)
            .map(|(_, value)| value)
    }
}

impl<'de> Deserialize<'de> for Shown {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Shown, D::Error> {
        deserializer.deserialize_any(InOrder)
    }
}

struct InOrder;

impl<'de> Visitor<'de> for InOrder {
    type Value = Shown;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shown, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Shown::Members(members))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shown, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = seq.next_element()? {
            list.push(value);
        }
        Ok(Shown::List(list))
    }

    fn visit_str<E>(self, value: &str) -> Result<Shown, E> {
        Ok(Shown::Plain(value.into()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Shown, E> {
        Ok(Shown::Plain(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Shown, E> {
        Ok(Shown::Plain(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Shown, E> {
        Ok(Shown::Plain(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Shown, E> {
        Ok(Shown::Plain(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Shown, E> {
        Ok(Shown::Plain(Value::Null))
    }
}

/// What results call their tables. Other lists of lists may have as many members by chance: two modes of a table of two rows and two columns do.
const TABLES: [&str; 4] = ["table", "covariance", "correlation", "p"];

fn values_of(result: &Shown) -> String {
    let Shown::Members(values) = result else {
        return cell(result);
    };
    let are_rows = values.iter().all(|(_, value)| is_group(value) && !is_deep(value));
    if are_rows && !values.is_empty() {
        let values: Vec<_> = values.iter().map(|(name, value)| (printable(name), value)).collect();
        return rows(&values);
    }
    let mut text = String::new();
    let names = values.iter().map(|(name, _)| name.chars().count());
    let width = names.max().unwrap_or(0).max(7);
    for (name, value) in values {
        let name = printable(name);
        if let Some(lines) = matrix(value, result).filter(|_| TABLES.contains(&name.as_str())) {
            text.push_str(&format!("{name}\n{}", aligned(&lines)));
        } else if is_deep(value) {
            let mut groups = Vec::new();
            find_groups("", value, result, &mut groups);
            text.push_str(&format!("{name}\n{}", rows(&groups)));
        } else {
            text.push_str(&format!("{name:width$}  {}\n", cell(value)));
        }
    }
    text
}

/// The cells of a table, with the names of its rows and columns as the result tells them.
fn matrix(value: &Shown, result: &Shown) -> Option<Vec<Vec<String>>> {
    let columns = result.get("columns")?.list()?;
    let names = result.get("rows").map_or(Some(columns), Shown::list)?;
    let lines = value.list().filter(|lines| lines.len() == names.len())?;
    let head = std::iter::once(String::new()).chain(columns.iter().map(cell));
    let mut table = vec![head.collect::<Vec<_>>()];
    for (name, line) in names.iter().zip(lines) {
        let line = line.list().filter(|line| line.len() == columns.len())?;
        table.push(std::iter::once(cell(name)).chain(line.iter().map(cell)).collect());
    }
    Some(table)
}

fn is_group(value: &Shown) -> bool {
    matches!(value, Shown::Members(_))
}

/// Whether it consists of groups, which would not fit into a line.
fn is_deep(value: &Shown) -> bool {
    let Shown::Members(members) = value else { return false };
    let of_groups = |value: &Shown| is_group(value) || value.list().is_some_and(are_groups);
    !members.is_empty() && members.iter().all(|(_, value)| of_groups(value))
}

fn are_groups(list: &[Shown]) -> bool {
    !list.is_empty() && list.iter().all(is_group)
}

/// Finds the groups at the bottom, each with its way there as a name.
///
/// What the groups of a list are called is said by the list of that name in the result.
fn find_groups<'a>(path: &str, value: &'a Shown, result: &Shown, found: &mut Vec<(String, &'a Shown)>) {
    let way = |name: String| {
        if path.is_empty() {
            name
        } else {
            format!("{path} {name}")
        }
    };
    match value {
        Shown::Members(members) if is_deep(value) => {
            for (name, value) in members {
                let name = printable(name);
                let Some(list) = value.list() else {
                    find_groups(&way(name), value, result, found);
                    continue;
                };
                let names = result.get(&name).and_then(Shown::list);
                let names = names.filter(|names| names.len() == list.len());
                for (at, value) in list.iter().enumerate() {
                    let name = names.map_or_else(|| format!("{name}[{at}]"), |names| cell(&names[at]));
                    find_groups(&way(name), value, result, found);
                }
            }
        }
        _ => found.push((path.to_owned(), value)),
    }
}

/// Named groups of equal form: a line each.
fn rows(values: &[(String, &Shown)]) -> String {
    let mut heads: Vec<&str> = Vec::new();
    for (_, group) in values {
        let Shown::Members(members) = group else { continue };
        for (name, _) in members {
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
        // What one column lacks (reasons, mostly) is left empty.
        let cells = heads.iter().map(|head| group.get(head).map(cell).unwrap_or_default());
        lines.push(std::iter::once(name.clone()).chain(cells).collect());
    }
    aligned(&lines)
}

/// Lines of equally many cells: names on the left, all others to the right.
fn aligned(lines: &[Vec<String>]) -> String {
    let width = |at: usize| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..lines.first().map_or(0, Vec::len)).map(width).collect();
    let mut text = String::new();
    for line in lines {
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

/// In one line.
fn cell(value: &Shown) -> String {
    match value {
        Shown::Members(members) => {
            let member = |(name, value): &(String, Shown)| format!("{} {}", printable(name), cell(value));
            members.iter().map(member).collect::<Vec<_>>().join(", ")
        }
        Shown::List(list) => list.iter().map(cell).collect::<Vec<_>>().join(" "),
        Shown::Plain(Value::String(text)) => printable(text),
        Shown::Plain(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn table(text: &str) -> String {
        serde_json::from_str::<Shown>(text).unwrap().table()
    }

    #[test]
    fn results_are_small_tables() {
        let one = table(r#"{"inputs": 3, "result": {"samples": 3, "sum": 0.3}}"#);
        assert_eq!(one, "parties  3\nsamples  3\nsum      0.3");
        let vectors = table(r#"{"inputs": 2, "result": {"samples": 2, "sum": [1, 2.5]}}"#);
        assert!(vectors.ends_with("sum      1 2.5"));
        let columns = table(
            r#"{"inputs": 3, "result": {"age": {"samples": 12, "sum": 7}, "b\u001bmi": {"samples": 3, "sum": 100}}}"#,
        );
        assert_eq!(
            columns,
            "parties  3\n      samples  sum\nage        12    7\nb mi        3  100"
        );
    }

    #[test]
    fn members_stay_in_their_order_and_reasons_are_words() {
        let hidden = r#"{"inputs": 2, "result": {"samples": 4, "quantiles": [null, 3.5], "probabilities": [0.01, 0.5],
            "reasons": {"quantiles[0]": "FEW_BEYOND"}}}"#;
        assert_eq!(
            table(hidden),
            "parties  2\nsamples        4\nquantiles      null 3.5\nprobabilities  0.01 0.5\nreasons        quantiles[0] FEW_BEYOND"
        );
        // One column has reasons, the other one has none.
        let columns = r#"{"inputs": 2, "result": {"b": {"samples": 4, "median": 2}, "a": {"samples": null, "median": null,
            "reasons": {"samples": "FEW_SAMPLES", "median": "FEW_SAMPLES"}}}}"#;
        assert_eq!(
            table(columns),
            "parties  2\n   samples  median                                  reasons\nb        4       2\n\
             a     null    null  samples FEW_SAMPLES, median FEW_SAMPLES"
        );
    }

    #[test]
    fn tables_have_their_rows_and_columns() {
        let contingency = r#"{"inputs": 3, "result": {"samples": 8, "modes": [["a", "f"], [1, "m"]], "rows": ["a", 1], "columns": ["f", "m"],
            "table": [[4, 0], [null, 2]], "chi_square": {"statistic": 2.5, "p": 0.1}}}"#;
        assert_eq!(
            table(contingency),
            "parties  3\nsamples     8\nmodes       a f 1 m\nrows        a 1\ncolumns     f m\n\
             table\n      f  m\na     4  0\n1  null  2\nchi_square  statistic 2.5, p 0.1"
        );
        let correlation = r#"{"inputs": 3, "result": {"columns": ["x", "y"], "means": [1, 2], "p": [[0, 0.5], [0.5, 0]], "odd": [[1]]}}"#;
        assert_eq!(
            table(correlation),
            "parties  3\ncolumns  x y\nmeans    1 2\np\n     x    y\nx    0  0.5\ny  0.5    0\nodd      1"
        );
    }

    #[test]
    fn groups_within_columns_are_lines() {
        let group = r#"{"n": 4, "interval": [1, 2]}"#;
        let columns = format!(r#"{{"age": {{"all": {{"n": 8, "mean": 2}}, "groups": [{group}, {group}]}}}}"#);
        let result = format!(r#"{{"inputs": 3, "result": {{"columns": {columns}, "groups": ["a", "b"]}}}}"#);
        let lines = "columns\n         n  mean  interval\nage all  8     2\nage a    4             1 2\nage b    4             1 2\n";
        assert_eq!(table(&result), format!("parties  3\n{lines}groups   a b"));
        // Without names they have numbers.
        let result = format!(r#"{{"inputs": 3, "result": {{"columns": {columns}}}}}"#);
        assert!(table(&result).contains("age groups[1]"));
        // What is beside them is not lost.
        let odd = r#"{"inputs": 3, "result": {"columns": {"all": {"n": 8}, "note": "few"}, "samples": 3}}"#;
        assert_eq!(table(odd), "parties  3\ncolumns  all n 8, note few\nsamples  3");
    }

    #[test]
    fn what_is_for_one_party_alone_is_a_line_of_its_own() {
        let result = r#"{"inputs": 3, "result": {"samples": 3}, "own": {"percentile": 66.7, "be\u0007low": [1, 2]}}"#;
        assert_eq!(
            table(result),
            "parties  3\nsamples  3\nfor you alone: percentile 66.7, be low 1 2"
        );
        let result = r#"{"inputs": 3, "result": null, "own": 7}"#;
        assert_eq!(table(result), "parties  3\nnull\nfor you alone: 7");
    }

    #[test]
    fn warnings_are_their_messages() {
        let warned =
            r#"{"inputs": 2, "result": {"sum": 1}, "warnings": [{"code": "TWO_PARTIES", "message": "two\u001b"}, 5]}"#;
        let shown: Shown = serde_json::from_str(warned).unwrap();
        assert_eq!(shown.warnings(), ["two ", ""]);
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
