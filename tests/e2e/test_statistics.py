"""Statistics over real nodes: right numbers, what rules hide, refusals with their position."""

from __future__ import annotations

import math
import random
import statistics
from pathlib import Path
from typing import Any

import pytest
from harness import make_task, nodes
from test_comparisons import result
from test_policy import network, refused

GROUPS = {"groups": ["control", "treated"]}


def close(value: float) -> Any:
    return pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("parties", [2, 3, 5])
def test_against_plaintext(tmp_path: Path, parties: int) -> None:
    source = random.Random(parties)
    offset = 1_000_000_000

    def column(count: int) -> list[float | None]:
        return [source.choice([None, offset + source.randint(-900, 900) / 8]) for _ in range(count)]

    inputs = [column(source.randint(0, 20)) for _ in range(parties - 1)] + [[offset + 0.5, offset - 3.25, None]]
    pooled = [value for values in inputs for value in values if value is not None]
    with nodes(tmp_path, parties) as started:
        found = result(started, "StatisticsUnivariate", inputs)
        assert (found["samples"], found["missing"]) == (len(pooled), sum(len(i) for i in inputs) - len(pooled))
        assert (found["minimum"], found["maximum"]) == (min(pooled), max(pooled))
        assert found["mean"] == close(statistics.fmean(pooled))
        assert found["variance"] == close(statistics.variance(pooled))
        assert found["harmonic_mean"] == close(statistics.harmonic_mean(pooled))
        assert found["geometric_mean"] == close(math.exp(statistics.fmean(map(math.log, pooled))))
        rows = [[[value, value and 2 * value + index] for index, value in enumerate(values)] for values in inputs]
        pairs = [row for each in rows for row in each if row[0] is not None]
        both = result(started, "StatisticsBivariate", rows)
        assert both["covariance"] == pytest.approx(statistics.covariance(*zip(*pairs)), rel=1e-9)
        named = [{"columns": ["y", "x"], "rows": [[y, x] for x, y in each]} for each in rows]
        matrix = result(started, "CorrelationMatrix", named)
        assert matrix["columns"] == ["x", "y"]
        assert matrix["covariance"][0][1] == both["covariance"]
        assert matrix["correlation"][0][1] == both["correlation_coefficient"]
        grouped = [
            [[source.choice(["control", "treated"]), value] for value in values] + [["control", offset], ["treated", 2]]
            for values in inputs
        ]
        welch = result(started, "TTest", grouped, GROUPS | {"test": "welch"})
        student = result(started, "TTest", grouped, GROUPS | {"test": "two-sample"})
        anova = result(started, "AnovaOneWay", grouped, GROUPS)
        assert welch["means"] == anova["means"] == student["means"]
        assert anova["statistic"] == close(student["statistic"] ** 2)
        tables = [{"columns": ["arm", "x"], "rows": each} for each in grouped]
        group = {"column": "arm", "categories": ["control", "treated"]}
        table = result(started, "Table1", tables, {"group": group})["columns"]["x"]
        assert [each["mean"] for each in table["groups"]] == welch["means"]
        assert table["all"]["n"] == sum(welch["samples"])


def test_standard_nodes_hide_extremes_small_groups_and_few_missing_values(tmp_path: Path) -> None:
    with network(tmp_path, "standard", "standard", "standard") as started:
        numbers = [[*range(party, party + 8), None] for party in range(3)]
        found = result(started, "StatisticsUnivariate", numbers)
        assert found["samples"] == 24
        hidden = {"missing": "FEW_IN_CELL", "minimum": "EXTREMES_HIDDEN", "maximum": "EXTREMES_HIDDEN"}
        assert {name: found["reasons"][name] for name in hidden} == hidden
        # Every party has enough rows, and the first group has; the second one is of nine.
        rows = [[["control", value] for value in range(6)] + [["treated", value] for value in range(3)]] * 3
        test = result(started, "TTest", rows, GROUPS | {"test": "welch"})
        assert test["samples"] == [18, None]
        assert test["means"][0] == 2.5
        assert {test["reasons"][name] for name in ("p", "statistic", "difference", "means[1]")} == {"FEW_SAMPLES"}


@pytest.mark.parametrize(
    ("microprotocol", "parameters", "data", "code", "at"),
    [
        ("StatisticsUnivariate", None, [1, "two"], "NUMBER_EXPECTED", "[1]"),
        ("StatisticsUnivariate", None, [1e60], "NUMBER_TOO_LARGE", "[0]"),
        ("StatisticsBivariate", None, [[1, 2], [3]], "ROWS_RAGGED", "[1]"),
        ("StatisticsBivariate", None, {"x": [1, 2], "y": [3]}, "COLUMNS_UNEVEN", "y"),
        ("TTest", GROUPS | {"test": "welch"}, [["control", 1], ["Treated", 2]], "CATEGORY_UNKNOWN", "[1][0]"),
        ("AnovaOneWay", GROUPS, [["control", 1], [True, 2]], "CATEGORY_EXPECTED", "[1][0]"),
        ("Table1", None, {"columns": ["x"], "rows": [[1], ["secret"]]}, "NUMBER_EXPECTED", "rows[1][0]"),
    ],
)
def test_malformed_rows_are_refused_with_their_position(
    tmp_path: Path, microprotocol: str, parameters: dict[str, Any] | None, data: Any, code: str, at: str
) -> None:
    with nodes(tmp_path, 2) as started:
        tasks = make_task(started, microprotocol=microprotocol, parameters=parameters)
        body = refused(lambda: tasks[0].input(data=data), "INPUT_REFUSED")
        assert code in str(body)
        assert at in str(body)
        for private in ("secret", "Treated"):
            assert private not in str(body)
