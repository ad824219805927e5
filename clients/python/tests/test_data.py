"""Data of numpy, pandas, polars and pyarrow go in as they are; what is unusable is refused with its place."""

from __future__ import annotations

import array
import json
from collections import deque
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest

import fdrtd
from fdrtd import _json

# Through importorskip, because their types are none of mypy's business here.
pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")

NAN = float("nan")


def sent(value: Any) -> Any:
    return json.loads(_json.encode({"data": value}), parse_float=str)["data"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.array([1, 2], dtype=np.int8), [1, 2]),
        (np.array([2**64 - 1], dtype=np.uint64), [2**64 - 1]),
        (np.array([0.1, -0.0, 1e300]), ["0.1", "-0.0", "1e+300"]),
        (np.array([0.5, 0.1], dtype=np.float16), ["0.5", "0.0999755859375"]),
        (np.array([0.1], dtype=np.float32), ["0.10000000149011612"]),
        (np.array(7), 7),
        (np.float32(0.5), "0.5"),
        (np.uint8(255), 255),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.zeros((0, 3)), []),
        (np.arange(10)[::-3], [9, 6, 3, 0]),
        (np.asfortranarray([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.ma.array([1, 2]), [1, 2]),
        ([np.float64(0.1), np.int16(3), 1.5, None], ["0.1", 3, "1.5", None]),
        (pd.Series([1, 2], name="age", index=["a", "b"]), [1, 2]),
        (pd.Series([0.1, 2]), ["0.1", "2.0"]),
        (pd.Series([1, 2], dtype="Int64"), [1, 2]),
        (pd.Series([1.5], dtype="Float32"), ["1.5"]),
        (pd.Series(["x", "y"]), ["x", "y"]),
        (pd.Series([3, 3], dtype="category"), [3, 3]),
        (pd.Series([Decimal("0.10")]), ["0.10"]),
        (pd.Index([5, 6]), [5, 6]),
        (pd.RangeIndex(3), [0, 1, 2]),
        (pd.array([1, 2]), [1, 2]),
        (pd.DataFrame({"age": [1, 2], "bmi": [0.5, 1]}), {"columns": {"age": [1, 2], "bmi": ["0.5", "1.0"]}}),
        (pd.DataFrame({"vectors": [1]}), {"columns": {"vectors": [1]}}),
        (pd.DataFrame({"age": [1]})["age"], [1]),
        (pd.DataFrame(), {"columns": {}}),
        (pl.Series("age", [1, 2]), [1, 2]),
        (pl.Series([0.1]), ["0.1"]),
        (pl.Series([Decimal("0.10")]), ["0.10"]),
        (pl.DataFrame({"age": [1, 2], "x": [0.5, 1.0]}), {"columns": {"age": [1, 2], "x": ["0.5", "1.0"]}}),
        (pl.DataFrame({"age": [1]})["age"], [1]),
        ({"a": pd.Series([1]), "b": np.array([2]), "c": pl.Series([3])}, {"a": [1], "b": [2], "c": [3]}),
        ({"vectors": [np.arange(2), np.arange(2)]}, {"vectors": [[0, 1], [0, 1]]}),
        (array.array("d", [0.1]), ["0.1"]),
        (array.array("q", [2**62]), [2**62]),
        (range(2, 8, 3), [2, 5]),
        (Decimal("0.10"), "0.10"),
        ([Fraction(1, 8)], ["0.125"]),
    ],
)  # fmt: skip
def test_data_go_in_as_they_are(value: Any, expected: Any) -> None:
    assert sent(value) == expected


@pytest.mark.parametrize(
    ("value", "message", "count"),
    [
        ([1, 2, 3, NAN], "data[3] is NaN", 1),
        ([1, NAN, 3, NAN, float("inf")], "data[1] is NaN, and 2 more values are NaN, infinite or missing", 3),
        (np.array([1.0, np.inf, np.nan]),
         "data[1] is infinite, and 1 more value is NaN, infinite or missing", 2),
        (np.array([[1.0, 2.0], [np.nan, np.nan]]),
         "data[1][0] is NaN, and 1 more value is NaN, infinite or missing", 2),
        ([1, Decimal("nan"), np.float64("nan")],
         "data[1] is NaN, and 1 more value is NaN, infinite or missing", 2),
        (np.ma.array([1.0, 2.0], mask=[False, True]), "data[1] is missing", 1),
        (np.ma.masked, "data is missing", 1),
        (pd.Series([1.0, None]), "data[1] is NaN", 1),
        (pd.Series([1, None], dtype="Int64", index=["a", "b"]), "data[1] is missing", 1),
        (pd.Series([True, None], dtype="boolean"), "data[1] is missing", 1),
        (pd.Series(["a", None], dtype=object), "data[1] is missing", 1),
        (pd.NA, "data is missing", 1),
        ([1, pd.NA, pd.NaT], "data[1] is missing, and 1 more value is NaN, infinite or missing", 2),
        (pd.DataFrame({"age": [1.0, 2, 3, NAN], "bmi": [NAN, 1, 1, 1]}),
         "data.age[3] is NaN, and 1 more value is NaN, infinite or missing", 2),
        (pd.DataFrame({"body mass": pd.Series([None], dtype="Int64")}), 'data["body mass"][0] is missing', 1),
        (pl.Series([1, None]), "data[1] is missing", 1),
        (pl.Series([1.0, NAN, None]), "data[1] is NaN, and 1 more value is NaN, infinite or missing", 2),
        (pl.DataFrame({"a": [1, 2], "age": [None, 1]}), "data.age[0] is missing", 1),
        ({"age": pl.Series([None, None])},
         "data.age[0] is missing, and 1 more value is NaN, infinite or missing", 2),
    ],
)  # fmt: skip
def test_what_is_no_number_is_refused_with_its_place(value: Any, message: str, count: int) -> None:
    with pytest.raises(fdrtd.InputError) as caught:
        sent(value)
    error = caught.value
    assert (error.message, error.code) == (message, "NOT_A_NUMBER")
    assert (error.extra["at"], error.extra["count"]) == (message.split(" is ")[0], count)


def test_none_is_a_value_in_lists_of_ones_own() -> None:
    assert sent([1, None, 2.5]) == [1, None, "2.5"]
    assert sent({"a": None}) == {"a": None}
    assert sent(np.array([1, None], dtype=object)) == [1, None]
    # A column beside it does not change that.
    assert sent([pd.Series([1]), None]) == [[1], None]


@pytest.mark.parametrize(
    ("value", "message", "remedy"),
    [
        ((number for number in [1]), "data is of type generator", "write list(…)"),
        (map(int, ["1"]), "data is of type map", "write list(…)"),
        (iter([1]), "data is of type list_iterator", "write list(…)"),
        ({1, 2}, "data is of type set", "sorted(…)"),
        ({"a": 1}.values(), "data is of type dict_values", "list(…)"),
        (deque([1]), "data is of type deque", "list(…)"),
        ([1, date(2020, 1, 1)], "data[1] is of type date", ".toordinal()"),
        (datetime(2020, 1, 1), "data is of type datetime", ".timestamp()"),
        (timedelta(1), "data is of type timedelta", ".total_seconds()"),
        (np.array(["2020-01-01"], dtype="datetime64[ns]"), "data is of type datetime64", ".timestamp()"),
        (np.array([5], dtype="timedelta64[ns]"), "data is of type timedelta64", ".total_seconds()"),
        (np.timedelta64(5, "ns"), "data is of type timedelta64", ".total_seconds()"),
        ([np.timedelta64(5, "ns")], "data[0] is of type timedelta64", ".total_seconds()"),
        (
            pd.Series([np.timedelta64(5, "ns"), 1], dtype=object),
            "data[0] is of type timedelta64",
            ".total_seconds()",
        ),
        (
            np.array([1, np.timedelta64(5, "ns")], dtype=object),
            "data[1] is of type timedelta64",
            ".total_seconds()",
        ),
        (pd.Series(pd.to_datetime(["2020-01-01"])), "data[0] is of type Timestamp", ".timestamp()"),
        (pd.DataFrame({"t": [pd.Timedelta(1)]}), "data.t[0] is of type Timedelta", ".total_seconds()"),
        (pl.Series([date(2020, 1, 1)]), "data[0] is of type date", ".toordinal()"),
        (pl.DataFrame({"a": [1]}).lazy(), "data is of type LazyFrame", ".collect()"),
        (pd.MultiIndex.from_tuples([(1, 2)]), "data is of type MultiIndex", ".get_level_values(0)"),
        (np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]), "data is of type ndarray", "as columns"),
        (np.array([1j]), "data[0] is of type complex", ".real"),
        (np.array([1], dtype=np.longdouble), "data[0] is of type longdouble", ".astype(float)"),
        (np.array([b"x"]), "data[0] is of type bytes", ".decode()"),
        (UUID(int=5), "data is of type UUID", "str(…)"),
        (Path("x"), "data is of type PosixPath", "str(…)"),
        (object(), "data is of type object", "columns of pandas or polars"),
    ],
)
def test_what_has_no_place_in_json_says_what_to_do(value: Any, message: str, remedy: str) -> None:
    with pytest.raises(fdrtd.InputError) as caught:
        sent(value)
    assert caught.value.message == f"{message}, which JSON does not have"
    assert caught.value.code == "UNKNOWN_TYPE"
    assert remedy in str(caught.value.hint)


def test_columns_need_names_of_their_own() -> None:
    with pytest.raises(fdrtd.InputError, match=r"rename\(columns=str\)") as caught:
        sent(pd.DataFrame([[1, 2]]))
    assert caught.value.code == "KEY_NOT_TEXT"
    with pytest.raises(fdrtd.InputError, match='two columns with the name "a"') as caught:
        sent(pd.DataFrame([[1, 2]], columns=["a", "a"]))
    assert caught.value.code == "COLUMN_TWICE"


@pytest.mark.parametrize(
    "make",
    [
        lambda pa: pa.array([1, 2]),
        lambda pa: pa.chunked_array([[1], [2]]),
        lambda pa: [pa.scalar(1), pa.scalar(2)],
    ],
)
def test_arrow_arrays(make: Callable[[Any], Any]) -> None:
    pa = pytest.importorskip("pyarrow")
    assert sent(make(pa)) == [1, 2]
    assert sent(pa.table({"age": [1, 2]})) == {"columns": {"age": [1, 2]}}
    with pytest.raises(fdrtd.InputError, match=r"data\.age\[1\] is missing"):
        sent(pa.table({"age": [1, None]}))
    with pytest.raises(fdrtd.InputError, match="data is missing"):
        sent(pa.scalar(None))


def test_the_large_and_the_small_are_written_alike() -> None:
    values = np.random.default_rng(5).normal(size=2000) * 10.0 ** np.arange(-1000, 1000).clip(-300, 300)
    expected = json.dumps(values.tolist())
    for value in (
        values,
        pd.Series(values),
        pl.Series(values),
        list(values),
        array.array("d", values.tolist()),
    ):
        assert _json.encode(value) == expected
    assert _json.encode([*values.tolist(), Decimal(1)]) == expected[:-1] + ", 1]"


def test_the_errors_do_not_show_values() -> None:
    secret = [987654321.5, 192837465]
    for value in (
        [*secret, NAN],
        pd.DataFrame({"a": [*secret, None]}),
        {secret[1]: 1},
        pd.Series([pd.Timestamp(secret[1])]),
        np.array(secret, dtype=np.longdouble),
    ):
        with pytest.raises(fdrtd.InputError) as caught:
            sent(value)
        told = f"{caught.value}{caught.value.extra}"
        assert "987654321" not in told
        assert "192837465" not in told
