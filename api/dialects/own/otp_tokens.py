"""`/v1/otp-tokens`: one-time-password tokens by realm and status, now or per day."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Annotated, Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

from msgspec import UNSET, Meta, UnsetType, field
from prometheus_client.metrics_core import GaugeMetricFamily

from api.dialects.own import answers, window
from api.dialects.own.answers import AsOf, Part
from api.dialects.own.filters import REALM
from api.dialects.own.operation import Operation
from api.dialects.own.parameters import BadParameterError, Parameters, choices
from api.dialects.own.rendering import Answer, as_of
from api.http.errors import UnavailableError
from api.inventory.inventory import Inventory, RowsDeletedError, Stream
from api.inventory.maxima import Calendar, calendars
from api.ledger.client import Command
from api.ledger.statistics import Statistics
from api.ledger.status import PipelineStatus
from api.turns import pause
from schemas.ledger.inventory import (
    COUNTED_STATUSES,
    INVENTORY_BINDINGS,
    WRITTEN_STATUSES,
    canonical_index,
    canonical_status,
    micros,
    unpack_external,
)
from schemas.ledger.periods import Span

PATH: Final = "/v1/otp-tokens"
STATUSES: Final = WRITTEN_STATUSES
"""The values of `status`: a pair in either order."""
STATUS: Final = choices(
    "status",
    "Only these statuses, separated by commas; a pair in either order.",
    STATUSES,
    "total,active&assigned",
)
PARAMETERS: Final = (window.FROM, window.TO, REALM, STATUS)
DEFAULT_DAYS: Final = 30
MAX_DAYS: Final = 400
MAX_ITEMS: Final = 50_000


class OtpTokensItem(Part, frozen=True, kw_only=True):
    """One realm and status; by day with the count at its end and the maximum on it."""

    day: date | UnsetType = field(default=UNSET, name="date")
    realm: str
    status: str
    count: answers.Count
    maximum: answers.Count | UnsetType = UNSET


class OtpTokens(answers.Days, frozen=True, kw_only=True):
    """One-time-password tokens."""

    granularity: Literal["now", "day"]
    timezone: str
    as_of: AsOf
    complete: Annotated[
        bool, Meta(description="False if a token's state was not counted because of a defect (`unexpected`).")
    ]
    items: list[OtpTokensItem]


OPERATION: Final = Operation(
    PATH,
    "otp_tokens",
    "One-time-password tokens by realm and status",
    "The present counts; with `from` or `to` the count at the end of each day and the maximum on it, up to 400 days. "
    "Tokens without a realm are listed under `/:no realm:/`. Days before a realm's first token and deleted days are "
    "omitted. Always of the region that answers: inventories of regions stay apart.",
    OtpTokens,
    PARAMETERS,
)


class Count(NamedTuple):
    """Tokens of one realm and status: at the end of a day, and the maximum on it."""

    at_end: int
    maximum: int


Key = tuple[str, int]
"""A realm, and a status by its index in COUNTED_STATUSES."""


@dataclass(frozen=True)
class OtpTokensQuestion:
    inventory: Inventory
    zone: ZoneInfo
    today: date
    days: Span | None
    """None for the present counts."""
    realm: str | None
    statuses: tuple[int, ...]

    @property
    def is_wide(self) -> bool:
        return False

    @property
    def key(self) -> str:
        return repr((self.today, self.days, self.realm, self.statuses))

    async def read(self, statistics: Statistics, realms: Collection[str] | None) -> Answer[OtpTokens]:
        """Raises BadParameterError for too many items, UnavailableError if rows are deleted meanwhile."""
        status = await statistics.pipeline_status()
        streams = [
            stream
            for stream in await visible_streams(self.inventory, realms)
            if self.realm is None or stream.realm.lower() == self.realm.lower()
        ]
        try:
            items = await (self._now(streams) if self.days is None else self._by_day(streams, self.days))
        except RowsDeletedError as error:
            raise UnavailableError("Rows are being deleted while they are read.") from error
        days = self.days or Span(self.today, self.today)
        complete = is_whole(status)
        answer = OtpTokens(
            first=days.first,
            last=days.last,
            granularity="now" if self.days is None else "day",
            timezone=self.zone.key,
            as_of=as_of(status),
            complete=complete,
            items=items,
        )
        return Answer(answer, partial=not items or not complete)

    async def _now(self, streams: Sequence[Stream]) -> list[OtpTokensItem]:
        self._check_size(streams, 1)
        counts = await current_counts(self.inventory, streams)
        return [
            OtpTokensItem(realm=realm, status=COUNTED_STATUSES[status], count=count)
            for (realm, status), count in sorted(counts.items())
            if status in self.statuses
        ]

    async def _by_day(self, streams: Sequence[Stream], days: Span) -> list[OtpTokensItem]:
        self._check_size(streams, days.length)
        streams = await self.inventory.with_watermarks(streams)
        own = await _by_day_and_key(await self._stream_counts(streams, days))
        external = await _by_day_and_key(await self._external_counts(streams, days))
        items = []
        for day in days.days:
            # Counts from token states win over external rows of the same realm and status.
            found = {**external.get(day, {}), **own.get(day, {})}
            for (realm, status), counts in sorted(found.items()):
                await pause()
                items.append(
                    OtpTokensItem(
                        day=day,
                        realm=realm,
                        status=COUNTED_STATUSES[status],
                        count=sum(each.at_end for each in counts),
                        maximum=sum(each.maximum for each in counts),
                    )
                )
        return items

    def _check_size(self, streams: Sequence[Stream], days: int) -> None:
        items = len({stream.realm for stream in streams}) * len(self.statuses) * days
        if items > MAX_ITEMS:
            raise BadParameterError(
                "status",
                f"The answer would have up to {items} items; the maximum is {MAX_ITEMS}: name `status` or `realm`.",
            )

    async def _stream_counts(self, streams: Sequence[Stream], days: Span) -> list[tuple[date, Key, Count]]:
        own = [stream for stream in streams if stream.totals is not None]
        stream_calendars = await calendars(self.inventory, own, days.first, self.zone)
        wanted: dict[tuple[int, int], None] = {}
        for index, (stream, calendar) in enumerate(zip(own, stream_calendars, strict=True)):
            await pause()
            for _, _, last in _day_ends(stream, calendar, days):
                wanted[index, last] = None
        rows = await self.inventory.rows([(own[index], number) for index, number in wanted])
        held = {key: row.values for key, row in zip(wanted, rows, strict=True)}
        found = []
        for index, (stream, calendar) in enumerate(zip(own, stream_calendars, strict=True)):
            before: tuple[int, ...] | None = None
            for day, maxima, last in _day_ends(stream, calendar, days):
                await pause()
                values = held[index, last]
                for status in self.statuses:
                    if last >= stream.delete_watermarks.get(status, 0) and days.first <= day:
                        highest = max(values[status], *(each[status] for each in (maxima, before) if each is not None))
                        found.append((day, (stream.realm, status), Count(values[status], highest)))
                before = values
        return found

    async def _external_counts(self, streams: Sequence[Stream], days: Span) -> list[tuple[date, Key, Count]]:
        asked = [
            (stream, status)
            for stream in streams
            for status in stream.external_statuses
            if canonical_index(status) in self.statuses
        ]
        commands: list[Command] = []
        for stream, status in asked:
            key = stream.shard.external_rows(stream.number, status)
            commands.append(("HGETALL", stream.shard.external_days(stream.number, status)))
            for day in days.days:
                end = micros(datetime.combine(day + timedelta(days=1), time(), self.zone))
                commands.append(("ZREVRANGEBYSCORE", key, f"({end}", "-inf", "WITHSCORES", "LIMIT", 0, 1))
                await pause()
        replies = iter(await self.inventory.run(commands))
        found: dict[tuple[str, int, int, date], tuple[float, str, Count]] = {}
        for stream, status in asked:
            maxima = {int(ordinal): int(count) for ordinal, count in next(replies).items()}
            before = 0
            for day in days.days:
                await pause()
                if rows := next(replies):
                    count, at_us = unpack_external(rows[0]).tokens, float(rows[1])
                    highest = max(count, before, maxima.get(day.toordinal(), 0))
                    # Both spellings of a pair are one figure: the later row is valid.
                    key_of = stream.shard.base, stream.number, canonical_index(status), day
                    if key_of not in found or at_us > found[key_of][0]:
                        found[key_of] = at_us, stream.realm, Count(count, highest)
                    before = count
        return [(day, (realm, status), count) for (_, _, status, day), (_, realm, count) in found.items()]


async def _by_day_and_key(found: Iterable[tuple[date, Key, Count]]) -> dict[date, dict[Key, list[Count]]]:
    days: dict[date, dict[Key, list[Count]]] = {}
    for day, key, count in found:
        await pause()
        days.setdefault(day, {}).setdefault(key, []).append(count)
    return days


def _day_ends(stream: Stream, calendar: Calendar, days: Span) -> Iterator[tuple[date, tuple[int, ...] | None, int]]:
    """The day before the window and each day of it, with its maxima if it has rows, and its last row's number."""
    lowest = min(stream.delete_watermarks.values())
    for day in (days.first - timedelta(days=1), *days.days):
        maxima, last = calendar.day(day)
        if last >= lowest:
            yield day, maxima, last


async def visible_streams(inventory: Inventory, realms: Collection[str] | None) -> list[Stream]:
    """The streams that a bearer sees. Tokens without a realm form their own realm, which a limited bearer must name."""
    return [stream for stream in await inventory.streams() if realms is None or stream.realm in realms]


async def current_counts(inventory: Inventory, streams: Sequence[Stream]) -> dict[Key, int]:
    """The present counts. Token states win over external rows of the same realm and status."""
    found: defaultdict[Key, int] = defaultdict(int)
    for stream in streams:
        if stream.totals is not None:
            for status, count in enumerate(stream.totals.values):
                found[stream.realm, status] += count
    external: defaultdict[Key, int] = defaultdict(int)
    asked = [
        (stream, status)
        for stream in streams
        for status in stream.external_statuses
        if (stream.realm, canonical_index(status)) not in found
    ]
    commands: list[Command] = [
        ("ZREVRANGE", stream.shard.external_rows(stream.number, status), 0, 0, "WITHSCORES") for stream, status in asked
    ]
    latest: dict[tuple[str, int, int], tuple[float, str, int]] = {}
    for (stream, status), rows in zip(asked, await inventory.run(commands), strict=True):
        if rows:
            # Both spellings of a pair are one figure: the later row is valid.
            key_of = stream.shard.base, stream.number, canonical_index(status)
            found_row = float(rows[1]), stream.realm, unpack_external(rows[0]).tokens
            latest[key_of] = max(latest.get(key_of, found_row), found_row)
    for (_, _, status), (_, realm, tokens) in latest.items():
        external[realm, status] += tokens
    return {**external, **found}


def is_whole(status: PipelineStatus) -> bool:
    """False if a state was not counted because of a defect. Its realm is unknown, so this holds for all realms."""
    return not any(shard.unexpected for shard in status.shards if shard.meta.get("topics") in INVENTORY_BINDINGS)


async def gauges(
    inventory: Inventory, pipeline: PipelineStatus, realms: Collection[str] | None
) -> Iterable[GaugeMetricFamily]:
    """Gauges of the present counts; none without an inventory."""
    counts = await current_counts(inventory, await visible_streams(inventory, realms))
    family = GaugeMetricFamily(
        "authtally_otp_tokens",
        "One-time-password tokens, and users with active tokens (`total users`), by realm and status.",
        labels=["realm", "status"],
    )
    for (realm, status), count in sorted(counts.items()):
        family.add_metric([realm, COUNTED_STATUSES[status]], count)
    whole = GaugeMetricFamily(
        "authtally_otp_tokens_complete", "0 if a token state was not counted because of a defect, else 1."
    )
    whole.add_metric([], is_whole(pipeline))
    return [family, whole] if counts else []


def parse(parameters: Parameters, inventory: Inventory, zone: ZoneInfo, today: date) -> OtpTokensQuestion:
    """Raises BadParameterError."""
    first, last = parameters.get(window.FROM), parameters.get(window.TO)
    days = None
    if first is not None or last is not None:
        last = min(last or today, today) if first is None or first <= today else last or first
        first = first or Span.ending(last, DEFAULT_DAYS).first
        if first > last:
            raise BadParameterError("from", f"`from` ({first}) is after `to` ({last}).")
        days = Span(first, last)
        if days.length > MAX_DAYS:
            raise BadParameterError("from", f"`from` to `to` are {days.length} days; the maximum is {MAX_DAYS}.")
    chosen = parameters.get(STATUS)
    named = {COUNTED_STATUSES.index(canonical_status(status) or "") for status in chosen}
    return OtpTokensQuestion(
        inventory,
        zone,
        today,
        days,
        parameters.get(REALM),
        tuple(sorted(named)) or tuple(range(len(COUNTED_STATUSES))),
    )
