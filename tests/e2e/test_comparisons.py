"""What compares inside the computation: extremes, ranks, medians, quantiles, histograms, benchmarks, thresholds."""

from __future__ import annotations

import json
import random
import statistics
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fdrtd
import pytest
from harness import BINARY, DURATIONS, Node, cause_of, has_input, make_task, nodes, until, urls_of
from test_policy import network, refused

Results = list[dict[str, Any]]


def run(
    started: list[Node], microprotocol: str, inputs: list[Any], parameters: dict[str, Any] | None = None
) -> tuple[list[Any], Results]:
    """The tasks' handles, and what each party's `result` says."""
    tasks = make_task(started, microprotocol=microprotocol, parameters=parameters)
    for task, data in zip(tasks, inputs, strict=True):
        task.input(data=data)
    return tasks, [task.result(timeout=60) for task in tasks]


def result(
    started: list[Node], microprotocol: str, inputs: list[Any], parameters: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The result, which is the same everywhere."""
    _, results = run(started, microprotocol, inputs, parameters)
    texts = {json.dumps(each["result"]) for each in results}
    assert len(texts) == 1, texts
    assert {each["inputs"] for each in results} == {len(started)}
    found: dict[str, Any] = results[0]["result"]
    return found


@pytest.mark.parametrize("parties", [2, 3, 5])
def test_against_plaintext(tmp_path: Path, parties: int) -> None:
    source = random.Random(parties)
    inputs = [[source.randint(-500, 500) / 10 for _ in range(source.randint(0, 9))] for _ in range(parties)]
    inputs[-1] = [-3.5, 0, 41.0, 41.0]
    pooled = sorted(value for values in inputs for value in values)
    with nodes(tmp_path, parties) as started:
        assert result(started, "MinimumMaximum", inputs) == {"minimum": pooled[0], "maximum": pooled[-1]}
        median = result(started, "SecureMedian", inputs)
        assert median["samples"] == len(pooled)
        assert median["median"] == pytest.approx(statistics.median(pooled), rel=1e-15)
        for rank in (1, len(pooled) // 2, len(pooled)):
            found = result(started, "KthElement", inputs, {"rank": rank})
            assert found == {"samples": len(pooled), "rank": rank, "value": pooled[rank - 1]}
        cuts = result(started, "Quantiles", inputs, {"probabilities": [0.25, 0.5, 0.75]})["quantiles"]
        assert cuts == pytest.approx(statistics.quantiles(pooled, n=4, method="inclusive"), rel=1e-15)
        edges = [-50, 0, 25, 50]
        counts = result(started, "Histogram", inputs, {"edges": edges})["counts"]
        within = [(low, high, high == edges[-1]) for low, high in zip(edges, edges[1:])]
        assert counts == [sum(low <= v < high or (last and v == high) for v in pooled) for low, high, last in within]


def test_numbers_that_an_earlier_system_got_wrong(shared: list[Node]) -> None:
    def median(*inputs: Any) -> Any:
        return result(shared, "SecureMedian", list(inputs))["median"]

    assert median([-1.15, -2.35, 4.05], [0.25, -0.55], []) == -0.55
    assert median([1e-05], [3e-05], [2e-05]) == 2e-05
    assert median([0.12345678901], [12.345678901], [1.2345678901234567]) == 1.234567890123
    assert median([-4], [-4], [-4]) == -4
    assert result(shared, "BasicMinMax", [[-5, -3], [-7.5], -4]) == {"minimum": -7.5, "maximum": -3}
    rows = [{"minimum": 2, "maximum": 9}, [{"minimum": -1, "maximum": 3}], [{"minimum": 4, "maximum": 12}]]
    assert result(shared, "BasicMinMax", rows) == {"minimum": -1, "maximum": 12}
    nothing = result(shared, "MinimumMaximum", [[], [], []])
    assert (nothing["minimum"], nothing["reasons"]["maximum"]) == (None, "NO_VALUES")
    empty = result(shared, "SecureMedian", [[], [], []])
    assert empty == {"samples": 0, "median": None, "reasons": {"median": "NO_VALUES"}}


def test_what_cannot_be_held_is_refused_before_anything_is_sent(shared: list[Node]) -> None:
    tasks = make_task(shared, microprotocol="SecureMedian")
    body = refused(lambda: tasks[0].input(data=[1, 1e300]), "INPUT_REFUSED")
    assert "row [1] needs 301 digits before the point" in body["message"]
    assert "digits_before" in body["hint"]
    assert not has_input(tasks[1], 0)
    tasks[0].cancel()
    digits = {"digits_before": 301}
    found = result(shared, "MinimumMaximum", [[1, 1e300], [0], [-1e300]], digits)
    assert found == {"minimum": -1e300, "maximum": 1e300}


def test_parameters_that_cannot_be_used(shared: list[Node]) -> None:
    simon = shared[0].api().select_microservice(protocol="Simon")
    where = {"nodes": urls_of(shared), "myself": 0}
    for microprotocol, parameters, words in [
        ("KthElement", {}, "needs the parameter rank"),
        ("KthElement", {"rank": 0}, "rank is a whole number from 1"),
        ("Quantiles", {"probabilities": [1.5]}, "from 0 to 1"),
        ("Histogram", {"edges": [2, 1]}, "edges[1] is not greater"),
        ("SecureMedian", {"rank": 3}, "has no parameter of this name"),
    ]:
        call = lambda m=microprotocol, p=parameters: simon.create(microprotocol=m, parameters=p, network=where)  # noqa: E731
        assert words in refused(call, "PARAMETERS_UNUSABLE")["message"]


def test_each_firm_learns_its_own_place_alone(shared: list[Node]) -> None:
    tasks, results = run(shared, "Benchmark", [12.5, 30, 12.5])
    common = {json.dumps(each["result"]) for each in results}
    assert common == {json.dumps({"samples": 3, "quartiles": [12.5, 12.5, 21.25]})}
    own = [each["own"] for each in results]
    assert own[0] == own[2] == {"percentile_rank": pytest.approx(100 / 3), "smaller": 0, "equal": 2}
    assert own[1] == {"percentile_rank": pytest.approx(250 / 3), "smaller": 2, "equal": 1}
    # Asked again, the same; and a party's page of the task shows nothing of it.
    assert tasks[1].result()["own"] == own[1]
    assert "percentile_rank" not in json.dumps(dict(tasks[1].progress()))
    for task in tasks:
        until(lambda task=task: task.progress()["receipt"], "a receipt")  # type: ignore[misc]


def test_in_one_call_and_from_the_command_line(shared: list[Node], tmp_path: Path) -> None:
    where = tmp_path / "network.json"
    where.write_text(json.dumps({"nodes": urls_of(shared)}))
    tables = ["age\n31\n40\n", "age\n25.5\n", "age\n62\n"]

    def command(place: int) -> str:
        table = tmp_path / f"{place}.csv"
        table.write_text(tables[place])
        call = ["compute", "Quantiles", f"--network={where}", f"--myself={place}", f"--data={table}", "--column=age"]
        call += ["--parameters", json.dumps({"probabilities": [0.5, 1], "min_cell": 1})]
        done = subprocess.run([BINARY, *call], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def one_call(place: int) -> Any:
        data = [[31, 40], [25.5], []][place]
        return fdrtd.compute("MinimumMaximum", data=data, network={"nodes": urls_of(shared), "myself": place})

    with ThreadPoolExecutor(3) as pool:
        printed = list(pool.map(command, range(3)))
        found = list(pool.map(one_call, range(3)))
    assert [each["result"] for each in found] == [{"minimum": 25.5, "maximum": 40}] * 3
    for text in printed:
        assert "35.5" in text
        assert "FEW_BEYOND" in text


def test_the_second_task_need_not_make_base_transfers_again(three: list[Node]) -> None:
    def messages() -> int:
        tasks, _ = run(three, "MinimumMaximum", [1, 2, 3])
        return int(tasks[0].progress()["messages"]["data"])

    first = messages()
    second = messages()
    # One round less, with two peers.
    assert first - second == 2
    assert messages() == second


def test_many_at_once(shared: list[Node]) -> None:
    tasks = [make_task(shared, microprotocol="SecureMedian", parameters={"digits_before": 4}) for _ in range(12)]

    def give(place: int) -> list[Any]:
        for number, task in enumerate(tasks):
            task[place].input(data=[number, number + place, 100])
        return [task[place].result(timeout=60)["result"] for task in tasks]

    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(give, range(3)))
    assert found[0] == found[1] == found[2]
    for number, each in enumerate(found[0]):
        pooled = [number] * 3 + [number + place for place in range(3)] + [100] * 3
        assert each == {"samples": 9, "median": statistics.median(pooled)}


def test_a_peer_that_is_killed_in_mid_search_ends_it_for_all(three: list[Node]) -> None:
    """A slow search: very many digits, so very many rounds."""
    durations: dict[str, float] = {**DURATIONS, "silence": 2}
    tasks = make_task(
        three,
        microprotocol="Quantiles",
        parameters={"probabilities": [0.1, 0.5, 0.9], "digits_before": 300, "digits_after": 200},
        durations=durations,
    )
    for task, data in zip(tasks, ([1, 2], [3], [4, 5])):
        task.input(data=data)
    until(lambda: tasks[0].progress()["round"] > 3, "some rounds")
    three[2].kill()
    for task in tasks[:2]:
        cause = cause_of(task)
        assert cause["party"] == 2, cause
        assert cause["code"] in {"PEER_LOST", "PEER_SILENT", "PEER_UNREACHABLE", "DEADLINE_RUN"}, cause


FIVES = [[31, 35, 40, 44, 51], [28, 33, 39, 47, 62], [25, 30, 41, 45, 58]]


def test_standard_nodes_tell_medians_and_no_extremes(tmp_path: Path) -> None:
    with network(tmp_path, "standard", "standard", "standard") as started:
        pooled = sorted(value for values in FIVES for value in values)
        assert result(started, "SecureMedian", FIVES) == {"samples": 15, "median": pooled[7]}
        found = result(started, "Quantiles", FIVES, {"probabilities": [0.1, 0.4, 0.5, 0.9], "type": 1})
        assert found["quantiles"] == [None, pooled[5], pooled[7], None]
        assert found["reasons"] == {"quantiles[0]": "FEW_BEYOND", "quantiles[3]": "FEW_BEYOND"}
        simon = started[0].api().select_microservice(protocol="Simon")
        where = {"nodes": urls_of(started), "myself": 0}
        body = refused(lambda: simon.create(microprotocol="MinimumMaximum", network=where), "POLICY_EXTREMES")
        assert "allow_extremes" in json.dumps(body, default=str)
        histogram = result(started, "Histogram", FIVES, {"edges": [0, 30, 60, 90]})
        # Two below 30 are hidden, with the bin after it, and the total; one above 60 likewise with what comes after it.
        assert histogram["samples"] is None
        assert histogram["counts"] == [None, 12, None]
        assert histogram["reasons"]["counts[0]"] == "FEW_IN_CELL"


def test_totals_that_do_not_follow_are_compared_before_anything_opens(tmp_path: Path) -> None:
    rules = (
        "standard\nreleases = 0\ndifferencing = 0\nmin_samples_own = 1\nmin_samples_total = 12\nmin_samples_others = 4"
    )
    with network(tmp_path, rules, rules, rules) as started:
        inputs = [[1] * 6, [1] * 4, [1] * 2]
        assert result(started, "SecureSum", inputs) == {"samples": 12, "sum": 12}
        few = {"samples": None, "sum": None, "reasons": {"samples": "FEW_SAMPLES", "sum": "FEW_SAMPLES"}}
        assert result(started, "SecureSum", [[1] * 6, [1] * 4, [1]]) == few
        # Enough in all, too few beside the first.
        assert result(started, "SecureSum", [[1] * 20, [1] * 2, [1]]) == few


def test_whoever_asks_may_want_more(shared: list[Node]) -> None:
    assert result(shared, "SecureSum", [[1, 2], [3], [4]], {"min_samples": 4}) == {"samples": 4, "sum": 10}
    found = result(shared, "SecureSum", [[1, 2], [3], []], {"min_samples": 4})
    assert (found["sum"], found["reasons"]["sum"]) == (None, "FEW_SAMPLES")
    columns = [{"a": [1, 2], "b": [5]}, {"a": [3], "b": []}, {"a": [], "b": [6]}]
    found = result(shared, "SecureSum", columns, {"min_samples": 3})
    assert found["a"] == {"samples": 3, "sum": 6}
    assert found["b"]["sum"] is None
