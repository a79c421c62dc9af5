"""Sorted pages of the inventory's rows: bounded memory, and no long sort."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

from api.inventory.rows import TableLine
from api.turns import pause

RUN: Final = 512
"""Rows sorted at once: about 1 ms."""


class Selection:
    """The first `size` of all added rows by a value. Rows of equal value stay in the order in which they were added.

    Rows are sorted in runs, of which only the first `size` stay; `ordered` merges them.
    """

    def __init__(self, value: Callable[[TableLine], str | int], size: int, *, descending: bool) -> None:
        self._value = value
        self._size = size
        self._descending = descending
        self._runs: list[list[TableLine]] = []
        self._added: list[TableLine] = []

    def add(self, line: TableLine) -> None:
        self._added.append(line)
        if len(self._added) == RUN:
            self._end_run()

    def ordered(self) -> Iterator[TableLine]:
        """The lines in order; each is dropped as it is returned."""
        self._end_run()
        merged = heapq.merge(*map(_drained, self._runs), key=self._value, reverse=self._descending)
        return islice(merged, self._size)

    async def release(self) -> None:
        """Drop the lines, in turns: freeing 100,000 at once takes 20 ms."""
        while self._runs:
            self._runs.pop().clear()
            await pause()

    def _end_run(self) -> None:
        if self._added:
            self._added.sort(key=self._value, reverse=self._descending)
            self._runs.append(self._added[: self._size])
            self._added = []


def _drained(run: list[TableLine]) -> Iterator[TableLine]:
    run.reverse()
    while run:
        yield run.pop()
