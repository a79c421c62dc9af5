"""`/v1/otp-tokens`: one-time-password tokens by realm and status, as they are now or as they were day by day."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from prometheus_client.metrics_core import GaugeMetricFamily

from api.dialects.own.parameters import BadParameter, Parameters
from api.dialects.own.rendering import Told, as_of
from api.http.errors import Unavailable
from api.inventory.inventory import GoneError, Inventory, Stream
from api.inventory.maxima import Calendar, calendars
from api.ledger.client import Command
from api.ledger.statistics import Statistics
from api.ledger.status import Standing
from schemas.ledger.inventory import BINDINGS, KEPT, canonical, micros, unpack_given
from schemas.ledger.periods import Span

PATH: Final = "/v1/otp-tokens"
PARAMETERS: Final = ("from", "to", "realm", "status")
STATUSES: Final = (*KEPT, *("&".join(reversed(name.split("&"))) for name in KEPT if "&" in name))
"""What `status` takes: a pair in either order."""
DEFAULT_DAYS: Final = 30
MAX_DAYS: Final = 400
MAX_ITEMS: Final = 50_000


class Count(NamedTuple):
    """Of one realm and status: at the end of a day, and at most on it."""

    at_end: int
    maximum: int


Key = tuple[str, int]
"""A realm, and a status by its place in KEPT."""


@dataclass(frozen=True)
class OtpTokensQuestion:
    inventory: Inventory
    zone: ZoneInfo
    today: date
    days: Span | None
    """None asks for now."""
    realm: str | None
    statuses: tuple[int, ...]

    @property
    def key(self) -> str:
        return repr((self.today, self.days, self.realm, self.statuses))

    async def read(self, statistics: Statistics, realms: Collection[str] | None) -> Told:
        """Raises BadParameter where there are too many items."""
        standing = await statistics.standing()
        streams = [
            stream
            for stream in await seen(self.inventory, realms)
            if self.realm is None or stream.realm.lower() == self.realm.lower()
        ]
        try:
            items = await (self._now(streams) if self.days is None else self._by_day(streams, self.days))
        except GoneError as error:
            raise Unavailable("Rows are being deleted while they are read.") from error
        days = self.days or Span(self.today, self.today)
        head = {
            "from": days.first.isoformat(),
            "to": days.last.isoformat(),
            "granularity": "now" if self.days is None else "day",
            "timezone": self.zone.key,
            "as_of": as_of(standing),
            "complete": is_whole(standing),
        }
        return Told({**head, "items": items}, items)

    async def _now(self, streams: Sequence[Stream]) -> list[dict[str, Any]]:
        self._bounded(streams, 1)
        counts = await current(self.inventory, streams)
        return [
            {"realm": realm, "status": KEPT[status], "count": count}
            for (realm, status), count in sorted(counts.items())
            if status in self.statuses
        ]

    async def _by_day(self, streams: Sequence[Stream], days: Span) -> list[dict[str, Any]]:
        self._bounded(streams, days.length)
        streams = await self.inventory.with_floors(streams)
        own: defaultdict[tuple[date, str, int], list[Count]] = defaultdict(list)
        for day, key, count in await self._of_rows(streams, days):
            own[day, *key].append(count)
        given: defaultdict[tuple[date, str, int], list[Count]] = defaultdict(list)
        for day, key, count in await self._of_given(streams, days):
            given[day, *key].append(count)
        # Where states and another system's counts tell of the same, the states are the nearer.
        found = {**given, **own}
        return [
            {
                "date": day.isoformat(),
                "realm": realm,
                "status": KEPT[status],
                "count": sum(each.at_end for each in counts),
                "maximum": sum(each.maximum for each in counts),
            }
            for (day, realm, status), counts in sorted(found.items())
        ]

    def _bounded(self, streams: Sequence[Stream], days: int) -> None:
        items = len({stream.realm for stream in streams}) * len(self.statuses) * days
        if items > MAX_ITEMS:
            raise BadParameter(
                "status", f"These are up to {items} items, and at most {MAX_ITEMS} are told: name `status` or `realm`."
            )

    async def _of_rows(self, streams: Sequence[Stream], days: Span) -> list[tuple[date, Key, Count]]:
        own = [stream for stream in streams if stream.figures is not None]
        of = await calendars(self.inventory, own, days.first, self.zone)
        wanted: dict[tuple[int, int], None] = {}
        for place, (stream, calendar) in enumerate(zip(own, of, strict=True)):
            for _, _, last in _ends(stream, calendar, days):
                wanted[place, last] = None
        rows = await self.inventory.rows([(own[place], number) for place, number in wanted])
        held = {key: row.values for key, row in zip(wanted, rows, strict=True)}
        found = []
        for place, (stream, calendar) in enumerate(zip(own, of, strict=True)):
            before: tuple[int, ...] | None = None
            for day, maxima, last in _ends(stream, calendar, days):
                values = held[place, last]
                for status in self.statuses:
                    if last >= stream.floors.get(status, 0) and days.first <= day:
                        highest = max(values[status], *(each[status] for each in (maxima, before) if each is not None))
                        found.append((day, (stream.realm, status), Count(values[status], highest)))
                before = values
        return found

    async def _of_given(self, streams: Sequence[Stream], days: Span) -> list[tuple[date, Key, Count]]:
        asked = [(stream, status) for stream in streams for status in stream.given if status in self.statuses]
        commands: list[Command] = []
        for stream, status in asked:
            key = stream.shard.given(stream.number, status)
            commands.append(("HGETALL", stream.shard.given_days(stream.number, status)))
            for day in days.days:
                end = micros(datetime.combine(day + timedelta(days=1), time(), self.zone))
                commands.append(("ZREVRANGEBYSCORE", key, f"({end}", "-inf", "LIMIT", 0, 1))
        replies = iter(await self.inventory.run(commands))
        found = []
        for stream, status in asked:
            maxima = {int(ordinal): int(count) for ordinal, count in next(replies).items()}
            before = 0
            for day in days.days:
                if rows := next(replies):
                    count = unpack_given(rows[0]).tokens
                    highest = max(count, before, maxima.get(day.toordinal(), 0))
                    found.append((day, (stream.realm, status), Count(count, highest)))
                    before = count
        return found


def _ends(stream: Stream, calendar: Calendar, days: Span) -> Iterator[tuple[date, tuple[int, ...] | None, int]]:
    """The day before the window and each of its days: its maxima where it has rows, and its last row by number."""
    lowest = min(stream.floors.values())
    for day in (days.first - timedelta(days=1), *days.days):
        maxima, last = calendar.day(day)
        if last >= lowest:
            yield day, maxima, last


async def seen(inventory: Inventory, realms: Collection[str] | None) -> list[Stream]:
    """What a bearer sees. Tokens without a realm are a realm of their own: one that is limited has to name it."""
    return [stream for stream in await inventory.streams() if realms is None or stream.realm in realms]


async def current(inventory: Inventory, streams: Sequence[Stream]) -> dict[Key, int]:
    """What there is now. Where states and another system's counts tell of the same, the states are the nearer."""
    found: defaultdict[Key, int] = defaultdict(int)
    for stream in streams:
        if stream.figures is not None:
            for status, count in enumerate(stream.figures.values):
                found[stream.realm, status] += count
    given: defaultdict[Key, int] = defaultdict(int)
    asked = [(stream, status) for stream in streams for status in stream.given if (stream.realm, status) not in found]
    commands: list[Command] = [
        ("ZREVRANGE", stream.shard.given(stream.number, status), 0, 0) for stream, status in asked
    ]
    for (stream, status), rows in zip(asked, await inventory.run(commands), strict=True):
        if rows:
            given[stream.realm, status] += unpack_given(rows[0]).tokens
    return {**given, **found}


def is_whole(standing: Standing) -> bool:
    """False where a state was not counted because of a defect. Nobody knows of which realm it was, so it is for all."""
    return not any(shard.unexpected for shard in standing.shards if shard.meta.get("topics") in BINDINGS)


async def gauges(
    inventory: Inventory, standing: Standing, realms: Collection[str] | None
) -> Iterable[GaugeMetricFamily]:
    """Current counts, where there is an inventory at all."""
    counts = await current(inventory, await seen(inventory, realms))
    family = GaugeMetricFamily(
        "authtally_otp_tokens",
        "One-time-password tokens, and `total users` who hold some, by realm and status.",
        labels=["realm", "status"],
    )
    for (realm, status), count in sorted(counts.items()):
        family.add_metric([realm, KEPT[status]], count)
    whole = GaugeMetricFamily("authtally_otp_tokens_complete", "0 where a defect kept a token's state from counting.")
    whole.add_metric([], is_whole(standing))
    return [family, whole] if counts else []


def ask(parameters: Parameters, inventory: Inventory, zone: ZoneInfo, today: date) -> OtpTokensQuestion:
    """Raises BadParameter."""
    first, last = parameters.day("from"), parameters.day("to")
    days = None
    if first is not None or last is not None:
        last = min(last or today, today) if first is None or first <= today else last or first
        first = first or Span.ending(last, DEFAULT_DAYS).first
        if first > last:
            raise BadParameter("from", f"`from` ({first}) is after `to` ({last}).")
        days = Span(first, last)
        if days.length > MAX_DAYS:
            raise BadParameter(
                "from", f"`from` to `to` are {days.length} days; at most {MAX_DAYS} can be told at once."
            )
    chosen = parameters.choices("status", STATUSES)
    named = {KEPT.index(canonical(status) or "") for status in chosen}
    return OtpTokensQuestion(
        inventory, zone, today, days, parameters.text("realm"), tuple(sorted(named)) or tuple(range(len(KEPT)))
    )
