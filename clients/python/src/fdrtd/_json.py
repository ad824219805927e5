"""JSON as nodes want it: numbers exact, nothing that JSON does not have, errors that name the position."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from fdrtd import _data
from fdrtd._handle import Remote
from fdrtd.errors import InputError

# Nodes refuse bodies nested deeper than 64, and the body itself is one level around what is encoded here. The
# limit also ends structures that contain themselves.
MAX_DEPTH = 63
# Written out in digits up to this power of ten, with an exponent beyond: 1E+1000000 is not a million zeros.
MAX_PLAIN_EXPONENT = 400
# A binary fraction such as 1/2**1000 has as many decimal digits as its exponent; beyond this it is a mistake.
MAX_FRACTION_DIGITS = 1100

_SCALARS = frozenset({int, float, str, bool, type(None)})
_STR_ONLY = frozenset({str})


@dataclass(frozen=True)
class Encoded:
    """A value that has been encoded already."""

    text: str


def encode(value: Any, name: str = "") -> str:
    """Returns the JSON text of a value, in ASCII.

    Besides the plain types it takes Decimal and Fraction (written exactly), handles, representations, and
    what :mod:`fdrtd._data` knows: arrays, columns, frames. Raises InputError naming the position below
    ``name`` for NaN, infinities, missing values, keys that are not text, unknown types and fractions that are
    no decimal number.
    """
    if _is_plain(value, 0):
        try:
            return _dumps(value)
        except ValueError:
            pass  # NaN, an infinity, or more digits than int itself writes: the slow way knows which.
    writer = _Writer()
    writer.write(value, name, 0)
    return writer.text()


def decode(text: bytes) -> Any:
    """Returns the value of a JSON text: integers exact, whatever their size. Raises ValueError."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except ValueError:
        # int() refuses more than a few thousand digits (and UnicodeDecodeError just comes again).
        return json.loads(text, parse_int=_long_int)


def _is_plain(value: Any, depth: int) -> bool:
    """Whether the C encoder writes this value as we would. Looking at sets of types makes it fast."""
    kind = type(value)
    if kind in _SCALARS:
        return True
    if depth >= MAX_DEPTH:
        return False
    if kind is dict:
        if not _STR_ONLY.issuperset(map(type, value)):
            return False
        children = value.values()
    elif kind is list or kind is tuple:
        children = value
    else:
        return False
    if _SCALARS.issuperset(map(type, children)):
        return True
    return all(_is_plain(child, depth + 1) for child in children)


class _Writer:
    """The slow way: value by value, with the position of each."""

    def __init__(self) -> None:
        self._out: list[str] = []
        self._strict = False  # inside a column, where None is a missing value
        self._bad: tuple[str, str] | None = None  # the first value that is no number: where, and what it is
        self._more_bad = 0

    def text(self) -> str:
        """Returns the text. Raises InputError if there was a value that JSON does not have."""
        if self._bad is None:
            return "".join(self._out)
        path, what = self._bad
        more = self._more_bad
        if more:
            what += f", and {more} more value{'s are' if more > 1 else ' is'} NaN, infinite or missing"
        raise InputError(
            f"{path or 'the value'} is {what}",
            code="NOT_A_NUMBER",
            hint="JSON has no NaN and no infinities: leave the row out, or put a number there; "
            "statistics of tables count missing values that are None in plain lists: "
            "frame.astype(object).where(frame.notna(), None).to_dict('list')",
            extra={"at": path, "count": more + 1},
        )

    def write(self, value: Any, path: str, depth: int) -> None:
        out = self._out
        if value is None and self._strict:
            self._refuse("missing", path)
        elif value is None or isinstance(value, (bool, str)):
            out.append(_dumps(value))
        elif isinstance(value, int):
            out.append(_int_text(value))
        elif isinstance(value, float):
            if math.isfinite(value):
                out.append(float.__repr__(value))
            else:
                self._refuse(_what(value), path)
        elif isinstance(value, Decimal):
            if value.is_finite():
                out.append(_decimal_text(value))
            else:
                self._refuse("NaN" if value.is_nan() else "infinite", path)
        elif isinstance(value, Remote):
            self.write(value._form(), path, depth)
        elif isinstance(value, Encoded):
            out.append(value.text)
        elif isinstance(value, (list, tuple, dict)):
            if depth >= MAX_DEPTH:
                raise _too_deep(path)
            if isinstance(value, dict):
                self._write_dict(value, path, depth)
            else:
                self._write_list(value, path, depth)
        else:
            self._write_foreign(value, path, depth)

    def _refuse(self, what: str, path: str, more: int = 0) -> None:
        if self._bad is None:
            self._bad = (path, what)
        else:
            more += 1
        self._more_bad += more

    def _write_list(self, value: list[Any] | tuple[Any, ...], path: str, depth: int) -> None:
        kinds = set(map(type, value))
        if not kinds <= _SCALARS and all(kind in _SCALARS or _data.is_number_type(kind) for kind in kinds):
            value = [item if type(item) in _SCALARS else item.tolist() for item in value]
            kinds = set(map(type, value))
        if kinds <= _SCALARS and self._write_scalars(value, kinds, path):
            return
        separator = "["
        for index, item in enumerate(value):
            self._out.append(separator)
            self.write(item, f"{path}[{index}]", depth + 1)
            separator = ", "
        self._out.append("]" if value else "[]")

    def _write_scalars(self, value: list[Any] | tuple[Any, ...], kinds: set[type], path: str) -> bool:
        """Writes a list of plain values at once, or notes which of them are no numbers. False: neither."""
        if not (self._strict and type(None) in kinds):
            try:
                self._out.append(_dumps(value))
            except ValueError:
                pass
            else:
                return True
        bad = [
            index
            for index, item in enumerate(value)
            if (type(item) is float and not math.isfinite(item)) or (item is None and self._strict)
        ]
        if bad:
            self._refuse(_what(value[bad[0]]), f"{path}[{bad[0]}]", len(bad) - 1)
        return bool(bad)

    def _write_dict(self, value: dict[Any, Any], path: str, depth: int) -> None:
        separator = "{"
        for key, item in value.items():
            if not isinstance(key, str):
                raise InputError(
                    f"{path or 'the value'} has a key of type {type(key).__name__}",
                    code="KEY_NOT_TEXT",
                    hint="JSON objects have text as keys: convert the keys with str()",
                )
            self._out.append(f"{separator}{_dumps(key)}: ")
            self.write(item, _member(path, key), depth + 1)
            separator = ", "
        self._out.append("}" if value else "{}")

    def _write_foreign(self, value: Any, path: str, depth: int) -> None:
        from fractions import Fraction  # here, because few need it and everybody pays for imports

        if isinstance(value, Fraction):
            self._out.append(_fraction_text(value.numerator, value.denominator, path))
            return
        found = _data.unfold(value, path)
        if isinstance(found, _data.Missing):
            self._refuse("missing", path)
        elif isinstance(found, _data.Plain):
            self.write(found.value, path, depth)
        elif isinstance(found, _data.Column):
            self._write_column(found.values, path, depth)
        else:
            self._write_frame(found, path, depth)

    def _write_column(self, values: Any, path: str, depth: int) -> None:
        outer, self._strict = self._strict, True
        self.write(values, path, depth)
        self._strict = outer

    def _write_frame(self, frame: _data.Frame, path: str, depth: int) -> None:
        # The long form, in which a column may have any name ("vectors", say).
        self._out.append('{"columns": {')
        seen: set[str] = set()
        for name, column in frame.columns:
            if not isinstance(name, str):
                raise InputError(
                    f"{path or 'the frame'} has a column whose name is of type {type(name).__name__}",
                    code="KEY_NOT_TEXT",
                    hint="columns have text as names: write frame.rename(columns=str)",
                )
            if name in seen:
                raise InputError(
                    f"{path or 'the frame'} has two columns with the name {_shorten(_dumps(name))}",
                    code="COLUMN_TWICE",
                    hint="rename one of them, or leave it out",
                )
            self._out.append(f"{', ' if seen else ''}{_dumps(name)}: ")
            seen.add(name)
            self.write(column, _member(path, name), depth + 2)
        self._out.append("}}")


# One for all: making one takes longer than writing a word with it.
_dumps = json.JSONEncoder(allow_nan=False).encode


def _int_text(value: int) -> str:
    try:
        return int.__repr__(value)
    except ValueError:
        # Since Python 3.11 int refuses to print more than 4300 digits; Decimal does not, and is exact here.
        return str(Decimal(value))


def _what(value: float | None) -> str:
    if value is None:
        return "missing"
    return "NaN" if math.isnan(value) else "infinite"


def _too_deep(path: str) -> InputError:
    return InputError(
        f"{_shorten(path) or 'the value'} is nested deeper than {MAX_DEPTH} levels",
        code="NESTED_TOO_DEEP",
        hint="does it contain itself?",
    )


def _decimal_text(value: Decimal) -> str:
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and abs(exponent) <= MAX_PLAIN_EXPONENT:
        return format(value, "f")
    return str(value)


def _fraction_text(numerator: int, denominator: int, path: str) -> str:
    scale = 0
    rest = denominator
    for prime in (2, 5):
        count = 0
        while rest % prime == 0 and count <= MAX_FRACTION_DIGITS:
            rest //= prime
            count += 1
        scale = max(scale, count)
    if rest != 1 or scale > MAX_FRACTION_DIGITS:
        raise InputError(
            f"{path or 'the value'} is a fraction without an exact decimal form",
            code="FRACTION_NOT_DECIMAL",
            hint="round it yourself, for example float(x) or round(x, 6)",
        )
    # Moved to the exponent by construction; arithmetic on Decimal would round to the context's precision.
    sign, digits, _ = Decimal(numerator * 10**scale // denominator).as_tuple()
    return format(Decimal((sign, digits, -scale)), "f")


def _long_int(digits: str) -> int:
    return int(Decimal(digits))


def _member(path: str, key: str) -> str:
    if key.isidentifier():
        return f"{path}.{key}" if path else key
    return f"{path}[{_dumps(key)}]"


def _shorten(path: str) -> str:
    return path if len(path) <= 80 else f"{path[:80]}…"
