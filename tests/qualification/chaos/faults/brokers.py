"""Kafka's brokers die and stop, one at a time as a rule."""

from __future__ import annotations

import random
import time

from tests.qualification.chaos.faults.kinds import fault, killed, stopped
from tests.qualification.chaos.site import Site


@fault(weight=2, broker=True)
def broker_killed(site: Site, chance: random.Random) -> str:
    broker, away_s = chance.choice(site.kafka.brokers), chance.uniform(0, 5)
    killed(site, broker, away_s)
    return f"broker {broker.number}, away {away_s:.1f} s"


@fault(weight=2, broker=True)
def broker_stopped(site: Site, chance: random.Random) -> str:
    """Past its session with the controller, so that others lead its partitions when it wakes up."""
    broker, stopped_s = chance.choice(site.kafka.brokers), chance.uniform(1, 8)
    stopped(site, broker, stopped_s)
    return f"broker {broker.number}, {stopped_s:.1f} s"


@fault(weight=1, broker=True)
def two_brokers_killed(site: Site, chance: random.Random) -> str:
    """Nothing can be produced, and no metadata changes, before one is back."""
    gone = chance.sample(site.kafka.brokers, 2)
    for broker in gone:
        broker.kill()
    site.struck()
    time.sleep(chance.uniform(0, 3))
    site.kafka.start_again(gone)
    return " and ".join(f"broker {broker.number}" for broker in gone)
