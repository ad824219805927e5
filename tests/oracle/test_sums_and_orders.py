"""Sums, extremes, ranks, quantiles, histograms and benchmarks are those of the pooled data: exactly."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
from data import KINDS, Kind, dealt, exact, examples, kinds, numbers, sizes, written
from expected import Exactly, Nearest, Null, check
from hypothesis import given
from hypothesis import strategies as st
from simulator import Simulator

Json = Any

#: Few digits make searches short.
SHORT = [
    Kind("small whole numbers", -9, 9, 0, digits=(("digits_before", 1), ("digits_after", 0))),
    Kind("hundredths", -999, 999, 2, digits=(("digits_before", 1), ("digits_after", 2))),
]


@examples(150)
@given(st.data())
def test_sums(simulator: Simulator, draw: st.DataObject) -> None:
    kind = draw.draw(kinds())
    values = draw.draw(numbers(kind, draw.draw(sizes())))
    hands = draw.draw(dealt(values))
    answer = simulator.run("SecureSum", written(hands), kind.parameters)
    check(answer.result, {"samples": Exactly(len(values)), "sum": Nearest(sum(exact(values), Fraction(0)))})


@examples(40)
@given(st.data())
def test_sums_of_vectors(simulator: Simulator, draw: st.DataObject) -> None:
    kind = draw.draw(kinds())
    length = draw.draw(st.integers(1, 4))
    rows = [draw.draw(numbers(kind, length)) for _ in range(draw.draw(sizes(2)))]
    hands = [[rows[0]], [rows[1]], rows[2:] or [rows[0]]]
    inputs = [{"vectors": hand} for hand in hands]
    answer = simulator.run("SecureSum", written(inputs), kind.parameters)
    pooled = [row for hand in hands for row in hand]
    columns = [exact(list(column)) for column in zip(*pooled)]
    check(
        answer.result,
        {"samples": Exactly(len(pooled)), "sum": [Nearest(sum(column, Fraction(0))) for column in columns]},
    )


@examples(40)
@given(st.data())
def test_sums_of_columns(simulator: Simulator, draw: st.DataObject) -> None:
    kind = draw.draw(kinds())
    columns = {name: draw.draw(numbers(kind, draw.draw(sizes()))) for name in ("age", "a_b")}
    parties = draw.draw(st.integers(2, 6))
    hands = {name: draw.draw(dealt(values, parties, parties)) for name, values in columns.items()}
    inputs = [{"columns": {name: hands[name][party] for name in columns}} for party in range(parties)]
    answer = simulator.run("SecureSum", written(inputs), kind.parameters)
    assert list(answer.result) == sorted(columns)
    for name, values in columns.items():
        total = Nearest(sum(exact(values), Fraction(0)))
        check(answer.result[name], {"samples": Exactly(len(values)), "sum": total})


@examples(60)
@given(st.data())
def test_extremes(simulator: Simulator, draw: st.DataObject) -> None:
    kind = draw.draw(kinds())
    values = draw.draw(numbers(kind, draw.draw(sizes())))
    hands = draw.draw(dealt(values, most=5))
    answer = simulator.run("MinimumMaximum", written(hands), kind.parameters)
    both: list[Json] = [Null("NO_VALUES")] * 2
    if values:
        both = [Nearest(min(exact(values))), Nearest(max(exact(values)))]
    check(answer.result, {"minimum": both[0], "maximum": both[1]})


@examples(15)
@given(st.data())
def test_ranks_and_medians(simulator: Simulator, draw: st.DataObject) -> None:
    kind = draw.draw(kinds(SHORT))
    values = draw.draw(numbers(kind, draw.draw(sizes())))
    # Circuits for many parties take long: few ranks are asked of them.
    hands = draw.draw(dealt(values, most=4) | dealt(values, 8, 8))
    ordered = sorted(exact(values))
    rank = draw.draw(st.integers(1, 13))
    answer = simulator.run("KthElement", written(hands), {"rank": rank, **kind.parameters})
    value = Nearest(ordered[rank - 1]) if rank <= len(ordered) else Null("NO_VALUES")
    check(answer.result, {"samples": Exactly(len(values)), "rank": Exactly(rank), "value": value})
    answer = simulator.run("SecureMedian", written(hands), kind.parameters)
    low, high = ordered[(len(ordered) - 1) // 2 :][:1], ordered[len(ordered) // 2 :][:1]
    median = Nearest((low[0] + high[0]) / 2) if ordered else Null("NO_VALUES")
    check(answer.result, {"samples": Exactly(len(values)), "median": median})


def test_a_median_of_any_size(simulator: Simulator) -> None:
    """With the digits that all kinds of numbers need, which takes longer."""
    for kind in KINDS:
        values = [kind.number(unit) for unit in (kind.least, kind.most, kind.most - 1)]
        answer = simulator.run("SecureMedian", written([values[:1], [], values[1:]]), kind.parameters)
        check(answer.result, {"samples": Exactly(3), "median": Nearest(sorted(exact(values))[1])})


@examples(40)
@given(st.data())
def test_quantiles(simulator: Simulator, draw: st.DataObject) -> None:
    kind = draw.draw(kinds(SHORT))
    values = draw.draw(numbers(kind, draw.draw(sizes(1))))
    hands = draw.draw(dealt(values, most=4))
    thousandths = draw.draw(st.lists(st.integers(0, 1000), min_size=1, max_size=3))
    probabilities = [Decimal(p).scaleb(-3).normalize() for p in thousandths]
    ordered = sorted(exact(values))
    for number in (1, 7):
        parameters = {"probabilities": written(probabilities), "type": number, **kind.parameters}
        result = simulator.run("Quantiles", written(hands), parameters).result
        expected = []
        for p in map(Fraction, probabilities):
            # Hyndman and Fan 1996. Numpy rounds on the way, so it is only near.
            if number == 1:
                exactly = ordered[max(-int(-p * len(ordered) // 1), 1) - 1]
            else:
                place = p * (len(ordered) - 1)
                below = int(place)
                exactly = ordered[below] + (place - below) * (
                    ordered[min(below + 1, len(ordered) - 1)] - ordered[below]
                )
            expected.append(Nearest(exactly))
            if number == 7:
                theirs = float(np.quantile([float(value) for value in ordered], float(p)))
                assert abs(float(exactly) - theirs) <= 1e-12 * max(1.0, abs(theirs))
        samples = Exactly(len(values))
        shown = [Exactly(json.loads(str(float(p)) if p % 1 else str(int(p)))) for p in probabilities]
        check(result, {"samples": samples, "probabilities": shown, "quantiles": expected})


@examples(60)
@given(st.data())
def test_histograms(simulator: Simulator, draw: st.DataObject) -> None:
    kind = draw.draw(kinds())
    values = draw.draw(numbers(kind, draw.draw(sizes(0, 20))))
    hands = draw.draw(dealt(values))
    edges = sorted(
        {kind.number(draw.draw(st.integers(kind.least, kind.most))) for _ in range(draw.draw(st.integers(2, 5)))}
    )
    if len(edges) < 2:
        edges = [kind.number(kind.least), kind.number(kind.most)]
    answer = simulator.run("Histogram", written(hands), {"edges": written(edges), **kind.parameters})
    counts = [sum(low <= value < high for value in values) for low, high in zip(edges, edges[1:])]
    counts[-1] += sum(value == edges[-1] for value in values)
    expected = {
        "samples": Exactly(len(values)),
        "edges": [Nearest(Fraction(edge)) for edge in edges],
        "counts": list(map(Exactly, counts)),
        "below": Exactly(sum(value < edges[0] for value in values)),
        "above": Exactly(sum(value > edges[-1] for value in values)),
    }
    check(answer.result, expected)


@examples(12)
@given(st.data())
def test_benchmarks(simulator: Simulator, draw: st.DataObject) -> None:
    kind = SHORT[0]
    values = draw.draw(numbers(kind, draw.draw(st.integers(2, 6))))
    answer = simulator.run("Benchmark", written(values), kind.parameters)
    for value, told in zip(values, answer.own):
        smaller, equal = sum(other < value for other in values), sum(other == value for other in values)
        rank = 100 * (smaller + equal / 2) / len(values)
        assert told is not None
        assert json.loads(told) == {"percentile_rank": rank, "smaller": smaller, "equal": equal}
    quartiles = [Fraction(float(q)) for q in np.quantile([float(value) for value in values], [0.25, 0.5, 0.75])]
    check(answer.result, {"samples": Exactly(len(values)), "quartiles": list(map(Nearest, quartiles))})
