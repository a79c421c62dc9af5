"""Finds a line of the table by time: first by the chunks' start times, then in the few chunks around that time."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Awaitable, Callable
from itertools import accumulate, chain
from typing import Final, NamedTuple

from api.inventory.inventory import MAX_COMMANDS, Inventory, RowsDeletedError, Stream
from api.inventory.table import Table
from api.ledger.client import Command, chunks
from api.turns import pause
from schemas.ledger.inventory import ROWS_PER_CHUNK, from_micros, micros, row_times

FEW_EXTERNAL: Final = 4_096
"""External rows that may be between the bounds of a search before it continues in rows."""
KEY_BATCH: Final = 1_000

COUNT_BEFORE: Final = """
local counts = {}
for place, key in ipairs(KEYS) do counts[place] = redis.call('ZCOUNT', key, '-inf', '(' .. ARGV[1]) end
return counts
"""

LATEST_US: Final = micros(from_micros(0).replace(year=9999))


class StartPoint(NamedTuple):
    """The start of a walk: row numbers, ranks and chunk starts by stream, and the lines of the first moment to skip."""

    numbers: list[int]
    ranks: list[int]
    chunk_starts: list[array[int]]
    skip: int


class LineSearch:
    """Finds the moment at which a line of a table is."""

    def __init__(self, inventory: Inventory, table: Table) -> None:
        self._inventory = inventory
        self._table = table
        self._chunk_starts: list[array[int]] = []
        # The rows around the moment, once they are read: number of the first row, and their times.
        self._row_times: list[tuple[int, array[int]]] | None = None
        self._all_before: tuple[list[int], list[int]] = ([], [])
        self._any_before: tuple[list[int], list[int]] = ([], [])

    async def start(self, passed: int, *, descending: bool) -> StartPoint:
        """The start of a walk after the first `passed` lines; descending, it begins at the last of them."""
        table = self._table
        self._chunk_starts = await self._inventory.chunk_starts([each.stream for each in table.visible])
        if descending and passed == table.lines:
            return StartPoint(
                [each.end for each in table.visible], [each.lines for each in table.external], self._chunk_starts, 0
            )
        if not descending and passed == 0:
            return StartPoint([each.first for each in table.visible], [0] * len(table.external), self._chunk_starts, 0)
        await self._sum_up()
        low, high = self._span()
        if table.visible:
            low, high = await self._narrow(low, high, passed, self._estimate, rough=True)
            await self._read_row_times(low, high)
        low, _ = await self._narrow(low, high, passed, self._count, rough=False)
        # At most `passed` lines are before `low`; more are before the moment after it.
        at_us = low + 1 if descending else low
        numbers = self._numbers(at_us)
        ranks = await self._ranks(at_us)
        before = sum(each.before(number) for each, number in zip(table.visible, numbers, strict=True)) + sum(ranks)
        return StartPoint(numbers, ranks, self._chunk_starts, before - passed if descending else passed - before)

    async def _sum_up(self) -> None:
        """Sum the visible lines of the chunks by the moment before which all lines of a chunk are, and by its start."""
        ends: list[tuple[int, int]] = []
        begins: list[tuple[int, int]] = []
        for each, chunk_starts in zip(self._table.visible, self._chunk_starts, strict=True):
            assert each.stream.totals is not None
            last = (each.end - 1) // ROWS_PER_CHUNK
            await pause()
            lines_before = each.before(each.first // ROWS_PER_CHUNK * ROWS_PER_CHUNK)
            for chunk in range(each.first // ROWS_PER_CHUNK, last + 1):
                await pause()
                until = each.before((chunk + 1) * ROWS_PER_CHUNK)
                if weight := until - lines_before:
                    begins.append((chunk_starts[chunk], weight))
                    following = chunk_starts[chunk + 1] if chunk + 1 < len(chunk_starts) else each.stream.totals.last_us
                    ends.append((following, weight))
                lines_before = until
        self._all_before, self._any_before = _summed(ends), _summed(begins)

    def _span(self) -> tuple[int, int]:
        """Two moments: no line is before the first, all lines are before the second."""
        if self._table.external:
            return -LATEST_US, LATEST_US
        return self._any_before[0][0], self._all_before[0][-1] + 1

    async def _estimate(self, at_us: int) -> tuple[int, int]:
        external = sum(await self._ranks(at_us))
        return _before(self._all_before, at_us) + external, _before(self._any_before, at_us) + external

    async def _count(self, at_us: int) -> tuple[int, int]:
        numbers = self._numbers(at_us)
        lines_before = sum(each.before(number) for each, number in zip(self._table.visible, numbers, strict=True))
        external = sum(await self._ranks(at_us))
        return lines_before + external, lines_before + external

    async def _narrow(
        self,
        low: int,
        high: int,
        passed: int,
        count: Callable[[int], Awaitable[tuple[int, int]]],
        *,
        rough: bool,
    ) -> tuple[int, int]:
        """The nearest moments with at most, and more than, `passed` lines before. Bisects, interpolates in turn."""
        between: int | None = None
        counted = {low: 0, high: self._table.lines}
        guess = False
        while high - low > 1:
            await pause()
            middle = (low + high) // 2
            if guess and counted[high] > counted[low]:
                share = (passed - counted[low]) / (counted[high] - counted[low])
                middle = min(max(low + int((high - low) * share), low + 1), high - 1)
            guess = not guess
            least, most = await count(middle)
            if most <= passed:
                low, counted[middle] = middle, most
            elif least > passed:
                high, counted[middle] = middle, least
            else:
                between = middle
                break
        if between is None or not rough:
            return low, high
        return await self._lowest(low, between, passed, count), await self._highest(between, high, passed, count)

    async def _lowest(
        self, low: int, high: int, passed: int, count: Callable[[int], Awaitable[tuple[int, int]]]
    ) -> int:
        """The latest moment before which surely at most `passed` lines are; external rows may end the search early."""
        while high - low > 1:
            middle = (low + high) // 2
            _, most = await count(middle)
            low, high = (middle, high) if most <= passed else (low, middle)
            if self._table.external and abs(most - passed) <= FEW_EXTERNAL:
                break
        return low

    async def _highest(
        self, low: int, high: int, passed: int, count: Callable[[int], Awaitable[tuple[int, int]]]
    ) -> int:
        while high - low > 1:
            middle = (low + high) // 2
            least, _ = await count(middle)
            low, high = (low, middle) if least > passed else (middle, high)
            if self._table.external and abs(least - passed) <= FEW_EXTERNAL:
                break
        return high

    async def _read_row_times(self, low: int, high: int) -> None:
        """Read the times of all rows that may be between the two moments."""
        around: list[tuple[int, array[int]]] = []
        wanted: list[tuple[int, Stream, int]] = []
        for index, (each, chunk_starts) in enumerate(zip(self._table.visible, self._chunk_starts, strict=True)):
            first = max(bisect_left(chunk_starts, low) - 1, each.first // ROWS_PER_CHUNK, 0)
            last = min(bisect_left(chunk_starts, high) - 1, (each.end - 1) // ROWS_PER_CHUNK)
            around.append((first * ROWS_PER_CHUNK, array("q")))
            wanted += [(index, each.stream, chunk) for chunk in range(first, last + 1)]
        for batch in chunks(wanted, MAX_COMMANDS):
            held = await self._inventory.chunks([(stream, chunk) for _, stream, chunk in batch])
            for (index, _, _), chunk in zip(batch, held, strict=True):
                await pause()
                if not chunk:
                    raise RowsDeletedError
                around[index][1].extend(row_times(chunk))
        self._row_times = around

    def _numbers(self, at_us: int) -> list[int]:
        assert self._row_times is not None or not self._table.visible
        return [first + bisect_left(times, at_us) for first, times in self._row_times or ()]

    async def _ranks(self, at_us: int) -> list[int]:
        """For each set of external rows, the number of visible rows before a moment."""
        ranks: list[int] = []
        for batch in chunks(self._table.external, KEY_BATCH):
            by_shard: dict[str, list[int]] = {}
            for index, listed in enumerate(batch):
                by_shard.setdefault(listed.stream.shard.base, []).append(index)
            commands: list[Command] = [
                ("EVAL", COUNT_BEFORE, len(chunk_starts), *(batch[index].key for index in chunk_starts), at_us)
                for chunk_starts in by_shard.values()
            ]
            replies = await self._inventory.run(commands)
            found = dict(
                zip(
                    (index for chunk_starts in by_shard.values() for index in chunk_starts),
                    chain.from_iterable(replies),
                    strict=True,
                )
            )
            ranks += [min(max(found[index] - listed.skipped, 0), listed.lines) for index, listed in enumerate(batch)]
        return ranks


def _summed(weighted: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    weighted.sort()
    return [at_us for at_us, _ in weighted], [0, *accumulate(weight for _, weight in weighted)]


def _before(summed: tuple[list[int], list[int]], at_us: int) -> int:
    return summed[1][bisect_left(summed[0], at_us)]
