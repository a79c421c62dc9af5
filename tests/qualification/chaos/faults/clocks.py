"""Clocks of workers and of the store go wrong by seconds, hours, years, and right again.

While a worker's clock is more than ten minutes from the store's, or one of them lies before the release date, it must
count nothing and send no dead letter.
"""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Sequence
from typing import Final

from schemas.ledger.keys import Shard
from tests.integration.workers import WorkerProcess
from tests.qualification.chaos.clocks import NOTICED_S
from tests.qualification.chaos.faults.kinds import fault
from tests.qualification.chaos.faults.stores import some_primary
from tests.qualification.chaos.letters import dead_letters
from tests.qualification.chaos.site import DEAD, Site
from tests.qualification.chaos.waiting import wait_for

HOURS_S: Final = (-7200, -3600, -900, 900, 3600, 7200)
"""A year would have the cluster's nodes take each other for dead, which is another fault."""
HARMLESS_S: Final = (-300, -1, 1, 300)
JUMPS_S: Final = (-63_072_000, -86_400, -3600, -900, 900, 3600, 86_400, 63_072_000)
BEFORE_RELEASE_S: Final = -20 * 365 * 86_400
STANDS_S: Final = 45.0
"""After so long every worker must have noticed."""
SETTLED_S: Final = 2.0
HELD_S: Final = 2.0
CANNOT: Final = "not done: there is no libfaketime or no C compiler here"


@fault(weight=2)
def worker_clock_jumped(site: Site, chance: random.Random) -> str:
    """Of one worker only; the others count on with their shards."""
    if not site.fleet.has_clock:
        return CANNOT
    offset_s = chance.choice((*HARMLESS_S, *JUMPS_S))
    site.fleet.jump(offset_s)
    time.sleep(NOTICED_S + chance.uniform(0, 5))
    site.fleet.jump(0)
    site.struck()
    return f"worker 0, {offset_s:+d} s"


@fault(weight=2)
def worker_clocks_wrong(site: Site, chance: random.Random) -> str:
    return _wrong(site, chance.choice(JUMPS_S), workers=True, nodes=())


@fault(weight=2, store=True)
def store_clock_wrong(site: Site, chance: random.Random) -> str:
    """Of every node, which an operator keeps in step."""
    return _wrong(site, chance.choice(JUMPS_S), workers=False, nodes=range(len(site.store.nodes)))


@fault(weight=2, store=True)
def one_store_clock_wrong(site: Site, chance: random.Random) -> str:
    """Of one primary: its shards stand, and those of the others are counted on by the same workers."""
    return _wrong(site, chance.choice(HOURS_S), workers=False, nodes=(some_primary(site, chance),))


@fault(weight=1, store=True)
def all_clocks_before_release(site: Site, chance: random.Random) -> str:
    """Workers and store agree on a time that cannot be."""
    offset_s = BEFORE_RELEASE_S - chance.randrange(86_400)
    return _wrong(site, offset_s, workers=True, nodes=range(len(site.store.nodes)))


def _wrong(site: Site, offset_s: int, *, workers: bool, nodes: Sequence[int]) -> str:
    """Set clocks wrong, wait until the shards concerned stand, see that they do and others do not, set them right."""
    if not site.fleet.has_clock:
        return CANNOT
    homes = {shard: site.store.owner(site.slot(shard)).primary for shard in site.ledger.lanes}
    concerned = {shard for shard, home in homes.items() if workers or home in nodes}
    try:
        if workers:
            site.fleet.jump_all(offset_s)
        for number in nodes:
            site.store_clocks[number].set(offset_s)
        time.sleep(NOTICED_S)
        stood_s = wait_for(
            _Standing(site, concerned), STANDS_S, f"with clocks {offset_s:+d} s off all these stand: {concerned}"
        )
        others = site.watch.mark(concerned | site.ledger.apart)
        before = _state(site, concerned)
        wait_for(lambda: not others.pending, STANDS_S, lambda: f"these go on too: {others.pending}")
        time.sleep(HELD_S)
        if (after := _state(site, concerned)) != before:
            raise AssertionError(f"with clocks {offset_s:+d} s off, the state went from {before} to {after}")
    finally:
        site.fleet.jump_all(0)
        for clock in site.store_clocks:
            clock.set(0)
        time.sleep(NOTICED_S)
    site.struck()
    who = [*(["workers"] if workers else []), *(f"node {number}" for number in nodes)]
    return f"{' and '.join(who)}, {offset_s:+d} s, {len(concerned)} shards stood after {stood_s:.1f} s"


def _state(site: Site, shards: Collection[Shard]) -> tuple[dict[Shard, int], int]:
    """Where shards stand, and how many of their dead letters there are."""
    return {shard: site.watch.positions[shard] for shard in shards}, _letters(site, shards)


class _Standing:
    """True once some worker names its clock and these shards have not moved for a while, though events flow.

    A worker learns the store's clock with the answer to a range, so that the first one after a jump is still counted.
    """

    def __init__(self, site: Site, shards: Collection[Shard]) -> None:
        self._site, self._shards = site, shards
        self._positions: dict[Shard, int] = {}
        self._since = 0.0

    def __call__(self) -> bool:
        positions = {shard: self._site.watch.positions[shard] for shard in self._shards}
        named = any(_names_its_clock(worker) for worker in self._site.fleet.members if worker.running)
        if positions != self._positions or not named:
            self._positions, self._since = positions, time.monotonic()
        return time.monotonic() - self._since > SETTLED_S


def _names_its_clock(worker: WorkerProcess) -> bool:
    return any("clock" in error for error in worker.readiness()[1])


def _letters(site: Site, shards: Collection[Shard]) -> int:
    """How many dead letters of these shards there are, copies included."""
    return sum(Shard(letter.topic, letter.partition) in shards for letter in dead_letters(site.kafka.bootstrap, DEAD))
