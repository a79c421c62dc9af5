"""Distinct users of rolling windows: the union of a day with the days before it.

Every day is read once, not once per window: few users into memory, many into one temporary sketch per part, which its
windows then merge.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from api.ledger.client import chunks
from api.ledger.distinct_query import ActiveUsers, DistinctQuery
from api.ledger.loaded_users import estimate, load, temporary_keys, write
from api.ledger.users import MAX_MERGED, DistinctUsers, QueryState, release
from api.turns import pause
from schemas.ledger import accuracy


@dataclass(frozen=True)
class RollingWindow:
    """Indexes of the days, and the exact count if the users are few."""

    days: range
    exact_count: int | None


async def count_rolling(users: DistinctUsers, days: Sequence[DistinctQuery], length: int) -> list[ActiveUsers]:
    """One figure for each day with `length - 1` days before it. All days have the same number of parts."""
    question = secrets.token_hex(8)
    queries = await users.with_merged(days)
    states = [users.state(question, index, query, query.parts) for index, query in enumerate(queries)]
    try:
        return await _count_windows(users, states, length)
    finally:
        await release(states)


async def _count_windows(users: DistinctUsers, states: Sequence[QueryState], length: int) -> list[ActiveUsers]:
    await load(users, states)
    windows = [
        await _count_exactly(users, states, range(end - length + 1, end + 1)) for end in range(length - 1, len(states))
    ]
    estimated = [window for window in windows if window.exact_count is None]
    try:
        for index in sorted({index for window in estimated for index in window.days}):
            await write(users, states[index])
            await states[index].release()
        unions = [[states[index] for index in window.days] for window in estimated]
        counts = iter(await estimate(users, unions, MAX_MERGED // 16))
    finally:
        names = [name for day in states if day.spilled for name in temporary_keys(day)]
        await users.client.run([("UNLINK", *chunk) for chunk in chunks(names, MAX_MERGED)])
    return [
        ActiveUsers(next(counts), accuracy.SKETCH_ERROR / math.sqrt(states[0].query.parts))
        if window.exact_count is None
        else ActiveUsers(window.exact_count, 0.0)
        for window in windows
    ]


async def _count_exactly(users: DistinctUsers, states: Sequence[QueryState], days: range) -> RollingWindow:
    if any(states[index].spilled or states[index].has_sketches for index in days):
        return RollingWindow(days, None)
    found: set[bytes] = set()
    for index in days:
        found.update(*states[index].parts)
        await pause()
        if len(found) > users.exact_up_to:
            return RollingWindow(days, None)
    return RollingWindow(days, len(found))
