//! Probabilities of test statistics.
//!
//! Every party computes the same bytes from what has opened: IEEE operations, `libm` and `statrs`, which uses it too.

use statrs::function::gamma::checked_gamma_ur;

/// The probability that a chi-square variable with so many degrees of freedom is greater than `statistic`. NaN for what is no statistic.
#[must_use]
pub fn chi_square_tail(statistic: f64, degrees: f64) -> f64 {
    if statistic == 0.0 && degrees > 0.0 {
        return 1.0;
    }
    checked_gamma_ur(degrees / 2.0, statistic / 2.0).map_or(f64::NAN, |tail| tail.clamp(0.0, 1.0))
}
