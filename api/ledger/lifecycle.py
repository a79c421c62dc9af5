"""Unions of periods with all periods before them: who is new, returning, reactivated, lapsed or retained.

Every period is read once, at one moment, into memory or into temporary sketches, and all unions of a figure are counted
from these copies. A union therefore contains whatever its parts contain, also while the worker adds users.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Final

from api.ledger.client import chunks
from api.ledger.distinct_query import DistinctQuery
from api.ledger.lifecycle_unions import Active, Cohort, CohortRow, LifecycleRow, Pair, Row
from api.ledger.loaded_users import LOST, estimate, load, temporary_keys, write
from api.ledger.temporary import Pipeline
from api.ledger.users import MAX_MERGED, DistinctUsers, QueryState
from api.turns import pause

BASE_PERIODS: Final = 24
"""Periods before the first row that are read together: 5 MB of sketches if all are merged and large."""
MAX_COHORT_UNIONS: Final = 12_000
"""Most unions of sketches that the cohorts of one question count: about a third of its time."""
MAX_COUNTED: Final = 64
"""Most sketches that one pipeline counts: a union of three takes the store about 60 µs."""


async def lifecycle_rows(
    users: DistinctUsers, parts: int, base: Sequence[DistinctQuery], periods: Sequence[DistinctQuery]
) -> list[LifecycleRow]:
    """A row for each period but the first, which is the one before the first row. `base` are all periods before them.

    Raises TimeoutError if a temporary sketch expired before it was counted.
    """
    rows = []
    async with _open_chain(users, parts) as chain:
        await chain.add_all(base)
        previous: QueryState | None = None
        only_previous = False
        for query in periods:
            await pause()
            current = await chain.load(query)
            if previous is not None:
                rows.append(await chain.row(previous, current, only_previous=only_previous))
                await chain.release(previous)
            only_previous = chain.is_empty
            await chain.add(current)
            previous = current
    return rows


async def cohort_rows(
    users: DistinctUsers,
    parts: int,
    base: Sequence[DistinctQuery] | None,
    periods: Sequence[DistinctQuery],
    max_age: int,
) -> list[CohortRow]:
    """A row for each period: its users, and those of them who are active in each of the next `max_age` periods.

    With `base`, the periods before the first one, a cohort has only users who are new in its period. Raises
    TimeoutError if a temporary sketch expired before it was counted.
    """
    rows = []
    async with _open_chain(users, parts) as chain:
        await chain.add_all(base or ())
        states = [await chain.load(query) for query in periods]
        for number, first in enumerate(states):
            rows.append(await chain.cohort(first, states[number + 1 : number + 1 + max_age]))
            if base is not None:
                await chain.add(first)
    return rows


def cohort_unions(periods: int, max_age: int, parts: int, *, with_base: bool) -> tuple[int, int]:
    """The cells of so many cohorts, and the unions of sketches that they count if all of them have many users."""
    cells = sum(min(max_age, periods - 1 - place) for place in range(periods))
    return cells, cells * parts * (2 if with_base else 1)


@asynccontextmanager
async def _open_chain(users: DistinctUsers, parts: int) -> AsyncIterator[_Chain]:
    chain = _Chain(users, parts)
    try:
        yield chain
    finally:
        await chain.close()


class _Chain:
    """The users of all periods added so far (H), and periods beside them.

    Users of the base and of each period are in memory while they are few, else in temporary sketches. A loaded state is
    `spilled` if it is in sketches, which then have all of its users.
    """

    def __init__(self, users: DistinctUsers, parts: int) -> None:
        self._users = users
        self._parts = parts
        self._question = secrets.token_hex(8)
        self._states: dict[str, QueryState] = {}
        """By name: those whose temporary sketches may exist."""
        self._numbers = count()
        self._after = 0
        """The last estimate of the base with the period that was then added to it."""
        self._base = self._state(DistinctQuery(lambda: (), parts))

    async def load(self, query: DistinctQuery) -> QueryState:
        (query,) = await self._users.with_merged([query._replace(parts=self._parts)])
        state = self._state(query)
        await load(self._users, [state])
        if state.spilled or state.has_sketches or state.exact_count > self._users.exact_up_to:
            await self._write(state)
        return state

    @property
    def is_empty(self) -> bool:
        return _is_nobody(self._base)

    async def add_all(self, queries: Sequence[DistinctQuery]) -> None:
        for query in queries:
            state = await self.load(query)
            await self.add(state)
            await self.release(state)

    async def add(self, period: QueryState) -> None:
        """Add a period's users to the base."""
        base = self._base
        if not base.spilled and not period.spilled:
            for members, more in zip(base.parts, period.parts, strict=True):
                members.update(more)
            if base.exact_count > self._users.exact_up_to:
                await self._write(base)
            return
        await self._write(base)
        await self._write(period)
        pipeline = Pipeline(self._users.client)
        for part in range(self._parts):
            base.temporary(part).absorb(pipeline, period.temporary(part))
        await pipeline.send()

    async def row(self, previous: QueryState, current: QueryState, *, only_previous: bool) -> LifecycleRow:
        alone = self._exact_sizes([[current]])
        exact = self._exact_sizes([[previous], [current], [previous, current]])
        pair = Pair(0, *exact) if exact else None
        whole = self._exact_sizes([[self._base], [self._base, current]])
        if pair is not None and whole is not None:
            before, after = whole
            return LifecycleRow(Active(0, pair.current), pair, Row(pair, before, after, only_previous))
        *sizes, before, after = await self._estimate(
            [[previous], [current], [previous, current], [self._base], [self._base, current]]
        )
        estimated = Pair(self._parts, *sizes)
        _require_nested((sizes[0], sizes[2]), (sizes[1], sizes[2]), (before, after), (self._after, before))
        self._after = after
        active = Active(0, *alone) if alone else Active(self._parts, estimated.current)
        return LifecycleRow(active, pair or estimated, Row(estimated, before, after, only_previous))

    async def cohort(self, first: QueryState, later: Sequence[QueryState]) -> CohortRow:
        if _is_nobody(first):
            return CohortRow(_NOBODY, [_NOBODY] * len(later))
        base = [] if self.is_empty else [self._base]
        alone = self._exact_sizes([base, [*base, first]])
        cells: list[Cohort | None] = []
        for state in later:
            await pause()
            sizes = self._exact_sizes([base, [*base, first], [*base, state], [*base, first, state]])
            cells.append(None if sizes is None else _cohort(0, sizes))
        missing = [state for state, cell in zip(later, cells, strict=True) if cell is None]
        of_base = of_first = 0
        estimates: list[int] = []
        if missing or alone is None:
            unions = [union for state in missing for union in ([*base, state], [*base, first, state])]
            of_base, of_first, *estimates = await self._estimate([base, [*base, first], *unions])
            alone_later, together = estimates[::2], estimates[1::2]
            _require_nested((self._after, of_base), (of_base, of_first), *zip(alone_later, together, strict=True))
            _require_nested(*((of_base, size) for size in alone_later), *((of_first, size) for size in together))
        if alone is not None:
            users = _cohort(0, [*alone, *alone])
        else:
            users = Cohort(self._parts, of_base, of_first, of_base, of_first)
            self._after = of_first if base else 0
        pairs = zip(estimates[::2], estimates[1::2], strict=True)
        ages = [
            (cell or Cohort(self._parts, of_base, of_first, *next(pairs)))._replace(nobody_later=_is_nobody(state))
            for cell, state in zip(cells, later, strict=True)
        ]
        return CohortRow(users, ages)

    async def release(self, state: QueryState) -> None:
        """Remove the period's temporary sketches; the base keeps its users."""
        del self._states[state.name]
        if state.spilled:
            await self._users.client.run([("UNLINK", *temporary_keys(state))])
        await state.release()

    async def close(self) -> None:
        names = [name for state in self._states.values() if state.spilled for name in temporary_keys(state)]
        await self._users.client.run([("UNLINK", *chunk) for chunk in chunks(names, MAX_MERGED)])

    def _state(self, query: DistinctQuery) -> QueryState:
        state = self._users.state(self._question, next(self._numbers), query, self._parts)
        self._states[state.name] = state
        return state

    async def _write(self, state: QueryState) -> None:
        """Write the users to temporary sketches, once, and forget them here."""
        if state.query is not _WRITTEN:
            await write(self._users, state)
            await state.release()
            state.query = _WRITTEN

    def _exact_sizes(self, unions: Sequence[Sequence[QueryState]]) -> list[int] | None:
        """The sizes, if all these users are in memory and the largest union may be counted one by one."""
        if any(state.spilled for union in unions for state in union):
            return None
        sizes = [
            sum(len(set().union(*of_part)) for of_part in zip(*(state.parts for state in union), strict=True))
            for union in unions
        ]
        return sizes if max(sizes) <= self._users.exact_up_to else None

    async def _estimate(self, unions: Sequence[Sequence[QueryState]]) -> list[int]:
        """The estimate of each union; 0 for one of nothing."""
        states = {id(state): state for union in unions for state in union}.values()
        for state in states:
            await self._write(state)
        return await estimate(self._users, unions, MAX_COUNTED)


def _cohort(parts: int, sizes: Sequence[int]) -> Cohort:
    base, first, later, together = sizes
    return Cohort(parts, base, first, later, together)


def _require_nested(*sizes: tuple[int, int]) -> None:
    """Raises TimeoutError if a union is smaller than a part of it: the store fell back to an earlier state."""
    if any(part > whole for part, whole in sizes):
        raise TimeoutError(LOST)


def _is_nobody(state: QueryState) -> bool:
    return not state.spilled and not state.exact_count


_NOBODY: Final = Cohort(0, 0, 0, 0, 0)
_WRITTEN: Final = DistinctQuery(lambda: (), 0)
"""Replaces the query of a state whose users are all in temporary sketches."""
