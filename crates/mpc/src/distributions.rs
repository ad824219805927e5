//! Tails and quantiles of distributions, for tests and intervals over opened values.
//!
//! Built on `statrs` without its `std`, so with `libm`: all parties compute the same bits. Relative errors of tails are below 10^−11 up to 10^4 degrees of freedom and below 10^−8 up to
//! 10^7 (logarithms of gamma functions cancel there).

use statrs::distribution::{ContinuousCDF, FisherSnedecor, Normal, StudentsT};
use statrs::function::gamma::checked_gamma_ur;

/// Beyond so many degrees of freedom Student's quantiles are computed from the normal ones.
const MANY: f64 = 1000.0;

/// P(T > t) of Student's t. `None` if there are no degrees of freedom.
#[must_use]
pub fn student_upper(t: f64, degrees: f64) -> Option<f64> {
    // It would panic at what is no number.
    let t = Some(t).filter(|t| !t.is_nan())?;
    Some(StudentsT::new(0.0, 1.0, usable(degrees)?).ok()?.sf(t))
}

/// P(|T| > |t|).
#[must_use]
pub fn student_both(t: f64, degrees: f64) -> Option<f64> {
    Some((2.0 * student_upper(t.abs(), degrees)?).min(1.0))
}

/// The number that T does not exceed with this probability, 1/2 < p < 1.
#[must_use]
pub fn student_quantile(probability: f64, degrees: f64) -> Option<f64> {
    let degrees = usable(degrees)?;
    if degrees <= MANY {
        return Some(StudentsT::new(0.0, 1.0, degrees).ok()?.inverse_cdf(probability));
    }
    // Abramowitz and Stegun, 26.7.5: an expansion in 1/degrees. What is left out is below 10^−14 here.
    let z = normal_quantile(probability)?;
    let powers = [
        z,
        z * (z * z + 1.0) / 4.0,
        z * ((5.0 * z * z + 16.0) * z * z + 3.0) / 96.0,
        z * (((3.0 * z * z + 19.0) * z * z + 17.0) * z * z - 15.0) / 384.0,
        z * ((((79.0 * z * z + 776.0) * z * z + 1482.0) * z * z - 1920.0) * z * z - 945.0) / 92_160.0,
    ];
    Some(powers.iter().rev().fold(0.0, |sum, term| sum / degrees + term))
}

/// Degrees of freedom: samples have one at least, and fewer than 2^31. Beyond that the crate would panic, or not end.
fn usable(degrees: f64) -> Option<f64> {
    (0.5..=2_147_483_648.0).contains(&degrees).then_some(degrees)
}

/// The number that a standard normal variable does not exceed with this probability.
#[must_use]
pub fn normal_quantile(probability: f64) -> Option<f64> {
    Some(Normal::new(0.0, 1.0).ok()?.inverse_cdf(probability))
}

/// P(F > f) of Fisher's F.
#[must_use]
pub fn fisher_upper(f: f64, above: f64, below: f64) -> Option<f64> {
    let distribution = FisherSnedecor::new(usable(above)?, usable(below)?).ok()?;
    if f.is_nan() {
        return None;
    }
    // The crate multiplies them.
    let reach = f * above;
    Some(if reach.is_infinite() {
        f64::from(f < 0.0)
    } else {
        distribution.sf(f)
    })
}

/// The probability that a chi-square variable with so many degrees of freedom is greater than `statistic`. NaN for what is no statistic.
#[must_use]
pub fn chi_square_tail(statistic: f64, degrees: f64) -> f64 {
    if usable(degrees).is_none() || statistic.is_nan() || statistic < 0.0 {
        return f64::NAN;
    }
    if statistic == 0.0 {
        return 1.0;
    }
    checked_gamma_ur(degrees / 2.0, statistic / 2.0).map_or(f64::NAN, |tail| tail.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::excessive_precision, clippy::unreadable_literal)]
    use super::*;

    fn close(mine: Option<f64>, expected: f64, relative: f64) {
        let mine = mine.unwrap();
        assert!((mine / expected - 1.0).abs() <= relative, "{mine:e} {expected:e}");
    }

    /// From mpmath with 40 digits.
    #[test]
    fn tails() {
        for (t, degrees, expected, relative) in [
            (2.5, 1.0, 0.121118941590843399, 1e-12),
            (0.1, 3.7, 0.462762633735095124, 1e-12),
            (-1.2, 12.0, 0.873352634873202808, 1e-12),
            (5.0, 30.0, 0.0000116483427335038976, 1e-12),
            (2.0, 1e4, 0.0227636303307177214, 1e-11),
            (3.0, 1e6, 0.00134993127071089853, 1e-9),
            (40.0, 20.0, 7.28734827715538194e-21, 1e-12),
        ] {
            close(student_upper(t, degrees), expected, relative);
            close(
                student_both(t, degrees),
                2.0 * f64::min(expected, 1.0 - expected),
                relative,
            );
        }
        for (f, above, below, expected, relative) in [
            (1.0, 1.0, 1.0, 0.5, 1e-12),
            (3.0, 2.0, 30.0, 0.0649054715188744701, 1e-12),
            (10.0, 3.0, 1000.0, 1.69661444843742717e-6, 1e-12),
            (1.1, 5.0, 1e6, 0.357946634717614447, 1e-8),
        ] {
            close(fisher_upper(f, above, below), expected, relative);
        }
        assert_eq!(student_upper(1.0, 0.0), None);
        assert_eq!(student_upper(f64::NAN, 3.0), None);
        assert_eq!(student_both(f64::INFINITY, 3.0), Some(0.0));
        assert_eq!(fisher_upper(f64::INFINITY, 2.0, 3.0), Some(0.0));
        assert_eq!(fisher_upper(f64::NAN, 2.0, 3.0), None);
        // Whatever comes out of quotients, nothing panics.
        for number in [
            0.0,
            -0.0,
            5e-324,
            1e-300,
            1e-20,
            1e20,
            1e300,
            f64::MAX,
            f64::INFINITY,
            f64::NAN,
            -1.0,
            -1e300,
        ] {
            for degrees in [number, 1.0, 3.5, 1e9] {
                let _ = (
                    student_both(number, degrees),
                    student_upper(-number, degrees),
                    student_quantile(0.975, degrees),
                );
                let _ = (fisher_upper(number, degrees, 2.0), fisher_upper(number, 2.0, degrees));
                let _ = (chi_square_tail(number, degrees), chi_square_tail(degrees, number));
            }
        }
    }

    #[test]
    fn chi_square_tails() {
        for (statistic, degrees, expected, relative) in [
            (3.841458820694124, 1.0, 0.050000000000000057, 1e-12),
            (0.5, 3.0, 0.91889141165467586, 1e-12),
            (570.886766031715, 30.0, 3.1055896309746616e-101, 1e-12),
            (1e-08, 2.0, 0.99999999500000001, 1e-12),
            (25.0, 10.0, 0.0053455054871340643, 1e-12),
            (1400.0, 1300.0, 0.02705152523584871, 1e-11),
            (5000.0, 4761.0, 0.0078409946569193131, 1e-11),
        ] {
            close(Some(chi_square_tail(statistic, degrees)), expected, relative);
        }
        assert_eq!(chi_square_tail(0.0, 1.0), 1.0);
        assert_eq!(chi_square_tail(1e12, 1.0), 0.0);
        assert!(chi_square_tail(1.0, 0.0).is_nan() && chi_square_tail(f64::NAN, 1.0).is_nan());
    }

    #[test]
    fn quantiles_on_both_sides_of_the_expansion() {
        for (probability, degrees, expected) in [
            (0.975, 1.0, 12.7062047361746933),
            (0.975, 2.3, 3.80716320823213069),
            (0.975, 30.0, 2.04227245630123789),
            (0.975, 999.5, 1.96234027038384544),
            (0.975, 1000.5, 1.9623378924593481),
            (0.995, 1001.0, 2.58074976875052468),
            (0.9999, 1001.0, 3.73283773739686643),
            (0.6, 2000.0, 0.253380806820665332),
            (0.975, 1e6, 1.95996635681410666),
        ] {
            close(student_quantile(probability, degrees), expected, 2e-12);
        }
        close(normal_quantile(0.975), 1.95996398454005386, 1e-14);
    }
}
