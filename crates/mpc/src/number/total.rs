//! Elements of the ring as numbers again: opened sums, for people and programs.

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::{Grid, POW10, WORD_DIGITS};

/// Integers up to here are doubles exactly.
const EXACT_DOUBLE: u128 = 1 << 53;
/// Powers of ten up to here are doubles exactly.
const EXACT_POWER: usize = 22;

/// A sum as it is given out.
#[derive(Clone, Debug)]
pub enum Total {
    /// Integral and below 2^63 in magnitude.
    Integer(i64),
    /// The nearest double of anything else.
    Double(f64),
    /// What doubles cannot express at all (more than about 1.8 · 10^308, possible with more than 300 digits before the point, or so small that
    /// the double would be 0): the exact decimal. JSON sets no limit.
    Exact(Box<RawValue>),
}

impl Serialize for Total {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Total::Integer(integer) => serializer.serialize_i64(*integer),
            Total::Double(double) => serializer.serialize_f64(*double),
            Total::Exact(decimal) => decimal.serialize(serializer),
        }
    }
}

impl Grid {
    /// The exact value of one element as plain decimal text: no exponent, no trailing zeros, never `-0`.
    #[must_use]
    pub fn to_decimal(&self, elem: &[u64]) -> String {
        let mut magnitude = elem.to_vec();
        let negative = elem.last().is_some_and(|&top| top >> 63 == 1);
        if negative {
            self.ring.neg_assign(&mut magnitude);
        }
        let after = usize::from(self.digits.after);
        let mut digits = decimal_digits(&mut magnitude);
        // One digit before the point at least, then as many as the grid has after it.
        let padding = (after + 1).saturating_sub(digits.len());
        digits.insert_str(0, &"0".repeat(padding));
        let (whole, fraction) = digits.split_at(digits.len() - after);
        let fraction = fraction.trim_end_matches('0');
        let sign = if negative { "-" } else { "" };
        let point = if fraction.is_empty() { "" } else { "." };
        format!("{sign}{whole}{point}{fraction}")
    }

    /// The double nearest to one element's exact value (infinite beyond the range of doubles, never −0).
    #[must_use]
    pub fn to_f64(&self, elem: &[u64]) -> f64 {
        nearest_f64(&self.to_decimal(elem))
    }

    /// One element as a JSON number; see [`Total`].
    #[must_use]
    pub fn to_total(&self, elem: &[u64]) -> Total {
        if let Some(total) = self.narrow_total(elem) {
            return total;
        }
        let decimal = self.to_decimal(elem);
        if let Some(integer) = decimal.parse::<i64>().ok().filter(|integer| *integer != i64::MIN) {
            return Total::Integer(integer);
        }
        let double = nearest_f64(&decimal);
        match RawValue::from_string(decimal) {
            Ok(decimal) if !double.is_finite() || double == 0.0 => Total::Exact(decimal),
            _ => Total::Double(double),
        }
    }

    /// Most sums, without going through text: integers, and quotients of two numbers that are doubles exactly, which one division rounds
    /// correctly (Clinger, *How to read floating point numbers accurately*, PLDI 1990).
    fn narrow_total(&self, elem: &[u64]) -> Option<Total> {
        let value = match *elem {
            [low] => i128::from(low.cast_signed()),
            [low, high] => (u128::from(high) << 64 | u128::from(low)).cast_signed(),
            _ => return None,
        };
        let after = usize::from(self.digits.after);
        let power = *POW10.get(after)?;
        let magnitude = value.unsigned_abs();
        if magnitude < EXACT_DOUBLE && after <= EXACT_POWER {
            let small = magnitude as u64;
            let divisor = u64::try_from(power).ok();
            if divisor.is_some_and(|divisor| !small.is_multiple_of(divisor)) || (divisor.is_none() && small != 0) {
                let quotient = small as f64 / power as f64;
                return Some(Total::Double(if value < 0 { -quotient } else { quotient }));
            }
        }
        let whole = i64::try_from(magnitude / power).ok()?;
        (magnitude % power == 0).then_some(Total::Integer(if value < 0 { -whole } else { whole }))
    }
}

fn nearest_f64(decimal: &str) -> f64 {
    let double: f64 = decimal.parse().expect("plain decimal text is the syntax of f64");
    // Turns −0, the nearest to a tiny negative value, into 0.
    double + 0.0
}

/// Decimal digits without leading zeros (none for zero). The magnitude is used up.
fn decimal_digits(magnitude: &mut [u64]) -> String {
    let chunk = POW10[WORD_DIGITS];
    let mut chunks = Vec::new();
    while magnitude.iter().any(|&limb| limb != 0) {
        let mut rest = 0_u128;
        for limb in magnitude.iter_mut().rev() {
            rest = rest << 64 | u128::from(*limb);
            *limb = (rest / chunk) as u64;
            rest %= chunk;
        }
        chunks.push(rest);
    }
    let digits: String = chunks.iter().rev().map(|c| format!("{c:019}")).collect();
    digits.trim_start_matches('0').to_owned()
}
