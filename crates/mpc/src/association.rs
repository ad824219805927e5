//! Association of two categorical variables, computed from a table of counts that has opened.
//!
//! Pearson's chi-square test without continuity correction; for tables of two rows and two columns the odds ratio with Woolf's interval (1955), the risk ratio with Katz' interval (1978), both of 95 % on the
//! logarithmic scale, and Fisher's exact test, two-sided as in R and scipy: the tables with the same totals that are at most as probable as this one.
//!
//! What is not defined is said with its reason; nothing is infinite, and nothing is not a number. All parties compute the same bytes: IEEE operations and `libm`.

use crate::distributions::chi_square_tail;
use crate::threshold::Why;

/// The normal distribution's quantile of 97.5 %.
const Z: f64 = 1.959_963_984_540_054;
/// Probabilities that differ by no more than this, relatively, are taken for equal, as R and scipy do.
const EQUAL: f64 = 1e-7;
/// A term that is this small beside a sum cannot change it, nor can all that follow it: they fall at least geometrically.
const NEGLIGIBLE: f64 = 1e-20;
/// Terms below this are taken for 0: near the least double they would not fall any more.
const LEAST: f64 = 1e-300;

/// Pearson's test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChiSquare {
    /// Its value.
    pub statistic: f64,
    /// (rows − 1) · (columns − 1).
    pub degrees_of_freedom: u64,
    /// Probability of a greater value if there is no association.
    pub p: f64,
}

/// A ratio and its interval, each of which may be undefined.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// The ratio.
    pub value: Result<f64, Why>,
    /// From, to.
    pub interval: Result<[f64; 2], Why>,
}

/// Pearson's test of a table given by its rows. All of them have one length, and the sum of all counts is below 2^32.
///
/// # Errors
/// [`Why::Constant`] if there is only one row or column, [`Why::NoValues`] if a row or a column counts nothing.
pub fn chi_square(table: &[Vec<u64>]) -> Result<ChiSquare, Why> {
    let columns = table.first().map_or(0, Vec::len);
    if table.is_empty() || columns == 0 {
        return Err(Why::NoValues);
    }
    if table.len() < 2 || columns < 2 {
        return Err(Why::Constant);
    }
    let rows: Vec<u64> = table.iter().map(|row| row.iter().sum()).collect();
    let sides: Vec<u64> = (0..columns)
        .map(|column| table.iter().map(|row| row[column]).sum())
        .collect();
    if rows.iter().chain(&sides).any(|total| *total == 0) {
        return Err(Why::NoValues);
    }
    let all: u64 = rows.iter().sum();
    let mut statistic = 0.0;
    for (row, total) in table.iter().zip(&rows) {
        for (count, side) in row.iter().zip(&sides) {
            // Observed minus expected, times all: exact. No terms cancel afterwards.
            let expected = i128::from(*total) * i128::from(*side);
            let difference = (i128::from(*count) * i128::from(all) - expected) as f64;
            statistic += difference / expected as f64 * (difference / all as f64);
        }
    }
    let degrees_of_freedom = (table.len() as u64 - 1) * (columns as u64 - 1);
    Ok(ChiSquare {
        statistic,
        degrees_of_freedom,
        p: chi_square_tail(statistic, degrees_of_freedom as f64),
    })
}

/// (a / b) / (c / d) of a table [[a, b], [c, d]].
#[must_use]
pub fn odds_ratio([[a, b], [c, d]]: [[u64; 2]; 2]) -> Ratio {
    let value = quotient(a, d, b, c);
    let variance = 1.0 / a as f64 + 1.0 / b as f64 + 1.0 / c as f64 + 1.0 / d as f64;
    let interval = if [a, b, c, d].contains(&0) {
        Err(Why::NotPositive)
    } else {
        value.map(|value| around(value, variance))
    };
    Ratio { value, interval }
}

/// (a / (a + b)) / (c / (c + d)): the first column counts those to whom it happened, the second row those who are compared with.
#[must_use]
pub fn risk_ratio([[a, b], [c, d]]: [[u64; 2]; 2]) -> Ratio {
    let (first, second) = (a + b, c + d);
    if first == 0 || second == 0 {
        let value = Err(Why::NoValues);
        return Ratio {
            value,
            interval: Err(Why::NoValues),
        };
    }
    let value = quotient(a, second, c, first);
    // 1/a − 1/(a + b), without cancellation.
    let part = |of: u64, without: u64, all: u64| without as f64 / (of as f64 * all as f64);
    let interval = if a == 0 || c == 0 {
        Err(Why::NotPositive)
    } else {
        value.map(|value| around(value, part(a, b, first) + part(c, d, second)))
    };
    Ratio { value, interval }
}

/// a · b / (c · d).
fn quotient(a: u64, b: u64, c: u64, d: u64) -> Result<f64, Why> {
    let below = u128::from(c) * u128::from(d);
    if below == 0 {
        return Err(Why::NotPositive);
    }
    Ok((u128::from(a) * u128::from(b)) as f64 / below as f64)
}

fn around(value: f64, variance: f64) -> [f64; 2] {
    let (middle, half) = (libm::log(value), Z * libm::sqrt(variance));
    [libm::exp(middle - half), libm::exp(middle + half)]
}

/// The two-sided p of Fisher's exact test.
///
/// With all totals fixed the first count has a hypergeometric distribution. Its terms are taken relative to that of the mode, by the ratios of neighbours, so nothing overflows; a p below 10^-300 is given as 0. The distribution is
/// log-concave: terms fall faster and faster on both sides, and a sum ends where they cannot matter. With 2^31 samples that is after some 10^5 terms of the possible 10^9.
///
/// # Errors
/// [`Why::NoValues`] for a table that counts nothing.
pub fn fisher_exact([[a, b], [c, d]]: [[u64; 2]; 2]) -> Result<f64, Why> {
    if a + b + c + d == 0 {
        return Err(Why::NoValues);
    }
    let terms = Terms::new(a + b, a + c, a + b + c + d);
    let here = terms.at(a);
    if here == 0.0 {
        // Less than that beside the mode.
        return Ok(0.0);
    }
    let (mut all, mut as_extreme) = (0.0, 0.0);
    for up in [false, true] {
        // The term of the mode belongs to one of both sides.
        for term in terms.from_mode(up).skip(usize::from(up)) {
            all += term;
            let counts = term <= here * (1.0 + EQUAL);
            if counts {
                as_extreme += term;
            }
            if counts && term < as_extreme * NEGLIGIBLE && term < all * NEGLIGIBLE {
                break;
            }
        }
    }
    Ok((as_extreme / all).min(1.0))
}

/// The terms of a hypergeometric distribution relative to its greatest one.
struct Terms {
    row: u64,
    column: u64,
    rest: u64,
    least: u64,
    most: u64,
    mode: u64,
}

impl Terms {
    /// Of the first count of a table with these totals of its first row, its first column, and all.
    fn new(row: u64, column: u64, all: u64) -> Terms {
        let (least, most) = ((row + column).saturating_sub(all), row.min(column));
        let mode = u128::from(row + 1) * u128::from(column + 1) / u128::from(all + 2);
        Terms {
            row,
            column,
            rest: all - row,
            least,
            most,
            mode: u64::try_from(mode).unwrap_or(most).clamp(least, most),
        }
    }

    /// Of one count. Takes no more steps than there are terms that are not 0.
    fn at(&self, count: u64) -> f64 {
        let distance = usize::try_from(count.abs_diff(self.mode)).unwrap_or(usize::MAX);
        self.from_mode(count > self.mode).nth(distance).unwrap_or(0.0)
    }

    /// From the mode up or down, as long as they are not 0.
    fn from_mode(&self, up: bool) -> impl Iterator<Item = f64> + '_ {
        let mut next = Some((self.mode, 1.0));
        std::iter::from_fn(move || {
            let (count, term) = next?;
            next = if up {
                (count < self.most).then(|| (count + 1, term * self.ratio(count)))
            } else {
                (count > self.least).then(|| (count - 1, term / self.ratio(count - 1)))
            };
            next = next.filter(|(_, term)| *term >= LEAST);
            Some(term)
        })
    }

    /// Of the term after `count` to the one at it: both products are exact before they are rounded.
    fn ratio(&self, count: u64) -> f64 {
        let above = u128::from(self.row - count) * u128::from(self.column - count);
        let below = u128::from(count + 1) * u128::from(self.rest + count + 1 - self.column);
        above as f64 / below as f64
    }
}
