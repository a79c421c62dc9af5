"""New, returning, reactivated, lapsed and retained users by plain sets."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

from schemas.ledger.periods import Month, Week
from tests.api.own_sample import NOON
from tests.api.worker import Event, login

Users = frozenset[str]
FIGURES = ("active", "new", "returning", "reactivated", "lapsed")


class Site(NamedTuple):
    """A log in the order of counting, and who was active on which day."""

    events: Sequence[Event]
    days: Mapping[date, Users]

    def users(self, granularity: str) -> dict[str, Users]:
        """The users by name of the period."""
        found: dict[str, set[str]] = defaultdict(set)
        for day, users in self.days.items():
            found[Week.of(day).text if granularity == "week" else Month.of(day).key] |= users
        return {name: frozenset(users) for name, users in found.items()}


def site(users: int, first: date, last: date, seed: int) -> Site:
    """Users who arrive over time, stay for a while, and may come back. A tenth of the events is late by up to weeks."""
    chance = random.Random(seed)
    length = (last - first).days + 1
    log: list[tuple[float, date, str]] = []
    for number in range(users):
        day = chance.randrange(length) if number > users // 3 else 0
        while day < length and chance.random() < 0.93:
            arrived = day + chance.random() + (chance.random() * 40 if chance.random() < 0.1 else 0)
            log.append((arrived, first + timedelta(days=day), f"user-{number}"))
            day += chance.choice((1, 3, 7, 9, 20, 45, 80))
    days: dict[date, set[str]] = defaultdict(set)
    for _, day_of, user in log:
        days[day_of].add(user)
    events = [
        login(f"{day_of}{NOON}", user, realm=f"realm-{len(user) % 2}", client_id="web")
        for _, day_of, user in sorted(log)
    ]
    return Site(events, {day_of: frozenset(active) for day_of, active in days.items()})


def expected_rows(users: Mapping[str, Users], names: Sequence[str]) -> dict[str, dict[str, int]]:
    """The figures of each period of `names`, which follow each other, from all periods of `users`."""
    rows = {}
    for number, name in enumerate(names):
        current = users.get(name, frozenset())
        before = frozenset[str]().union(*(active for other, active in users.items() if other < name))
        previous = users.get(names[number - 1], frozenset()) if number else frozenset()
        rows[name] = {
            "active": len(current),
            "new": len(current - before),
            "returning": len(current & previous),
            "reactivated": len((current & before) - previous),
            "lapsed": len(previous - current),
        }
    return rows


def deviation(figure: Mapping[str, Any], expected: float) -> float:
    """Standard errors between a figure and its true number; 0 for a true bound. An exact figure must be equal."""
    bound = figure.get("fewer_than", figure.get("less_than"))
    if figure["value"] is None:
        assert bound is not None, "an unknown figure was compared"
        assert not figure["exact"]
        return 0.0 if expected < bound else float("inf")
    assert bound is None
    if figure["exact"]:
        assert figure["value"] == round(expected, 6)
        return 0.0
    return float(abs(figure["value"] - expected) / (figure["value"] * figure["standard_error"]))


def instant(day: str) -> float:
    return datetime.fromisoformat(f"{day}{NOON}").timestamp()
