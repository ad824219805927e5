"""Data that hypothesis draws: decimal numbers as they are written, dealt to parties."""

from __future__ import annotations

import os
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from simulator import Written

Json = Any

#: `FDRTD_EXAMPLES=20` tries twenty times as many.
MORE = int(os.environ.get("FDRTD_EXAMPLES", "1"))


def examples(count: int) -> settings:
    """The same ones in every run, so that a change is judged by what it changes; others with FDRTD_EXAMPLES."""
    return settings(
        max_examples=count * MORE,
        derandomize=MORE == 1,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )


@dataclass(frozen=True)
class Kind:
    """Numbers that are whole multiples of 10^-after, around an offset."""

    name: str
    least: int
    most: int
    after: int
    offset: Decimal = Decimal(0)
    #: Parameters that such numbers need.
    digits: tuple[tuple[str, int], ...] = ()

    def number(self, units: int) -> Decimal:
        return self.offset + Decimal(units).scaleb(-self.after)

    @property
    def parameters(self) -> dict[str, int]:
        return dict(self.digits)


KINDS = [
    Kind("small whole numbers", -9, 9, 0),
    Kind("ages", 0, 110, 0),
    Kind("hundredths", -99_999, 99_999, 2),
    Kind("offset 1e6", -600, 600, 2, Decimal(10) ** 6),
    Kind("offset 1e9", -600, 600, 2, Decimal(10) ** 9),
    Kind("offset 1e12", -600, 600, 2, Decimal(10) ** 12, (("digits_after", 12),)),
    Kind("offset -1e12", -(10**9), 10**9, 9, -(Decimal(10) ** 12), (("digits_after", 15),)),
    Kind("tiny", -999, 999, 12),
    Kind("tinier", 1, 999, 40, digits=(("digits_after", 40),)),
    Kind("large", -(10**17), 10**17, 0),
    Kind("1e60", -999, 999, -58, digits=(("digits_before", 61),)),
    Kind("1e300", 1, 999, -298, digits=(("digits_before", 301),)),
    Kind("as many decimals as there are", -(10**15), 10**15, 12),
    Kind("all magnitudes", 1, 10**25, 12),
]


def sizes(least: int = 0, most: int = 12) -> st.SearchStrategy[int]:
    return st.integers(least, most)


@st.composite
def kinds(draw: st.DrawFn, among: list[Kind] | None = None) -> Kind:
    return draw(st.sampled_from(among or KINDS))


@st.composite
def numbers(draw: st.DrawFn, kind: Kind, size: int) -> list[Decimal]:
    """Of some shape: any, constant, two values, an outlier."""
    units = st.integers(kind.least, kind.most)
    shape = draw(st.sampled_from(["any", "any", "any", "constant", "two values", "outlier"]))
    if shape == "any":
        drawn = draw(st.lists(units, min_size=size, max_size=size))
    elif shape == "two values":
        pair = [draw(units), draw(units)]
        drawn = [pair[draw(st.integers(0, 1))] for _ in range(size)]
    else:
        drawn = [draw(units)] * size
        if shape == "outlier" and size:
            drawn[draw(st.integers(0, size - 1))] = draw(units)
    return [kind.number(unit) for unit in drawn]


@st.composite
def dealt(draw: st.DrawFn, rows: list[Json], least: int = 2, most: int = 8) -> list[list[Json]]:
    """Rows to parties, some of which may get none."""
    parties = draw(st.integers(least, most))
    to = draw(st.lists(st.integers(0, parties - 1), min_size=len(rows), max_size=len(rows)))
    hands: list[list[Json]] = [[] for _ in range(parties)]
    for row, party in zip(rows, to):
        hands[party].append(row)
    return hands


@st.composite
def with_holes(draw: st.DrawFn, rows: list[Json]) -> list[Json]:
    """With missing values here and there."""
    if not draw(st.booleans()):
        return rows
    holes = draw(st.lists(st.integers(0, 4), min_size=len(rows), max_size=len(rows)))
    return [None if hole == 0 else row for row, hole in zip(rows, holes)]


def written(value: Json) -> Json:
    """Decimals as their text, so that no digit is lost on the way."""
    if isinstance(value, Decimal):
        return Written(format(value, "f") if abs(value.adjusted()) < 30 else str(value).replace("E+", "e"))
    if isinstance(value, (list, tuple)):
        return [written(member) for member in value]
    if isinstance(value, dict):
        return {name: written(member) for name, member in value.items()}
    return value


def exact(values: list[Json]) -> list[Fraction]:
    """Those that are there."""
    return [Fraction(value) for value in values if value is not None]
