"""The oracle itself, against scipy and numpy where they have the same function and the data are kind to them."""

from __future__ import annotations

import random
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import truth
from expected import Close, Null, check, real
from scipy import stats

DRAWN = random.Random(1)
X = [DRAWN.randint(1, 999) / 16 for _ in range(23)]
Y = [x / 2 + DRAWN.randint(-99, 99) / 8 for x in X]


def near(expected: object, theirs: float) -> None:
    assert isinstance(expected, Close), expected
    assert float(real(expected.value)) == pytest.approx(theirs, rel=1e-10)


def test_univariate() -> None:
    found = truth.univariate(X)
    for name, theirs in {
        "mean": np.mean(X),
        "harmonic_mean": stats.hmean(X),
        "geometric_mean": stats.gmean(X),
        "variance": np.var(X, ddof=1),
        "variance_mle": np.var(X),
        "standard_deviation": np.std(X, ddof=1),
        "standard_error_of_sample_mean": stats.sem(X),
        "coefficient_of_variation": stats.variation(X, ddof=1),
        "coefficient_of_variation_mle": stats.variation(X),
        "skewness": stats.skew(X),
        "kurtosis": stats.kurtosis(X, fisher=False),
        "kurtosis_excess": stats.kurtosis(X),
        "hyper_skewness": stats.moment(X, 5) / np.std(X) ** 5,
        "hyper_flatness": stats.moment(X, 6) / np.std(X) ** 6,
    }.items():
        near(found[name], float(theirs))


def test_bivariate_and_matrix() -> None:
    found = truth.bivariate([list(row) for row in zip(X, Y)])
    line = stats.linregress(X, Y)
    for name, theirs in {
        "covariance": np.cov(X, Y)[0, 1],
        "covariance_mle": np.cov(X, Y, ddof=0)[0, 1],
        "correlation_coefficient": line.rvalue,
        "regression_slope": line.slope,
        "regression_intercept": line.intercept,
        "regression_slope_only": np.dot(X, Y) / np.dot(X, X),
    }.items():
        near(found[name], float(theirs))
    matrix = truth.correlation_matrix([list(row) for row in zip(X, Y)], None, 2)
    near(matrix["p"][0][1], float(stats.pearsonr(X, Y).pvalue))


def test_distributions() -> None:
    for t, degrees in [(0.3, 3), (2.5, 17.25), (-4.0, 40)]:
        theirs = stats.t.sf(t, degrees)
        assert float(truth.student_upper(real(Fraction(t)), Fraction(t) ** 2, Fraction(degrees))) == pytest.approx(
            theirs
        )
    for degrees in [1, 2.5, 30, 1e4]:
        theirs = stats.t.ppf(0.975, degrees)
        assert float(truth.student_quantile(mpmath.mpf("0.05"), Fraction(degrees))) == pytest.approx(theirs, rel=1e-11)
    assert float(truth.fisher_upper(Fraction(5, 2), 3, 20)) == pytest.approx(stats.f.sf(2.5, 3, 20), rel=1e-12)
    assert float(truth.chi_square_upper(Fraction(7, 2), 4)) == pytest.approx(stats.chi2.sf(3.5, 4), rel=1e-12)


def test_a_wrong_digit_is_seen() -> None:
    check({"a": 1.0, "b": None, "reasons": {"b": "CONSTANT"}}, {"a": Close(Fraction(1)), "b": Null("CONSTANT")})
    for wrong in [{"a": 1 + 1e-11}, {"a": None}, {"a": 1.0, "reasons": {"a": "CONSTANT"}}, {"b": 1.0}, {"a": "1"}]:
        with pytest.raises(AssertionError):
            check(wrong, {"a": Close(Fraction(1))})
