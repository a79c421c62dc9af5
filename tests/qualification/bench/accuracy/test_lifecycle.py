"""A short run of the simulation, and its basis: the highest registers are those of sketches that the server merged."""

from __future__ import annotations

import numpy as np
import pytest
from redis import Redis

from api.ledger.union_errors import variance
from deploy.demo.servers import Valkey
from tests.qualification.bench.accuracy.lifecycle import missed, simulate, summary
from tests.qualification.bench.accuracy.sketches import (
    REDIS_HIGHEST,
    REDIS_M,
    REDIS_SEED,
    murmur64a,
    raise_registers,
    redis_estimate,
    rows,
)

FIGURES = {
    "new",
    "returning",
    "reactivated",
    "lapsed",
    "retained",
    "rate",
    "retained of new",
    "rate of new",
}


def test_estimate_of_the_highest_registers_is_that_of_the_merged_sketches() -> None:
    groups = [
        [f"{name}-{number:06}" for number in range(size)] for name, size in (("a", 3000), ("b", 70), ("c", 40_000))
    ]
    registers = np.zeros((len(groups), REDIS_M), np.uint8)
    with Valkey() as server, Redis.from_url(server.url) as client:
        for number, ids in enumerate(groups):
            raise_registers(registers[number], murmur64a(rows(ids), REDIS_SEED), REDIS_HIGHEST)
            for first in range(0, len(ids), 4000):
                client.pfadd(str(number), *ids[first : first + 4000])
        for union in ([0, 1], [1, 2], [0, 1, 2]):
            assert client.pfcount(*map(str, union)) == redis_estimate(registers[union].max(axis=0)), union


@pytest.mark.parametrize(("parts", "sites", "regions"), [(4, 600, 1), (16, 300, 1), (4, 300, 2)])
def test_intervals_contain_the_truth_and_bounds_are_above_it(parts: int, sites: int, regions: int) -> None:
    found = list(summary(parts, simulate(parts, sites, 7, regions)))
    assert {row["figure"] for row in found} == FIGURES
    # With so few sites a share can miss the goal by chance; 0.04 is about two standard errors of a share.
    assert not missed(found, [], slack=0.04)


@pytest.mark.parametrize(
    ("sizes", "overlaps", "expected", "why"),
    [
        ((2e6, 1.99e6), (1.99e6,), 420, "10,000 new of 2 M"),
        ((200e3, 198e3), (198e3,), 54 * 2, "2,000 new of 200,000, a quarter of the registers"),
    ],
)
def test_errors_are_those_of_an_independent_simulation(
    sizes: tuple[float, float], overlaps: tuple[float], expected: float, why: str
) -> None:
    parts = 16 if sizes[0] > 1e6 else 4
    assert variance(parts, (1, -1), sizes, overlaps, (parts, parts)) ** 0.5 == pytest.approx(expected, rel=0.08), why
