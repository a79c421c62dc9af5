"""Rows of the inventory as a table ordered by time, from any line on.

Rows of a realm are numbered in order of time, so the table of several realms is a merge.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import AsyncGenerator, Sequence
from typing import Final

from msgspec import Struct

from api.inventory.inventory import Inventory, RowsDeletedError
from api.inventory.search import LATEST_US, LineSearch
from api.inventory.table import ExternalRows, Table, VisibleRows
from api.ledger.client import Command
from schemas.ledger.inventory import (
    NO_TEXTS,
    ROWS_PER_CHUNK,
    WRITTEN_STATUSES,
    ExternalRow,
    RowTexts,
    canonical_index,
    row_of,
    row_times,
    unpack_external,
)

READ_AHEAD: Final = 64
"""Most chunks read together when a walk needs one."""
EXTERNAL_BATCH: Final = 256
"""External rows read together."""


class TableLine(Struct, frozen=True, gc=False):
    """One line of the table. The garbage collector skips it: 100,000 sorted lines would stop the loop for 20 ms."""

    at_us: int
    time_us: int
    shard: str
    event: int
    realm: str
    parameter: str
    tokens: int
    texts: RowTexts = NO_TEXTS


async def lines(inventory: Inventory, table: Table, first: int, *, descending: bool) -> AsyncGenerator[TableLine]:
    """The table from its line `first` on, by time, in bounded memory: one chunk per realm.

    Lines of one moment are ordered by realm, shard, row and status, and then external rows by their place in the log;
    descending is the exact reverse. Raises RowsDeletedError if rows were deleted meanwhile.
    """
    total = table.lines
    if first >= total:
        return
    start = await LineSearch(inventory, table).start(total - first if descending else first, descending=descending)
    skip = start.skip
    cursors: list[_RowCursor | ExternalCursor] = [
        _RowCursor(visible, number, chunk_starts, descending=descending)
        for visible, number, chunk_starts in zip(table.visible, start.numbers, start.chunk_starts, strict=True)
    ]
    cursors += [
        ExternalCursor(listed, rank, descending=descending)
        for listed, rank in zip(table.external, start.ranks, strict=True)
    ]
    sign = -1 if descending else 1
    heap = [_heap_entry(sign, index, cursor) for index, cursor in enumerate(cursors) if not cursor.ended]
    heapq.heapify(heap)
    while heap:
        index = sign * heap[0][2]
        cursor = cursors[index]
        if not cursor.loaded:
            # The cursors that follow are needed soon, so they are loaded in the same pipeline.
            upcoming: list[int] = []
            while heap and len(upcoming) < READ_AHEAD and not cursors[sign * heap[0][2]].loaded:
                upcoming.append(sign * heapq.heappop(heap)[2])
            await _load(inventory, [cursors[each] for each in upcoming])
            for each in upcoming:
                if not cursors[each].ended:
                    heapq.heappush(heap, _heap_entry(sign, each, cursors[each]))
            continue
        for line in cursor.take():
            if skip:
                skip -= 1
            else:
                yield line
        if cursor.ended:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, _heap_entry(sign, index, cursor))


def _heap_entry(sign: int, index: int, cursor: _RowCursor | ExternalCursor) -> tuple[int, int, int]:
    return sign * cursor.at_us, sign * cursor.sequence, sign * index


class _RowCursor:
    """A walk over a stream's visible rows. `at_us` is the next row's time, until it is loaded a bound of it."""

    sequence: Final = -1
    """Before all external rows."""

    def __init__(self, visible: VisibleRows, number: int, chunk_starts: array[int], *, descending: bool) -> None:
        """`number` is the first row to return; descending, the one after it."""
        self._visible = visible
        self._chunk_starts = chunk_starts
        self._descending = descending
        self._chunk = b""
        self._moments: list[int] = []
        self._loaded_chunk = -1
        segments = visible.segments
        if descending:
            self._segment = len(segments) - 1
            while self._segment >= 0 and number <= segments[self._segment].first:
                self._segment -= 1
            self._next = number - 1 if self._segment < 0 else min(number, segments[self._segment].end) - 1
        else:
            self._segment = 0
            while self._segment < len(segments) and number >= segments[self._segment].end:
                self._segment += 1
            self._next = number if self._segment == len(segments) else max(number, segments[self._segment].first)
        self._update_time()

    @property
    def ended(self) -> bool:
        return not 0 <= self._segment < len(self._visible.segments)

    @property
    def loaded(self) -> bool:
        return self._loaded_chunk == self.chunk

    @property
    def chunk(self) -> int:
        return self._next // ROWS_PER_CHUNK

    def _update_time(self) -> None:
        if self.ended:
            return
        if self.loaded:
            self.at_us = self._moments[self._next % ROWS_PER_CHUNK]
        elif not self._descending:
            self.at_us = self._chunk_starts[self.chunk]
        elif self.chunk + 1 < len(self._chunk_starts):
            self.at_us = self._chunk_starts[self.chunk + 1]
        else:
            assert self._visible.stream.totals is not None
            self.at_us = self._visible.stream.totals.last_us

    @property
    def load_command(self) -> Command:
        stream = self._visible.stream
        return ("GET", stream.shard.rows(stream.number, self.chunk))

    def load(self, reply: bytes | None) -> None:
        self._chunk = reply or b""
        self._moments = row_times(self._chunk)
        self._loaded_chunk = self.chunk
        if self._next % ROWS_PER_CHUNK >= len(self._moments):
            raise RowsDeletedError
        self._update_time()

    def take(self) -> list[TableLine]:
        """The next row's lines. Moves to the row after it."""
        row = row_of(self._chunk, self._next % ROWS_PER_CHUNK, self.at_us)
        stream, values = self._visible.stream, row.values
        segment = self._visible.segments[self._segment]
        row_lines = [
            TableLine(
                *(row.at_us, row.time_us, stream.shard.base, row.event, stream.realm),
                *(WRITTEN_STATUSES[status], values[canonical_index(status)]),
            )
            for status in segment.statuses
        ]
        if self._descending:
            row_lines.reverse()
            self._next -= 1
            if self._next < segment.first:
                self._segment -= 1
                if not self.ended:
                    self._next = self._visible.segments[self._segment].end - 1
        else:
            self._next += 1
            if self._next >= segment.end:
                self._segment += 1
                if not self.ended:
                    self._next = self._visible.segments[self._segment].first
        self._update_time()
        return row_lines


class ExternalCursor:
    """A walk over external rows."""

    def __init__(self, listed: ExternalRows, rank: int, *, descending: bool) -> None:
        """`rank` is the number of rows before the first to return; descending, before the one after it."""
        self._listed = listed
        self._descending = descending
        self._first, self._left = (listed.skipped, rank) if descending else (listed.skipped + rank, listed.lines - rank)
        self._held: list[tuple[bytes, int]] = []
        self._taken = 0
        # Unknown before the first read, so the extreme value forces a read first.
        self.at_us = LATEST_US if descending else -LATEST_US
        self._external = ExternalRow(0, 0, 0)

    @property
    def sequence(self) -> int:
        """The place in the log of the next row; 0 if it is not loaded."""
        return self._external.sequence

    @property
    def ended(self) -> bool:
        return self._left <= 0

    @property
    def loaded(self) -> bool:
        return self._taken < len(self._held)

    @property
    def load_command(self) -> Command:
        if self._descending:
            last = self._first + self._left - 1
            return ("ZRANGE", self._listed.key, max(self._first, last - EXTERNAL_BATCH + 1), last, "WITHSCORES")
        last = self._first + min(self._left, EXTERNAL_BATCH) - 1
        return ("ZRANGE", self._listed.key, self._first, last, "WITHSCORES")

    def load(self, reply: Sequence[bytes]) -> None:
        self._held = [(member, int(float(score))) for member, score in zip(reply[::2], reply[1::2], strict=True)]
        if not self._held:
            raise RowsDeletedError
        if self._descending:
            self._held.reverse()
        self._taken = 0
        self._unpack_next()

    def _unpack_next(self) -> None:
        member, self.at_us = self._held[self._taken]
        self._external = unpack_external(member)

    def take(self) -> list[TableLine]:
        external, at_us, stream = self._external, self.at_us, self._listed.stream
        self._taken += 1
        self._left -= 1
        if not self._descending:
            self._first += 1
        if self.loaded:
            self._unpack_next()
        return [
            TableLine(
                *(at_us, at_us, stream.shard.base, external.event, stream.realm),
                *(WRITTEN_STATUSES[self._listed.status], external.tokens, external.texts),
            )
        ]


async def _load(inventory: Inventory, cursors: Sequence[_RowCursor | ExternalCursor]) -> None:
    replies = await inventory.run([cursor.load_command for cursor in cursors])
    for cursor, reply in zip(cursors, replies, strict=True):
        cursor.load(reply)
