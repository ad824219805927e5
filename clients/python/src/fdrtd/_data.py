"""Data of other libraries as they come: arrays, columns and frames, known by their types' names.

Nothing is imported for this: whoever has a frame in hand has imported its library already.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fdrtd.errors import InputError

# Types of missing values of their own.
_MISSING = frozenset({("pandas", "NAType"), ("pandas", "NaTType"), ("numpy", "MaskedConstant")})
_FRAMES = frozenset({("pandas", "DataFrame"), ("polars", "DataFrame"), ("pyarrow", "Table")}) | {
    ("pyarrow", "RecordBatch")
}
_COLUMNS = {
    ("pandas", "Series"): "tolist",
    ("pandas", "Index"): "tolist",
    ("pandas", "ExtensionArray"): "tolist",
    ("polars", "Series"): "to_list",
    ("pyarrow", "Array"): "to_pylist",
    ("pyarrow", "ChunkedArray"): "to_pylist",
    ("numpy", "MaskedArray"): "tolist",
}
_ONCE = "it can be read only once: write list(…)"
_DATES = "nodes compute with numbers: write .timestamp() or .toordinal(); for text write .isoformat()"
_SPANS = "nodes compute with numbers: write .total_seconds(), or divide by the unit that you want"
# What to do, by the name of the type or of one that it comes from.
_REMEDIES = {
    "generator": _ONCE,
    "date": _DATES,
    "time": "nodes compute with numbers: write the hours, or .isoformat() for text",
    "timedelta": _SPANS,
    "datetime64": _DATES,
    "timedelta64": _SPANS,
    "set": "a set has no order: write sorted(…) or list(…)",
    "frozenset": "a set has no order: write sorted(…) or list(…)",
    "bytes": "for text write .decode(), for numbers list(…)",
    "bytearray": "for text write .decode(), for numbers list(…)",
    "complex": "write .real and .imag apart",
    "longdouble": "write float(x), or .astype(float) for an array",
    "clongdouble": "write .real and .imag apart, as float",
    "LazyFrame": "write .collect()",
    "MultiIndex": "write .get_level_values(0), or another level",
    "UUID": "write str(…)",
    "PurePath": "write str(…)",
    "coroutine": "was an await forgotten?",
    "deque": "write list(…)",
    "dict_keys": "write list(…)",
    "dict_values": "write list(…)",
    "dict_items": "write dict(…) or list(…)",
}
_ANY = (
    "use numbers, text, True, False, None, lists, dicts, Decimal, numpy arrays, columns of pandas or polars, "
    "or handles"
)


@dataclass(frozen=True)
class Column:
    """A list of values of which none may be missing."""

    values: Any


@dataclass(frozen=True)
class Frame:
    """Columns by name."""

    columns: Iterator[tuple[Any, Any]]


@dataclass(frozen=True)
class Plain:
    """The same in Python's own types."""

    value: Any


class Missing:
    """A value that stands for none."""


def unfold(value: Any, path: str) -> Column | Frame | Plain | Missing:
    """What a value of a type that JSON does not have means. Raises InputError if it means nothing here."""
    names = _names(type(value))
    if not names.isdisjoint(_MISSING):
        return Missing()
    if ("pandas", "MultiIndex") in names:
        raise unknown(value, path)
    if not names.isdisjoint(_FRAMES):
        return Frame(_columns(value, names))
    kind = getattr(getattr(value, "dtype", None), "kind", None) if not names.isdisjoint(_NUMPY) else None
    if kind in ("M", "m"):
        # In nanoseconds numpy gives them as bare numbers, which would be summed without a word.
        raise unknown(value, path, "datetime64" if kind == "M" else "timedelta64")
    if kind == "V":
        raise unknown(value, path, remedy="give its fields as columns: {name: array[name] for name in …}")
    for name, method in _COLUMNS.items():
        if name in names:
            return Column(getattr(value, method)())
    if ("pyarrow", "Scalar") in names:
        plain = value.as_py()
        return Missing() if plain is None else Plain(plain)
    if type(value) is range:
        return Plain(list(value))
    # Asked of the type: an object that answers to every name (a mock, a proxy) is no array.
    tolist = getattr(type(value), "tolist", None)
    if tolist is not None:
        plain = tolist(value)
        if type(plain) is not type(value):  # numpy's long double has no plain form and returns itself
            return Plain(plain)
    raise unknown(value, path)


def is_number_type(kind: type) -> bool:
    """Whether this is a type of numpy's scalar numbers. Its timedelta64 comes from integers, and is none."""
    names = _names(kind)
    return ("numpy", "number") in names and ("numpy", "timedelta64") not in names


def unknown(value: Any, path: str, name: str | None = None, remedy: str | None = None) -> InputError:
    """The error for a type that JSON does not have."""
    bases = [base.__name__ for base in type(value).__mro__]
    if remedy is None and name is None and hasattr(type(value), "__next__"):
        remedy = _ONCE
    for base in [name, *bases]:
        remedy = remedy or _REMEDIES.get(base or "")
    return InputError(
        f"{path or 'the value'} is of type {name or bases[0]}, which JSON does not have",
        code="UNKNOWN_TYPE",
        hint=remedy or _ANY,
    )


_NUMPY = frozenset({("numpy", "ndarray"), ("numpy", "generic")})


def _names(kind: type) -> frozenset[tuple[str, str]]:
    return frozenset((base.__module__.partition(".")[0], base.__name__) for base in kind.__mro__)


def _columns(frame: Any, names: frozenset[tuple[str, str]]) -> Iterator[tuple[Any, Any]]:
    if ("pandas", "DataFrame") in names:
        return iter(frame.items())
    if ("polars", "DataFrame") in names:
        return ((column.name, column) for column in frame.get_columns())
    return zip(frame.column_names, frame.columns)
