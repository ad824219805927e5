"""Every statistic of the pooled data, for 2 to 8 parties: offsets, constants, single rows, empty hands, nulls."""

from __future__ import annotations

import random
from decimal import Decimal
from fractions import Fraction
from typing import Any

import truth
from data import dealt, examples, kinds, numbers, sizes, with_holes, written
from expected import check
from hypothesis import given
from hypothesis import strategies as st
from simulator import Simulator

Json = Any


@st.composite
def tables(draw: st.DrawFn, width: int) -> tuple[list[list[Json]], dict[str, int]]:
    """Rows of numbers of one kind, with missing ones."""
    kind = draw(kinds())
    size = draw(sizes())
    columns = [draw(with_holes(draw(numbers(kind, size)))) for _ in range(width)]
    return [list(row) for row in zip(*columns)], kind.parameters


@examples(150)
@given(st.data())
def test_univariate(simulator: Simulator, draw: st.DataObject) -> None:
    kind = draw.draw(kinds())
    cells = draw.draw(with_holes(draw.draw(numbers(kind, draw.draw(sizes())))))
    hands = draw.draw(dealt(cells))
    extremes = draw.draw(st.booleans()) and len(hands) < 5
    answer = simulator.run("StatisticsUnivariate", written(hands), {"extremes": extremes, **kind.parameters})
    check(answer.result, truth.univariate(cells, extremes))


@examples(20)
@given(st.data())
def test_univariate_by_column(simulator: Simulator, draw: st.DataObject) -> None:
    rows, parameters = draw.draw(tables(2))
    hands = draw.draw(dealt(rows))
    inputs = [{"columns": ["x", "a_b"], "rows": hand} for hand in hands]
    result = simulator.run("StatisticsUnivariate", written(inputs), {"extremes": False, **parameters}).result
    assert list(result) == ["a_b", "x"]
    for place, name in enumerate(["x", "a_b"]):
        check(result[name], truth.univariate([row[place] for row in rows], False))


@examples(120)
@given(st.data())
def test_bivariate(simulator: Simulator, draw: st.DataObject) -> None:
    rows, parameters = draw.draw(tables(2))
    hands = draw.draw(dealt(rows))
    check(simulator.run("StatisticsBivariate", written(hands), parameters).result, truth.bivariate(rows))


@examples(50)
@given(st.data())
def test_correlations(simulator: Simulator, draw: st.DataObject) -> None:
    width = draw.draw(st.integers(2, 4))
    rows, parameters = draw.draw(tables(width))
    names = draw.draw(st.permutations(["a", "b", "a_b", "Z"]))[:width]
    hands = draw.draw(dealt(rows))
    inputs = [{"columns": names, "rows": hand} for hand in hands]
    answer = simulator.run("CorrelationMatrix", written(inputs), parameters)
    check(answer.result, truth.correlation_matrix(rows, names, width))


ALTERNATIVES = st.sampled_from(["two-sided", "less", "greater"])
CONFIDENCES = st.sampled_from(["0.95", "0.9", "0.999", "0.5"])


@examples(60)
@given(st.data(), ALTERNATIVES, CONFIDENCES)
def test_t_of_one(simulator: Simulator, draw: st.DataObject, alternative: str, confidence: str) -> None:
    paired = draw.draw(st.booleans())
    rows, parameters = draw.draw(tables(2))
    own_mean = draw.draw(st.booleans()) and not paired
    cells: list[Json] = [row[0] for row in rows]
    data: list[Json] = cells
    if paired:
        data = rows
        cells = [None if None in row else Fraction(row[0]) - Fraction(row[1]) for row in rows]
    hands = draw.draw(dealt(data))
    test = "paired" if paired else "one-sample"
    chosen = {"test": test, "alternative": alternative, "confidence": written(Decimal(confidence))}
    # One of the numbers, so that it is near them.
    mean: Decimal = next((row[0] for row in rows if row[0] is not None and own_mean), Decimal(0))
    answer = simulator.run("TTest", written(hands), {**chosen, "mean": written(mean), **parameters})
    check(answer.result, truth.t_test_of_one(test, cells, Fraction(mean), alternative, Fraction(float(confidence))))


@st.composite
def groups(draw: st.DrawFn, names: list[Json]) -> tuple[list[list[Json]], dict[str, int]]:
    """Rows of a group and a number; some lack one of both."""
    kind = draw(kinds())
    values = draw(with_holes(draw(numbers(kind, draw(sizes(0, 14))))))
    of = draw(st.lists(st.sampled_from([*names, *names, None]), min_size=len(values), max_size=len(values)))
    return [list(row) for row in zip(of, values)], kind.parameters


@examples(60)
@given(st.data(), ALTERNATIVES, CONFIDENCES, st.sampled_from(["two-sample", "welch"]))
def test_t_of_two(simulator: Simulator, draw: st.DataObject, alternative: str, confidence: str, test: str) -> None:
    names: list[Json] = ["1", 1]
    rows, parameters = draw.draw(groups(names))
    hands = draw.draw(dealt(rows))
    chosen = {"test": test, "groups": names, "alternative": alternative, "confidence": written(Decimal(confidence))}
    answer = simulator.run("TTest", written(hands), {**chosen, **parameters})
    confident = Fraction(float(confidence))
    check(answer.result, truth.t_test_of_two(test, rows, names, Fraction(0), alternative, confident))


@examples(60)
@given(st.data())
def test_anova(simulator: Simulator, draw: st.DataObject) -> None:
    names: list[Json] = ["c", "a_b", 7, "7"][: draw.draw(st.integers(2, 4))]
    rows, parameters = draw.draw(groups(names))
    hands = draw.draw(dealt(rows))
    answer = simulator.run("AnovaOneWay", written(hands), {"groups": names, **parameters})
    check(answer.result, truth.anova(rows, names))


@examples(50)
@given(st.data())
def test_table_1(simulator: Simulator, draw: st.DataObject) -> None:
    by_arm = draw.draw(st.booleans())
    categories: list[Json] = ["b", 1]
    rows, parameters = draw.draw(tables(2))
    names = ["x", "a"]
    chosen: dict[str, Json] = {}
    if by_arm:
        names.append("arm")
        chosen = {"group": {"column": "arm", "categories": categories}}
        arms = draw.draw(st.lists(st.sampled_from([*categories, None]), min_size=len(rows), max_size=len(rows)))
        rows = [[*row, arm] for row, arm in zip(rows, arms)]
    hands = draw.draw(dealt(rows))
    inputs = [{"columns": names, "rows": hand} for hand in hands]
    result = simulator.run("Table1", written(inputs), {**chosen, **parameters}).result
    check(result, truth.table_1(names, rows, "arm" if by_arm else None, categories, Fraction(0.95)))


NAMES: list[Json] = ["a", "b", "a_b", "1", 1, '"1"', "1e3", -7, ""]


@examples(60)
@given(st.data())
def test_frequencies(simulator: Simulator, draw: st.DataObject) -> None:
    categories = draw.draw(st.permutations(NAMES[:-1]))[: draw.draw(st.integers(1, 5))]
    values = draw.draw(st.lists(st.sampled_from([*NAMES[:-1], None]), max_size=20))
    hands = draw.draw(dealt(values))
    answer = simulator.run("StatisticsFrequency", hands, {"categories": categories, "other": True})
    check(answer.result, truth.frequency(values, categories))
    # Found, if they are not declared: numbers first, then texts by their bytes.
    present = {(isinstance(value, str), value) for value in values if value is not None}
    found = [
        value for _, value in sorted(present, key=lambda one: (one[0], str(one[1]).encode() if one[0] else one[1]))
    ]
    check(simulator.run("StatisticsFrequency", hands).result, truth.frequency(values, found))


@examples(60)
@given(st.data())
def test_contingency(simulator: Simulator, draw: st.DataObject) -> None:
    rows: list[Json] = ["a_b", "a", 1][: draw.draw(st.sampled_from([1, 2, 2, 2, 3]))]
    columns: list[Json] = ["c", "b_c", "1"][: draw.draw(st.sampled_from([1, 2, 2, 2, 3]))]
    other = draw.draw(st.booleans())
    cells = [st.sampled_from([*names, *names, None] + (["x"] if other else [])) for names in (rows, columns)]
    pairs = [list(pair) for pair in draw.draw(st.lists(st.tuples(*cells), max_size=40))]
    hands = draw.draw(dealt(pairs))
    parameters: Json = {"categories": {"rows": rows, "columns": columns}}
    if other:
        parameters["other"] = True
    answer = simulator.run("StatisticsContingency", hands, parameters)
    check(answer.result, truth.contingency(pairs, rows, columns, other))


def test_many_rows(simulator: Simulator) -> None:
    """More degrees of freedom, and probabilities that are neither near 0 nor near 1."""
    drawn = random.Random(2)
    for count in (30, 300, 3000):
        rows: list[list[Json]] = [[Decimal(drawn.randint(0, 9999)).scaleb(-2) for _ in range(2)] for _ in range(count)]
        hands: list[Json] = [rows[: count // 3], [], rows[count // 3 :]]
        check(simulator.run("StatisticsBivariate", written(hands)).result, truth.bivariate(rows))
        # Without names an empty list does not say how many columns it has.
        found = simulator.run("CorrelationMatrix", written([rows[:9], rows[9:]])).result
        check(found, truth.correlation_matrix(rows, None, 2))
        cells = [row[0] for row in rows]
        lists: list[Json] = [cells[:7], cells[7:]]
        found = simulator.run("StatisticsUnivariate", written(lists), {"extremes": False}).result
        check(found, truth.univariate(cells, False))
        labelled: list[list[Json]] = [["ab"[drawn.randint(0, 1)], cell] for cell in cells]
        hands = [labelled[:5], labelled[5:]]
        for test in ("two-sample", "welch"):
            found = simulator.run("TTest", written(hands), {"test": test, "groups": ["a", "b"]}).result
            expected = truth.t_test_of_two(test, labelled, ["a", "b"], Fraction(0), "two-sided", Fraction(0.95))
            check(found, expected)
        found = simulator.run("AnovaOneWay", written(hands), {"groups": ["b", "a"]}).result
        check(found, truth.anova(labelled, ["b", "a"]))
        pairs: list[list[Json]] = [[group, int(cell) % 2] for group, cell in labelled]
        parameters = {"categories": {"rows": ["a", "b"], "columns": [0, 1]}}
        found = simulator.run("StatisticsContingency", [pairs[:9], pairs[9:]], parameters).result
        check(found, truth.contingency(pairs, ["a", "b"], [0, 1], False))
