"""JSON as nodes want it: numbers exact, nothing that JSON does not have, errors that name the position."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

from fdrtd._handle import Handle, to_dict
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


def encode(value: Any, name: str = "") -> str:
    """Returns the JSON text of a value, in ASCII.

    Besides the plain types it takes Decimal and Fraction (written exactly), handles, and whatever has a
    ``tolist`` method, such as numpy scalars and arrays. Raises InputError naming the position below ``name``
    for NaN, infinities, keys that are not text, unknown types and fractions that are no decimal number.
    """
    if _is_plain(value, 0):
        try:
            return _dumps(value)
        except ValueError:
            pass  # NaN, an infinity, or more digits than int itself writes: the slow way knows which.
    chunks: list[str] = []
    _write(value, name, 0, chunks)
    return "".join(chunks)


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


def _write(value: Any, path: str, depth: int, out: list[str]) -> None:
    if value is None or isinstance(value, (bool, str)):
        out.append(_dumps(value))
    elif isinstance(value, int):
        out.append(_int_text(value))
    elif isinstance(value, float):
        out.append(_float_text(value, path))
    elif isinstance(value, Decimal):
        out.append(_decimal_text(value, path))
    elif isinstance(value, Handle):
        _write(to_dict(value), path, depth, out)
    elif isinstance(value, (list, tuple, dict)):
        if depth >= MAX_DEPTH:
            raise InputError(
                f"{_shorten(path) or 'the value'} is nested deeper than {MAX_DEPTH} levels",
                code="NESTED_TOO_DEEP",
                hint="does it contain itself?",
            )
        if isinstance(value, dict):
            _write_dict(value, path, depth, out)
        else:
            _write_list(value, path, depth, out)
    else:
        _write_foreign(value, path, depth, out)


def _write_list(value: list[Any] | tuple[Any, ...], path: str, depth: int, out: list[str]) -> None:
    separator = "["
    for index, item in enumerate(value):
        out.append(separator)
        _write(item, f"{path}[{index}]", depth + 1, out)
        separator = ", "
    out.append("]" if value else "[]")


def _write_dict(value: dict[Any, Any], path: str, depth: int, out: list[str]) -> None:
    separator = "{"
    for key, item in value.items():
        if not isinstance(key, str):
            raise InputError(
                f"{path or 'the value'} has a key of type {type(key).__name__}",
                code="KEY_NOT_TEXT",
                hint="JSON objects have text as keys: convert the keys with str()",
            )
        out.append(f"{separator}{_dumps(key)}: ")
        _write(item, _member(path, key), depth + 1, out)
        separator = ", "
    out.append("}" if value else "{}")


def _write_foreign(value: Any, path: str, depth: int, out: list[str]) -> None:
    """numpy scalars and arrays, known by their ``tolist``; then fractions; then the end."""
    # Asked of the type: an object that answers to every name (a mock, a proxy) is no array.
    tolist = getattr(type(value), "tolist", None)
    if tolist is not None:
        plain = tolist(value)
        if type(plain) is not type(value):  # numpy's long double has no plain form and returns itself
            if _is_plain(plain, depth):
                try:
                    out.append(_dumps(plain))
                    return
                except ValueError:
                    pass
            _write(plain, path, depth, out)
            return
    from fractions import Fraction  # here, because few need it and everybody pays for imports

    if isinstance(value, Fraction):
        out.append(_fraction_text(value.numerator, value.denominator, path))
        return
    raise InputError(
        f"{path or 'the value'} is of type {type(value).__name__}, which JSON does not have",
        code="UNKNOWN_TYPE",
        hint="use numbers, text, True, False, None, lists, dicts, Decimal, numpy arrays or handles",
    )


def _dumps(value: Any) -> str:
    return json.dumps(value, allow_nan=False)


def _int_text(value: int) -> str:
    try:
        return int.__repr__(value)
    except ValueError:
        # Since Python 3.11 int refuses to print more than 4300 digits; Decimal does not, and is exact here.
        return str(Decimal(value))


def _float_text(value: float, path: str) -> str:
    if not math.isfinite(value):
        raise _not_a_number("NaN" if math.isnan(value) else "infinite", path)
    return float.__repr__(value)


def _decimal_text(value: Decimal, path: str) -> str:
    if not value.is_finite():
        raise _not_a_number("NaN" if value.is_nan() else "infinite", path)
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


def _not_a_number(what: str, path: str) -> InputError:
    return InputError(
        f"{path or 'the value'} is {what}",
        code="NOT_A_NUMBER",
        hint="JSON has no NaN and no infinities: leave the row out, or put a number there",
    )


def _long_int(digits: str) -> int:
    return int(Decimal(digits))


def _member(path: str, key: str) -> str:
    if key.isidentifier():
        return f"{path}.{key}" if path else key
    return f"{path}[{_dumps(key)}]"


def _shorten(path: str) -> str:
    return path if len(path) <= 80 else f"{path[:80]}…"
