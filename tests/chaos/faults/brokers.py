"""Kafka's brokers die and stop, one at a time as a rule."""

from __future__ import annotations

import random
import time

from tests.chaos.faults.kinds import fault
from tests.chaos.site import Site


@fault(weight=2, broker=True)
def broker_killed(site: Site, chance: random.Random) -> str:
    broker, away_s = chance.choice(site.kafka.brokers), chance.uniform(0, 5)
    broker.kill()
    site.struck()
    time.sleep(away_s)
    broker.start()
    return f"broker {broker.number}, away {away_s:.1f} s"


@fault(weight=2, broker=True)
def broker_stopped(site: Site, chance: random.Random) -> str:
    """Past its session with the controller, so that others lead its partitions when it wakes up."""
    broker, stopped_s = chance.choice(site.kafka.brokers), chance.uniform(1, 8)
    broker.pause()
    site.struck()
    time.sleep(stopped_s)
    broker.resume()
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
