"""The highest counts of a window of days, from the maxima of each day; only partly visible days are read from rows."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime, time
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from api.inventory.inventory import Inventory, RowsDeletedError, Stream
from api.inventory.table import Table, VisibleRows
from api.ledger.client import Command, chunks
from api.turns import pause
from schemas.ledger.inventory import (
    COUNTED_STATUSES,
    ROWS_PER_CHUNK,
    RealmTotals,
    canonical_index,
    from_micros,
    micros,
    rows,
    unpack_external,
)

STREAM_BATCH: Final = 64
"""Most streams whose days are in memory at the same time: 11 MB for ten years."""
CHUNK_BATCH: Final = 64

_COLUMNS: Final = 2 + len(COUNTED_STATUSES)


class DayRange(NamedTuple):
    """Days from `first` (inclusive) to `end` (exclusive)."""

    first: date
    end: date


class HighestCount(NamedTuple):
    """The maximum of a realm and status in a window."""

    highest: int | None
    last_before: tuple[int, int] | None = None
    """The last row before the window: its place in time (µs) and its count."""


class Calendar:
    """The days of a stream with rows, from some year on, as of the stream's totals."""

    def __init__(self, packed: bytes, totals: RealmTotals | None) -> None:
        self._held = array("I", packed)
        rows = 0
        if totals is not None:
            # The last day is in the totals until it is over; days from it on are of a later state than the totals.
            while self._held and self._held[-_COLUMNS] >= totals.day:
                del self._held[-_COLUMNS:]
            self._held.extend((totals.day, totals.day_first, *totals.maxima))
            rows = totals.rows
        self.ordinals = self._held[0::_COLUMNS]
        self.firsts = self._held[1::_COLUMNS]
        self.firsts.append(rows)

    def window(self, days: DayRange) -> tuple[int, int]:
        """The window's rows: number of the first, and of the one after the last."""
        first, end = (bisect_left(self.ordinals, day.toordinal()) for day in days)
        return self.firsts[first], self.firsts[end]

    def day(self, day: date) -> tuple[tuple[int, ...] | None, int]:
        """The maxima of a day (None without rows), and the last row up to its end (-1 without one)."""
        after = bisect_right(self.ordinals, day.toordinal())
        last = self.firsts[after] - 1
        if not after or self.ordinals[after - 1] != day.toordinal():
            return None, last
        start = (after - 1) * _COLUMNS + 2
        return tuple(self._held[start : start + len(COUNTED_STATUSES)]), last

    def highest(self, status: int, first: int, end: int) -> tuple[int | None, list[tuple[int, int]]]:
        """The maximum over whole days among these rows, and the ranges of rows that cover only parts of days."""
        low = bisect_left(self.firsts, first)
        high = bisect_right(self.firsts, end) - 1
        if low > high:
            return None, [(first, end)]
        cut = [(first, self.firsts[low]), (self.firsts[high], end)]
        column = self._held[low * _COLUMNS + 2 + status : high * _COLUMNS : _COLUMNS]
        return max(column, default=None), [(begin, stop) for begin, stop in cut if begin < stop]


async def maxima(
    inventory: Inventory, table: Table, days: DayRange, zone: ZoneInfo
) -> dict[tuple[str, int], HighestCount]:
    """Maxima of the visible rows by realm and status, as its index in COUNTED_STATUSES; those without rows are missing.

    Both spellings of a pair count together. Raises RowsDeletedError.
    """
    found: dict[tuple[str, int], HighestCount] = {}
    for some in chunks(table.visible, STREAM_BATCH):
        await _stream_maxima(inventory, some, days, zone, found)
    from_us = micros(datetime.combine(days.first, time(), zone))
    for external in chunks(table.external, STREAM_BATCH):
        commands: list[Command] = []
        for listed in external:
            shard, number = listed.stream.shard, listed.stream.number
            commands.append(("HGETALL", shard.external_days(number, listed.status)))
            commands.append(("ZREVRANGEBYSCORE", listed.key, f"({from_us}", "-inf", "WITHSCORES", "LIMIT", 0, 1))
        replies = await inventory.run(commands)
        for listed, by_day, before in zip(external, replies[0::2], replies[1::2], strict=True):
            low, high = days.first.toordinal(), days.end.toordinal()
            inside = (int(count) for ordinal, count in by_day.items() if low <= int(ordinal) < high)
            last = (int(float(before[1])), unpack_external(before[0]).tokens) if before else None
            _add(
                found,
                (listed.stream.realm, canonical_index(listed.status)),
                HighestCount(max(inside, default=None), last),
            )
    return found


def _add(found: dict[tuple[str, int], HighestCount], key: tuple[str, int], one: HighestCount) -> None:
    """Combine the results if several inventories count one realm: their rows form one table."""
    other = found.get(key, HighestCount(None))
    counts = [each.highest for each in (one, other) if each.highest is not None]
    before = [each.last_before for each in (one, other) if each.last_before is not None]
    found[key] = HighestCount(max(counts, default=None), max(before, default=None))


async def _stream_maxima(
    inventory: Inventory,
    some: Sequence[VisibleRows],
    days: DayRange,
    zone: ZoneInfo,
    found: dict[tuple[str, int], HighestCount],
) -> None:
    by_stream = await calendars(inventory, [each.stream for each in some], days.first, zone)
    cut: list[tuple[VisibleRows, int, int, int]] = []
    last: list[tuple[VisibleRows, int, int]] = []
    for each, calendar in zip(some, by_stream, strict=True):
        await pause()
        first, end = calendar.window(days)
        for status, ranges in _by_status(each).items():
            inside = None
            for begin, stop in ranges:
                low, high = max(begin, first), min(stop, end)
                if low < high:
                    whole, parts = calendar.highest(status, low, high)
                    inside = whole if inside is None or (whole is not None and whole > inside) else inside
                    cut += [(each, status, *part) for part in parts]
            before = max((min(stop, first) - 1 for begin, stop in ranges if begin < first), default=None)
            if before is not None:
                last.append((each, status, before))
            _add(found, (each.stream.realm, status), HighestCount(inside))
    for each, status, begin, stop in cut:
        highest = await _row_maximum(inventory, each.stream, status, begin, stop)
        _add(found, (each.stream.realm, status), HighestCount(highest))
    wanted = dict.fromkeys((each.stream.shard.base, each.stream.number, number) for each, _, number in last)
    streams = {(each.stream.shard.base, each.stream.number): each.stream for each in some}
    earlier = await inventory.rows([(streams[base, number], row) for base, number, row in wanted])
    by_row = dict(zip(wanted, earlier, strict=True))
    for each, status, number in last:
        row = by_row[each.stream.shard.base, each.stream.number, number]
        _add(found, (each.stream.realm, status), HighestCount(None, (row.at_us, row.values[status])))


def _by_status(visible: VisibleRows) -> Mapping[int, list[tuple[int, int]]]:
    ranges: dict[int, list[tuple[int, int]]] = {}
    for first, end, statuses in visible.segments:
        for status in dict.fromkeys(map(canonical_index, statuses)):
            held = ranges.setdefault(status, [])
            if held and held[-1][1] == first:
                held[-1] = held[-1][0], end
            else:
                held.append((first, end))
    return ranges


async def calendars(inventory: Inventory, streams: Collection[Stream], since: date, zone: ZoneInfo) -> list[Calendar]:
    """The days of each stream, from the year of `since` on."""
    years = [years_of(stream, zone, since.year) for stream in streams]
    commands: list[Command] = [
        ("GET", stream.shard.days(stream.number, year))
        for stream, stream_years in zip(streams, years, strict=True)
        for year in stream_years
    ]
    replies = iter(await inventory.run(commands))
    return [
        Calendar(b"".join(next(replies) or b"" for _ in stream_years), stream.totals)
        for stream, stream_years in zip(streams, years, strict=True)
    ]


def years_of(stream: Stream, zone: ZoneInfo, since: int = 0) -> range:
    """The years in which a stream can have rows, not before `since`."""
    if stream.totals is None:
        return range(0)
    first, last = (
        from_micros(at_us).astimezone(zone).year for at_us in (stream.totals.first_us, stream.totals.last_us)
    )
    return range(max(first, since), last + 1)


async def _row_maximum(inventory: Inventory, stream: Stream, status: int, begin: int, stop: int) -> int | None:
    """The maximum of some rows of a partly visible day."""
    highest: int | None = None
    held = range(begin // ROWS_PER_CHUNK, (stop - 1) // ROWS_PER_CHUNK + 1)
    for some in chunks(held, CHUNK_BATCH):
        for number, chunk in zip(some, await inventory.chunks([(stream, one) for one in some]), strict=True):
            await pause()
            base = number * ROWS_PER_CHUNK
            counts = [row.values[status] for row in rows(chunk)[max(begin - base, 0) : stop - base]]
            if not counts:
                raise RowsDeletedError
            highest = max(*counts, highest if highest is not None else 0)
    return highest
