"""Numbers that an earlier system got wrong, each as it was found."""

from __future__ import annotations

import random
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
import truth
from data import written
from expected import check
from simulator import Refused, Simulator

Json = Any


def around(offset: int, count: int = 60) -> list[Decimal]:
    """A standard deviation of 3."""
    drawn = random.Random(offset)
    return [Decimal(offset) + Decimal(round(drawn.gauss(0, 3), 6)) for _ in range(count)]


@pytest.mark.parametrize("offset", [10**6, 10**9, 10**12, -(10**9)])
def test_variance_and_covariance_with_an_offset(simulator: Simulator, offset: int) -> None:
    values = [value.quantize(Decimal("1e-6")) for value in around(offset)]
    found = simulator.run("StatisticsUnivariate", written([values[:20], values[20:]]), {"extremes": False}).result
    check(found, truth.univariate(list(values), False))
    drawn = random.Random(1)
    rows: list[Json] = [[value, value * 2 - offset + drawn.randint(-9, 9)] for value in values]
    check(simulator.run("StatisticsBivariate", written([rows[:7], rows[7:]])).result, truth.bivariate(rows))


def test_all_negative(simulator: Simulator) -> None:
    assert simulator.run("MinimumMaximum", [[-5, -3], [-7.5], []]).result == {"minimum": -7.5, "maximum": -3}
    found = simulator.run("StatisticsUnivariate", [[-5, -3], [-7.5]]).result
    assert (found["minimum"], found["maximum"]) == (-7.5, -3)
    assert (found["geometric_mean"], found["reasons"]["geometric_mean"]) == (None, "NOT_POSITIVE")


@pytest.mark.parametrize("hands", [[[0.1, 0.1], [0.1], []], [[5], []], [[], []], [[7], [7], [7]], [[0, 0], [0]]])
def test_constants_and_parties_without_rows(simulator: Simulator, hands: Json) -> None:
    pooled = [Decimal(str(value)) for hand in hands for value in hand]
    check(simulator.run("StatisticsUnivariate", hands).result, truth.univariate(list(pooled)))
    rows: list[Json] = [[value, value] for value in pooled]
    pairs = [[[value, value] for value in hand] for hand in hands]
    check(simulator.run("StatisticsBivariate", pairs).result, truth.bivariate(rows))


@pytest.mark.parametrize("odd", [0, -0.5])
def test_means_of_what_is_not_positive(simulator: Simulator, odd: float) -> None:
    found = simulator.run("StatisticsUnivariate", [[1, 2, 8], [odd, 4]], {"extremes": False}).result
    for name in ("harmonic_mean", "geometric_mean"):
        assert (found[name], found["reasons"][name]) == (None, "NOT_POSITIVE")


def test_sums_that_doubles_lose(simulator: Simulator) -> None:
    assert simulator.run("SecureSum", [[1e16, 1, -1e16], [1]]).result["sum"] == 2
    assert simulator.run("SecureSum", [[2**53 + 1], [2**53 + 1]]).result["sum"] == 2**54 + 2
    tiny = written([[Decimal("1e-13")] * 5] * 2)
    with pytest.raises(Refused, match="NUMBER_TOO_FINE") as refused:
        simulator.run("SecureSum", tiny)
    assert '"digits_after": 13' in refused.value.hint
    assert simulator.run("SecureSum", tiny, {"digits_after": 13}).result["sum"] == 1e-12


@pytest.mark.parametrize("exponent", [60, 300])
def test_huge_numbers(simulator: Simulator, exponent: int) -> None:
    values = [Decimal(10) ** exponent, Decimal(3) * 10**exponent, Decimal(7) * 10 ** (exponent - 1)]
    hands = written([values[:1], values[1:]])
    for name in ("StatisticsUnivariate", "SecureSum", "SecureMedian"):
        with pytest.raises(Refused, match="NUMBER_TOO_LARGE") as refused:
            simulator.run(name, hands)
        assert (refused.value.party, refused.value.at) == (0, "[0]")
        assert f'"digits_before": {exponent + 1}' in refused.value.hint
    found = simulator.run("StatisticsUnivariate", hands, {"digits_before": exponent + 1}).result
    check(found, truth.univariate(list(values)))


def test_medians_that_never_ended(simulator: Simulator) -> None:
    for hands, median in [
        ([["-1.15", "-2.35", "4.05"], ["0.25", "-0.55"]], -0.55),
        ([["1e-05", "3e-05"], ["2e-05"]], 2e-05),
    ]:
        given = [[Decimal(value) for value in hand] for hand in hands]
        assert simulator.run("SecureMedian", written(given)).result["median"] == median


def test_keys_that_shared_a_tag(simulator: Simulator) -> None:
    pairs: list[Json] = [["a_b", "c"]] * 3 + [["a", "b_c"]] * 2 + [["a", "c"]]
    rows, columns = ["a_b", "a"], ["c", "b_c"]
    declared = {"categories": {"rows": rows, "columns": columns}}
    found = simulator.run("StatisticsContingency", [pairs[:2], pairs[2:]], declared).result
    assert found["table"] == [[3, 0], [1, 2]]
    assert simulator.run("StatisticsContingency", [pairs[:2], pairs[2:]]).result["samples"] == 6


def test_one_and_its_text(simulator: Simulator) -> None:
    for parameters in ({"categories": [1, "1"]}, {}):
        found = simulator.run("StatisticsFrequency", [[1, "1", 1], ["1", 1]], parameters).result
        assert (found["categories"], found["counts"]) == ([1, "1"], [3, 2])
        assert found["histogram"] == {"1": 3, '"1"': 2}
        assert type(found["categories"][0]) is int


def test_ties_of_the_mode(simulator: Simulator) -> None:
    """The same everywhere: the simulator compares all parties' results."""
    for order in (["b", "a", "c"], ["c", "a", "b"]):
        found = simulator.run("StatisticsFrequency", [["a", "b"], ["b", "a"], ["c"]], {"categories": order}).result
        assert found["modes"] == [name for name in order if name != "c"]
        assert found["mode"] == found["modes"][0]


def test_many_degrees_of_freedom(simulator: Simulator) -> None:
    """Where logarithms of gamma functions cancel."""
    drawn = random.Random(3)
    values: list[Json] = [drawn.randint(-500, 510) for _ in range(120_000)]
    found = simulator.run("TTest", [values[:50_000], values[50_000:]], {"test": "one-sample", "mean": 3}).result
    expected = truth.t_test_of_one("one-sample", values, Fraction(3), "two-sided", Fraction(0.95))
    check(found, expected)
