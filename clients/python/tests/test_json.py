from __future__ import annotations

import enum
import json
import random
from collections import OrderedDict
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

import fdrtd
from fdrtd import _json

LONG = 7**6000  # 5071 digits: more than int itself prints or reads


class Colour(enum.IntEnum):
    RED = 3


@pytest.mark.parametrize(
    "value",
    [
        None, True, False, 0, -1, 2**70, 0.1, 1e16, 1e-320, -0.0, "", 'ä "\n\u2028\U0001f600', [], {}, [[]],
        (1, 2), {"a": [1, {"b": None}]}, [{"x": 1.5}, {"x": 2}], {"": {"é": [0.1] * 3}},
    ],
)  # fmt: skip
def test_plain_values_are_written_as_json_writes_them(value: Any) -> None:
    assert _json.encode(value) == json.dumps(value)
    assert _json.decode(_json.encode(value).encode()) == json.loads(json.dumps(value))
    # The slow way, forced by one value that the C encoder does not know, agrees with the fast one.
    assert _json.encode([value, Decimal(1)]) == json.dumps([value, 1])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("0.1"), "0.1"),
        (Decimal("1E+2"), "100"),
        (Decimal("-1.50"), "-1.50"),
        (Decimal("1E-30"), "0." + "0" * 29 + "1"),
        (Decimal("123456789012345678901234567890.123456789012345678901234567890"),) * 2,
        (Decimal("1E+1000000"), "1E+1000000"),
        (Fraction(1, 8), "0.125"),
        (Fraction(-7, 5), "-1.4"),
        (Fraction(3), "3"),
        (Fraction(10**50 + 1, 10**20), "1" + "0" * 30 + "." + "0" * 19 + "1"),
        (Colour.RED, "3"),
        (OrderedDict(a=1), '{"a": 1}'),
    ],
)
def test_exact_numbers(value: Any, text: object) -> None:
    assert _json.encode(value) == str(text)
    assert _json.encode({"v": [value]}) == f'{{"v": [{text}]}}'


def test_integers_of_any_size_go_and_come() -> None:
    text = _json.encode({"v": [LONG, -LONG]})
    assert _json.decode(text.encode()) == {"v": [LONG, -LONG]}
    assert len(text) > 2 * 5000


def test_numpy_is_known_by_its_shape() -> None:
    value = {
        "i": np.int64(2**62),
        "f": np.float64(0.1),
        "b": np.bool_(True),
        "m": np.arange(4).reshape(2, 2),
        "l": [np.float64(1.5), np.int32(2)],
        "z": np.array(7.5),
        "o": np.array([Decimal("0.10"), None], dtype=object),
    }
    expected = (
        '{"i": 4611686018427387904, "f": 0.1, "b": true, "m": [[0, 1], [2, 3]], '
        '"l": [1.5, 2], "z": 7.5, "o": [0.10, null]}'
    )
    assert _json.encode(value) == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"value": [1, 2, 3, float("nan")]}, "value[3] is NaN"),
        ({"value": float("inf")}, "value is infinite"),
        ({"value": {"a b": [1.0, {"c": float("-inf")}]}}, 'value["a b"][1].c is infinite'),
        ({"value": Decimal("nan")}, "value is NaN"),
        ({"value": Decimal("snan")}, "value is NaN"),
        ({"value": [Decimal("1"), Decimal("-Infinity")]}, "value[1] is infinite"),
        ({"value": np.array([[1.0, 2.0], [3.0, np.nan]])}, "value[1][1] is NaN"),
        ({"value": np.float64("nan")}, "value is NaN"),
        ({"value": [1, {2, 3}]}, "value[1] is of type set, which JSON does not have"),
        ({"value": date(2020, 1, 1)}, "value is of type date, which JSON does not have"),
        ({"value": np.datetime64("2020-01-01")}, "value is of type datetime64, which JSON does not have"),
        ({"value": b"x"}, "value is of type bytes, which JSON does not have"),
        ({"value": 1j}, "value is of type complex, which JSON does not have"),
        ({"value": Mock()}, "value is of type Mock, which JSON does not have"),
        ({"value": np.longdouble("0.1")}, "value is of type longdouble, which JSON does not have"),
        ({"value": {1: 2}}, "value has a key of type int"),
        ({"value": Fraction(1, 3)}, "value is a fraction without an exact decimal form"),
        ({"value": Fraction(1, 2**5000)}, "value is a fraction without an exact decimal form"),
    ],
)
def test_what_json_lacks_is_refused_with_its_position(value: Any, message: str) -> None:
    with pytest.raises(fdrtd.InputError) as caught:
        _json.encode(value)
    assert caught.value.message == message
    assert isinstance(caught.value, ValueError)
    assert caught.value.hint


def test_errors_do_not_show_values() -> None:
    for value in ({"v": {"123456"}}, {"v": Fraction(123456, 7)}, {"v": {123456: 1}}):
        with pytest.raises(fdrtd.InputError) as caught:
            _json.encode(value)
        assert "123456" not in str(caught.value)


def test_depth_is_bounded() -> None:
    value: list[Any] = []
    for _ in range(_json.MAX_DEPTH - 1):
        value = [value]
    assert _json.encode(value) == "[" * _json.MAX_DEPTH + "]" * _json.MAX_DEPTH
    with pytest.raises(fdrtd.InputError, match="nested deeper than 63 levels"):
        _json.encode([value])
    cycle: dict[str, Any] = {}
    cycle["self"] = [cycle, cycle]
    with pytest.raises(fdrtd.InputError, match="nested deeper"):
        _json.encode(cycle, "value")


def test_hostile_answers_are_value_errors() -> None:
    for text in (b"[" * 100_000, b"", b"<html>", b"\xff\xff", b'{"a" 1}'):
        with pytest.raises(ValueError):  # noqa: PT011 - ValueError is the promise
            _json.decode(text)


def test_random_values_survive_both_ways() -> None:
    random.seed(7)

    def value(depth: int) -> Any:
        kind = random.randrange(8 if depth else 6)
        if kind == 6:
            return [value(depth - 1) for _ in range(random.randrange(4))]
        if kind == 7:
            return {f"k{i}": value(depth - 1) for i in range(random.randrange(4))}
        choices = (None, random.random() < 0.5, random.getrandbits(80), random.gauss(0, 1e9), "ü", 0)
        return choices[kind]

    for _ in range(300):
        original = value(4)
        assert _json.decode(_json.encode(original).encode()) == original
        slow = _json.encode([original, Decimal("0.5")])
        assert slow == json.dumps([original, 0.5])
