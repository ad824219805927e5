"""Exact decimals from end to end, against an oracle in fractions; and numbers refused before anything is sent."""

from __future__ import annotations

import contextlib
import json
import random
import re
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

import fdrtd
import pytest
import urllib3
from harness import Node, all_joined, cause_of, has_input, make_task, until

PARTIES = 3
DEFAULT = (18, 12)


def digits(before: int, after: int) -> dict[str, int]:
    return {"digits_before": before, "digits_after": after}


def on_grid(value: Decimal | int | float | Fraction, after: int) -> Fraction:
    """What a node makes of a number: the nearest multiple of 10^-after, ties to even, in fractions and so exactly."""
    # The shortest text of a float is what travels, not its binary value.
    exact = Fraction(repr(value)) if isinstance(value, float) else Fraction(value)
    scaled = exact * 10**after
    rounded = Fraction(round(scaled), 10**after)
    assert abs(rounded - exact) * 10**9 <= abs(exact), "the test makes no numbers that are refused"
    return rounded


def opened(total: Fraction) -> int | float:
    """What is shown: the exact integer below 2^63, else the nearest double."""
    if total.denominator == 1 and abs(total) < 2**63:
        return int(total)
    return total.numerator / total.denominator


def check(shown: Any, total: Fraction) -> None:
    expected = opened(total)
    assert shown == expected
    assert type(shown) is type(expected)


def run(shared: list[Node], inputs: Sequence[Any], parameters: dict[str, int] | None = None) -> Any:
    """The result of a task with these inputs. One party gives it through KeyValueStorage."""
    tasks = make_task(shared[: len(inputs)], parameters=parameters)
    stored = shared[0].api().select_microservice(microservice="KeyValueStorage").create(value=inputs[0])
    tasks[0].input(source=stored)
    for task, data in zip(tasks[1:], inputs[1:]):
        task.input(data=data)
    results = [task.result(timeout=60) for task in tasks]
    assert all(result == results[0] for result in results)
    assert results[0]["inputs"] == len(inputs)
    stored.delete()
    for task in tasks:
        task.delete()
    return results[0]["result"]


# --- The oracle -------------------------------------------------------------------------------------------------------


def decimal(rng: random.Random, before: int, after: int) -> Decimal:
    """A number with up to so many digits; small ones are as likely as large ones."""
    whole = rng.randrange(10 ** rng.randint(0, before))
    count = rng.randint(0, after)
    part = f"{rng.randrange(10**count):0{count}d}" if count else "0"
    return Decimal(f"{rng.choice(['', '-'])}{whole}.{part}")


def integer(rng: random.Random, before: int, _: int) -> int:
    return rng.choice([1, -1]) * rng.randrange(10 ** rng.randint(0, before))


def huge(rng: random.Random, before: int, _: int) -> Decimal:
    return Decimal(f"{rng.choice(['', '-'])}{rng.randint(1, 9)}{rng.randint(0, 99)}e{before - 3}")


def tiny(rng: random.Random, _: int, after: int) -> Decimal:
    return Decimal(f"{rng.choice(['', '-'])}{rng.randint(1, 999)}e-{after}")


def mixed(rng: random.Random, before: int, after: int) -> Any:
    return rng.choice([decimal, integer, huge, tiny])(rng, before, after)


def double(rng: random.Random, before: int, after: int) -> float:
    """A float with as many binary digits as there are, so often with more decimals than the grid has."""
    exponent = rng.uniform(-2, min(before, 290))
    return rng.choice([1, -1]) * rng.uniform(0.1, 1.0) * 10**exponent


def dyadic(rng: random.Random, before: int, after: int) -> Fraction:
    scale = rng.randint(0, after)
    return Fraction(rng.randint(-(2**10), 2**10), 2**scale)


def too_fine_to_hold(rng: random.Random, _: int, after: int) -> Decimal:
    """More digits than the grid has, and large enough that rounding is slight; one in three is a tie."""
    kept = f"{rng.choice(['', '-'])}{rng.randint(1, 999)}.{rng.randrange(10**after):0{after}d}"
    return Decimal(kept + rng.choice(["5", "4999999", f"{rng.randrange(10**9):09d}"]))


KINDS = {
    "decimals": decimal,
    "integers": integer,
    "huge": huge,
    "tiny": tiny,
    "mixed": mixed,
    "doubles": double,
    "fractions": dyadic,
    "rounded": too_fine_to_hold,
}


@pytest.mark.parametrize("declared", [DEFAULT, (300, 300), (30, 1), (4, 30), (308, 300), (7, 5)])
def test_random_columns(shared: list[Node], declared: tuple[int, int]) -> None:
    before, after = declared
    rng = random.Random(f"columns {declared}")
    kinds = dict(KINDS)
    if after < 10:
        del kinds["rounded"], kinds["doubles"]  # would be refused: the grid is too coarse
    columns: list[dict[str, Any]] = [{} for _ in range(PARTIES)]
    totals: dict[str, Fraction] = {}
    for name, make in kinds.items():
        for party in range(PARTIES):
            # A list of any length, none as well; the number of values is nobody's but in sum.
            columns[party][name] = [make(rng, before - 1, after) for _ in range(rng.choice([0, 1, 5, 9]))]
        totals[name] = sum((on_grid(value, after) for column in columns for value in column[name]), start=Fraction(0))
        # The same with its sum taken away again, but for the smallest step: every single digit must be right.
        rest = f"{name} cancelling"
        for party in range(PARTIES):
            columns[party][rest] = list(columns[party][name])
        step = Fraction(rng.choice([1, -1]), 10**after)
        for part in split(step - totals[name], 10**before):
            columns[rng.randrange(PARTIES)][rest].append(part)
        totals[rest] = step
    shown = run(shared, columns, digits(before, after))
    assert shown.keys() == totals.keys()
    for name, total in totals.items():
        check(shown[name]["sum"], total)
        assert shown[name]["samples"] == sum(len(column[name]) for column in columns)


def split(total: Fraction, bound: int) -> list[Fraction]:
    """Parts of a number, each below the bound."""
    parts = []
    while abs(total) >= bound:
        part = Fraction(bound - 1) if total > 0 else Fraction(1 - bound)
        parts.append(part)
        total -= part
    return [*parts, total]


@pytest.mark.parametrize("declared", [DEFAULT, (300, 300), (0, 40), (40, 0)])
def test_random_vectors(shared: list[Node], declared: tuple[int, int]) -> None:
    before, after = declared
    rng = random.Random(f"vectors {declared}")
    make = tiny if before == 0 else huge if after == 0 else mixed
    length = 40
    inputs = []
    totals = [Fraction(0)] * length
    count = 0
    for _ in range(PARTIES):
        vectors = [[make(rng, before, after) for _ in range(length)] for _ in range(rng.randint(1, 4))]
        count += len(vectors)
        inputs.append({"vectors": vectors})
        for vector in vectors:
            totals = [total + on_grid(value, after) for total, value in zip(totals, vector)]
    shown = run(shared, inputs, digits(before, after))
    assert shown["samples"] == count
    assert len(shown["sum"]) == length
    for each, total in zip(shown["sum"], totals):
        check(each, total)


@pytest.mark.parametrize("seed", range(4))
def test_random_lists(shared: list[Node], seed: int) -> None:
    rng = random.Random(f"lists {seed}")
    inputs = [[mixed(rng, 17, 12) for _ in range(rng.randint(0, 60))] for _ in range(PARTIES)]
    shown = run(shared, inputs)
    check(shown["sum"], sum((on_grid(value, 12) for data in inputs for value in data), start=Fraction(0)))
    assert shown["samples"] == sum(map(len, inputs))


def test_many_numbers(shared: list[Node]) -> None:
    # Large enough to be read and computed on other threads.
    rng = random.Random("many")
    inputs = [[rng.randint(-(10**9), 10**9) / 8 for _ in range(50_000)] for _ in range(PARTIES)]
    shown = run(shared, inputs)
    check(shown["sum"], sum((Fraction(value) for data in inputs for value in data), start=Fraction(0)))
    assert shown["samples"] == 150_000


def test_long_vectors(shared: list[Node]) -> None:
    length = 20_000
    shown = run(shared, [{"vectors": [list(range(k, length + k))]} for k in range(PARTIES)])
    assert shown == {"samples": 3, "sum": [3 * i + 3 for i in range(length)]}


# --- Known answers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "declared", "total"),
    [
        pytest.param([0.1, 0.2], DEFAULT, Decimal("0.3"), id="0.1+0.2"),
        pytest.param([[1e16, 1, -1e16], [1]], DEFAULT, 2, id="1e16, 1, -1e16 and 1"),
        pytest.param([2**53 + 1, 2**53 + 1], DEFAULT, 2**54 + 2, id="2^53+1 twice"),
        pytest.param([[1e-13] * 4, [1e-13] * 6], (18, 13), Decimal("1e-12"), id="ten values of 1e-13"),
        pytest.param([1e300, 1e300], (301, 0), 2 * 10**300, id="1e300"),
        pytest.param(
            [Decimal("1e300"), Decimal("1e-300"), Decimal("-1e300")], (301, 300), Decimal("1e-300"), id="span"
        ),
        pytest.param([2**62, 2**62 - 1], (20, 0), 2**63 - 1, id="the largest integer"),
        pytest.param([-(2**62), 1 - 2**62], (20, 0), 1 - 2**63, id="the smallest integer"),
        pytest.param([2**62, 2**62], (20, 0), 2**63, id="beyond integers"),
        pytest.param([5, -5], DEFAULT, 0, id="nothing"),
        pytest.param([-0.0, 0], DEFAULT, 0, id="no minus zero"),
        pytest.param([[], []], DEFAULT, 0, id="no rows at all"),
        pytest.param([[], [1, 2]], DEFAULT, 3, id="no rows of one party"),
        pytest.param([[-1, -2.5], [-3]], DEFAULT, Decimal("-6.5"), id="all negative"),
    ],
)
def test_known_sums(shared: list[Node], inputs: list[Any], declared: tuple[int, int], total: Any) -> None:
    check(run(shared, inputs, digits(*declared))["sum"], Fraction(total))


def test_beyond_doubles(shared: list[Node]) -> None:
    # JSON sets no limit to numbers: the exact integer is shown where no double comes near.
    shown = run(shared, [10**400 + 1, 10**400 + 2], digits(401, 0))
    assert shown["sum"] == 2 * 10**400 + 3


def test_ties_go_to_even(shared: list[Node]) -> None:
    # Rounded up they would make …6, rounded down …3.
    numbers = [Decimal("1.0000000000005"), Decimal("1.0000000000015"), Decimal("1.0000000000025")]
    check(run(shared, numbers)["sum"], Fraction("3.000000000004"))


def test_the_default_holds_what_it_says(shared: list[Node]) -> None:
    largest = Decimal("999999999999999999.999999999999")
    smallest = largest.copy_negate()  # a minus sign would round to the context's 28 digits
    shown = run(shared, [[largest, smallest, Decimal("1e-12")], [largest], [smallest]])
    check(shown["sum"], Fraction(1, 10**12))


# --- Forms ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        pytest.param([1, [2, 3], []], {"samples": 3, "sum": 6}, id="numbers and lists are one form"),
        pytest.param(
            [{"vectors": [[1, 2]]}, {"vectors": [[0.5, 0], [0.25, -1]]}, {"vectors": [[10, 20]]}],
            {"samples": 4, "sum": [11.75, 21]},
            id="vectors",
        ),
        pytest.param(
            [{"age": [31, 40], "bmi": 22.5}, {"columns": {"bmi": [], "age": [5]}}, {"age": [], "bmi": [1, 2]}],
            {"age": {"samples": 3, "sum": 76}, "bmi": {"samples": 3, "sum": 25.5}},
            id="columns in any order, with and without the outer key",
        ),
        pytest.param(
            [{"größe": 1}, {"gr\u00f6\u00dfe": [2]}, {"größe": []}],
            {"größe": {"samples": 2, "sum": 3}},
            id="names in any writing",
        ),
        pytest.param(
            [{"columns": {"vectors": 1}}, {"columns": {"vectors": [2]}}, {"columns": {"vectors": 3}}],
            {"vectors": {"samples": 3, "sum": 6}},
            id="a column named vectors",
        ),
    ],
)
def test_forms(shared: list[Node], inputs: list[Any], expected: Any) -> None:
    assert run(shared, inputs) == expected


@pytest.mark.parametrize("position", range(PARTIES))
@pytest.mark.parametrize(
    ("usual", "other"),
    [
        pytest.param(1, {"vectors": [[1]]}, id="number and vector"),
        pytest.param({"vectors": [[1, 2]]}, {"vectors": [[1, 2, 3]]}, id="lengths"),
        pytest.param({"weight": [1]}, {"height": [1]}, id="names"),
        pytest.param({"weight": [1]}, {"weight": [1], "height": [1]}, id="number of columns"),
        pytest.param({"weight": [1]}, [1], id="column and list"),
        pytest.param({"a": 1, "b": 2}, {"vectors": [[1, 2]]}, id="columns and vector"),
    ],
)
def test_forms_that_differ(shared: list[Node], usual: Any, other: Any, position: int) -> None:
    tasks = make_task(shared)
    for index, task in enumerate(tasks):
        # Two parties are enough to see it, so the last one may be told already.
        with contextlib.suppress(fdrtd.TaskFailed):
            task.input(data=other if index == position else usual)
    for task in tasks:
        cause = cause_of(task)
        assert cause["code"] == "SHAPES_DIFFER"
        assert "has another form than that of the others" in cause["message"]
        assert "the same columns" in cause["hint"]
        assert task.progress()["messages"] == {"data": 0}
        for name in ("weight", "height"):
            assert name not in json.dumps(task.progress()), "names of columns are private"
        task.delete()


# --- Refusals ---------------------------------------------------------------------------------------------------------

TEXT = "Zaphod-Beeblebrox"
NEST: Any = [[[{"a": TEXT}]]]

# Input, code of the reason, position, words of the message or hint.
REFUSED: list[tuple[Any, str, str, list[str]]] = [
    (TEXT, "NUMBER_EXPECTED", "", ["the input is text where a number is expected"]),
    (None, "NUMBER_EXPECTED", "", ["the input is null", "leave missing values out"]),
    (True, "NUMBER_EXPECTED", "", ["the input is true or false"]),
    ([1, 2, TEXT], "NUMBER_EXPECTED", "[2]", ["row [2] is text"]),
    ([1, None, 3], "NUMBER_EXPECTED", "[1]", ["row [1] is null"]),
    ([1, False], "NUMBER_EXPECTED", "[1]", ["row [1] is true or false"]),
    ([1, [2]], "NUMBER_EXPECTED", "[1]", ["row [1] is a list"]),
    ([1, {"a": 2}], "NUMBER_EXPECTED", "[1]", ["row [1] is an object"]),
    (NEST, "NUMBER_EXPECTED", "[0]", ["row [0] is a list"]),
    (["31"], "NUMBER_EXPECTED", "[0]", ["row [0] is text"]),
    (1e300, "NUMBER_TOO_LARGE", "", ["needs 301 digits before the point, 18 are declared", '{"digits_before": 301}']),
    ([0, -1e300], "NUMBER_TOO_LARGE", "[1]", ["row [1] needs 301 digits before", '{"digits_before": 301}']),
    ([10**18], "NUMBER_TOO_LARGE", "[0]", ["row [0] needs 19 digits before"]),
    ([1] * 70 + [1e-13], "NUMBER_TOO_FINE", "[70]", ["row [70] needs 13 digits after the point, 12 are declared"]),
    ([1e-13], "NUMBER_TOO_FINE", "[0]", ['{"digits_after": 13}']),
    ([Decimal("1.5e-20")], "NUMBER_TOO_FINE", "[0]", ["needs 21 digits after", '{"digits_after": 21}']),
    ([Decimal("0.00012345678949")], "NUMBER_TOO_FINE", "[0]", ["needs 14 digits after"]),
    (Decimal("999999999999999999.9999999999996"), "NUMBER_TOO_LARGE", "", ["needs 19 digits before"]),
    ([Decimal("1e700")], "NUMBER_TOO_LARGE", "[0]", ["needs 701 digits before", "no more than 608 digits"]),
    ([Decimal("1e-700")], "NUMBER_TOO_FINE", "[0]", ["needs 700 digits after", "no more than 608 digits"]),
    ([Decimal("1e999999999999")], "NUMBER_TOO_LARGE", "[0]", ["digits before", "no more than 608 digits"]),
    ({"vectors": [[1, 2], [3, TEXT]]}, "NUMBER_EXPECTED", "vectors[1][1]", ["vectors[1][1] is text"]),
    ({"vectors": [[1, 2], [3]]}, "VECTORS_RAGGED", "vectors[1]", ["vectors[1] has 1 elements, vectors[0] has 2"]),
    ({"vectors": [[1, 1e300]]}, "NUMBER_TOO_LARGE", "vectors[0][1]", ["vectors[0][1] needs 301 digits before"]),
    ({"vectors": [1, 2]}, "INPUT_SHAPE", "vectors[0]", ["vectors[0] is not a list of numbers"]),
    ({"vectors": 5}, "INPUT_SHAPE", "vectors", ["vectors is not a list of lists"]),
    ({"vectors": []}, "INPUT_EMPTY", "vectors", ["vectors is empty"]),
    ({"vectors": [[]]}, "INPUT_EMPTY", "vectors[0]", ["vectors[0] is empty"]),
    ({"vectors": [[1]], "columns": {}}, "INPUT_SHAPE", "", ["must be the only one"]),
    ({"columns": [1]}, "INPUT_SHAPE", "columns", ["must be an object of lists"]),
    ({"columns": {}}, "INPUT_EMPTY", "columns", ["columns is empty"]),
    ({}, "INPUT_EMPTY", "", ["is empty"]),
    ({"age": [1, 2, None]}, "NUMBER_EXPECTED", "age[2]", ["age[2] is null"]),
    ({"age": TEXT}, "NUMBER_EXPECTED", "age", ["age is text"]),
    ({"age": 1, "bmi": [1e-13]}, "NUMBER_TOO_FINE", "bmi[0]", ["bmi[0] needs 13 digits after", '{"digits_after": 13}']),
    ({"columns": {"age": [1, "x"]}}, "NUMBER_EXPECTED", "columns.age[1]", ["columns.age[1] is text"]),
    ({"a": {"b": {"c": [1]}}}, "NUMBER_EXPECTED", "a", ["a is an object"]),
    ({"": 1}, "COLUMN_NAME_LENGTH", "", ["empty or longer than 128"]),
    ({"x" * 129: 1}, "COLUMN_NAME_LENGTH", "", ["empty or longer than 128"]),
]

# What the client refuses without asking the node: input, code, words.
REFUSED_HERE: list[tuple[Any, str, str]] = [
    (float("nan"), "NOT_A_NUMBER", "data is NaN"),
    ([1, 2, float("nan")], "NOT_A_NUMBER", "data[2] is NaN"),
    ([1, float("-inf")], "NOT_A_NUMBER", "data[1] is infinite"),
    ({"age": [1, 2, 3, float("nan")]}, "NOT_A_NUMBER", "data.age[3] is NaN"),
    ({"vectors": [[1, 2], [Decimal("NaN"), 3]]}, "NOT_A_NUMBER", "data.vectors[1][0] is NaN"),
    ([1, Fraction(1, 3)], "FRACTION_NOT_DECIMAL", "data[1] is a fraction"),
    ([1, {2}], "UNKNOWN_TYPE", "data[1] is of type set"),
    ([1, 2j], "UNKNOWN_TYPE", "data[1] is of type complex"),
    ({1: 2}, "KEY_NOT_TEXT", "data has a key of type int"),
]

# What no JSON library writes: text, status, code.
REFUSED_RAW: list[tuple[str, int, str]] = [
    ("NaN", 400, "NOT_A_NUMBER"),
    ("[1, Infinity]", 400, "NOT_A_NUMBER"),
    ("01", 400, "JSON_INVALID"),
    ("+1", 400, "JSON_INVALID"),
    (".5", 400, "JSON_INVALID"),
    ("1.", 400, "JSON_INVALID"),
    ("0x10", 400, "JSON_INVALID"),
    ("[1,]", 400, "JSON_INVALID"),
    ('{"age": 1, "age": 2}', 422, "INPUT_REFUSED"),
    ("1e99999999999999999999999", 422, "INPUT_REFUSED"),
    ("1e-99999999999999999999999", 422, "INPUT_REFUSED"),
    ("1" * 100_000, 422, "INPUT_REFUSED"),
    ("[" * 60 + "1" + "]" * 60, 422, "INPUT_REFUSED"),
    ("[" * 70 + "1" + "]" * 70, 400, "NESTED_TOO_DEEP"),
]


def messages_sent(node: Node) -> int:
    text = urllib3.request("GET", f"{node.url}/metrics").data.decode()
    found = re.search(r'(?m)^fdrtd_task_messages_total{microprotocol="SecureSum"} (\d+)$', text)
    assert found
    return int(found[1])


def raw_input(task: Any, node: Node, text: str) -> tuple[int, Any]:
    body = (
        f'{{"handle": "{task["handle"]}", "callback": "{task["callback"]}", '
        f'"function": "input", "parameters": {{"data": {text}}}}}'
    )
    answer = urllib3.request("POST", node.url, body=body, headers={"Content-Type": "application/json"})
    return answer.status, answer.json() if answer.data else None


def test_refused_inputs_cost_nothing(shared: list[Node]) -> None:
    """All of them at one task: it is not harmed by any, nobody hears of it, and the right sum comes out at last."""
    tasks = make_task(shared)
    storage = shared[0].api().select_microservice(microservice="KeyValueStorage")
    for task in tasks:
        until(lambda task=task: all_joined(task), "all have joined")  # type: ignore[misc]
    before = messages_sent(shared[0])

    for data, reason, at, words in REFUSED:
        # Directly, and as the value of an object.
        stored = storage.create(value=data)
        for arguments in ({"data": data}, {"source": stored}):
            with pytest.raises(fdrtd.InputError) as caught:
                tasks[0].input(**arguments)
            error = caught.value
            assert (error.status, error.code) == (422, "INPUT_REFUSED"), (data, error)
            assert (error.extra["reason"], error.extra["at"]) == (reason, at), (data, error)
            for word in words:
                assert word in str(error), data
            assert TEXT not in str(error)
            assert "300" not in str(error), "the digits that are needed, not the number"
        stored.delete()
    for data, code, words_here in REFUSED_HERE:
        with pytest.raises(fdrtd.InputError) as caught:
            tasks[0].input(data=data)
        assert (caught.value.status, caught.value.code) == (None, code), data
        assert words_here in str(caught.value)
    for text, status, code in REFUSED_RAW:
        got, problem = raw_input(tasks[0], shared[0], text)
        assert (got, problem["code"]) == (status, code), text[:50]

    progress = tasks[0].progress()
    assert progress["messages"] == {"data": 0}
    assert progress["state"] == "joined"
    assert messages_sent(shared[0]) == before, "not a word to anybody"
    for task in tasks:
        assert not any(has_input(task, party) for party in range(PARTIES))
    assert TEXT not in shared[0].logged()

    for task, value in zip(tasks, (10, 7, 14)):
        task.input(data=value)
    assert [task.result() for task in tasks] == [{"inputs": 3, "result": {"samples": 3, "sum": 31}}] * 3
    assert [task.progress()["messages"] for task in tasks] == [{"data": 4}] * 3


def test_zero_has_no_size(shared: list[Node]) -> None:
    tasks = make_task(shared[:2])
    texts = ("[0e99999999999999999999, 0e-99999999999999999999, -0.0e5, 0.000000000000000000000000]", "[5E+0, 1e-0]")
    for task, node, text in zip(tasks, shared, texts):
        assert raw_input(task, node, text) == (204, None)
    assert tasks[0].result()["result"] == tasks[1].result()["result"] == {"samples": 6, "sum": 6}


@pytest.mark.parametrize(
    "number",
    [1e300, 1e-13, Decimal("1.5e-20"), 10**18, Decimal("0.00012345678949"), Decimal("-12345678901234567890.5")],
)
def test_what_the_hint_says_helps(shared: list[Node], number: Any) -> None:
    # Declared as told, the same number is taken, and to the last digit.
    task = make_task(shared[:2])[0]
    with pytest.raises(fdrtd.InputError) as caught:
        task.input(data=number)
    task.delete()
    hint = re.search(r"parameters=(\{.*\})", str(caught.value.hint))
    assert hint
    parameters = json.loads(hint[1])
    step = Fraction(1, 10 ** parameters.get("digits_after", 12))
    exact = Fraction(repr(number)) if isinstance(number, float) else Fraction(number)
    shown = run(shared, [number, step, [-exact]], parameters)
    check(shown["sum"], step)
