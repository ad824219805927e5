"""Frequencies and contingency tables over real nodes: declared and found categories, what rules hide."""

from __future__ import annotations

from pathlib import Path

import fdrtd
import pytest
from harness import nodes, urls_of
from test_comparisons import result
from test_policy import network, refused

COLOURS = ["red", "green", 1, "1"]


def test_declared_and_found_categories(tmp_path: Path) -> None:
    inputs = [["red", 1, "1", None], ["green", "red", 1], [1, "red"]]
    with nodes(tmp_path, 3) as started:
        declared = result(started, "StatisticsFrequency", inputs, {"categories": COLOURS})
        assert (declared["samples"], declared["missing"]) == (8, 1)
        assert declared["counts"] == [3, 1, 3, 1]
        assert (declared["mode"], declared["modes"]) == ("red", ["red", 1])
        assert declared["histogram"] == {"red": 3, "green": 1, "1": 3, '"1"': 1}
        found = result(started, "StatisticsFrequency", inputs)
        assert found["categories"] == [1, "1", "green", "red"]
        assert found["counts"] == [3, 1, 1, 3]
        # An earlier system joined the names by underscores.
        rows = [[["a_b", "c"], ["a", "b_c"]], [["a", "b_c"], ["a", "c"]], [["a_b", "b_c"], [None, "c"]]]
        categories = {"rows": ["a", "a_b"], "columns": ["b_c", "c"]}
        table = result(started, "StatisticsContingency", rows, {"categories": categories})
        assert table["table"] == [[2, 1], [1, 1]]
        assert (table["row_totals"], table["column_totals"], table["mode"]) == ([3, 2], [3, 2], ["a", "b_c"])
        assert table["odds_ratio"]["value"] == pytest.approx(2)
        assert table["fisher_exact"]["p"] == pytest.approx(1)
        assert result(started, "StatisticsContingency", rows)["table"] == table["table"]


def test_standard_nodes_hide_small_cells_and_find_no_names(tmp_path: Path) -> None:
    with network(tmp_path, "standard", "standard", "standard") as started:
        simon = fdrtd.Api(fdrtd.HttpInterface(started[0].url)).select_microservice(protocol="Simon")
        where = {"nodes": urls_of(started), "myself": 0}
        body = refused(lambda: simon.create(microprotocol="StatisticsFrequency", network=where), "POLICY_NAMES")
        assert "declare" in str(body)
        inputs = [["red"] * 4 + ["green"] * 2 + [1], ["red"] * 5 + ["green"] * 2, ["red"] * 6]
        found = result(started, "StatisticsFrequency", inputs, {"categories": COLOURS})
        # Four greens and one 1 are too few; the empty one is shown.
        assert found["counts"] == [15, None, None, 0]
        assert (found["mode"], found["samples"]) == (None, None)
        assert found["reasons"]["samples"] == "FEW_IN_CELL"
        rows = [[["a", "x"]] * 5 + [["b", "y"]] * 3 + [["a", "y"]] * 4 + [["b", "x"]] for _ in range(3)]
        categories = {"rows": ["a", "b"], "columns": ["x", "y"]}
        table = result(started, "StatisticsContingency", rows, {"categories": categories})
        # One cell of three is small; nothing that goes through it is shown, nor what it could be computed from.
        assert table["table"] == [[None, None], [None, None]]
        assert table["reasons"]["chi_square.p"] == "FEW_IN_CELL"
