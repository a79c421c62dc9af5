"""Users of four periods as registers: all before, the period before, a period, a later one; with their true numbers.

A group is the users with the same periods. Its registers are drawn, and those of a union are the highest of its groups,
exactly as Redis merges them. `test_sketches.py` compares drawn registers and estimates with a server.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from api.ledger.lifecycle_figures import Figure, Rate, cohort_figures, lifecycle_figures
from api.ledger.lifecycle_unions import Active, Cohort, CohortRow, LifecycleRow, Pair, Row
from tests.qualification.bench.accuracy.sketches import (
    REDIS_HIGHEST,
    REDIS_M,
    U8,
    draw_registers,
    raise_registers,
    redis_estimate,
)

EARLIER, PREVIOUS, CURRENT, LATER = 8, 4, 2, 1
"""Bits of a group: active before the previous period, in it, in the current one, in a later one."""
GROUPS: Final = range(1, 16)
FEW: Final = 0.2
"""Users per register below which every user is drawn one by one, which is quicker."""

Groups = dict[int, int]
"""Number of users by the periods in which they are active."""


class Truth(NamedTuple):
    """A figure's true number, and the figure of which the same is expected."""

    name: str
    number: float
    figure: Figure | Rate


def random_groups(chance: np.random.Generator, most: float = 1e6) -> Groups:
    """A site of 10 to `most` users before the current period, on a logarithmic scale, with any churn."""
    ever = 10 ** chance.uniform(1, np.log10(most))
    previous = ever * chance.uniform(0.02, 0.9)
    groups = _split(
        chance, {PREVIOUS: previous / 2, PREVIOUS | EARLIER: previous / 2, EARLIER: ever - previous}, CURRENT
    )
    groups[CURRENT] = ever * 10 ** chance.uniform(-4, -0.2)
    groups = _split(chance, groups, LATER)
    return {group: round(users) for group, users in groups.items() if users >= 0.5}


def _split(chance: np.random.Generator, groups: dict[int, float], period: int) -> dict[int, float]:
    """Some users of each group are active in a further period: few, about half or nearly all."""
    found: dict[int, float] = {}
    for group, users in groups.items():
        share = 10 ** chance.uniform(-3.5, 0)
        share = 1 - share if chance.random() < 0.5 else share
        found[group | period], found[group] = users * share, users * (1 - share)
    return found


def size(groups: Groups, includes: Callable[[int], object]) -> int:
    return sum(users for group, users in groups.items() if includes(group))


class Sketches:
    """The registers of every group, and the estimates of unions."""

    def __init__(self, chance: np.random.Generator, groups: Groups, parts: int) -> None:
        self._parts = parts
        self._registers = {group: _draw(chance, users, parts * REDIS_M) for group, users in groups.items()}

    def count(self, periods: int) -> int:
        """The estimate of all users with any of these periods, summed over the parts."""
        union = np.zeros(self._parts * REDIS_M, np.uint8)
        for group, registers in self._registers.items():
            if group & periods:
                np.maximum(union, registers, out=union)
        return sum(redis_estimate(part) for part in union.reshape(self._parts, REDIS_M))

    def unions(self) -> tuple[LifecycleRow, CohortRow, CohortRow]:
        """Those of the current period, of its users as a cohort, and of its new users as one."""
        parts = self._parts
        base = EARLIER | PREVIOUS
        pair = Pair(parts, self.count(PREVIOUS), self.count(CURRENT), self.count(PREVIOUS | CURRENT))
        row = Row(pair, self.count(base), self.count(base | CURRENT), only_previous=False)
        later, all_later = self.count(LATER), self.count(CURRENT | LATER)
        active = Cohort(parts, 0, pair.current, later, all_later)
        new = Cohort(parts, row.before, row.after, self.count(base | LATER), self.count(base | CURRENT | LATER))
        whole = LifecycleRow(Active(parts, pair.current), pair, row)
        return whole, CohortRow(active, [active]), CohortRow(new, [new])


def figures(sketches: Sequence[Sketches], groups: Sequence[Groups]) -> list[Truth]:
    """Every figure of the current period, by the product's own functions; of several sites as of separate regions."""

    def users(includes: Callable[[int], object]) -> int:
        return sum(size(group, includes) for group in groups)

    whole, active, new = zip(*(sketch.unions() for sketch in sketches), strict=True)
    found = lifecycle_figures(whole)
    (of_active,), (of_new,) = cohort_figures(active).ages, cohort_figures(new).ages
    base = EARLIER | PREVIOUS
    both = users(lambda group: group & CURRENT and group & LATER)
    entered = users(lambda group: group & CURRENT and not group & base)
    stayed = users(lambda group: group & CURRENT and group & LATER and not group & base)
    current = users(lambda group: group & CURRENT)
    back = users(lambda group: group & CURRENT and group & EARLIER and not group & PREVIOUS)
    return [
        Truth("new", entered, found.new),
        Truth("returning", users(lambda group: group & CURRENT and group & PREVIOUS), found.returning),
        Truth("reactivated", back, found.reactivated),
        Truth("lapsed", users(lambda group: group & PREVIOUS and not group & CURRENT), found.lapsed),
        Truth("retained", both, of_active[0]),
        Truth("rate", both / current if current else 0.0, of_active[1]),
        Truth("retained of new", stayed, of_new[0]),
        Truth("rate of new", stayed / entered if entered else 0.0, of_new[1]),
    ]


def _draw(chance: np.random.Generator, users: int, cells: int) -> U8:
    if users >= FEW * cells:
        return draw_registers(chance, users, cells, REDIS_HIGHEST)
    registers = np.zeros(cells, np.uint8)
    hashes: npt.NDArray[np.uint64] = chance.integers(0, 1 << 64, users, dtype=np.uint64)
    raise_registers(registers, hashes, REDIS_HIGHEST)
    return registers
