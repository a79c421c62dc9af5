"""What the worker adds with default settings, added to sets and counters in memory: the work of the peers' arms.

No Redis, no exactly-once, no limits on labels, no dead letters: whatever is left out is to the peers' advantage.
"""

from __future__ import annotations

import os
from collections import defaultdict
from typing import Any, Final

from schemas.events import DECODERS
from schemas.ledger import fields
from tests.qualification.bench.measure import Stopwatch, report

DECODE: Final = {"bench.logins": DECODERS["login"].decode, "bench.tokens": DECODERS["token"].decode}


class Additions:
    """Users and counts by period and scope; reports the speed and ends the process once it has all events."""

    def __init__(self, events: int) -> None:
        self._stopwatch = Stopwatch(os.getpid(), events)
        self._seen = 0
        self.users: dict[tuple[object, ...], set[str]] = defaultdict(set)
        self.counts: dict[tuple[object, ...], int] = defaultdict(int)

    def add(self, topic: str, value: bytes) -> None:
        event: Any = DECODE[topic](value)
        day = event.time.toordinal()
        month = event.time.year * 12 + event.time.month
        realm, client = event.realm, event.client_id
        if topic == "bench.logins":
            name: object = "login" if event.success else event.reason
            active = event.success
        else:
            name = (event.grant_type, event.tokens)
            active = event.grant_type == "refresh_token"
        counts = self.counts
        for period in (("d", day), ("m", month)):
            counts[period, name] += 1
            counts[period, realm, name] += 1
            counts[period, realm, client, name] += 1
        if active:
            user, users = event.user_id, self.users
            for period in (("d", day), ("m", month)):
                users[period].add(user)
                users[period, realm].add(user)

    def saw(self, more: int) -> None:
        """Count records as done; read the clock from time to time."""
        self._seen += more
        speed = self._stopwatch.saw(self._seen)
        if speed is not None:
            report(speed, counts=self._by_field(), users=self._active())
            # The process is the measurement; a dataflow that has no end has no other way out.
            os._exit(0)

    def _by_field(self) -> dict[str, int]:
        """The month's totals, by the ledger's names."""
        found: dict[str, int] = defaultdict(int)
        for (period, *rest), events in self.counts.items():
            if period[0] != "m" or len(rest) != 1:  # type: ignore[index]
                continue
            name: Any = rest[0]
            if isinstance(name, tuple):
                for token in name[1]:
                    found[fields.token(name[0], token)] += events
            else:
                found[fields.LOGIN if name == "login" else fields.failed(name)] += events
        return found

    def _active(self) -> int:
        return sum(len(users) for period, users in self.users.items() if period[0] == "m" and len(period) == 2)
