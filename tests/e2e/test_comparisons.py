"""What compares inside the computation: extremes, ranks, medians, quantiles, histograms, benchmarks, thresholds."""

from __future__ import annotations

import json
import random
import re
import signal
import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fdrtd
import pytest
from cli import fdrtd as fdrtd_command
from harness import DURATIONS, ROOT, Node, cause_of, has_input, make_task, nodes, until, urls_of
from test_policy import network, refused, request

Results = list[dict[str, Any]]

CALLS: list[tuple[str, dict[str, Any] | None]] = [
    ("SecureSum", {"min_samples": 2}),
    ("MinimumMaximum", None),
    ("KthElement", {"rank": 2}),
    ("SecureMedian", None),
    ("Quantiles", {"probabilities": [0.1, 0.5, 1], "min_cell": 1}),
    ("Histogram", {"edges": [0, 30, 60], "min_cell": 2}),
    ("Benchmark", {"type": 1}),
]


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
        # One number each, some of them equal.
        numbers = [source.randint(-2, 2) / 4 for _ in range(parties)]
        _, results = run(started, "Benchmark", numbers)
        for number, each in zip(numbers, results, strict=True):
            quartiles = statistics.quantiles(numbers, n=4, method="inclusive")
            assert each["result"] == {"samples": parties, "quartiles": pytest.approx(quartiles)}
            smaller, equal = sum(other < number for other in numbers), numbers.count(number)
            place = {"percentile_rank": 100 * (smaller + equal / 2) / parties, "smaller": smaller, "equal": equal}
            assert each["own"] == pytest.approx(place)


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


def test_all_digits_count(shared: list[Node]) -> None:
    """Doubles of 17 digits that differ in the last one; whole numbers that no double can hold."""
    near = [0.12345678901234566, 0.12345678901234568, -0.12345678901234566]
    inputs = [[near[1]], [near[0], near[0]], [near[2]]]
    found = result(shared, "KthElement", inputs, {"rank": 3, "digits_after": 17})
    assert found["value"] == near[0]
    assert result(shared, "MinimumMaximum", inputs, {"digits_after": 17}) == {"minimum": near[2], "maximum": near[1]}
    large = [2**53 + 1, 2**53 + 3, -(2**53) - 1]
    assert result(shared, "MinimumMaximum", large) == {"minimum": large[2], "maximum": large[1]}
    assert result(shared, "SecureMedian", [large[:2], [], []]) == {"samples": 2, "median": 2**53 + 2}
    # Constant data, and one party with no rows.
    assert result(shared, "SecureMedian", [[7, 7], 7, []]) == {"samples": 3, "median": 7}
    assert result(shared, "MinimumMaximum", [[0.1], [], [0.1]]) == {"minimum": 0.1, "maximum": 0.1}


def test_columns_are_each_a_computation_of_its_own(shared: list[Node]) -> None:
    inputs = [{"age": [31, 40], "bmi": []}, {"age": [25.5], "bmi": [22]}, {"age": [], "bmi": []}]
    found = result(shared, "SecureMedian", inputs, {"min_samples": 2})
    hidden = {"samples": None, "median": None, "reasons": {"samples": "FEW_SAMPLES", "median": "FEW_SAMPLES"}}
    assert found == {"age": {"samples": 3, "median": 31}, "bmi": hidden}
    assert result(shared, "MinimumMaximum", inputs)["bmi"] == {"minimum": 22, "maximum": 22}
    found = result(shared, "KthElement", inputs, {"k": 2})
    assert [found[name].get("value") for name in ("age", "bmi")] == [31, None]
    assert found["bmi"]["reasons"] == {"value": "NO_VALUES"}


def test_what_is_said_does_not_depend_on_the_data(shared: list[Node]) -> None:
    """As many messages for nobody's numbers as for many equal ones."""
    for microprotocol, parameters in CALLS:
        if microprotocol == "Benchmark":
            continue
        counts = []
        sparse: list[Any] = [[], [], []]
        for inputs in (sparse, [[5] * 40, [-1e17, 3], 1e-12]):
            tasks, _ = run(shared, microprotocol, inputs, parameters)
            messages = [task.progress()["messages"]["data"] for task in tasks]
            assert len(set(messages)) == 1
            counts.append(messages[0])
        assert counts[0] == counts[1], microprotocol


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
        ("SecureMedian", {"rank": 3}, 'has no parameter "rank"'),
    ]:
        call = lambda m=microprotocol, p=parameters: simon.create(microprotocol=m, parameters=p, network=where)  # noqa: E731
        assert words in refused(call, "PARAMETERS_UNUSABLE")["message"]


def test_every_microprotocol_is_on_the_pages(shared: list[Node]) -> None:
    simon = shared[0].api().select_microservice(protocol="Simon")
    where = {"nodes": urls_of(shared), "myself": 0}
    hint = refused(lambda: simon.create(microprotocol="?", network=where), "MICROPROTOCOL_UNKNOWN")["hint"]
    names = set(hint.partition("his node has: ")[2].split(", "))
    assert {microprotocol for microprotocol, _ in CALLS} <= names
    for page in ("microprotocols.md", "threat-model.md"):
        rows = [line.split("|")[1] for line in (ROOT / "docs" / page).read_text().splitlines() if line.startswith("|")]
        assert names <= {word for row in rows for word in re.findall(r"\w+", row)}, page


def test_each_firm_learns_its_own_place_alone(three: list[Node], tmp_path: Path) -> None:
    tasks, results = run(three, "Benchmark", [12.5, 30, 12.5])
    common = {json.dumps(each["result"]) for each in results}
    assert common == {json.dumps({"samples": 3, "quartiles": [12.5, 12.5, 21.25]})}
    own = [each["own"] for each in results]
    assert own[0] == own[2] == {"percentile_rank": pytest.approx(100 / 3), "smaller": 0, "equal": 2}
    assert own[1] == {"percentile_rank": pytest.approx(250 / 3), "smaller": 2, "equal": 1}
    # Asked again, the same; and no page tells it, neither here nor there, to nobody but the caller whose task it is.
    assert tasks[1].result()["own"] == own[1]
    until(lambda: all(task.progress()["receipt"]["complete"] for task in tasks), "all have signed")
    name = tasks[1].progress()["task"]
    pages = [str(dict(task.progress())) + str(dict(task.invite())) for task in tasks]
    pages += [
        request(node, "GET", page, operator=True)[2]
        for node in three
        for page in (f"tasks/{name}", f"tasks/{name}/receipt", "tasks", "audit?limit=1000")
    ]
    assert all(name in page for page in pages)
    assert not any("percentile_rank" in page or "smaller" in page for page in pages)
    # All have signed the same; it is of the result, whatever stands beside it.
    receipts = [task.receipt() for task in tasks]
    assert receipts[0] == receipts[1] == receipts[2]
    receipt, file = tmp_path / "receipt.json", tmp_path / "result.json"
    receipt.write_text(json.dumps(receipts[0]))

    def verified(told: Any) -> bool:
        file.write_text(json.dumps(told))
        done = fdrtd_command("receipt", "verify", receipt, "--result", file)
        assert ("valid: signed by all parties, and the result is the one" in done.out) == (done.status == 0), done.out
        return done.status == 0

    assert all(verified(each) for each in results)
    assert verified({**results[0], "own": own[1]})
    assert not verified({**results[0], "result": {"samples": 3, "quartiles": [12.5, 12.5, 21.5]}})


TABLES = ["age\n31\n40\n-5\n", "age\n25.5\n", "age\n62\n"]
NULLS = "quantiles[0] FEW_BEYOND, quantiles[2] FEW_BEYOND"
CELLS = "samples FEW_IN_CELL, counts[0] FEW_IN_CELL, below FEW_IN_CELL, above FEW_IN_CELL"
PRINTED = {
    "SecureSum": "samples  5\nsum      153.5\n",
    "MinimumMaximum": "minimum  -5\nmaximum  62\n",
    "KthElement": "samples  5\nrank     2\nvalue    25.5\n",
    "SecureMedian": "samples  5\nmedian   31\n",
    "Quantiles": f"samples        5\nprobabilities  0.1 0.5 1\nquantiles      null 31 null\nreasons        {NULLS}\n",
    "Histogram": f"samples  null\nedges    0 30 60\ncounts   null 2\nbelow    null\nabove    null\nreasons  {CELLS}\n",
    "Benchmark": "samples    3\nquartiles  12.5 12.5 30\n",
}
LOW = "percentile_rank 33.333333333333336, smaller 0, equal 2"
HIGH = "percentile_rank 83.33333333333333, smaller 2, equal 1"


@pytest.mark.parametrize(("microprotocol", "parameters"), CALLS)
def test_in_one_call_and_from_the_command_line(
    shared: list[Node], tmp_path: Path, microprotocol: str, parameters: dict[str, Any] | None
) -> None:
    where = tmp_path / "network.json"
    where.write_text(json.dumps({"nodes": urls_of(shared)}))
    tables = ["age\n12.5\n", "age\n30\n", "age\n12.5\n"] if microprotocol == "Benchmark" else TABLES

    def command(place: int, *more: str) -> str:
        table = tmp_path / f"{place}.csv"
        table.write_text(tables[place])
        call = [f"--network={where}", f"--myself={place}", f"--data={table}", "--column=age", *more]
        done = fdrtd_command("compute", microprotocol, *call, "--parameters", json.dumps(parameters or {}))
        assert done.status == 0, done.err
        return done.out

    def one_call(place: int) -> Any:
        data: Any = [float(number) for number in tables[place].split()[1:]]
        network_of = {"nodes": urls_of(shared), "myself": place}
        data = data[0] if len(data) == 1 else data
        return fdrtd.compute(microprotocol, data=data, network=network_of, parameters=parameters, timeout=60)

    with ThreadPoolExecutor(3) as pool:
        printed = list(pool.map(command, range(3)))
        as_json = [json.loads(text) for text in pool.map(lambda place: command(place, "--json"), range(3))]
        found = list(pool.map(one_call, range(3)))
    assert as_json == found
    assert len({json.dumps(each["result"]) for each in found}) == 1
    for place, text in enumerate(printed):
        own = f"for you alone: {HIGH if place == 1 else LOW}\n" if microprotocol == "Benchmark" else ""
        assert text == f"parties  3\n{PRINTED[microprotocol]}{own}"


def test_the_second_task_need_not_make_base_transfers_again(three: list[Node]) -> None:
    def messages() -> int:
        tasks, _ = run(three, "MinimumMaximum", [1, 2, 3])
        return int(tasks[0].progress()["messages"]["data"])

    first = messages()
    second = messages()
    # One round less, with two peers.
    assert first - second == 2
    assert messages() == second
    # A node that was started anew has none left. Two make theirs anew with it, and keep those between them.
    three[2].restart()
    again = messages()
    assert again > second
    assert messages() == second


def test_many_at_once(shared: list[Node]) -> None:
    tasks = [make_task(shared, microprotocol="SecureMedian", parameters={"digits_before": 4}) for _ in range(20)]

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


@pytest.mark.parametrize("frozen", [False, True])
def test_a_peer_that_is_killed_in_mid_search_ends_it_for_all(three: list[Node], frozen: bool) -> None:
    """Or one that says nothing any more. A slow search: very many digits, so very many rounds."""
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
    assert three[2].process is not None
    three[2].process.send_signal(signal.SIGSTOP if frozen else signal.SIGKILL)
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
    standard = "standard\nreleases = 0\ndifferencing = 0\nmin_samples_own = 1"
    rules = f"{standard}\nmin_samples_total = 20\nmin_samples_others = 4"
    few = {"samples": None, "sum": None, "reasons": {"samples": "FEW_SAMPLES", "sum": "FEW_SAMPLES"}}
    # One party's rules are enough: the strictest are in force for all.
    with network(tmp_path, standard, rules, standard) as started:
        assert result(started, "SecureSum", [[1] * 12, [1] * 7, [1]]) == {"samples": 20, "sum": 20}
        assert result(started, "SecureSum", [[1] * 12, [1] * 6, [1]]) == few
        # Enough in all, too few beside the first.
        assert result(started, "SecureSum", [[1] * 30, [1] * 2, [1]]) == few
        found = result(started, "SecureMedian", [[1] * 12, [2] * 6, [1]])
        assert (found["median"], found["reasons"]["samples"]) == (None, "FEW_SAMPLES")
        found = result(started, "Histogram", [[1] * 12, [2] * 6, [1]], {"edges": [0, 3]})
        assert (found["counts"], found["samples"]) == ([None], None)


def test_a_party_has_as_many_as_the_rules_want(tmp_path: Path) -> None:
    with network(tmp_path, "standard", "standard", "standard") as started:
        tasks = make_task(started, microprotocol="SecureMedian")
        refused(lambda: tasks[0].input(data=[1, 2, 3, 4]), "POLICY_TOO_FEW_SAMPLES")
        # Benchmark takes one number of each, so nodes with such rules have no use for it.
        tasks = make_task(started, microprotocol="Benchmark")
        refused(lambda: tasks[0].input(data=1), "POLICY_TOO_FEW_SAMPLES")


def test_whoever_asks_may_want_more(shared: list[Node]) -> None:
    assert result(shared, "SecureSum", [[1, 2], [3], [4]], {"min_samples": 4}) == {"samples": 4, "sum": 10}
    found = result(shared, "SecureSum", [[1, 2], [3], []], {"min_samples": 4})
    assert (found["sum"], found["reasons"]["sum"]) == (None, "FEW_SAMPLES")
    columns = [{"a": [1, 2], "b": [5]}, {"a": [3], "b": []}, {"a": [], "b": [6]}]
    found = result(shared, "SecureSum", columns, {"min_samples": 3})
    assert found["a"] == {"samples": 3, "sum": 6}
    assert found["b"]["sum"] is None
