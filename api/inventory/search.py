"""Where a line of the table stands: from where each chunk begins, and then from the few chunks around that moment."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Awaitable, Callable
from itertools import accumulate, chain
from typing import Final, NamedTuple

from api.inventory.inventory import COMMANDS, GoneError, Inventory, Stream
from api.inventory.table import Table
from api.ledger.client import Command
from api.ledger.users import chunks
from schemas.ledger.inventory import ROWS_PER_CHUNK, micros, moment, moments

FEW_GIVEN: Final = 4_096
"""Given rows that may lie between the bounds of a search before it goes on in rows."""
KEYS_AT_ONCE: Final = 1_000

COUNT_BEFORE: Final = """
local counts = {}
for place, key in ipairs(KEYS) do counts[place] = redis.call('ZCOUNT', key, '-inf', '(' .. ARGV[1]) end
return counts
"""

FOREVER: Final = micros(moment(0).replace(year=9999))


class Start(NamedTuple):
    """Where a walk begins: by stream, and how many lines of its first moment are passed over."""

    numbers: list[int]
    ranks: list[int]
    places: list[array[int]]
    skip: int


class Search:
    """Looks for the moment at which a line of a table stands."""

    def __init__(self, inventory: Inventory, of: Table) -> None:
        self._inventory = inventory
        self._of = of
        self._places: list[array[int]] = []
        # What the rows around the moment are, once they are read: the number of the first, and their moments.
        self._around: list[tuple[int, array[int]]] | None = None
        self._surely: tuple[list[int], list[int]] = ([], [])
        self._perhaps: tuple[list[int], list[int]] = ([], [])

    async def start(self, passed: int, *, descending: bool) -> Start:
        """A walk from after the first `passed` lines on; descending, from before all but them."""
        of = self._of
        self._places = await self._inventory.places([each.stream for each in of.visible])
        if descending and passed == of.lines:
            return Start([each.end for each in of.visible], [each.lines for each in of.given], self._places, 0)
        if not descending and passed == 0:
            return Start([each.first for each in of.visible], [0] * len(of.given), self._places, 0)
        self._sum_up()
        low, high = self._span()
        if of.visible:
            low, high = await self._narrow(low, high, passed, self._roughly, rough=True)
            await self._read_around(low, high)
        low, _ = await self._narrow(low, high, passed, self._exactly, rough=False)
        # Lines before `low` are at most `passed`, lines before the moment after it more.
        at_us = low + 1 if descending else low
        numbers = self._numbers(at_us)
        ranks = await self._ranks(at_us)
        before = sum(each.before(number) for each, number in zip(of.visible, numbers, strict=True)) + sum(ranks)
        return Start(numbers, ranks, self._places, before - passed if descending else passed - before)

    def _sum_up(self) -> None:
        """Of each chunk, how many lines it tells, summed by the moment before which all, or any, of them stand."""
        ends: list[tuple[int, int]] = []
        begins: list[tuple[int, int]] = []
        for each, places in zip(self._of.visible, self._places, strict=True):
            assert each.stream.figures is not None
            last = (each.end - 1) // ROWS_PER_CHUNK
            told = each.before(each.first // ROWS_PER_CHUNK * ROWS_PER_CHUNK)
            for chunk in range(each.first // ROWS_PER_CHUNK, last + 1):
                until = each.before((chunk + 1) * ROWS_PER_CHUNK)
                if weight := until - told:
                    begins.append((places[chunk], weight))
                    following = places[chunk + 1] if chunk + 1 < len(places) else each.stream.figures.last_us
                    ends.append((following, weight))
                told = until
        self._surely, self._perhaps = _summed(ends), _summed(begins)

    def _span(self) -> tuple[int, int]:
        """Moments of which nothing stands before the first, and everything before the second."""
        if self._of.given:
            return -FOREVER, FOREVER
        return self._perhaps[0][0], self._surely[0][-1] + 1

    async def _roughly(self, at_us: int) -> tuple[int, int]:
        given = sum(await self._ranks(at_us))
        return _before(self._surely, at_us) + given, _before(self._perhaps, at_us) + given

    async def _exactly(self, at_us: int) -> tuple[int, int]:
        numbers = self._numbers(at_us)
        told = sum(each.before(number) for each, number in zip(self._of.visible, numbers, strict=True))
        given = sum(await self._ranks(at_us))
        return told + given, told + given

    async def _narrow(
        self,
        low: int,
        high: int,
        passed: int,
        count: Callable[[int], Awaitable[tuple[int, int]]],
        *,
        rough: bool,
    ) -> tuple[int, int]:
        """The nearest moments before which at most `passed` lines stand, and more. Halves, and guesses in between."""
        between: int | None = None
        counted = {low: 0, high: self._of.lines}
        guess = False
        while high - low > 1:
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
        """The latest moment before which surely at most `passed` lines stand; given rows may end it early."""
        while high - low > 1:
            middle = (low + high) // 2
            _, most = await count(middle)
            low, high = (middle, high) if most <= passed else (low, middle)
            if self._of.given and abs(most - passed) <= FEW_GIVEN:
                break
        return low

    async def _highest(
        self, low: int, high: int, passed: int, count: Callable[[int], Awaitable[tuple[int, int]]]
    ) -> int:
        while high - low > 1:
            middle = (low + high) // 2
            least, _ = await count(middle)
            low, high = (low, middle) if least > passed else (middle, high)
            if self._of.given and abs(least - passed) <= FEW_GIVEN:
                break
        return high

    async def _read_around(self, low: int, high: int) -> None:
        """Reads the moments of all rows that may stand between the two."""
        around: list[tuple[int, array[int]]] = []
        wanted: list[tuple[int, Stream, int]] = []
        for place, (each, places) in enumerate(zip(self._of.visible, self._places, strict=True)):
            first = max(bisect_left(places, low) - 1, each.first // ROWS_PER_CHUNK, 0)
            last = min(bisect_left(places, high) - 1, (each.end - 1) // ROWS_PER_CHUNK)
            around.append((first * ROWS_PER_CHUNK, array("q")))
            wanted += [(place, each.stream, chunk) for chunk in range(first, last + 1)]
        for some in chunks(wanted, COMMANDS):
            held = await self._inventory.chunks([(stream, chunk) for _, stream, chunk in some])
            for (place, _, _), chunk in zip(some, held, strict=True):
                if not chunk:
                    raise GoneError
                around[place][1].extend(moments(chunk))
        self._around = around

    def _numbers(self, at_us: int) -> list[int]:
        assert self._around is not None or not self._of.visible
        return [begun + bisect_left(times, at_us) for begun, times in self._around or ()]

    async def _ranks(self, at_us: int) -> list[int]:
        """Of each given set, how many of its told rows stand before a moment."""
        ranks: list[int] = []
        for some in chunks(self._of.given, KEYS_AT_ONCE):
            by_shard: dict[str, list[int]] = {}
            for place, listed in enumerate(some):
                by_shard.setdefault(listed.stream.shard.base, []).append(place)
            commands: list[Command] = [
                ("EVAL", COUNT_BEFORE, len(places), *(some[place].key for place in places), at_us)
                for places in by_shard.values()
            ]
            replies = await self._inventory.run(commands)
            found = dict(
                zip(
                    (place for places in by_shard.values() for place in places),
                    chain.from_iterable(replies),
                    strict=True,
                )
            )
            ranks += [min(max(found[place] - listed.skipped, 0), listed.lines) for place, listed in enumerate(some)]
        return ranks


def _summed(weighted: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    weighted.sort()
    return [at_us for at_us, _ in weighted], [0, *accumulate(weight for _, weight in weighted)]


def _before(summed: tuple[list[int], list[int]], at_us: int) -> int:
    return summed[1][bisect_left(summed[0], at_us)]
