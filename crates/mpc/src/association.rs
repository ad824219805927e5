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
        for term in terms.outwards(up).skip(usize::from(up)) {
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
        self.outwards(count > self.mode).nth(distance).unwrap_or(0.0)
    }

    /// From the mode up or down, as long as they are not 0.
    fn outwards(&self, up: bool) -> impl Iterator<Item = f64> + '_ {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::excessive_precision, clippy::unreadable_literal)]
    use super::*;
    use proptest::prelude::*;

    fn close(mine: f64, expected: f64) {
        assert!((mine / expected - 1.0).abs() <= 1e-12, "{mine:e} {expected:e}");
    }

    /// From exact integers and mpmath; scipy has the same but for its last digits.
    #[test]
    fn fishers_test_from_a_few_to_two_billion_samples() {
        for (table, expected) in [
            ([[3, 1], [1, 3]], 0.48571428571428571),
            ([[8, 2], [1, 5]], 0.034965034965034965),
            ([[12, 5], [7, 9]], 0.16632006577356483),
            ([[1, 9], [11, 3]], 0.0027594561852200835),
            ([[0, 10], [15, 3]], 2.1793614470960009e-5),
            ([[1000, 1200], [950, 1300]], 0.031921004615138396),
            ([[794, 965], [255, 664]], 1.0332347446463314e-18),
            ([[35, 99_999], [60, 99_000]], 0.010042184323660962),
            ([[653_384, 438_673], [5_329_431, 3_578_511]], 0.95711760144222472),
            ([[1_348_784, 98_349], [7_977_832, 575_034]], 0.0012385836864518217),
            ([[5, 1 << 30], [9, 1 << 30]], 0.42395019377619293),
            ([[536_900_912, 1 << 29], [1 << 29, 1 << 29]], 0.51741973962697937),
        ] {
            let [[a, b], [c, d]] = table;
            for same in [table, [[c, d], [a, b]], [[b, a], [d, c]], [[a, c], [b, d]]] {
                close(fisher_exact(same).unwrap(), expected);
            }
        }
        // Nothing else is possible with these totals.
        for table in [[[3, 0], [0, 0]], [[0, 4], [0, 9]], [[1, 1], [0, 0]]] {
            assert_eq!(fisher_exact(table), Ok(1.0));
        }
        assert_eq!(fisher_exact([[0, 0], [0, 0]]), Err(Why::NoValues));
    }

    #[test]
    fn what_is_far_out_takes_no_time() {
        let far = 1 << 31;
        assert_eq!(fisher_exact([[far, 0], [0, far]]), Ok(0.0));
        assert_eq!(fisher_exact([[far, far], [0, far]]), Ok(0.0));
        assert_eq!(
            fisher_exact([[75_143_227, 33_693_489], [95_812_201, 55_962_485]]),
            Ok(0.0)
        );
        assert_eq!(fisher_exact([[far, far], [far, far]]), Ok(1.0));
    }

    proptest! {
        #[test]
        fn fishers_test_is_that_of_whole_numbers(counts in proptest::array::uniform4(0..16_u64)) {
            let [a, b, c, d] = counts;
            let choose = |n: u64, k: u64| -> u128 { (0..u128::from(k)).fold(1, |product, i| product * (u128::from(n) - i) / (i + 1)) };
            let term = |first: u64| choose(a + b, first) * choose(c + d, a + c - first);
            let terms = (a + c).saturating_sub(c + d)..=(a + b).min(a + c);
            let extreme: u128 = terms.map(term).filter(|other| *other <= term(a)).sum();
            let all = choose(a + b + c + d, a + c);
            let p = fisher_exact([[a, b], [c, d]]);
            if counts == [0; 4] {
                prop_assert_eq!(p, Err(Why::NoValues));
            } else {
                let (p, expected) = (p.unwrap(), extreme as f64 / all as f64);
                prop_assert!((p / expected - 1.0).abs() < 1e-13, "{} {}", p, expected);
            }
        }

        #[test]
        fn nothing_is_infinite_and_nothing_is_no_number(counts in proptest::array::uniform4(prop_oneof![Just(0_u64), 1..5_u64, 0..=1_u64 << 31])) {
            let [a, b, c, d] = counts;
            let finite = |number: Result<f64, Why>| number.is_err() || number.unwrap().is_finite();
            for ratio in [odds_ratio([[a, b], [c, d]]), risk_ratio([[a, b], [c, d]])] {
                prop_assert!(finite(ratio.value));
                if let Ok([from, to]) = ratio.interval {
                    let value = ratio.value.unwrap();
                    prop_assert!(0.0 < from && from <= value && value <= to && to.is_finite(), "{:?}", ratio);
                }
            }
            if let Ok(test) = chi_square(&[vec![a, b], vec![c, d]]) {
                prop_assert!(test.statistic >= 0.0 && (0.0..=1.0).contains(&test.p));
            }
            let p = fisher_exact([[a, b], [c, d]]);
            prop_assert!(p.is_err() || (0.0..=1.0).contains(&p.unwrap()));
        }
    }

    #[test]
    fn chi_square_of_known_tables() {
        for (table, statistic, degrees, p) in [
            (
                vec![vec![10, 20, 30], vec![6, 9, 17]],
                0.27157465150403522,
                2,
                0.87302828338007293,
            ),
            (vec![vec![3, 1], vec![1, 3]], 2.0, 1, 0.15729920705028513),
            (
                vec![vec![1_000_000, 1_000_100], vec![999_900, 1_000_200]],
                0.0099995001249837526,
                1,
                0.92034630973759896,
            ),
            (
                vec![vec![5, 9, 1, 7], vec![2, 2, 8, 3], vec![4, 4, 4, 9], vec![1, 12, 3, 3]],
                24.028458931419458,
                9,
                0.0042565438704052938,
            ),
        ] {
            let test = chi_square(&table).unwrap();
            close(test.statistic, statistic);
            close(test.p, p);
            assert_eq!(test.degrees_of_freedom, degrees);
        }
        let independent = chi_square(&[vec![2, 4], vec![3, 6]]).unwrap();
        assert_eq!((independent.statistic, independent.p), (0.0, 1.0));
    }

    #[test]
    fn ratios_of_known_tables() {
        for (table, odds, risk) in [
            (
                [[8, 2], [1, 5]],
                [20.0, 1.4161851393939528, 282.44894602634891],
                [4.8, 0.7809705659985718, 29.501752054560958],
            ),
            (
                [[1000, 1200], [950, 1300]],
                [1.1403508771929825, 1.0129228671533703, 1.2838096219205073],
                [1.076555023923445, 1.0072213322974177, 1.1506614111232725],
            ),
            (
                [[1, 1 << 30], [7, 1 << 29]],
                [0.071428571428571429, 0.0087881859370308284, 0.58055676710571548],
                [0.071428572293370961, 0.0087881860884477012, 0.58055677116078448],
            ),
        ] {
            for (ratio, [value, from, to]) in [(odds_ratio(table), odds), (risk_ratio(table), risk)] {
                close(ratio.value.unwrap(), value);
                close(ratio.interval.unwrap()[0], from);
                close(ratio.interval.unwrap()[1], to);
            }
        }
    }

    #[test]
    fn what_is_not_defined_has_a_reason() {
        let of = |why| Ratio {
            value: Err(why),
            interval: Err(why),
        };
        let zero = Ratio {
            value: Ok(0.0),
            interval: Err(Why::NotPositive),
        };
        assert_eq!(odds_ratio([[3, 0], [2, 5]]), of(Why::NotPositive));
        assert_eq!(odds_ratio([[0, 3], [2, 5]]), zero);
        assert_eq!(odds_ratio([[0, 0], [0, 0]]), of(Why::NotPositive));
        assert_eq!(risk_ratio([[0, 0], [2, 5]]), of(Why::NoValues));
        assert_eq!(risk_ratio([[2, 5], [0, 0]]), of(Why::NoValues));
        assert_eq!(risk_ratio([[2, 5], [0, 3]]), of(Why::NotPositive));
        assert_eq!(risk_ratio([[0, 5], [1, 3]]), zero);
        // All of both: the interval has no width.
        assert_eq!(
            risk_ratio([[4, 0], [7, 0]]),
            Ratio {
                value: Ok(1.0),
                interval: Ok([1.0, 1.0])
            }
        );
        assert_eq!(chi_square(&[]), Err(Why::NoValues));
        assert_eq!(chi_square(&[vec![], vec![]]), Err(Why::NoValues));
        assert_eq!(chi_square(&[vec![3, 4]]), Err(Why::Constant));
        assert_eq!(chi_square(&[vec![3], vec![4]]), Err(Why::Constant));
        assert_eq!(chi_square(&[vec![3, 0], vec![4, 0]]), Err(Why::NoValues));
        assert_eq!(chi_square(&[vec![0, 0], vec![4, 1]]), Err(Why::NoValues));
    }
}
