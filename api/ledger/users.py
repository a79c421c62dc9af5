"""Distinct users of unions over shards, scopes and periods: exact while few, always in bounded memory.

Per shard the users of a scope are either in 16 small sets of integers or in k sketches: the worker's script moves them
from the sets to the sketches in one step. Therefore a shard's small sets are always read *before* its sketches: users
that move in between are read twice, which does not change a union, instead of never.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple, TypeVar

from api.ledger.client import Client, Command
from api.ledger.merged import MAX_UNITS, MergedPeriods, Unit, Vector
from api.ledger.merged_store import MergedUsers
from api.turns import pause
from schemas.ledger import accuracy
from schemas.ledger.keys import SMALL_PARTS, TEMPORARY_MS, ShardKeys, temporary
from schemas.ledger.scopes import Scope

MAX_ARGUMENTS: Final = 4_000
"""Most arguments of one PFADD, which blocks Redis."""
MAX_SHARD_SCOPES: Final = 256
"""Most shard scopes whose small sets are read at once: a million ids at the default EXACT_UP_TO, if all are full."""
MAX_UNITED: Final = 16
"""Most shard scopes whose small sets one command unites: 65,000 members at the default EXACT_UP_TO, if all are full."""
MAX_UNIONS: Final = 8
"""Most such unions in one pipeline."""
MAX_CONCURRENT_QUERIES: Final = 2
"""Most queries that hold MAX_SHARD_SCOPES at the same time."""
MAX_MERGED: Final = 256
"""Most sketches merged by one command: about 4 ms of the store's time."""
MAX_COPIED: Final = 64
"""Most sketches copied between slots at once, 12 KB each."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ActiveUsers:
    """`standard_error` is relative, 0.002 for 0.2 %; 0 for an exact count."""

    count: int
    standard_error: float

    @property
    def exact(self) -> bool:
        return self.standard_error == 0


class ShardScope(NamedTuple):
    """One scope and period in one shard, whose users or counters are read."""

    shard: ShardKeys
    period: str
    scope: Scope

    def small_sets(self, part: int, parts: int) -> list[str]:
        """The small sets whose members belong to `part` of `parts`: those whose own part modulo `parts` is `part`."""
        return self.shard.small_sets(self.period, self.scope, range(part, SMALL_PARTS, parts))

    def sketches(self, part: int, parts: int) -> list[str]:
        """The sketches of `part`, likewise: periods with 16 and with 4 sketches unite in four parts."""
        return self.shard.sketches(
            self.period, self.scope, range(part, accuracy.sketches(self.period, self.scope), parts)
        )

    @property
    def first_sketch(self) -> str:
        """Exists if any sketch exists, because the worker creates all of them at once."""
        return self.shard.users(self.period, self.scope, 0)


class DistinctQuery(NamedTuple):
    """The distinct users of all `shard_scopes`, in as many parts as the coarsest of them has sketches."""

    shard_scopes: Callable[[], Iterable[ShardScope]]
    """Called again for each pass, because there may be too many to keep in memory."""
    parts: int
    units: Mapping[Unit, Vector] = {}
    """The closed ones of its periods and scopes, which may be merged."""
    merged: Sequence[MergedUsers] = ()
    """Users beside those of `shard_scopes`."""

    def using(self, found: Mapping[Unit, MergedUsers]) -> DistinctQuery:
        """The same query, with these units merged instead of read shard by shard."""
        used = {unit: found[unit] for unit in self.units if unit in found}
        if not used:
            return self
        every = self.shard_scopes
        return self._replace(
            shard_scopes=lambda: (each for each in every() if (each.period, each.scope) not in used),
            units={},
            merged=list(used.values()),
        )

    @property
    def answer(self) -> ActiveUsers | None:
        """The answer, if the query is exactly one merged unit."""
        if len(self.merged) != 1 or self.merged[0].parts != self.parts or next(iter(self.shard_scopes()), None):
            return None
        (users,) = self.merged
        return ActiveUsers(users.count, users.error)


class _Piece(NamedTuple):
    query_index: int
    shard_scopes: list[ShardScope]
    last: bool


@dataclass(slots=True)
class QueryState:
    """The members of a union that were read so far, in one part while that is enough.

    `spilled`: members are in temporary sketches already.
    """

    name: str
    query: DistinctQuery
    parts: list[set[bytes]]
    shard_scopes_read: int = 0
    spilled: bool = False
    has_sketches: bool = False

    def __post_init__(self) -> None:
        self.add_merged()
        self.has_sketches = any(users.sketches for users in self.query.merged)

    @property
    def exact_count(self) -> int:
        return sum(map(len, self.parts))

    def add_merged(self) -> None:
        """Add the members of merged units, whose number of parts is a multiple of ours."""
        for users in self.query.merged:
            for part, members in enumerate(users.members):
                self.parts[part % len(self.parts)].update(members)

    def merged_sketches(self, part: int) -> list[bytes]:
        """The sketches of merged units that belong to `part`."""
        return [sketch for users in self.query.merged for sketch in users.sketches[part :: len(self.parts)]]

    async def release(self) -> None:
        """Drop the members, in turns: freeing those of a wide question at once takes tens of milliseconds."""
        for members in self.parts:
            members.clear()
            await pause()


class DistinctUsers:
    """Counts unions. Raises one of api.ledger.client.UNREACHABLE if Redis does not answer."""

    def __init__(
        self,
        client: Client,
        prefix: str,
        exact_up_to: int,
        *,
        cluster: bool,
        merged: MergedPeriods | None = None,
    ) -> None:
        """Without `merged` every shard is read for every query."""
        self.client = client
        self._merged = merged
        self._prefix = prefix
        self.exact_up_to = exact_up_to
        self.cluster = cluster
        self.slots = asyncio.Semaphore(MAX_CONCURRENT_QUERIES)

    async def count(self, queries: Sequence[DistinctQuery]) -> list[ActiveUsers]:
        """One figure per query, in order."""
        queries = await self.with_merged(queries)
        answers = [query.answer or ActiveUsers(0, 0.0) for query in queries]
        states: dict[int, QueryState] = {}
        try:
            for pieces in slice_queries(queries):
                await pause()
                async with self.slots:
                    await self._count_pieces(queries, pieces, states, answers)
        finally:
            await release(states.values())
        return answers

    async def _count_pieces(
        self,
        queries: Sequence[DistinctQuery],
        pieces: Sequence[_Piece],
        states: dict[int, QueryState],
        answers: list[ActiveUsers],
    ) -> None:
        """Read the pieces into `states`; fill in `answers` and drop the states of queries that end here."""
        nonce = secrets.token_hex(8)
        for piece in pieces:
            query = queries[piece.query_index]
            if piece.query_index not in states and (piece.shard_scopes or (query.merged and not query.answer)):
                # Most unions are read in one piece and are small: they need no parts.
                parts = 1 if piece.last else query.parts
                states[piece.query_index] = QueryState(f"{nonce}.{piece.query_index}", query, empty_parts(parts))
        pieces = [piece for piece in pieces if piece.query_index in states]
        await self.load_small_sets([(states[piece.query_index], piece.shard_scopes) for piece in pieces])
        estimated: dict[int, QueryState] = {}
        undivided: list[tuple[QueryState, list[ShardScope]]] = []
        for piece in pieces:
            state = states[piece.query_index]
            state.shard_scopes_read += len(piece.shard_scopes)
            exceeds_exact = state.exact_count > self.exact_up_to
            if not piece.last:
                if exceeds_exact:
                    await self.spill(state)
            elif exceeds_exact or state.spilled or state.has_sketches:
                estimated[piece.query_index] = state
                if len(state.parts) < state.query.parts:
                    if state.exact_count:
                        undivided.append((state, piece.shard_scopes))
                    await state.release()
                    state.parts = empty_parts(state.query.parts)
                    state.add_merged()
            else:
                answers[piece.query_index] = ActiveUsers(state.exact_count, 0.0)
        # Read again by parts, before the sketches, which contain the users that have moved since.
        await self.load_small_sets(undivided)
        for index, count in zip(estimated, await self._estimate(list(estimated.values())), strict=True):
            answers[index] = ActiveUsers(count, accuracy.SKETCH_ERROR / math.sqrt(queries[index].parts))
        for piece in pieces:
            if piece.last:
                await states.pop(piece.query_index).release()

    async def with_merged(self, queries: Sequence[DistinctQuery]) -> Sequence[DistinctQuery]:
        """The same queries, with closed periods merged where that is possible."""
        if self._merged is None:
            return queries
        units: dict[Unit, Vector] = {}
        for query in queries:
            units.update(query.units)
            if len(units) > MAX_UNITS:
                return queries
        found = await self._merged.users(units)
        return [query.using(found) for query in queries]

    async def count_sketches(self, sketches: Sequence[str]) -> ActiveUsers:
        """The union of sketches without parts and without small sets."""
        if not sketches:
            return ActiveUsers(0, 0.0)
        key = temporary(self._prefix, secrets.token_hex(8), "0")
        commands: list[Command] = [("PFCOUNT", *sketches)]
        if self.cluster:
            await self.copy_to_slot(key, sketches)
            commands = [("PFCOUNT", key), ("UNLINK", key)]
        count = (await self.client.run(commands))[0]
        return ActiveUsers(count, accuracy.SKETCH_ERROR if count else 0.0)

    async def load_small_sets(self, asked: Sequence[tuple[QueryState, list[ShardScope]]]) -> None:
        """Read the small sets of these shard scopes, then whether they have sketches."""
        exists: list[Command] = []
        sketched: list[QueryState] = []
        for unions in chunks(self._unions(asked), MAX_UNIONS):
            small: list[Command] = []
            owners: list[tuple[QueryState, int]] = []
            for query, group in unions:
                k = len(query.parts)
                for part in range(k):
                    small.append(("SUNION", *(key for shard_scope in group for key in shard_scope.small_sets(part, k))))
                    owners.append((query, part))
                exists.append(("EXISTS", *(shard_scope.first_sketch for shard_scope in group)))
                sketched.append(query)
                await pause()
            for (query, part), members in zip(owners, await self.client.run(small), strict=True):
                query.parts[part].update(members)
                await pause()
        for query, found in zip(sketched, await self.client.run(exists), strict=True):
            query.has_sketches |= found > 0

    def _unions(
        self, asked: Sequence[tuple[QueryState, list[ShardScope]]]
    ) -> Iterator[tuple[QueryState, list[ShardScope]]]:
        for query, shard_scopes in asked:
            for group in self._by_slot(shard_scopes):
                yield from ((query, united) for united in chunks(group, MAX_UNITED))

    def _by_slot(self, shard_scopes: list[ShardScope]) -> Iterable[list[ShardScope]]:
        """Groups of shard scopes whose keys one command may use: one shard each in a Cluster, else all."""
        if not self.cluster:
            return [shard_scopes] if shard_scopes else []
        groups: dict[str, list[ShardScope]] = {}
        for shard_scope in shard_scopes:
            groups.setdefault(shard_scope.shard.base, []).append(shard_scope)
        return groups.values()

    async def spill(self, query: QueryState) -> None:
        """Move the members to temporary sketches, so that a query's memory stays bounded."""
        commands: list[Command] = []
        for part, members in enumerate(query.parts):
            commands.extend(add_commands(self.temporary_sketch(query, part), members))
            members.clear()
            await pause()
        query.spilled = True
        await self.client.run(commands)

    async def _estimate(self, queries: Sequence[QueryState]) -> list[int]:
        """The estimate of each union: the sum of PFCOUNT over the sketches of each part, with its members added."""
        commands: list[Command] = []
        counted: list[tuple[int, int]] = []
        for index, query in enumerate(queries):
            k = len(query.parts)
            scopes_read = query.shard_scopes_read + len(query.query.merged)
            merge = self.cluster or scopes_read * (accuracy.K_MONTHS // k) > MAX_MERGED
            by_part = [] if merge else _by_part(query.query)
            for part, members in enumerate(query.parts):
                key = self.temporary_sketch(query, part)
                commands.extend(add_commands(key, members))
                sketches = (
                    name for shard_scope in query.query.shard_scopes() for name in shard_scope.sketches(part, k)
                )
                sketches_of_part: list[str] = []
                if self.cluster:
                    await self.copy_to_slot(key, sketches)
                elif merge:
                    for chunk in chunks(sketches, MAX_MERGED):
                        await self.client.run([("PFMERGE", key, *chunk), ("PEXPIRE", key, TEMPORARY_MS)])
                else:
                    sketches_of_part = by_part[part]
                sent = [f"{key}.m{number}" for number in range(len(query.merged_sketches(part)))]
                commands += set_commands(sent, query.merged_sketches(part))
                temporary_keys = [key] if members or merge or query.spilled else []
                await pause()
                names = (*sketches_of_part, *temporary_keys, *sent)
                if names:
                    counted.append((index, len(commands)))
                    commands.append(("PFCOUNT", *names))
                commands.extend(("UNLINK", name) for name in (*temporary_keys, *sent))
        replies = await self.client.run(commands)
        estimates = [0] * len(queries)
        for index, reply in counted:
            estimates[index] += replies[reply]
        return estimates

    async def copy_to_slot(self, key: str, sketches: Iterable[str]) -> None:
        """Merge sketches into `key` in a Cluster, where commands cannot cross slots: copy them to its slot first."""
        for chunk in chunks(sketches, MAX_COPIED):
            copies = [raw for raw in await self.client.run([("GET", name) for name in chunk]) if raw is not None]
            names = [f"{key}.{number}" for number in range(len(copies))]
            commands = list(set_commands(names, copies))
            commands += [("PFMERGE", key, *names), ("PEXPIRE", key, TEMPORARY_MS)]
            commands.extend(("UNLINK", name) for name in names)
            await self.client.run(commands)

    def temporary_sketch(self, query: QueryState, part: int) -> str:
        nonce, _, index = query.name.partition(".")
        return temporary(self._prefix, nonce, f"{index}.{part}")


async def release(states: Iterable[QueryState]) -> None:
    for state in states:
        await state.release()


def slice_queries(queries: Sequence[DistinctQuery]) -> Iterator[list[_Piece]]:
    """All shard scopes in order, at most MAX_SHARD_SCOPES at a time; the piece with `last` ends its query."""
    pieces: list[_Piece] = []
    free = MAX_SHARD_SCOPES
    for index, query in enumerate(queries):
        shard_scopes: list[ShardScope] = []
        for shard_scope in query.shard_scopes():
            if not free:
                pieces.append(_Piece(index, shard_scopes, last=False))
                yield pieces
                pieces, shard_scopes, free = [], [], MAX_SHARD_SCOPES
            shard_scopes.append(shard_scope)
            free -= 1
        pieces.append(_Piece(index, shard_scopes, last=True))
    if pieces:
        yield pieces


def _by_part(query: DistinctQuery) -> list[list[str]]:
    """All sketches of a query, by part."""
    found: list[list[str]] = [[] for _ in range(query.parts)]
    for shard_scope in query.shard_scopes():
        for number, name in enumerate(shard_scope.sketches(0, 1)):
            found[number % query.parts].append(name)
    return found


def empty_parts(number: int) -> list[set[bytes]]:
    return [set() for _ in range(number)]


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def set_commands(names: Iterable[str], sketches: Iterable[bytes]) -> Iterator[Command]:
    return (("SET", name, sketch, "PX", TEMPORARY_MS) for name, sketch in zip(names, sketches, strict=True))


def add_commands(key: str, members: Collection[bytes]) -> Iterable[Command]:
    if not members:
        return
    # Created empty, and with its TTL, before it grows: a lost connection in between leaves only thirty bytes.
    yield ("PFADD", key)
    yield ("PEXPIRE", key, TEMPORARY_MS)
    for chunk in chunks(members, MAX_ARGUMENTS):
        yield ("PFADD", key, *chunk)
