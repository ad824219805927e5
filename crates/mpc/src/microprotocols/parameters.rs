//! Parameters that several microprotocols have in common.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::microprotocol::Refusal;
use crate::number::{Digits, Grid, MAX_DIGITS};
use crate::threshold::{MOST_SAMPLES, Thresholds};

/// The declared precision.
pub(super) const DIGITS: [&str; 2] = ["digits_after", "digits_before"];
/// Samples of all parties at least.
pub(super) const MIN_SAMPLES: &str = "min_samples";
/// Count of a cell at least, and values on either side of a single one.
pub(super) const MIN_CELL: &str = "min_cell";

/// The members of a JSON object, as they were written.
pub(super) struct Given {
    microprotocol: &'static str,
    members: BTreeMap<String, Box<RawValue>>,
}

impl Given {
    /// Reads an object that has members of these names only.
    pub(super) fn read(microprotocol: &'static str, json: &str, known: &[&str]) -> Result<Given, Refusal> {
        let members: BTreeMap<String, Box<RawValue>> =
            serde_json::from_str(json).map_err(|_| unusable("", "parameters are a JSON object"))?;
        if let Some(name) = members.keys().find(|name| !known.contains(&name.as_str())) {
            let name: String = name.chars().take(64).collect();
            let mut known = known.to_vec();
            known.sort_unstable();
            let message = format!(
                "{microprotocol} has no parameter {name:?}; it knows {}",
                known.join(", ")
            );
            return Err(unusable(&name, &message));
        }
        Ok(Given { microprotocol, members })
    }

    /// A member's text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.members.get(name).map(|value| value.get())
    }

    /// A whole number from `least` to `most`.
    pub(super) fn whole(&self, name: &str, least: u64, most: u64) -> Result<Option<u64>, Refusal> {
        let Some(text) = self.text(name) else { return Ok(None) };
        match text.parse() {
            Ok(number) if (least..=most).contains(&number) => Ok(Some(number)),
            _ => Err(unusable(
                name,
                &format!("{name} is a whole number from {least} to {most}"),
            )),
        }
    }

    /// True or false.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.text(name) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(unusable(name, &format!("{name} is true or false"))),
        }
    }

    /// One of these texts.
    pub(super) fn choice<T: Copy>(&self, name: &str, choices: &[(&'static str, T)]) -> Result<Option<T>, Refusal> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let given: Option<String> = serde_json::from_str(text).ok();
        let found = choices.iter().find(|(choice, _)| given.as_deref() == Some(*choice));
        let names: Vec<String> = choices.iter().map(|(choice, _)| format!("\"{choice}\"")).collect();
        let found = found.ok_or_else(|| unusable(name, &format!("{name} is one of {}", names.join(", "))))?;
        Ok(Some(found.1))
    }

    /// The probability of an interval: more than 0.5, less than 1, with up to 6 decimals; 0.95 if it is not given.
    pub(super) fn confidence(&self) -> Result<f64, Refusal> {
        let Some(text) = self.text("confidence") else {
            return Ok(0.95);
        };
        let usable = |number: &f64| (0.5..1.0).contains(number) && text.len() <= 8;
        let number = text.parse().ok().filter(usable);
        number.ok_or_else(|| {
            unusable(
                "confidence",
                "confidence is a number from 0.5 to 0.999999, for example 0.95",
            )
        })
    }

    /// [`DIGITS`].
    pub(super) fn grid(&self) -> Result<Grid, Refusal> {
        let default = Digits::default();
        let digits = |name, default: u16| -> Result<u16, Refusal> {
            let given = self.whole(name, 0, u64::from(MAX_DIGITS))?;
            Ok(given.map_or(default, |digits| u16::try_from(digits).unwrap_or(u16::MAX)))
        };
        let [after, before] = DIGITS;
        let (before, after) = (digits(before, default.before())?, digits(after, default.after())?);
        let digits = Digits::new(before, after).map_err(|error| unusable("", &error.to_string()))?;
        Ok(Grid::new(digits))
    }

    /// [`MIN_SAMPLES`] and [`MIN_CELL`], as far as they were given.
    pub(super) fn thresholds(&self) -> Result<Thresholds, Refusal> {
        let least = |name| -> Result<u64, Refusal> { Ok(self.whole(name, 0, MOST_SAMPLES)?.unwrap_or(0)) };
        let cell = least(MIN_CELL)?;
        Ok(Thresholds {
            samples_total: least(MIN_SAMPLES)?,
            cell,
            beyond: cell,
            ..Thresholds::default()
        })
    }

    /// That a parameter is missing.
    pub(super) fn lacks(&self, name: &str, example: &str) -> Refusal {
        unusable(
            "",
            &format!("{} needs the parameter {name}, {example}", self.microprotocol),
        )
    }
}

/// The parameters of what has no other ones: digits, and a minimum of samples.
#[derive(Clone, Debug)]
pub struct Common {
    pub(super) grid: Grid,
    pub(super) thresholds: Thresholds,
}

impl Common {
    pub(super) fn read(microprotocol: &'static str, json: &str) -> Result<Common, Refusal> {
        let [after, before] = DIGITS;
        Common::of(&Given::read(microprotocol, json, &[after, before, MIN_SAMPLES])?)
    }

    /// With a minimum for counts as well: of what counts missing values.
    pub(super) fn with_cells(microprotocol: &'static str, json: &str) -> Result<Common, Refusal> {
        let [after, before] = DIGITS;
        Common::of(&Given::read(
            microprotocol,
            json,
            &[after, before, MIN_SAMPLES, MIN_CELL],
        )?)
    }

    fn of(given: &Given) -> Result<Common, Refusal> {
        Ok(Common {
            grid: given.grid()?,
            thresholds: given.thresholds()?,
        })
    }

    pub(super) fn canonical(&self) -> String {
        Canonical::new(&self.grid, &self.thresholds).text()
    }
}

/// Parameters as JSON text in one fixed form. What is not there by default is written only when it is there.
pub(super) struct Canonical(BTreeMap<&'static str, String>);

impl Canonical {
    pub(super) fn new(grid: &Grid, thresholds: &Thresholds) -> Canonical {
        let digits = grid.digits();
        let mut members = BTreeMap::new();
        members.insert(DIGITS[0], digits.after().to_string());
        members.insert(DIGITS[1], digits.before().to_string());
        for (name, least) in [(MIN_SAMPLES, thresholds.samples_total), (MIN_CELL, thresholds.cell)] {
            if least > 0 {
                members.insert(name, least.to_string());
            }
        }
        Canonical(members)
    }

    /// A further parameter, as JSON text.
    pub(super) fn with(mut self, name: &'static str, json: String) -> Canonical {
        self.0.insert(name, json);
        self
    }

    pub(super) fn text(&self) -> String {
        let members: Vec<String> = self.0.iter().map(|(name, json)| format!("\"{name}\":{json}")).collect();
        format!("{{{}}}", members.join(","))
    }
}

/// A refusal of parameters; `at` is one of them, or empty.
pub(super) fn unusable(at: &str, message: &str) -> Refusal {
    Refusal {
        code: "PARAMETERS_UNUSABLE",
        at: at.to_owned(),
        message: message.to_owned(),
        hint: "for example parameters={\"digits_before\": 18, \"digits_after\": 12}".to_owned(),
    }
}
