"""Publishes seeded events and knows exactly what a ledger of them must hold.

The model below is written from the contract, not from the worker: plain counting, one event at a time, per partition in
log order.
"""

from __future__ import annotations

import json
import random
import threading
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from confluent_kafka import Producer

from schemas.ledger import fields
from schemas.ledger.keys import Shard
from schemas.ledger.scopes import EVERYTHING, OTHER, Scope

# Few days, since each makes keys per realm and client. All lie behind, in three or four months.
DAYS_AGO: Final = (1, 2, 3, 32, 33, 64)
REALMS: Final = ("acme", "globex", "initech", "umbrella corp/東京")
CLIENTS: Final = ("web", "app", "cli")
GRANTS: Final = ("authorization_code", "refresh_token", "client_credentials", "x:custom")
REASONS: Final = ("invalid_credentials", "locked", "captcha", None)
NAMED: Final = 0.3
"""Share of events with an id."""
REPEATED: Final = 0.05
"""Share of records that say again what one with an id said."""


@dataclass
class Expected:
    """What one shard must hold."""

    counts: dict[tuple[str, Scope], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    users: dict[tuple[str, Scope], set[str]] = field(default_factory=lambda: defaultdict(set))
    progress: Counter[str] = field(default_factory=Counter)
    labels: set[str] = field(default_factory=set)
    written: dict[str, tuple[int, int]] = field(default_factory=dict)
    records_ms: list[int] = field(default_factory=list)
    clients: dict[str, set[tuple[str, str]]] = field(default_factory=lambda: defaultdict(set))
    ids: set[str] = field(default_factory=set)
    unexpected: set[int] = field(default_factory=set)
    """Offsets of records that a defect keeps from being counted."""
    _realms: set[str] = field(default_factory=set)
    _clients: set[tuple[str, str]] = field(default_factory=set)

    def add(self, event: Mapping[str, Any], record_ms: int) -> None:
        """Count an event of the log: a login, or a token. All of a test lie within the window of deduplication."""
        self._seen(record_ms)
        if "id" in event:
            if event["id"] in self.ids:
                self.progress[fields.DUPLICATES] += 1
                return
            self.ids.add(event["id"])
        self.progress[fields.COUNTED] += 1
        success = event.get("success", True)
        scopes = self._scopes(event.get("realm"), event.get("client_id"), success)
        names, active = self._outcome(event, success)
        day = event["time"][:10]
        first, last = self.written.get(day, (record_ms, record_ms))
        self.written[day] = min(first, record_ms), max(last, record_ms)
        for period in (day, day[:7]):
            if success and "client_id" in event:
                self.clients[period].add((event.get("realm", ""), event["client_id"]))
            for scope in scopes:
                self.counts[period, scope].update(names)
                if active and scope.dimension != "client":
                    self.users[period, scope].add(event["user_id"])

    def add_dead(self, reason: str, record_ms: int) -> None:
        self._seen(record_ms)
        self.progress[fields.dead(reason)] += 1

    def _seen(self, record_ms: int) -> None:
        self.progress[fields.CONSUMED] += 1
        self.records_ms.append(record_ms)

    def _scopes(self, realm: str | None, client_id: str | None, success: bool) -> list[Scope]:
        scopes = [EVERYTHING]
        if realm is not None:
            if realm not in self._realms:
                self._realms.add(realm)
                self.labels.add(fields.label("realm", realm))
            scopes.append(Scope("realm", (realm,)))
        if client_id is not None:
            pair = (realm or "", client_id)
            if success and pair not in self._clients:
                self._clients.add(pair)
                self.labels.add(fields.label("client", *pair))
            scopes.append(Scope("client", pair if pair in self._clients else (realm or "", OTHER)))
        return scopes

    def _outcome(self, event: Mapping[str, Any], success: bool) -> tuple[list[str], bool]:
        if "grant_type" in event:
            grant = event["grant_type"]
            if grant not in fields.GRANTS:
                self._add_word("grant", grant, event)
            return [fields.token(grant, token) for token in event["tokens"]], grant == "refresh_token"
        if not success:
            reason = event.get("reason", fields.UNSPECIFIED)
            if reason not in fields.FAILURE_REASONS:
                self._add_word("reason", reason, event)
            return [fields.failed(reason)], False
        return ([fields.LOGIN] if event.get("counted", True) else []), True

    def _add_word(self, dimension: str, word: str, event: Mapping[str, Any]) -> None:
        self.labels.add(fields.common_word(dimension, word))
        if not {"realm", "client_id"}.isdisjoint(event):
            self.labels.add(fields.label(dimension, event.get("realm", ""), word))


class Publisher:
    """One producer. The same seed gives the same events, apart from the day on which it runs."""

    def __init__(
        self,
        bootstrap: str,
        logins: str,
        tokens: str,
        partitions: int,
        seed: int = 1,
        users: int = 3000,
        **properties: str | int,
    ) -> None:
        self.logins, self.tokens, self.partitions, self.users = logins, tokens, partitions, users
        self.expected = {Shard(topic, number): Expected() for topic in (logins, tokens) for number in range(partitions)}
        self.published = 0
        self._random = random.Random(seed)
        # A little behind, since each record gets a millisecond of its own and there may be more of them than time.
        self._clock_ms = int(time.time() * 1000) - 600_000
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        self._days = [today - timedelta(days=days) for days in DAYS_AGO]
        self.ends = dict.fromkeys(self.expected, 0)
        """The offset after the last record that Kafka took, per partition."""
        self.bad_next: list[str] = []
        """Reasons of bad records that a flow sends next."""
        self.named = NAMED
        self._undelivered: list[str] = []
        self._sent: dict[Shard, list[dict[str, Any]]] = defaultdict(list)
        """Events with an id, to be sent again."""
        # One request at a time: a retry must not change the order, which decides about unknown labels.
        shared = {"bootstrap.servers": bootstrap, "linger.ms": 2, "max.in.flight": 1, "log_level": 0}
        self.producer: Any = Producer({**shared, **properties})

    def send(self, shard: Shard, value: bytes | None, key: bytes | None = None, headers: Any = None) -> int:
        """Hand one record over. Returns its timestamp; expects nothing of the ledger."""
        self._clock_ms += 1
        while True:
            try:
                self.producer.produce(
                    shard.topic,
                    value,
                    key,
                    shard.partition,
                    on_delivery=self._delivered,
                    timestamp=self._clock_ms,
                    headers=headers,
                )
            except BufferError:
                self.producer.poll(0.1)
            else:
                return self._clock_ms

    def _delivered(self, error: Any, message: Any) -> None:
        if error is not None:
            self._undelivered.append(str(error))
            return
        shard = Shard(message.topic(), message.partition())
        if shard in self.ends:
            self.ends[shard] = max(self.ends[shard], message.offset() + 1)

    def send_bad(self, shard: Shard, value: bytes | None, reason: str, key: bytes | None = None) -> None:
        self.expected[shard].add_dead(reason, self.send(shard, value, key, [("producer", b"test")]))

    def skip_ahead(self, by_ms: int) -> None:
        """Records are of a later time from now on."""
        self._clock_ms += by_ms

    def flush(self) -> None:
        """Return when Kafka has everything. Fails the test when it took anything not."""
        left = self.producer.flush(30)
        assert not left, f"{left} records undelivered"
        assert self._undelivered == []

    def publish(self, events: int, topic: str | None = None) -> None:
        """That many events, half logins and half tokens unless `topic` says which."""
        for _ in range(events):
            shard, event = self.event(topic)
            again = self._sent[shard]
            if again and self._random.random() < REPEATED:
                event = self._random.choice(again)
            elif self._random.random() < self.named:
                event["id"] = f"event-{len(again)}"
                again.append(event)
            self.expected[shard].add(event, self.send_event(shard, event))
        self.published += events
        self.flush()

    def send_event(self, shard: Shard, event: Mapping[str, Any]) -> int:
        return self.send(shard, json.dumps(event).encode(), event.get("user_id", "nobody").encode())

    def event(self, topic: str | None = None) -> tuple[Shard, dict[str, Any]]:
        """The next event, and where it belongs."""
        chance = self._random
        user = f"user-{int(chance.paretovariate(0.6)) % self.users}"
        when = chance.choice(self._days) + timedelta(milliseconds=chance.randrange(86_400_000))
        event: dict[str, Any] = {"time": when.isoformat()}
        if chance.random() < 0.95:
            event["realm"] = chance.choice(REALMS)
        if chance.random() < 0.95:
            event["client_id"] = chance.choice(CLIENTS)
        topic = topic or chance.choice((self.logins, self.tokens))
        if topic == self.tokens:
            event["grant_type"] = chance.choice(GRANTS)
            event["tokens"] = ["access_token", "id_token"][: chance.randrange(1, 3)]
            if event["grant_type"] != "client_credentials":
                event["user_id"] = user
        else:
            event["user_id"] = user
            if chance.random() < 0.2:
                event["success"] = False
                if (reason := chance.choice(REASONS)) is not None:
                    event["reason"] = reason
                if chance.random() < 0.1:
                    event["realm"] = "typed by an attacker"
            elif chance.random() < 0.1:
                event["counted"] = False
        return Shard(topic, zlib.crc32(user.encode()) % self.partitions), event

    @contextmanager
    def flow(self, events_per_s: int = 2000, batch: int = 100) -> Iterator[None]:
        """Publish in the background at about this rate, `batch` events at a time, until the block ends.

        Raises what publishing raised.
        """
        ended = threading.Event()
        failures: list[BaseException] = []

        def run() -> None:
            try:
                while not ended.wait(batch / events_per_s):
                    while self.bad_next:
                        self.send_bad(Shard(self.logins, 0), b"nope", self.bad_next.pop())
                    self.publish(batch)
            except BaseException as failure:  # noqa: BLE001 (raised again by the thread that waits)
                failures.append(failure)

        thread = threading.Thread(target=run, name="publishes")
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
        if failures:
            raise failures[0]

    def totals(self) -> Counter[str]:
        """Every counter of every shard and period together, as the control arm counts them: scope `all`, months."""
        found: Counter[str] = Counter()
        for expected in self.expected.values():
            for (period, scope), counts in expected.counts.items():
                if scope == EVERYTHING and len(period) == 7:
                    found += counts
        return found
