"""The statistics of pooled data, with 60 digits: what results are compared with.

Everything is exact (fractions) until a root, a logarithm or a distribution is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath
from expected import Close, Exactly, Nearest, Null, real
from mpmath import mpf

Json = Any
Row = list[Any]

#: Of probabilities. With many degrees of freedom the logarithms of gamma functions cancel.
P = 1e-11
P_MANY = 1e-9
MANY = 10**5


def probability(value: mpf, degrees: Any) -> Close:
    """A p-value. Below the doubles it is 0."""
    return Close(value, P if degrees <= MANY else P_MANY, mpf(10) ** -300)


def mean(values: list[Fraction]) -> Fraction:
    return sum(values, Fraction(0)) / len(values)


def products(one: list[Fraction], other: list[Fraction]) -> Fraction:
    """Of deviations from the means."""
    middle, other_middle = mean(one), mean(other)
    return sum(((x - middle) * (y - other_middle) for x, y in zip(one, other)), Fraction(0))


def root(value: Fraction) -> mpf:
    return mpmath.sqrt(real(value))


def univariate(cells: list[Json], extremes: bool = True) -> dict[str, Json]:
    """StatisticsUnivariate of one column."""
    values = [Fraction(cell) for cell in cells if cell is not None]
    count = len(values)
    all_of: dict[str, Json] = {"samples": Exactly(count), "missing": Exactly(len(cells) - count)}
    names = [
        "mean",
        "harmonic_mean",
        "geometric_mean",
        "variance",
        "variance_mle",
        "variance_of_sample_mean",
        "standard_deviation",
        "standard_deviation_mle",
        "standard_error_of_sample_mean",
        "coefficient_of_variation",
        "coefficient_of_variation_mle",
        "root_mean_square",
        "root_mean_square_deviation",
        "skewness",
        "kurtosis",
        "kurtosis_excess",
        "hyper_skewness",
        "hyper_flatness",
    ]
    if not extremes:
        all_of |= {"minimum": Null("EXTREMES_HIDDEN"), "maximum": Null("EXTREMES_HIDDEN")}
    elif count:
        all_of |= {"minimum": Nearest(min(values)), "maximum": Nearest(max(values))}
    else:
        all_of |= {"minimum": Null("NO_VALUES"), "maximum": Null("NO_VALUES")}
    all_of["sum"] = Nearest(sum(values, Fraction(0)))
    if not count:
        return all_of | dict.fromkeys(names, Null("NO_VALUES"))
    middle, square = mean(values), products(values, values)
    found: dict[str, Json] = {"mean": Close(middle)}
    if all(value > 0 for value in values):
        found["harmonic_mean"] = Close(count / sum((1 / value for value in values), Fraction(0)))
        found["geometric_mean"] = Close(mpmath.exp(mpmath.fsum(mpmath.log(real(value)) for value in values) / count))
    else:
        found |= {"harmonic_mean": Null("NOT_POSITIVE"), "geometric_mean": Null("NOT_POSITIVE")}
    for name, divisor in [("", count - 1), ("_mle", count)]:
        if not divisor:
            few = Null("TOO_FEW_VALUES")
            found |= {"variance": few, "standard_deviation": few, "coefficient_of_variation": few}
            found |= {"variance_of_sample_mean": few, "standard_error_of_sample_mean": few}
            continue
        found[f"variance{name}"] = Close(square / divisor)
        found[f"standard_deviation{name}"] = Close(root(square / divisor))
        variation = Close(root(square / divisor) / real(middle)) if middle else Null("ZERO_MEAN")
        found[f"coefficient_of_variation{name}"] = variation
        if not name:
            found["variance_of_sample_mean"] = Close(square / divisor / count)
            found["standard_error_of_sample_mean"] = Close(root(square / divisor / count))
    found["root_mean_square"] = Close(root(sum((value * value for value in values), Fraction(0)) / count))
    found["root_mean_square_deviation"] = found["standard_deviation_mle"]
    shapes = {"skewness": 3, "kurtosis": 4, "kurtosis_excess": 4, "hyper_skewness": 5, "hyper_flatness": 6}
    deviation = root(square / count)
    for name, power in shapes.items():
        if not square:
            found[name] = Null("CONSTANT")
            continue
        standardized = [real(value - middle) / deviation for value in values]
        moment = mpmath.fsum(z**power for z in standardized) / count
        # Near 0 the terms cancel: what can be asked for is measured by their sizes.
        size = mpmath.fsum(abs(z) ** power for z in standardized) / count
        found[name] = Close(moment - (3 if name == "kurtosis_excess" else 0), 0, size * mpf("1e-12"))
    return all_of | {name: found[name] for name in names}


def complete(rows: list[Row], width: int) -> list[list[Fraction]]:
    """Columns of the rows in which nothing is missing."""
    whole = [[Fraction(cell) for cell in row] for row in rows if None not in row]
    return [[row[column] for row in whole] for column in range(width)]


def correlation(x: list[Fraction], y: list[Fraction]) -> Json:
    if len(x) < 2:
        return Null("TOO_FEW_VALUES")
    square = products(x, x) * products(y, y)
    return Close(real(products(x, y)) / root(square)) if square else Null("CONSTANT")


def bivariate(rows: list[Row]) -> dict[str, Json]:
    """StatisticsBivariate of rows of two."""
    x, y = complete(rows, 2)
    count = len(x)
    head: dict[str, Json] = {"samples": Exactly(count), "missing": Exactly(len(rows) - count)}
    names = [
        "mean_x",
        "mean_y",
        "variance_x",
        "variance_y",
        "covariance",
        "covariance_mle",
        "correlation_coefficient",
        "regression_slope",
        "regression_intercept",
        "regression_interceipt",
        "regression_slope_only",
    ]
    if not count:
        return head | dict.fromkeys(names, Null("NO_VALUES"))
    xx, yy, xy = products(x, x), products(y, y), products(x, y)
    few = count < 2
    over = (lambda value: Null("TOO_FEW_VALUES")) if few else (lambda value: Close(value / (count - 1)))
    slope = Null("TOO_FEW_VALUES") if few else Close(xy / xx) if xx else Null("CONSTANT")
    intercept: Json = slope
    if isinstance(slope, Close):
        intercept = Close(mean(y) - xy / xx * mean(x))
    squares = sum((one * one for one in x), Fraction(0))
    along = sum((one * other for one, other in zip(x, y)), Fraction(0))
    return head | {
        "mean_x": Close(mean(x)),
        "mean_y": Close(mean(y)),
        "variance_x": over(xx),
        "variance_y": over(yy),
        "covariance": over(xy),
        "covariance_mle": Close(xy / count),
        "correlation_coefficient": correlation(x, y),
        "regression_slope": slope,
        "regression_intercept": intercept,
        "regression_interceipt": intercept,
        "regression_slope_only": Close(along / squares) if squares else Null("CONSTANT"),
    }


def student_both(square: Fraction, degrees: Any) -> mpf:
    """P(|T| > t), from t²."""
    degrees = real(degrees)
    return mpmath.betainc(degrees / 2, mpf(1) / 2, 0, degrees / (degrees + real(square)), regularized=True)


def student_upper(t: mpf, square: Any, degrees: Any) -> mpf:
    """P(T > t), where t² is `square`."""
    half = student_both(square, degrees) / 2
    return half if t >= 0 else 1 - half


def student_quantile(probability_both: mpf, degrees: Any) -> mpf:
    """The t for which P(|T| > t) is this."""
    degrees = real(degrees)
    guess = mpmath.sqrt(2) * mpmath.erfinv(1 - probability_both)
    # Small steps from the normal quantile outwards until it is enclosed; then halves.
    low, high = guess / 2, guess * 2 + 1
    while student_both(high * high, degrees) > probability_both:
        high *= 2
    return mpmath.findroot(lambda t: student_both(t * t, degrees) - probability_both, (low, high), solver="anderson")


def fisher_upper(f: Any, above: int, below: int) -> mpf:
    """P(F > f)."""
    x = mpf(below) / (below + above * real(f))
    return mpmath.betainc(mpf(below) / 2, mpf(above) / 2, 0, x, regularized=True)


def chi_square_upper(value: Any, degrees: int) -> mpf:
    """P(X² > value)."""
    return mpmath.gammainc(mpf(degrees) / 2, real(value) / 2, mpmath.inf, regularized=True)


def correlation_matrix(rows: list[Row], names: list[str] | None, width: int) -> dict[str, Json]:
    """CorrelationMatrix; columns with names come in their order."""
    columns = complete(rows, width)
    order = sorted(range(width), key=lambda place: names[place].encode()) if names else list(range(width))
    columns = [columns[place] for place in order]
    count = len(columns[0])
    head: dict[str, Json] = {"samples": Exactly(count), "missing": Exactly(len(rows) - count)}
    if names:
        head["columns"] = Exactly([names[place] for place in order])

    def square(entry: Callable[[int, int], Json]) -> Json:
        return [[entry(row, column) for column in range(width)] for row in range(width)]

    if not count:
        none = Null("NO_VALUES")
        listed: Json = [none] * width
        grid = square(lambda row, column: none)
        return head | {
            "means": listed,
            "standard_deviations": listed,
            "covariance": grid,
            "correlation": grid,
            "p": grid,
        }
    few: Json = Null("TOO_FEW_VALUES")

    def covariance(row: int, column: int) -> Json:
        return few if count < 2 else Close(products(columns[row], columns[column]) / (count - 1))

    def tested(row: int, column: int) -> Json:
        x, y = columns[row], columns[column]
        xx, yy, xy = products(x, x), products(y, y), products(x, y)
        if count < 2:
            return few
        if not xx or not yy:
            return Null("CONSTANT")
        if row == column:
            return Close(Fraction(0))
        if count == 2:
            return few
        rest = xx * yy - xy * xy
        if not rest:
            return Close(Fraction(0))
        return probability(student_both((count - 2) * xy * xy / rest, count - 2), count - 2)

    deviations = [few if count < 2 else Close(root(products(x, x) / (count - 1))) for x in columns]
    return head | {
        "means": [Close(mean(x)) for x in columns],
        "standard_deviations": deviations,
        "covariance": square(covariance),
        "correlation": square(lambda row, column: correlation(columns[row], columns[column])),
        "p": square(tested),
    }
