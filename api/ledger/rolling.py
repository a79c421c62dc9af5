"""Distinct users of trailing windows: of each day together with so many days before it.

Every day is read once, not once per window: its few users into memory, many into a temporary sketch per part, which
the windows that it is in then merge.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from api.ledger.client import Command
from api.ledger.users import MERGED, ActiveUsers, Seen, Union, Users, added, chunks, empty_parts, slices
from schemas.ledger import accuracy
from schemas.ledger.keys import TEMPORARY_MS


@dataclass(frozen=True)
class Window:
    """Days by their places, and their users where those are few."""

    days: range
    few: int | None


async def count_trailing(users: Users, days: Sequence[Union], length: int) -> list[ActiveUsers]:
    """One figure for each day that has `length - 1` days before it. All days have equally many parts."""
    seen = await _days(users, days)
    windows = [_window(users, seen, range(end - length + 1, end + 1)) for end in range(length - 1, len(days))]
    estimated = [window for window in windows if window.few is None]
    try:
        for place in sorted({place for window in estimated for place in window.days}):
            await _sketch(users, seen[place])
        counts = iter(await _counts(users, seen, estimated))
    finally:
        names = [name for day in seen if day.spilled for name in _names(users, day)]
        await users.client.run([("UNLINK", *chunk) for chunk in chunks(names, MERGED)])
    return [
        ActiveUsers(next(counts), accuracy.SKETCH_ERROR / math.sqrt(days[0].parts))
        if window.few is None
        else ActiveUsers(window.few, 0.0)
        for window in windows
    ]


async def _days(users: Users, days: Sequence[Union]) -> list[Seen]:
    nonce = secrets.token_hex(8)
    seen = [Seen(f"{nonce}.{place}", union, empty_parts(union.parts)) for place, union in enumerate(days)]
    for pieces in slices(days):
        async with users.turns:
            await users.look([(seen[piece.place], piece.units) for piece in pieces])
            for piece in pieces:
                if seen[piece.place].few > users.exact_up_to:
                    await users.spill(seen[piece.place])
    return seen


def _window(users: Users, seen: Sequence[Seen], days: range) -> Window:
    if any(seen[place].spilled or seen[place].sketched for place in days):
        return Window(days, None)
    found: set[bytes] = set()
    for place in days:
        found.update(*seen[place].parts)
        if len(found) > users.exact_up_to:
            return Window(days, None)
    return Window(days, len(found))


async def _sketch(users: Users, day: Seen) -> None:
    """All of a day's users into its temporary sketches."""
    day.spilled = True
    for part, members in enumerate(day.parts):
        key = users.sketch_of(day, part)
        # Made even where nobody is in it: that all are still there in the end shows that none has expired.
        commands: list[Command] = [("PFADD", key), ("PEXPIRE", key, TEMPORARY_MS), *added(key, members)]
        sketches = (name for unit in day.union.units() for name in unit.sketches(part, len(day.parts)))
        if users.cluster:
            await users.client.run(commands)
            await users.carry(key, sketches)
        elif day.sketched:
            commands += [("PFMERGE", key, *chunk) for chunk in chunks(sketches, MERGED)]
            await users.client.run(commands)
        else:
            await users.client.run(commands)


async def _counts(users: Users, seen: Sequence[Seen], windows: Sequence[Window]) -> list[int]:
    """Raises TimeoutError where a temporary sketch did not last until all were counted."""
    names = {place: _names(users, seen[place]) for window in windows for place in window.days}
    commands: list[Command] = [("PFCOUNT", *of) for window in windows for of in _by_part(names, window)]
    counts: list[int] = []
    for chunk in chunks(commands, MERGED // 16):
        counts += await users.client.run(chunk)
    there = 0
    for some in chunks((name for of in names.values() for name in of), MERGED):
        (found,) = await users.client.run([("EXISTS", *some)])
        there += found
    if there < sum(map(len, names.values())):
        raise TimeoutError("temporary sketches have expired")
    parts = len(seen[0].parts) if seen else 1
    return [sum(counts[first : first + parts]) for first in range(0, len(counts), parts)]


def _names(users: Users, day: Seen) -> list[str]:
    return [users.sketch_of(day, part) for part in range(len(day.parts))]


def _by_part(names: dict[int, list[str]], window: Window) -> Iterator[tuple[str, ...]]:
    return zip(*(names[place] for place in window.days), strict=True)
