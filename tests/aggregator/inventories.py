"""A plain model of the OTP inventory, and the ledger's contents read back in the same terms."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self
from zoneinfo import ZoneInfo

import redis

from aggregator.inventory.state import InventoryCache
from schemas.ledger import inventory
from schemas.ledger.inventory import NO_REALM, WRITTEN_STATUSES
from schemas.ledger.keys import Shard, ShardKeys
from tests.aggregator.counting import Counting
from tests.aggregator.logs import LogRecord, record

SHARD = Shard("auth.otp-tokens", 0)
OF = ShardKeys("authtally:", SHARD)
Line = tuple[datetime, datetime, str, tuple[int, ...]]
"""Where a row stands, its event's own time and name, and its counts in the order of KEPT."""


def state(time: str, serial: str, event: str, *realms: str, **more: object) -> dict[str, object]:
    """An event; active and unassigned unless given otherwise."""
    result: dict[str, object] = {"time": time, "serial": serial, "event": event, "realms": realms}
    return {**result, "active": True, "assigned": "user_id" in more, **more}


def log(events: Sequence[Mapping[str, object] | bytes]) -> list[LogRecord]:
    """Records of events, stamped late enough for each of them."""
    return [record(offset, event, 1_900_000_000_000) for offset, event in enumerate(events)]


class Inventories(Counting):
    """Counts ranges of an inventory's shard."""

    def __init__(self, redis_url: str, shard: Shard = SHARD, *, remember: bool = True, **given: Any) -> None:
        super().__init__(redis_url, shard, remember=remember, **given)
        self.known: InventoryCache = InventoryCache(set())


@dataclass
class Model:
    """An inventory in memory, in the plainest way."""

    zone: ZoneInfo
    states: dict[str, dict[str, Any]] = field(default_factory=dict)
    rows: defaultdict[str, list[Line]] = field(default_factory=lambda: defaultdict(list))
    open_events: dict[str, object] = field(default_factory=dict)
    """By realm: the `event_id` of its last row."""

    def take(self, event: Mapping[str, Any], *, counts: bool = True) -> str:
        """`counted`, or what else becomes of it. Counting all tokens for each row is plain, and slow for many."""
        result: dict[str, Any] = {name: event.get(name) for name in ("active", "assigned", "user_id", "deleted")}
        result |= {"time": datetime.fromisoformat(event["time"]), "realms": set(event["realms"] or [NO_REALM])}
        if result["deleted"]:
            result = {"time": result["time"], "realms": set(), "active": False, "assigned": False, "deleted": True}
        elif not result["assigned"]:
            result["user_id"] = None
        result = {name: value for name, value in result.items() if value is not None}
        result.setdefault("deleted", False)
        before = self.states.get(event["serial"])
        if before is not None and result["time"] <= before["time"]:
            if result["time"] < before["time"]:
                return "ignored"
            if result == before:
                return "duplicates"
        self.states[event["serial"]] = result
        for realm in result["realms"] | (before["realms"] if before else set()):
            held = self.rows[realm]
            event_id = event.get("event_id")
            if event_id is not None and event_id == self.open_events.get(realm):
                held[-1] = (*held[-1][:3], self.now(realm))
                continue
            self.open_events[realm] = event_id
            place = max(result["time"], held[-1][0]) if held else result["time"]
            held.append((place, result["time"], event["event"], self.now(realm) if counts else ()))
        return "counted"

    def now(self, realm: str) -> tuple[int, ...]:
        here = [one for one in self.states.values() if realm in one["realms"]]

        def number(**wanted: bool) -> int:
            return sum(all(one[name] == value for name, value in wanted.items()) for one in here)

        return (
            len(here),
            number(active=True),
            number(active=False),
            number(assigned=True),
            number(assigned=False),
            number(active=True, assigned=True),
            number(active=True, assigned=False),
            number(active=False, assigned=True),
            number(active=False, assigned=False),
            len({one["user_id"] for one in here if one.get("user_id") and one["active"]}),
        )

    def days(self, realm: str) -> dict[int, tuple[int, tuple[int, ...]]]:
        """By day: the number of its first row, and its maxima."""
        found: dict[int, tuple[int, tuple[int, ...]]] = {}
        for number, (place, _, _, values) in enumerate(self.rows[realm]):
            day = place.astimezone(self.zone).toordinal()
            first, maxima = found.get(day, (number, values))
            found[day] = first, tuple(map(max, maxima, values))
        return found


class Held:
    """What the ledger holds, decoded."""

    def __init__(self, redis_url: str, shard_keys: ShardKeys = OF) -> None:
        self._shard_keys = shard_keys
        client: Any = redis.Redis.from_url(redis_url)
        self._client = client
        self.realms = {name.decode(): int(number) for name, number in client.hgetall(shard_keys.realms).items()}
        names = {int(number): name.decode() for name, number in client.hgetall(shard_keys.event_names).items()}
        self._names = {0: "__other__", **names}
        packed = client.hgetall(shard_keys.totals)
        self.figures = {int(number): inventory.RealmTotals.unpack(value) for number, value in packed.items()}
        self.progress = {k.decode(): int(v) for k, v in client.hgetall(shard_keys.progress).items()}

    def now(self, realm: str) -> tuple[int, ...]:
        return self.figures[self.realms[realm]].values

    def rows(self, realm: str) -> list[Line]:
        return [
            (inventory.from_micros(row.at_us), inventory.from_micros(row.time_us), self._names[row.event], row.values)
            for chunk in self.chunks(realm)
            for row in inventory.rows(chunk)
        ]

    def chunks(self, realm: str) -> Iterator[bytes]:
        number = self.realms[realm]
        held = self.figures.get(number)
        for chunk in range(-(-held.rows // inventory.ROWS_PER_CHUNK) if held else 0):
            yield self._client.get(self._shard_keys.rows(number, chunk))

    def places(self, realm: str) -> bytes:
        found: bytes = self._client.get(self._shard_keys.chunk_starts(self.realms[realm])) or b""
        return found

    def days(self, realm: str) -> dict[int, tuple[int, tuple[int, ...]]]:
        found: dict[int, tuple[int, tuple[int, ...]]] = {}
        for year in range(2000, 2040):
            packed = self._client.get(self._shard_keys.days(self.realms[realm], year))
            for day in inventory.days(packed or b""):
                assert datetime.fromordinal(day.ordinal).year == year
                found[day.ordinal] = day.first, day.maxima
        now = self.figures.get(self.realms[realm])
        if now is not None:
            assert now.day not in found
            found[now.day] = now.day_first, now.maxima
        return found

    def given(self, realm: str, status: str) -> list[tuple[datetime, str, int]]:
        key = self._shard_keys.external_rows(self.realms[realm], WRITTEN_STATUSES.index(status))
        rows = ((inventory.unpack_external(row), at) for row, at in self._client.zrange(key, 0, -1, withscores=True))
        return [(inventory.from_micros(int(at)), self._names[row.event], row.tokens) for row, at in rows]

    def given_days(self, realm: str, status: str) -> dict[int, int]:
        held = self._client.hgetall(self._shard_keys.external_days(self.realms[realm], WRITTEN_STATUSES.index(status)))
        return {int(day): int(count) for day, count in held.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
