"""What a result should be, number by number, and whether it is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Union

import mpmath
from mpmath import mpf

mpmath.mp.dps = 60

Json = Any
Number = Union[int, Fraction, mpf]

#: What is asked of every number that is well conditioned.
RELATIVE = 1e-12
LARGEST = mpf(2) ** 1024


def real(number: Number) -> mpf:
    """With 60 digits."""
    if isinstance(number, Fraction):
        return mpf(number.numerator) / mpf(number.denominator)
    return mpf(number)


@dataclass(frozen=True)
class Close:
    """A number within `relative` of this one, or within `absolute`."""

    value: Number
    relative: float = RELATIVE
    absolute: Number = 0


@dataclass(frozen=True)
class Nearest:
    """The double that is nearest to this number; whole numbers below 2^63 as they are."""

    value: Fraction


@dataclass(frozen=True)
class Null:
    """No number, for one of these reasons."""

    reason: str


@dataclass(frozen=True)
class Exactly:
    """This value: a count, a name, a parameter."""

    value: Json


def nearest(value: Fraction) -> int | float:
    """As a result writes it."""
    if value.denominator == 1 and abs(value.numerator) < 2**63:
        return value.numerator
    return float(value)


def check(result: Json, expected: Json) -> None:
    """`expected` has the form of the result."""
    reasons: dict[str, str] = {}
    result = dict(result)
    given = result.pop("reasons", {})
    try:
        _check(result, expected, "", reasons)
        assert given == reasons, f"reasons are {given}, not {reasons}"
    except AssertionError as error:
        raise AssertionError(f"{error}\nresult: {result}\nreasons: {given}\nexpected: {expected}") from None


def _check(got: Json, expected: Json, path: str, reasons: dict[str, str]) -> None:
    if isinstance(expected, dict):
        assert isinstance(got, dict), path
        assert list(got) == list(expected), f"{path} has {list(got)}, not {list(expected)}"
        for name, member in expected.items():
            _check(got[name], member, f"{path}.{name}" if path else name, reasons)
    elif isinstance(expected, list):
        assert isinstance(got, list), path
        assert len(got) == len(expected), f"{path} has {len(got)} members"
        for index, (one, other) in enumerate(zip(got, expected)):
            _check(one, other, f"{path}[{index}]", reasons)
    elif isinstance(expected, Null):
        assert got is None, f"{path} is {got}, not null for {expected.reason}"
        reasons[path] = expected.reason
    elif isinstance(expected, Exactly):
        assert got == expected.value, f"{path} is {got!r}, not {expected.value!r}"
        assert type(got) is type(expected.value), f"{path} is {got!r}, not {expected.value!r}"
    elif isinstance(expected, Nearest):
        if abs(expected.value) >= LARGEST:
            assert got is None, path
            reasons[path] = "BEYOND_DOUBLES"
            return
        wanted = nearest(expected.value)
        assert got == wanted, f"{path} is {got!r}, not {wanted!r}"
        assert type(got) is type(wanted), f"{path} is {got!r}, not {wanted!r}"
    else:
        _close(got, expected, path, reasons)


def _close(got: Json, expected: Close, path: str, reasons: dict[str, str]) -> None:
    value = real(expected.value)
    if abs(value) >= LARGEST:
        assert got is None, path
        reasons[path] = "BEYOND_DOUBLES"
        return
    assert isinstance(got, (int, float)), f"{path} is {got!r}, not {mpmath.nstr(value, 20)}"
    assert math.isfinite(got), path
    # What is below the smallest normal double has fewer digits.
    allowed = abs(value) * expected.relative + real(expected.absolute) + mpf(2) ** -1074
    error = abs(mpf(got) - value)
    assert error <= allowed, (
        f"{path} is {got!r}, not {mpmath.nstr(value, 20)}: off by {mpmath.nstr(error, 3)}, "
        f"{mpmath.nstr(error / abs(value), 3) if value else 'of 0'} of it; allowed is {mpmath.nstr(allowed, 3)}"
    )
