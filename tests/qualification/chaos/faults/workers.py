"""Worker processes die, stop, and are updated."""

from __future__ import annotations

import random
from typing import Final

from tests.qualification.chaos.faults.kinds import fault, stopped
from tests.qualification.chaos.site import Site

SESSION_S: Final = 10.0
"""After so long the group takes a worker for dead."""


@fault(weight=4)
def worker_killed(site: Site, chance: random.Random) -> str:
    number, away_s = chance.randrange(site.fleet.size), chance.choice((0.0, 0.0, chance.uniform(0, 4)))
    site.fleet.kill(number, away_s, site.struck)
    return f"worker {number}, away {away_s:.1f} s"


@fault(weight=2)
def worker_stopped_past_its_session(site: Site, chance: random.Random) -> str:
    """It wakes up with ranges in hand of partitions that others have by now."""
    number, stopped_s = chance.randrange(site.fleet.size), chance.uniform(SESSION_S + 1, SESSION_S + 4)
    stopped(site, site.fleet.members[number], stopped_s)
    return f"worker {number}, {stopped_s:.1f} s"


@fault(weight=2)
def worker_stopped_briefly(site: Site, chance: random.Random) -> str:
    number, stopped_s = chance.randrange(site.fleet.size), chance.uniform(0.2, 5)
    stopped(site, site.fleet.members[number], stopped_s)
    return f"worker {number}, {stopped_s:.1f} s"


@fault(weight=3)
def worker_updated(site: Site, chance: random.Random) -> str:
    """Ended in order; the other version takes its place, so both run side by side for a while."""
    if site.fleet.older is None:
        return "not done: the older version is not here"
    number = chance.randrange(site.fleet.size)
    older = site.fleet.replace(number)
    return f"worker {number} to the {'older' if older else 'newer'} version"
