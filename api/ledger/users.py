"""Distinct users of unions over shards, scopes and periods: one by one while few, in bounded memory however many.

Users of a scope lie per shard either in 16 small sets of integers or in k sketches, never in both for long: the
worker's script moves them from the sets to the sketches at once. So a shard's small sets are always read *before* its
sketches are looked at; whoever moves in between is then seen twice, which a union forgives, and never not at all.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple, TypeVar

from api.ledger.client import Client, Command
from schemas.ledger import accuracy
from schemas.ledger.keys import SMALL_PARTS, TEMPORARY_MS, ShardKeys, temporary
from schemas.ledger.scopes import Scope

ARGUMENTS: Final = 4_000
"""Most arguments of one PFADD: Redis serves nobody else meanwhile."""
UNITS: Final = 256
"""Small sets (of a shard, period and scope) read at once: a million ids at the default EXACT_UP_TO, were all full."""
TURNS: Final = 2
"""Questions that hold so many at the same time."""
MERGED: Final = 256
"""Most sketches that one command merges: some 4 ms of the store's time."""
CARRIED: Final = 64
"""Sketches carried from slot to slot at once, 12 KB each."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ActiveUsers:
    """`standard_error` is relative, 0.002 for 0.2 %; 0 when the users were counted one by one."""

    count: int
    standard_error: float

    @property
    def exact(self) -> bool:
        return self.standard_error == 0


class Unit(NamedTuple):
    """What lies together: the users of one scope and period in one shard."""

    shard: ShardKeys
    period: str
    scope: Scope

    def small(self, part: int, parts: int) -> list[str]:
        """The small sets whose members belong to `part` of `parts`: a set's own part modulo that."""
        return self.shard.small_of(self.period, self.scope, range(part, SMALL_PARTS, parts))

    def sketches(self, part: int, parts: int) -> list[str]:
        """The sketches likewise: a period of 16 and one of 4 unite in four parts."""
        return self.shard.users_of(
            self.period, self.scope, range(part, accuracy.sketches(self.period, self.scope), parts)
        )

    @property
    def first_sketch(self) -> str:
        """There when any is: the worker makes all of them at once."""
        return self.shard.users(self.period, self.scope, 0)


class Union(NamedTuple):
    """One question: the distinct users of all `units`, in as many parts as the coarsest of them has sketches."""

    units: Callable[[], Iterable[Unit]]
    """Called again where they are needed again: there can be more than one would keep."""
    parts: int


class _Piece(NamedTuple):
    place: int
    units: list[Unit]
    last: bool


@dataclass(slots=True)
class Seen:
    """What is known of a union so far: the members of its small sets, in one part while that will do.

    `spilled`: members are in temporary sketches already.
    """

    name: str
    union: Union
    parts: list[set[bytes]]
    units: int = 0
    spilled: bool = False
    sketched: bool = False

    @property
    def few(self) -> int:
        return sum(map(len, self.parts))


class Users:
    """Counts unions. Raises one of redis_client.UNREACHABLE when Redis does not answer."""

    def __init__(self, client: Client, prefix: str, exact_up_to: int, *, cluster: bool) -> None:
        self.client = client
        self._prefix = prefix
        self.exact_up_to = exact_up_to
        self.cluster = cluster
        self.turns = asyncio.Semaphore(TURNS)

    async def count(self, unions: Sequence[Union]) -> list[ActiveUsers]:
        """One figure a union, in order."""
        answers = [ActiveUsers(0, 0.0)] * len(unions)
        nonce = secrets.token_hex(8)
        seen: dict[int, Seen] = {}
        for pieces in slices(unions):
            async with self.turns:
                for piece in pieces:
                    if piece.place not in seen and piece.units:
                        union = unions[piece.place]
                        # Most unions are read whole, and then most are few: nobody needs to know their parts.
                        parts = 1 if piece.last else union.parts
                        seen[piece.place] = Seen(f"{nonce}.{piece.place}", union, empty_parts(parts))
                pieces = [piece for piece in pieces if piece.place in seen]
                await self.look([(seen[piece.place], piece.units) for piece in pieces])
                estimated: dict[int, Seen] = {}
                undivided: list[tuple[Seen, list[Unit]]] = []
                for piece in pieces:
                    so_far = seen[piece.place]
                    so_far.units += len(piece.units)
                    many = so_far.few > self.exact_up_to
                    if not piece.last:
                        if many:
                            await self.spill(so_far)
                        continue
                    del seen[piece.place]
                    if many or so_far.spilled or so_far.sketched:
                        estimated[piece.place] = so_far
                        if len(so_far.parts) < so_far.union.parts:
                            if so_far.few:
                                undivided.append((so_far, piece.units))
                            so_far.parts = empty_parts(so_far.union.parts)
                    else:
                        answers[piece.place] = ActiveUsers(so_far.few, 0.0)
                # Again, before the sketches are: whoever has moved to them since is found there.
                await self.look(undivided)
                for place, count in zip(estimated, await self._estimate(list(estimated.values())), strict=True):
                    answers[place] = ActiveUsers(count, accuracy.SKETCH_ERROR / math.sqrt(unions[place].parts))
        return answers

    async def count_sketches(self, sketches: Sequence[str]) -> ActiveUsers:
        """The union of these sketches, of which each holds all there is: no parts, no small sets."""
        if not sketches:
            return ActiveUsers(0, 0.0)
        key = temporary(self._prefix, secrets.token_hex(8), "0")
        commands: list[Command] = [("PFCOUNT", *sketches)]
        if self.cluster:
            await self.carry(key, sketches)
            commands = [("PFCOUNT", key), ("UNLINK", key)]
        count = (await self.client.run(commands))[0]
        return ActiveUsers(count, accuracy.SKETCH_ERROR if count else 0.0)

    async def look(self, asked: Sequence[tuple[Seen, list[Unit]]]) -> None:
        """Read the small sets of these units, then whether there are sketches."""
        small: list[Command] = []
        exists: list[Command] = []
        of: list[tuple[Seen, int]] = []
        sketched: list[Seen] = []
        for union, units in asked:
            k = len(union.parts)
            for group in self._groups(units):
                for part in range(k):
                    small.append(("SUNION", *(key for unit in group for key in unit.small(part, k))))
                    of.append((union, part))
                exists.append(("EXISTS", *(unit.first_sketch for unit in group)))
                sketched.append(union)
        replies = await self.client.run(small + exists)
        for (union, part), members in zip(of, replies, strict=False):
            union.parts[part].update(members)
        for union, found in zip(sketched, replies[len(small) :], strict=True):
            union.sketched |= found > 0

    def _groups(self, units: list[Unit]) -> Iterable[list[Unit]]:
        """Units whose keys one command may name: of one shard each in Cluster, where commands cannot cross slots."""
        if not self.cluster:
            return [units] if units else []
        groups: dict[str, list[Unit]] = {}
        for unit in units:
            groups.setdefault(unit.shard.base, []).append(unit)
        return groups.values()

    async def spill(self, union: Seen) -> None:
        """No longer few: from now on members live in temporary sketches, so that no answer holds them all."""
        commands: list[Command] = []
        for part, members in enumerate(union.parts):
            commands.extend(added(self.sketch_of(union, part), members))
            members.clear()
        union.spilled = True
        await self.client.run(commands)

    async def _estimate(self, unions: Sequence[Seen]) -> list[int]:
        """The sum of each union's parts: PFCOUNT over all sketches of a part, members that are in none added."""
        commands: list[Command] = []
        counted: list[tuple[int, int]] = []
        for place, union in enumerate(unions):
            k = len(union.parts)
            merge = self.cluster or union.units * (accuracy.K_MONTHS // k) > MERGED
            by_part = [] if merge else _by_part(union.union)
            for part, members in enumerate(union.parts):
                key = self.sketch_of(union, part)
                commands.extend(added(key, members))
                sketches = (name for unit in union.union.units() for name in unit.sketches(part, k))
                direct: list[str] = []
                if self.cluster:
                    await self.carry(key, sketches)
                elif merge:
                    for chunk in chunks(sketches, MERGED):
                        await self.client.run([("PFMERGE", key, *chunk), ("PEXPIRE", key, TEMPORARY_MS)])
                else:
                    direct = by_part[part]
                own = [key] if members or merge or union.spilled else []
                counted.append((place, len(commands)))
                commands.append(("PFCOUNT", *direct, *own))
                commands.extend(("UNLINK", name) for name in own)
        replies = await self.client.run(commands)
        estimates = [0] * len(unions)
        for place, reply in counted:
            estimates[place] += replies[reply]
        return estimates

    async def carry(self, key: str, sketches: Iterable[str]) -> None:
        """Merge into `key` where a command cannot reach over slots: sketches are copied as they are to its slot."""
        for chunk in chunks(sketches, CARRIED):
            copies = [raw for raw in await self.client.run([("GET", name) for name in chunk]) if raw is not None]
            names = [f"{key}.{number}" for number in range(len(copies))]
            commands: list[Command] = [
                ("SET", name, copy, "PX", TEMPORARY_MS) for name, copy in zip(names, copies, strict=True)
            ]
            commands += [("PFMERGE", key, *names), ("PEXPIRE", key, TEMPORARY_MS)]
            commands.extend(("UNLINK", name) for name in names)
            await self.client.run(commands)

    def sketch_of(self, union: Seen, part: int) -> str:
        nonce, _, place = union.name.partition(".")
        return temporary(self._prefix, nonce, f"{place}.{part}")


def slices(unions: Sequence[Union]) -> Iterator[list[_Piece]]:
    """All units in order, at most UNITS at a time; what is `last` ends its union."""
    pieces: list[_Piece] = []
    room = UNITS
    for place, union in enumerate(unions):
        units: list[Unit] = []
        for unit in union.units():
            if not room:
                pieces.append(_Piece(place, units, last=False))
                yield pieces
                pieces, units, room = [], [], UNITS
            units.append(unit)
            room -= 1
        pieces.append(_Piece(place, units, last=True))
    if pieces:
        yield pieces


def _by_part(union: Union) -> list[list[str]]:
    """All sketches of a union, by its parts."""
    found: list[list[str]] = [[] for _ in range(union.parts)]
    for unit in union.units():
        for number, name in enumerate(unit.sketches(0, 1)):
            found[number % union.parts].append(name)
    return found


def empty_parts(number: int) -> list[set[bytes]]:
    return [set() for _ in range(number)]


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def added(key: str, members: Collection[bytes]) -> Iterable[Command]:
    if not members:
        return
    # Made empty and given its lifetime before it grows: a connection cut in between leaves some thirty bytes.
    yield ("PFADD", key)
    yield ("PEXPIRE", key, TEMPORARY_MS)
    for chunk in chunks(members, ARGUMENTS):
        yield ("PFADD", key, *chunk)
