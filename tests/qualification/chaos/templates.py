"""A few thousand seeded events that a run sends repeatedly; each one's effect on a ledger is computed once."""

from __future__ import annotations

import json
import random
import time
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.ledger.keys import Shard
from tests.integration.publishing import CLIENTS, DAYS_AGO, GRANTS, REALMS, REASONS
from tests.qualification.chaos.poison import Counts, Dead, Outcome, corpus, stamps

TEMPLATES: Final = 8192
CHUNK: Final = 500
"""Events of one partition that one draw of chance decides."""
NAMED: Final = 64
"""The last templates carry an id: each shard counts them once however often they come."""
BAD: Final = TEMPLATES - NAMED - 1
"""This one is no event at all, and becomes a dead letter."""
NOT_JSON: Final = b"nope"
USERS: Final = 3000

Numbers = NDArray[np.int64]


def first_ms() -> int:
    """The first record timestamp of a run: a little behind, since events get stamps of their own."""
    return int(time.time() * 1000) - 600_000


class Templates:
    """Events of one topic. The same seed gives the same ones, apart from the day on which it runs.

    `plain` ones have no ids and no bad record among them, for workers that support neither.
    """

    def __init__(self, topic: str, event: str, seed: int, plain: bool = False) -> None:
        """`event` is `login`, `token`, or `cloudevents`, of which there is a corpus only."""
        self.topic, self.seed = topic, seed
        self.corpus = corpus(event, first_ms())
        self.stamps = stamps(first_ms())
        chance = random.Random(f"{seed} {event}")
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        self._days = [today - timedelta(days=days) for days in DAYS_AGO]
        # Before all others, so that what fails later fails under names that are known: the order of the rest is free.
        self.openings = [
            self._event(chance, event, True) | {"realm": realm, "client_id": client}
            for realm in (*REALMS, "")
            for client in (*CLIENTS, "")
        ]
        self.openings = [{name: value for name, value in one.items() if value != ""} for one in self.openings]
        self.opening_values = [json.dumps(one).encode() for one in self.openings]
        if event == "cloudevents":
            self.openings, self.opening_values = [], []
        self.events = [self._event(chance, event, False) for _ in range(TEMPLATES)]
        self.values = [json.dumps(event).encode() for event in self.events]
        self.plain = plain
        if not plain:
            for number in range(TEMPLATES - NAMED, TEMPLATES):
                self.events[number]["id"] = f"template-{number}"
                self.values[number] = json.dumps(self.events[number]).encode()
            self.values[BAD] = NOT_JSON

    def _event(self, chance: random.Random, kind: str, well: bool) -> dict[str, Any]:
        when = chance.choice(self._days) + timedelta(milliseconds=chance.randrange(86_400_000))
        event: dict[str, Any] = {"time": when.isoformat()}
        user = f"user-{int(chance.paretovariate(0.6)) % USERS}"
        if chance.random() < 0.95:
            event["realm"] = chance.choice(REALMS)
        if chance.random() < 0.95:
            event["client_id"] = chance.choice(CLIENTS)
        if kind == "token":
            event["grant_type"] = chance.choice(GRANTS)
            event["tokens"] = ["access_token", "id_token"][: chance.randrange(1, 3)]
            if event["grant_type"] != "client_credentials":
                event["user_id"] = user
            return event
        event["user_id"] = user
        if not well and chance.random() < 0.2:
            event["success"] = False
            if (reason := chance.choice(REASONS)) is not None:
                event["reason"] = reason
            if chance.random() < 0.1:
                event["realm"] = "typed by an attacker"
        elif chance.random() < 0.1:
            event["counted"] = False
        return event

    @cached_property
    def days(self) -> dict[str, Numbers]:
        """Of each day, the templates that it holds."""
        found: dict[str, list[int]] = {}
        for number, event in enumerate(self.events):
            found.setdefault(event["time"][:10], []).append(number)
        return {day: np.array(numbers) for day, numbers in found.items()}

    def outcome(self, number: int) -> tuple[Outcome, ...]:
        """What a record of a template becomes, unless its timestamp forbids. Of one without an id."""
        if number == BAD:
            return (Dead("not_json"),)
        event = self.events[number]
        return (Counts(event | {"time": event["time"].replace("+00:00", "")}),)

    def chunk(self, shard: Shard, number: int) -> Numbers:
        """The templates of the events `number * CHUNK` and following of a partition."""
        return np.random.default_rng([self.seed, shard.partition, number]).integers(0, TEMPLATES, CHUNK)
