"""Selects the visible rows of the inventory: recorded, requested and not deleted."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import NamedTuple

from api.inventory.inventory import Inventory, Stream
from api.inventory.policy_history import Interval, RecordingHistory
from api.ledger.client import Command
from api.turns import pause
from schemas.ledger.inventory import canonical_index


class Segment(NamedTuple):
    """Rows from `first` to before `end`, a line per status: its index in WRITTEN_STATUSES."""

    first: int
    end: int
    statuses: tuple[int, ...]


class VisibleRows(NamedTuple):
    """The visible rows of a stream. Segments are in order, not empty, and do not overlap."""

    stream: Stream
    segments: tuple[Segment, ...]

    def before(self, number: int) -> int:
        """Number of lines of the rows before `number`."""
        lines = 0
        for first, end, statuses in self.segments:
            if number <= first:
                break
            lines += (min(number, end) - first) * len(statuses)
        return lines

    @property
    def lines(self) -> int:
        return self.before(self.stream.rows)

    @property
    def first(self) -> int:
        return self.segments[0].first

    @property
    def end(self) -> int:
        return self.segments[-1].end


class ExternalRows(NamedTuple):
    """The visible external rows of one status, by its index in WRITTEN_STATUSES: all but the first `skipped`."""

    stream: Stream
    status: int
    skipped: int
    lines: int

    @property
    def key(self) -> str:
        return self.stream.shard.external_rows(self.stream.number, self.status)


class Table(NamedTuple):
    visible: Sequence[VisibleRows]
    external: Sequence[ExternalRows]

    @property
    def lines(self) -> int:
        return sum(each.lines for each in self.visible) + sum(each.lines for each in self.external)


async def table(
    inventory: Inventory,
    streams: Sequence[Stream],
    history: RecordingHistory,
    statuses: Collection[int],
    since_us: int | None = None,
) -> Table:
    """Rows of `statuses` that were recorded and not deleted; `since_us` excludes earlier rows.

    `statuses` are indexes of WRITTEN_STATUSES: a row is only found by the spelling in which it was recorded.
    Policies do not apply to external rows: the system that counted them decided what to record.
    """
    streams = await inventory.with_watermarks(streams)
    visible = await _visible(inventory, streams, history, statuses, since_us)
    asked = [(stream, status) for stream in streams for status in stream.external_statuses if status in statuses]
    commands: list[Command] = []
    for stream, status in asked:
        key = stream.shard.external_rows(stream.number, status)
        commands += [("ZCARD", key), ("ZCOUNT", key, "-inf", "-inf" if since_us is None else f"({since_us}")]
    counts = iter(await inventory.run(commands))
    external = []
    for (stream, status), held, skipped in zip(asked, counts, counts, strict=False):
        if held > skipped:
            external.append(ExternalRows(stream, status, skipped, held - skipped))
    return Table(visible, external)


async def _visible(
    inventory: Inventory,
    streams: Sequence[Stream],
    history: RecordingHistory,
    statuses: Collection[int],
    since_us: int | None,
) -> list[VisibleRows]:
    own = [stream for stream in streams if stream.totals is not None]
    intervals = {
        realm: {status: intervals_of for status, intervals_of in history.intervals(realm).items() if status in statuses}
        for realm in {stream.realm for stream in own}
    }
    asked = [
        (stream, at_us) for stream in own for at_us in sorted(_moments(intervals[stream.realm].values(), since_us))
    ]
    numbers = dict(zip(asked_keys(asked), await inventory.rows_before(asked), strict=True))
    found = []
    for stream in own:
        await pause()
        name = (stream.shard.base, stream.number)
        since = 0 if since_us is None else numbers[*name, since_us]
        ranges = []
        for status, intervals_of in intervals[stream.realm].items():
            least = max(stream.delete_watermarks.get(canonical_index(status), 0), since)
            for interval in intervals_of:
                first = max(least, numbers.get((*name, interval.since), 0))
                end = stream.rows if interval.until is None else numbers[*name, interval.until]
                if first < end:
                    ranges.append((first, end, status))
        if segments := _segments(ranges):
            found.append(VisibleRows(stream, segments))
    return found


def asked_keys(asked: Sequence[tuple[Stream, int]]) -> list[tuple[str, int, int]]:
    return [(stream.shard.base, stream.number, at_us) for stream, at_us in asked]


def _moments(intervals: Collection[Sequence[Interval]], since_us: int | None) -> set[int]:
    found = {at_us for intervals_of in intervals for interval in intervals_of for at_us in interval[:2] if at_us}
    return found | ({since_us} if since_us is not None else set())


def _segments(ranges: Sequence[tuple[int, int, int]]) -> tuple[Segment, ...]:
    """Disjoint segments of overlapping ranges: first, end, status."""
    borders = sorted({border for first, end, _ in ranges for border in (first, end)})
    found: list[Segment] = []
    for first, end in pairwise(borders):
        # A turned pair has the place of its status: rows have the same order in either spelling.
        found_here = {status for low, high, status in ranges if low <= first and end <= high}
        result = tuple(sorted(found_here, key=lambda status: (canonical_index(status), status)))
        if result and found and found[-1].end == first and found[-1].statuses == result:
            found[-1] = found[-1]._replace(end=end)
        elif result:
            found.append(Segment(first, end, result))
    return tuple(found)
