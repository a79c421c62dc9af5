"""The error of each arm at each number of users, and what is asked of it against java-hll."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from hyperloglog import HyperLogLog

from schemas.ledger.accuracy import K_MONTHS, K_OTHERS
from schemas.ledger.scopes import EVERYTHING
from tests.qualification.bench.accuracy.ledger import NODE, OneShard
from tests.qualification.bench.accuracy.sketches import (
    JAVA_HIGHEST,
    JAVA_M,
    REDIS_HIGHEST,
    REDIS_M,
    U8,
    Floats,
    draw_registers,
    java_estimate,
    murmur64a,
    raise_registers,
    redis_estimate,
    redis_registers,
    rows,
)

MONTHS: Final = f"ours, k = {K_MONTHS}"
OTHERS: Final = f"ours, k = {K_OTHERS}"
JAVA: Final = "java-hll"
PACKAGE: Final = "hyperloglog"
ARMS: Final = (MONTHS, OTHERS, JAVA, PACKAGE)

ON_THE_WAY: Final = (
    *(1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 2_560, 2_561, 3_000, 4_096, 4_097, 4_500, 5_000, 7_000),
    *(10_000, 15_000, 20_000, 30_000, 40_000, 50_000, 60_000, 65_000, 70_000, 75_000, 80_000, 82_000, 85_000),
    *(90_000, 95_000, 100_000),
)
"""Numbers of users at which a real run is asked."""
DRAWN: Final = (
    *(100_000, 105_000, 110_000, 115_000, 120_000, 125_000, 130_000, 150_000, 200_000, 300_000, 500_000),
    *(1_000_000, 2_000_000, 5_000_000, 10_000_000),
)
"""Numbers of users for which registers are drawn; the first is there to be compared with real runs."""
EXACT_UP_TO: Final = 4096
PACKAGE_ERROR: Final = 0.00575
"""What the package takes; it makes 2^15 registers of it, as many as java-hll has."""
JAVA_SEED: Final = 0x5EED
"""java-hll wants 64 well-mixed bits and leaves the hash to its caller."""
RESAMPLES: Final = 2_000


@dataclass(frozen=True)
class Goal:
    """The most that an arm's error may be of java-hll's, from `least` to `most` users."""

    arm: str
    ratio: float
    least: int
    most: int


GOALS: Final = (
    Goal(MONTHS, 0.36, 200_000, 10_000_000),
    Goal(MONTHS, 0.10, 82_000, 82_000),
    Goal(MONTHS, 0.40, EXACT_UP_TO + 1, 10_000_000),
    Goal(OTHERS, 0.74, EXACT_UP_TO + 1, 10_000_000),
    Goal(OTHERS, 0.16, 82_000, 82_000),
)


@dataclass
class Errors:
    """Relative errors by arm and number of users, one per run; the same place is the same set of ids."""

    real: dict[tuple[str, int], list[float]] = field(default_factory=lambda: defaultdict(list))
    drawn: dict[tuple[str, int], list[float]] = field(default_factory=lambda: defaultdict(list))
    checked_sketches: int = 0
    """Sketches whose PFCOUNT was found equal to the formula that drawn registers are estimated with."""

    def sure(self, arm: str, users: int) -> tuple[str, list[float]]:
        """Where they stand side by side: real runs where every run went, else drawn ones."""
        if users <= ON_THE_WAY[-1]:
            return "real", self.real.get((arm, users), [])
        return "drawn", self.drawn.get((arm, users), [])


def ids(run: int, first: int, end: int) -> list[str]:
    return [f"user-{run:05}-{number:010}" for number in range(first, end)]


async def real_runs(
    shard: OneShard, runs: range, asked_at: tuple[int, ...], into: Errors, *, package: bool, say: Callable[[int], None]
) -> None:
    """Runs up to the last of `asked_at`, each asked on its way there, all arms fed with the same ids."""
    for run in runs:
        await shard.begin()
        java = np.zeros(JAVA_M, np.uint8)
        other = HyperLogLog(PACKAGE_ERROR) if package else None
        if other is not None and other.m != JAVA_M:
            raise RuntimeError(f"void: the package made {other.m} registers of {PACKAGE_ERROR}")
        before = 0
        for users in asked_at:
            for first in range(before, users, 100_000):
                some = ids(run, first, min(first + 100_000, users))
                await shard.add(some)
                raise_registers(java, murmur64a(rows(some), JAVA_SEED), JAVA_HIGHEST)
                if other is not None:
                    other.add_bulk(some)
            before = users
            for arm, scope in ((MONTHS, EVERYTHING), (OTHERS, NODE)):
                answer = await shard.active(scope)
                if (answer.standard_error == 0) != (users <= EXACT_UP_TO):
                    raise RuntimeError(f"void: {users} users answered with a standard error of {answer.standard_error}")
                into.real[arm, users].append(answer.count / users - 1)
            into.real[JAVA, users].append(java_estimate(java, users) / users - 1)
            if other is not None:
                into.real[PACKAGE, users].append(len(other) / users - 1)
        into.checked_sketches += await _same_estimates(shard)
        say(run)


async def _same_estimates(shard: OneShard) -> int:
    """Hold our reading of PFCOUNT's formula against PFCOUNT. Raises RuntimeError where they differ."""
    found = [*await shard.sketches(EVERYTHING, K_MONTHS), *await shard.sketches(NODE, K_OTHERS)]
    dense = [(value, count) for value, count in found if value[4] == 0]
    for value, count in dense:
        formula = redis_estimate(redis_registers(value))
        if formula != count:
            raise RuntimeError(f"void: PFCOUNT says {count}, its formula {formula}")
    return len(dense)


def draw(chance: np.random.Generator, runs: int, users: int, into: Errors) -> None:
    """Runs whose registers are drawn. k = 4 is the same users in fewer sketches: the union of every fourth part."""
    for _ in range(runs):
        parts = draw_registers(chance, users, K_MONTHS * REDIS_M, REDIS_HIGHEST).reshape(K_MONTHS, REDIS_M)
        into.drawn[MONTHS, users].append(_sum(parts) / users - 1)
        fewer = parts.reshape(K_MONTHS // K_OTHERS, K_OTHERS, REDIS_M).max(axis=0)
        into.drawn[OTHERS, users].append(_sum(fewer) / users - 1)
        java = draw_registers(chance, users, JAVA_M, JAVA_HIGHEST)
        into.drawn[JAVA, users].append(java_estimate(java, users) / users - 1)


def _sum(parts: U8) -> int:
    return sum(redis_estimate(part) for part in parts)


def rmse(errors: Any) -> float:
    return math.sqrt(float(np.mean(np.square(errors))))


def ratio(ours: list[float], theirs: list[float]) -> tuple[float, float, float] | None:
    """Ratio of the root mean square errors and its 95 % interval by bootstrap over runs; None where theirs is exact."""
    if not any(theirs):
        return None
    a, b = np.square(ours), np.square(theirs)
    chance = np.random.default_rng(1)
    chosen = chance.integers(0, a.size, (RESAMPLES, a.size))
    ratios: Floats = np.sqrt(a[chosen].mean(axis=1) / b[chosen].mean(axis=1))
    low, high = np.percentile(ratios, (2.5, 97.5))
    return rmse(ours) / rmse(theirs), float(low), float(high)


def rank_of(found: list[float], among: list[float]) -> float:
    """Share of samples of as many errors `among` drawn ones whose rmse is at most that of `found`: odd near 0 or 1."""
    chance = np.random.default_rng(2)
    squares = np.square(among)
    samples = squares[chance.integers(0, squares.size, (20_000, len(found)))].mean(axis=1)
    return float(np.mean(samples <= np.mean(np.square(found))))
