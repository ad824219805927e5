"""The statistics of pooled data, with 60 digits: what results are compared with.

Everything is exact (fractions) until a root, a logarithm or a distribution is needed.
"""

from __future__ import annotations

import json
import math
import re
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
        if count < 3:
            return few
        if not xx or not yy:
            return Null("CONSTANT")
        if row == column:
            return Close(Fraction(0))
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


def all_of(entry: Json, names: list[str]) -> dict[str, Json]:
    return dict.fromkeys(names, entry)


class Sample:
    """One sample of numbers, or why there is none."""

    def __init__(self, values: list[Fraction]) -> None:
        self.values = values
        self.count = len(values)

    @property
    def squares(self) -> Fraction:
        return products(self.values, self.values) if self.values else Fraction(0)

    @property
    def squared_error(self) -> Fraction:
        return self.squares / (self.count - 1) / self.count

    def mean(self) -> Json:
        return Close(mean(self.values)) if self.count else Null("NO_VALUES")

    def spread(self, value: Callable[[], mpf]) -> Json:
        """What needs two values."""
        if not self.count:
            return Null("NO_VALUES")
        return Close(value()) if self.count > 1 else Null("TOO_FEW_VALUES")

    def deviation(self) -> Json:
        return self.spread(lambda: root(self.squares / (self.count - 1)))

    def error(self) -> Json:
        return self.spread(lambda: root(self.squared_error))


def around(middle: Fraction, square: Fraction, degrees: Any, confidence: Fraction, alternative: str) -> Json:
    """Where the true difference is, with this confidence."""
    outside = (1 - confidence) if alternative == "two-sided" else 2 * (1 - confidence)
    reach = student_quantile(real(outside), degrees) * root(square)
    allowed = (abs(real(middle)) + abs(reach)) * mpf("1e-12")
    ends: list[Json] = [Close(real(middle) - reach, 0, allowed), Close(real(middle) + reach, 0, allowed)]
    if alternative == "less":
        ends[0] = Exactly(None)
    if alternative == "greater":
        ends[1] = Exactly(None)
    return ends


def conclusion(
    difference: Fraction, square: Fraction, degrees: Any, tested: Fraction, alternative: str, confidence: Fraction
) -> dict[str, Json]:
    """Of a difference, its squared error and its degrees of freedom."""
    found: dict[str, Json] = {"statistic": Null("CONSTANT"), "degrees_of_freedom": Close(degrees)}
    if not square:
        return found | {"p": Null("CONSTANT"), "confidence_interval": [Null("CONSTANT")] * 2}
    away = difference - tested
    t_square = away * away / square
    t = root(t_square) if away >= 0 else -root(t_square)
    tails = {
        "two-sided": lambda: student_both(t_square, degrees),
        "greater": lambda: student_upper(t, t_square, degrees),
        "less": lambda: student_upper(-t, t_square, degrees),
    }
    return {
        "statistic": Close(t),
        "degrees_of_freedom": Close(degrees),
        "p": probability(tails[alternative](), degrees),
        "confidence_interval": around(difference, square, degrees, confidence, alternative),
    }


UNDECIDED = ["statistic", "degrees_of_freedom", "p"]


def no_conclusion(why: str) -> dict[str, Json]:
    return all_of(Null(why), UNDECIDED) | {"confidence_interval": [Null(why)] * 2}


def t_test_of_one(
    test: str, cells: list[Json], tested: Fraction, alternative: str, confidence: Fraction
) -> dict[str, Json]:
    """TTest of a sample, or of differences."""
    sample = Sample([Fraction(cell) for cell in cells if cell is not None])
    found: dict[str, Json] = {
        "test": Exactly(test),
        "samples": Exactly(sample.count),
        "missing": Exactly(len(cells) - sample.count),
        "mean": sample.mean(),
        "standard_deviation": sample.deviation(),
        "standard_error": sample.error(),
    }
    if sample.count < 2:
        return found | no_conclusion("TOO_FEW_VALUES" if sample.count else "NO_VALUES")
    middle = mean(sample.values)
    degrees = sample.count - 1
    return found | conclusion(middle, sample.squared_error, degrees, tested, alternative, confidence)


def grouped(rows: list[Row], groups: list[Json]) -> tuple[list[Sample], int]:
    """The numbers of each group; how many rows lack something."""
    whole = [row for row in rows if None not in row]
    # True is 1 to Python, and 1 is not "1".
    samples = [Sample([Fraction(number) for name, number in whole if same(name, group)]) for group in groups]
    return samples, len(rows) - len(whole)


def same(one: Json, other: Json) -> bool:
    return type(one) is type(other) and bool(one == other)


def t_test_of_two(
    test: str, rows: list[Row], groups: list[Json], tested: Fraction, alternative: str, confidence: Fraction
) -> dict[str, Json]:
    """TTest of two groups."""
    samples, missing = grouped(rows, groups)
    first, second = samples
    found: dict[str, Json] = {
        "test": Exactly(test),
        "groups": Exactly(groups),
        "samples": [Exactly(sample.count) for sample in samples],
        "missing": Exactly(missing),
        "means": [sample.mean() for sample in samples],
        "standard_deviations": [sample.deviation() for sample in samples],
    }

    def undecided(why: str, difference: Json) -> dict[str, Json]:
        return found | {"difference": difference, "standard_error": Null(why)} | no_conclusion(why)

    if not first.count or not second.count:
        return undecided("NO_VALUES", Null("NO_VALUES"))
    away = mean(first.values) - mean(second.values)
    if test == "two-sample":
        degrees: Any = first.count + second.count - 2
        if not degrees:
            return undecided("TOO_FEW_VALUES", Close(away))
        pooled = (first.squares + second.squares) / degrees
        square = pooled * (Fraction(1, first.count) + Fraction(1, second.count))
    else:
        if first.count < 2 or second.count < 2:
            return undecided("TOO_FEW_VALUES", Close(away))
        one, other = first.squared_error, second.squared_error
        square = one + other
        if not square:
            return undecided("CONSTANT", Close(away))
        degrees = square**2 / (one**2 / (first.count - 1) + other**2 / (second.count - 1))
    found |= {"difference": Close(away), "standard_error": Close(root(square))}
    return found | conclusion(away, square, degrees, tested, alternative, confidence)


def anova(rows: list[Row], groups: list[Json]) -> dict[str, Json]:
    """AnovaOneWay."""
    samples, missing = grouped(rows, groups)
    found: dict[str, Json] = {
        "groups": Exactly(groups),
        "samples": [Exactly(sample.count) for sample in samples],
        "missing": Exactly(missing),
        "means": [sample.mean() for sample in samples],
        "standard_deviations": [sample.deviation() for sample in samples],
    }
    names = [
        "sum_of_squares_between",
        "sum_of_squares_within",
        "degrees_of_freedom_between",
        "degrees_of_freedom_within",
        "statistic",
        "p",
        "eta_squared",
    ]
    if not all(sample.count for sample in samples):
        return found | all_of(Null("NO_VALUES"), names)
    pooled = [value for sample in samples for value in sample.values]
    within = sum((sample.squares for sample in samples), Fraction(0))
    total = products(pooled, pooled)
    above, below = len(groups) - 1, len(pooled) - len(groups)
    found |= {
        "sum_of_squares_between": Close(total - within),
        "sum_of_squares_within": Close(within),
        "degrees_of_freedom_between": Exactly(above),
        "degrees_of_freedom_within": Exactly(below),
    }
    if below and within:
        f = (total - within) / above / (within / below)
        found |= {"statistic": Close(f), "p": probability(fisher_upper(f, above, below), below)}
    else:
        found |= all_of(Null("CONSTANT" if below else "TOO_FEW_VALUES"), ["statistic", "p"])
    return found | {"eta_squared": Close((total - within) / total) if total else Null("CONSTANT")}


def described(values: list[Fraction], missing: int, confidence: Fraction) -> dict[str, Json]:
    """A cell of Table1."""
    sample = Sample(values)
    interval: Json
    if sample.count < 2:
        interval = [Null("TOO_FEW_VALUES" if sample.count else "NO_VALUES")] * 2
    else:
        degrees = sample.count - 1
        interval = around(mean(values), sample.squared_error, degrees, confidence, "two-sided")
    return {
        "n": Exactly(sample.count),
        "missing": Exactly(missing),
        "mean": sample.mean(),
        "standard_deviation": sample.deviation(),
        "standard_error": sample.error(),
        "confidence_interval": interval,
    }


def table_1(
    names: list[str], rows: list[Row], arm: str | None, categories: list[Json], confidence: Fraction
) -> dict[str, Json]:
    """Table1: rows with a number in each column but `arm`, which has the group."""
    place = names.index(arm) if arm else None

    def cell(column: int, chosen: list[Row]) -> dict[str, Json]:
        values = [Fraction(row[column]) for row in chosen if row[column] is not None]
        return described(values, len(chosen) - len(values), confidence)

    columns: dict[str, Json] = {}
    for name in sorted(names, key=str.encode):
        column = names.index(name)
        if place is None:
            columns[name] = {"all": cell(column, rows)}
        elif column != place:
            members = [[row for row in rows if same(row[place], category)] for category in categories]
            of_all = cell(column, [row for group in members for row in group])
            columns[name] = {"all": of_all, "groups": [cell(column, group) for group in members]}
    found: dict[str, Json] = {"columns": columns}
    if place is not None:
        found |= {
            "groups": Exactly(categories),
            "without_group": Exactly(sum(row[place] is None for row in rows)),
        }
    return found


def key(category: Json) -> str:
    """The name of a category in an object."""
    if isinstance(category, int):
        return str(category)
    number = re.fullmatch(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?", category)
    return json.dumps(category, ensure_ascii=False) if number or category.startswith('"') else str(category)


def modes(cells: list[Json], counts: list[int]) -> dict[str, Json]:
    greatest = max(counts, default=0)
    if not greatest:
        return {"mode": Null("NO_VALUES"), "modes": Null("NO_VALUES")}
    most = [cell for cell, count in zip(cells, counts) if count == greatest]
    return {"mode": Exactly(most[0]), "modes": Exactly(most)}


def frequency(values: list[Json], categories: list[Json]) -> dict[str, Json]:
    """StatisticsFrequency."""
    present = [value for value in values if value is not None]
    counts = [sum(same(value, category) for value in present) for category in categories]
    return {
        "samples": Exactly(len(present)),
        "missing": Exactly(len(values) - len(present)),
        **modes(categories, counts),
        "categories": Exactly(categories),
        "counts": list(map(Exactly, counts)),
        "other": Exactly(len(present) - sum(counts)),
        "histogram": {key(category): Exactly(count) for category, count in zip(categories, counts)},
    }


def contingency(pairs: list[Row], rows: list[Json], columns: list[Json], other: bool) -> dict[str, Json]:
    """StatisticsContingency."""
    whole = [pair for pair in pairs if None not in pair]
    table = [[sum(same(a, row) and same(b, column) for a, b in whole) for column in columns] for row in rows]
    sides, tops = [sum(row) for row in table], [sum(column) for column in zip(*table)]
    count = sum(sides)
    found: dict[str, Json] = {
        "samples": Exactly(len(whole)),
        "missing": Exactly(len(pairs) - len(whole)),
    }
    if other:
        found["other"] = Exactly(len(whole) - count)
    found |= modes([[row, column] for row in rows for column in columns], [cell for row in table for cell in row])
    found |= {
        "rows": Exactly(rows),
        "columns": Exactly(columns),
        "table": [list(map(Exactly, row)) for row in table],
        "row_totals": list(map(Exactly, sides)),
        "column_totals": list(map(Exactly, tops)),
    }
    names = ["statistic", "degrees_of_freedom", "p"]
    if not rows or not columns:
        found["chi_square"] = all_of(Null("NO_VALUES"), names)
    elif len(rows) < 2 or len(columns) < 2:
        found["chi_square"] = all_of(Null("CONSTANT"), names)
    elif not all(sides) or not all(tops):
        found["chi_square"] = all_of(Null("NO_VALUES"), names)
    else:
        square = Fraction(0)
        for row, side in zip(table, sides):
            for cell, top in zip(row, tops):
                expected = Fraction(side * top, count)
                square += (cell - expected) ** 2 / expected
        degrees = (len(rows) - 1) * (len(columns) - 1)
        p = probability(chi_square_upper(square, degrees), degrees)
        found["chi_square"] = {"statistic": Close(square), "degrees_of_freedom": Exactly(degrees), "p": p}
    if len(rows) == len(columns) == 2:
        found |= of_four(table)
    return found


def of_four(table: list[list[int]]) -> dict[str, Json]:
    """Ratios with their intervals, and Fisher's exact test, of a table of two rows and columns."""
    (a, b), (c, d) = table

    def interval(value: Fraction, variance: Fraction) -> Json:
        half = mpmath.sqrt(2) * mpmath.erfinv(mpf("0.95")) * root(variance)
        return [Close(mpmath.exp(mpmath.log(real(value)) + sign * half)) for sign in (-1, 1)]

    odds: dict[str, Json] = all_of(Null("NOT_POSITIVE"), ["value", "confidence_interval"])
    if b and c:
        odds["value"] = Close(Fraction(a * d, b * c))
        if a and d:
            parts = sum((Fraction(1, cell) for cell in (a, b, c, d)), Fraction(0))
            odds["confidence_interval"] = interval(Fraction(a * d, b * c), parts)
    risk: dict[str, Json] = all_of(Null("NOT_POSITIVE"), ["value", "confidence_interval"])
    if not a + b or not c + d:
        risk = all_of(Null("NO_VALUES"), ["value", "confidence_interval"])
    elif c:
        value = Fraction(a, a + b) / Fraction(c, c + d)
        risk["value"] = Close(value)
        if a:
            parts = Fraction(1, a) - Fraction(1, a + b) + Fraction(1, c) - Fraction(1, c + d)
            risk["confidence_interval"] = interval(value, parts)
    exact: Json = Null("NO_VALUES")
    if a + b + c + d:
        weights = [
            math.comb(a + b, first) * math.comb(c + d, a + c - first)
            for first in range(max(0, a - d), min(a + b, a + c) + 1)
        ]
        here = math.comb(a + b, a) * math.comb(c + d, c)
        # Those that are as improbable count, also if rounding makes them seem a little less so.
        extreme = sum(weight for weight in weights if weight <= here * (1 + Fraction(1, 10**7)))
        exact = Close(Fraction(extreme, sum(weights)), P)
    return {"odds_ratio": odds, "risk_ratio": risk, "fisher_exact": {"p": exact}}
