"""Counts events one by one, independent of the worker: plain sums, plain user ids, another HyperLogLog.

Only the decoding of events and the normalization of user ids, which are the contract, are shared with the worker.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from hyperloglog import HyperLogLog
from msgspec.structs import replace

from aggregator.settings import WorkerSettings
from deploy.cli.verify.replay import KafkaRecord
from schemas.adapters.registry import adapter_named
from schemas.events import (
    DECODERS,
    MAX_AHEAD,
    AccountEvent,
    BadRecordError,
    Event,
    Login,
    RecordTime,
    TokenIssued,
    decode,
)
from schemas.user_ids import NORMALIZERS

QUERY_ERROR: Final = 0.005
RECOUNT_ERROR: Final = 1.04 / math.sqrt(1 << 16)
"""Relative standard error of the library's largest sketch, which it chooses for QUERY_ERROR: 0.41 %."""
EXACT_UP_TO: Final = 100_000
"""Users that are kept one by one, 16 bytes each; beyond it only the sketch remains."""
HOUR_MS: Final = 3_600_000


@dataclass
class Recounted:
    """The events of a month, counted."""

    sums: Counter[str] = field(default_factory=Counter)
    few: set[bytes] | None = field(default_factory=set)
    """Digests of the users; None beyond EXACT_UP_TO."""
    sketch: Any = field(default_factory=lambda: HyperLogLog(QUERY_ERROR))
    records: int = 0

    def add(self, event: Event, settings: WorkerSettings) -> None:
        active = False
        if isinstance(event, Login):
            self.sums["logins"] += event.success and event.counted
            self.sums["failed logins"] += not event.success
            active = event.success and "login" in settings.active_on
        elif isinstance(event, TokenIssued):
            self.sums["tokens"] += len(event.tokens)
            active = event.grant_type == "refresh_token" and "refresh" in settings.active_on
        elif isinstance(event, AccountEvent):
            self.sums["account events"] += 1
        if active and isinstance(event, (Login, TokenIssued)) and event.user_id:
            of_realm = f"{event.realm or ''}\0" if settings.user_scope == "realm" else ""
            self._add_user(of_realm + NORMALIZERS[settings.user_id_normalize](event.user_id))

    def _add_user(self, user: str) -> None:
        if self.few is not None:
            digest = hashlib.sha256(user.encode()).digest()[:16]
            if digest in self.few:
                return
            self.few.add(digest)
            if len(self.few) > EXACT_UP_TO:
                self.few = None
        self.sketch.add(user)

    @property
    def users(self) -> int:
        return len(self.sketch) if self.few is None else len(self.few)

    @property
    def error(self) -> float:
        return RECOUNT_ERROR if self.few is None else 0.0


class _Hours:
    """At most `most` ids by hour, each with its realm."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.hours: dict[int, dict[bytes, str]] = {}
        self.by_realm: Counter[str] = Counter()
        self._begins = -math.inf
        """Earlier hours were dropped because there were more than `most` ids."""

    def expire(self, before: int) -> None:
        for old in [held for held in self.hours if held < before]:
            self._drop(old)

    def has(self, digest: bytes) -> bool:
        return any(digest in held for held in self.hours.values())

    def takes(self, hour: int, earliest: int) -> bool:
        return hour >= max(earliest, self._begins)

    def add(self, digest: bytes, hour: int, newest: int, realm: str) -> None:
        self.hours.setdefault(hour, {})[digest] = realm
        self.by_realm[realm] += 1
        while sum(map(len, self.hours.values())) > self.most:
            oldest = min(self.hours)
            self._drop(oldest)
            self._begins = oldest if oldest == newest else oldest + 1

    def _drop(self, hour: int) -> None:
        self.by_realm.subtract(self.hours.pop(hour).values())


class Repeats:
    """The event ids of a partition by hour, as far back as the deduplication window reaches."""

    def __init__(self, window_s: int, most: int) -> None:
        # An event may be MAX_AHEAD in the future; the ids of its neighbours must not expire because of it.
        self._hours_back = math.ceil(window_s / 3600) + math.ceil(MAX_AHEAD.total_seconds() / 3600)
        self._counts = window_s > 0
        self._ids = _Hours(most)
        self._excess = _Hours(max(most // 2, 1))
        """Ids of realms that held more than half."""
        self._newest = -(2**62)

    def has(self, event_id: str, at_ms: int, realm: str) -> bool:
        """Whether the id was added before; adds it. `at_ms` is the record's time, or the event's if untimed.

        `realm` is the label of the event's realm, empty without one.
        """
        if not self._counts:
            return False
        hour, digest = at_ms // HOUR_MS, hashlib.sha256(event_id.encode()).digest()[:16]
        self._newest = max(hour, self._newest)
        earliest = self._newest - self._hours_back
        for ids in (self._ids, self._excess):
            ids.expire(earliest)
        if self._ids.has(digest) or self._excess.has(digest):
            return True
        if self._ids.takes(hour, earliest):
            over = self._ids.by_realm[realm] > self._ids.most // 2
            ids = self._excess if over else self._ids
            if ids.takes(hour, earliest):
                ids.add(digest, hour, self._newest, realm)
        return False


def events_of(topic: str, settings: WorkerSettings, record: KafkaRecord, at: RecordTime) -> Iterator[Event]:
    """The events of a record of `topic`, without bad ones: those are dead letters and count nowhere."""
    name = settings.topics[topic]
    if name in DECODERS:
        try:
            yield decode(name, record.value, at)
        except BadRecordError:
            return
        return
    for element in adapter_named(name, settings.realm_names)(record.value, record.headers, at):
        for place, event in enumerate(element.events):
            # Events of one element share one id, and each counts.
            yield event if event.id is None or not place else replace(event, id=f"{event.id} {place}")
