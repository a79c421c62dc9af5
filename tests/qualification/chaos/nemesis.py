"""Chooses faults by chance, brings them about one after another or into each other, and times the recoveries."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass

from tests.qualification.chaos.faults import KINDS, Fault
from tests.qualification.chaos.site import Site
from tests.qualification.chaos.waiting import wait_for

RECOVERS_S = 300
OVERLAPS = 0.25
"""Share of faults after which the next one comes without waiting for recovery."""


@dataclass(frozen=True)
class Done:
    """One fault. `recovered_s`: until every shard had moved on; None if it was not waited for."""

    at_s: float
    kind: str
    what: str
    recovered_s: float | None


class Nemesis:
    """The same seed chooses the same faults, as far as what it meets lets it."""

    def __init__(
        self,
        site: Site,
        seed: int,
        kinds: Collection[str],
        report: Callable[[str], None],
        *,
        timed: bool = True,
        weighs: bool = True,
    ) -> None:
        """`timed`: whether the shards have positions to watch; `weighs`: whether some kinds come more often."""
        self._site = site
        self._chance = random.Random(seed)
        self._kinds = [KINDS[name] for name in sorted(kinds)]
        self._report = report
        self._timed, self._weighs = timed, weighs
        self._began = time.monotonic()
        self.done: list[Done] = []
        self.skipped: Counter[str] = Counter()
        self._calm = True

    def torment(self, until: Callable[[], bool]) -> None:
        """One fault after another. Raises LateError when the shards do not move on again."""
        left: list[Fault] = []
        while not until():
            if not left:
                # Every kind as often as it weighs before any comes again: short runs see all of them too.
                left = [kind for kind in self._kinds for _ in range(kind.weight if self._weighs else 1)]
                self._chance.shuffle(left)
            self._one(left.pop())

    def _one(self, kind: Fault) -> None:
        site = self._site
        overlaps = self._chance.random() < OVERLAPS
        if kind.store:
            site.store.wait_until_whole(180)
            site.prober.store_goes()
        if kind.broker:
            site.kafka.wait_until_in_step(300)
        at_s = time.monotonic() - self._began
        site.watch.begin(kind.name, calm=self._calm)
        self._calm = False
        site.struck()
        try:
            what = kind.does(site, self._chance)
        finally:
            if kind.store:
                site.store.wait_until_whole(180)
                site.prober.store_is_back()
        if what.startswith("not "):
            self.skipped[kind.name] += 1
            return
        recovered_s = None
        if not self._timed:
            time.sleep(self._chance.uniform(1, 12))
        elif not overlaps:
            mark = site.mark
            assert mark is not None
            wait_for(
                lambda: not mark.pending,
                RECOVERS_S,
                lambda: f"after {kind.name} ({what}) these shards move: {mark.pending}",
            )
            recovered_s = round(mark.slowest_s, 2)
            self._calm = True
            time.sleep(self._chance.uniform(0, 1))
        site.watch.clear()
        self.done.append(Done(round(at_s, 1), kind.name, what, recovered_s))
        result = "not waited for" if recovered_s is None else f"moved on after {recovered_s} s"
        self._report(f"{len(self.done):4} {at_s:8.1f} s  {kind.name}: {what}; {result}")
