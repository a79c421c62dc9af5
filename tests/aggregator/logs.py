"""Random logs, and what the ledger must hold after them, by a plain calculation."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from schemas.ledger import fields
from schemas.ledger.scopes import EVERYTHING, Scope

NOW_MS = 1_950_000_000_000
"""The store's clock where a test gives one: after the timestamps of every log made here."""


@dataclass(frozen=True, slots=True)
class LogRecord:
    """The parts of a Kafka record that a fold reads."""

    offset: int
    timestamp: int
    value: bytes | None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()


def record(offset: int, event: Mapping[str, object] | bytes | None, timestamp_ms: int | None = None) -> LogRecord:
    """A record of an event; its timestamp is the event's own time unless `timestamp_ms` is given."""
    if not isinstance(event, Mapping):
        return LogRecord(offset, timestamp_ms or 0, event)
    if timestamp_ms is None:
        timestamp_ms = int(datetime.fromisoformat(str(event["time"])).timestamp() * 1000)
    return LogRecord(offset, timestamp_ms, json.dumps(event).encode())


@dataclass
class Expected:
    """Counts and users by (period, scope), of logs whose labels stay within their limits."""

    counts: dict[tuple[str, Scope], dict[str, int]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(int))
    )
    users: dict[tuple[str, Scope], set[str]] = field(default_factory=lambda: defaultdict(set))
    consumed: int = 0
    dead: int = 0

    def add(
        self, time: datetime, realm: str, client_id: str, names: tuple[str, ...], user_id: str | None, zone: ZoneInfo
    ) -> None:
        local = time.astimezone(zone)
        for period in (f"{local:%Y-%m-%d}", f"{local:%Y-%m}"):
            for scope in (EVERYTHING, Scope("realm", (realm,)), Scope("client", (realm, client_id))):
                for name in names:
                    self.counts[period, scope][name] += 1
            if user_id is not None:
                for scope in (EVERYTHING, Scope("realm", (realm,))):
                    self.users[period, scope].add(user_id)


GRANTS = ("authorization_code", "refresh_token", "client_credentials")


def logins(seed: int, size: int, zone: ZoneInfo, users: int = 300) -> tuple[list[LogRecord], Expected]:
    """A log of logins around a month's turn: bad records among them, holes between offsets, known realms only."""
    chance = random.Random(seed)
    expected = Expected()
    found: list[LogRecord] = []
    # Every realm and client comes up with a success first, so that failures have a name to count under.
    known = [(realm, client) for realm in ("acme", "a/c me", "ünïcode") for client in ("web", "app")]
    for number, offset in zip(range(size), _offsets(chance), strict=False):
        time = datetime(2026, 10, 30, tzinfo=UTC) + timedelta(seconds=chance.randrange(4 * 86_400))
        realm, client_id = known[number] if number < len(known) else chance.choice(known)
        expected.consumed += 1
        if number >= len(known) and chance.random() < 0.05:
            expected.dead += 1
            found.append(record(offset, chance.choice((b"nope", b"[]", b"{}", None)), int(time.timestamp() * 1000)))
            continue
        user_id = f"user-{chance.randrange(users)}"
        success = number < len(known) or chance.random() < 0.8
        counted = chance.random() < 0.9
        reason = chance.choice((None, "locked", "odd"))
        found.append(
            record(
                offset,
                {
                    "time": time.isoformat(),
                    "user_id": user_id,
                    "realm": realm,
                    "client_id": client_id,
                    "success": success,
                    "counted": counted,
                    "reason": reason,
                },
            )
        )
        names: tuple[str, ...] = (fields.LOGIN,) if counted else ()
        if not success:
            names = (fields.failed(reason or fields.UNSPECIFIED),)
        expected.add(time, realm, client_id, names, user_id if success else None, zone)
    return found, expected


def tokens(seed: int, size: int, zone: ZoneInfo, users: int = 300) -> tuple[list[LogRecord], Expected]:
    """A log of token answers; refreshes make their users active."""
    chance = random.Random(seed)
    expected = Expected()
    found: list[LogRecord] = []
    for _, offset in zip(range(size), _offsets(chance), strict=False):
        time = datetime(2026, 12, 30, tzinfo=UTC) + timedelta(seconds=chance.randrange(4 * 86_400))
        grant = chance.choice(GRANTS)
        types = chance.sample(fields.TOKEN_TYPES, chance.randrange(1, 4))
        user_id = f"user-{chance.randrange(users)}"
        found.append(
            record(
                offset,
                {
                    "time": time.isoformat(),
                    "grant_type": grant,
                    "tokens": types,
                    "realm": "acme",
                    "client_id": "web",
                    "user_id": user_id,
                },
            )
        )
        expected.consumed += 1
        names = tuple(fields.token(grant, kind) for kind in types)
        expected.add(time, "acme", "web", names, user_id if grant == "refresh_token" else None, zone)
    return found, expected


def _offsets(chance: random.Random) -> Iterator[int]:
    offset = chance.randrange(3)
    while True:
        yield offset
        # Holes, as compaction and transaction markers leave them.
        offset += 1 if chance.random() < 0.8 else chance.randrange(2, 6)
