"""Distinct users of unions over shards, scopes and periods: exact while few, always in bounded memory.

Per shard the users of a scope are either in 16 small sets of integers or in k sketches: the worker's script moves them
from the sets to the sketches in one step. Therefore a shard's small sets are always read *before* its sketches: users
that move in between are read twice, which does not change a union, instead of never.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from api.ledger.client import Client, Command, chunks
from api.ledger.distinct_query import ActiveUsers, DistinctQuery, Piece, ShardScope, Sketched, slice_queries
from api.ledger.merged import MAX_UNITS, MergedPeriods
from api.ledger.temporary import Pipeline, TemporarySketch, count, send_sketches
from api.ledger.vector import Unit, Vector
from api.turns import pause
from schemas.ledger import accuracy
from schemas.ledger.keys import temporary

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


@dataclass(slots=True)
class QueryState:
    """The members of a union that were read so far, in one part while that is enough.

    `is_exact`: all were read, and `parts` had all of them.
    """

    prefix: str
    """Of the temporary keys."""
    question: str
    name: str
    query: DistinctQuery
    parts: list[set[bytes]]
    shard_scopes_read: int = 0
    has_sketches: bool = False
    is_exact: bool = False
    _temporary: dict[int, TemporarySketch] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.add_merged()
        self.has_sketches = any(users.sketches for users in self.query.merged)

    @property
    def spilled(self) -> bool:
        """Whether members are in temporary sketches already."""
        return any(sketch.begun for sketch in self._temporary.values())

    def temporary(self, part: int) -> TemporarySketch:
        """The temporary sketch of a part; all those of a question lie in one slot."""
        if part not in self._temporary:
            self._temporary[part] = TemporarySketch(temporary(self.prefix, self.question, f"{self.name}.{part}"))
        return self._temporary[part]

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
        return [answer.users for answer in await self._answers(queries, sketched=False)]

    async def sketches(self, queries: Sequence[DistinctQuery]) -> list[Sketched]:
        """One figure per query, in order, with its sketches even where it is exact."""
        return await self._answers(queries, sketched=True)

    async def _answers(self, queries: Sequence[DistinctQuery], *, sketched: bool) -> list[Sketched]:
        queries = await self.with_merged(queries)
        no_users = Sketched(ActiveUsers(0, 0.0), [])
        ready = [query.ready(sketched=sketched) for query in queries]
        answers = [found or no_users for found in ready]
        question = secrets.token_hex(8)
        states: dict[int, QueryState] = {}
        try:
            for pieces in slice_queries(queries):
                await pause()
                read = []
                for piece in pieces:
                    query = queries[piece.query_index]
                    is_read = ready[piece.query_index] is None and (piece.shard_scopes or sketched or query.merged)
                    if piece.query_index not in states and is_read:
                        # Most unions are read in one piece and are small: they need no parts.
                        parts = 1 if piece.last else query.parts
                        states[piece.query_index] = self.state(question, piece.query_index, query, parts)
                    if piece.query_index in states:
                        read.append(piece)
                async with self.slots:
                    await self._answer_pieces(read, states, answers, sketched=sketched)
        finally:
            await release(states.values())
        return answers

    async def _answer_pieces(
        self, pieces: Sequence[Piece], states: dict[int, QueryState], answers: list[Sketched], *, sketched: bool
    ) -> None:
        """Read the pieces into `states`; fill in `answers` and drop the states of queries that end here."""
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
                continue
            state.is_exact = not (exceeds_exact or state.spilled or state.has_sketches)
            if state.is_exact:
                answers[piece.query_index] = Sketched(ActiveUsers(state.exact_count, 0.0), [])
            if sketched or not state.is_exact:
                estimated[piece.query_index] = state
                if len(state.parts) < state.query.parts:
                    if state.exact_count:
                        undivided.append((state, piece.shard_scopes))
                    await state.release()
                    state.parts = empty_parts(state.query.parts)
                    state.add_merged()
        # Read again by parts, before the sketches, which contain the users that have moved since.
        await self.load_small_sets(undivided)
        found = await self._estimate(list(estimated.values()), sketched=sketched)
        for (index, state), (estimate, sketches) in zip(estimated.items(), found, strict=True):
            users = answers[index].users
            if not state.is_exact:
                users = ActiveUsers(estimate, accuracy.SKETCH_ERROR / math.sqrt(state.query.parts))
            answers[index] = Sketched(users, sketches)
        for piece in pieces:
            if piece.last:
                await states.pop(piece.query_index).release()

    def state(self, question: str, index: int, query: DistinctQuery, parts: int) -> QueryState:
        """The state of a query before anything was read; `question` is random, and the same for all of its queries."""
        return QueryState(self._prefix, question, str(index), query, empty_parts(parts))

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
        pipeline = Pipeline(self.client)
        if not self.cluster:
            number = count(pipeline, sketches, [])
        else:
            sketch = TemporarySketch(temporary(self._prefix, secrets.token_hex(8), "0"))
            await self.copy_to_slot(pipeline, sketch, sketches)
            number = count(pipeline, [], [sketch.key])
        estimate = (await pipeline.send())[number]
        return ActiveUsers(estimate, accuracy.SKETCH_ERROR if estimate else 0.0)

    async def load_small_sets(self, asked: Sequence[tuple[QueryState, list[ShardScope]]]) -> None:
        """Read the small sets of these shard scopes, then whether they have sketches."""
        exists: list[Command] = []
        sketched: list[QueryState] = []
        for unions in chunks(self._unions(asked), MAX_UNIONS):
            small: list[Command] = []
            owners: list[tuple[QueryState, int]] = []
            for state, group in unions:
                k = len(state.parts)
                for part in range(k):
                    small.append(("SUNION", *(key for shard_scope in group for key in shard_scope.small_sets(part, k))))
                    owners.append((state, part))
                exists.append(("EXISTS", *(shard_scope.first_sketch for shard_scope in group)))
                sketched.append(state)
                await pause()
            for (state, part), members in zip(owners, await self.client.run(small), strict=True):
                state.parts[part].update(members)
                await pause()
        for state, found in zip(sketched, await self.client.run(exists), strict=True):
            state.has_sketches |= found > 0

    def _unions(
        self, asked: Sequence[tuple[QueryState, list[ShardScope]]]
    ) -> Iterator[tuple[QueryState, list[ShardScope]]]:
        for state, shard_scopes in asked:
            for group in self._by_slot(shard_scopes):
                yield from ((state, united) for united in chunks(group, MAX_UNITED))

    def _by_slot(self, shard_scopes: list[ShardScope]) -> Iterable[list[ShardScope]]:
        """Groups of shard scopes whose keys one command may use: one shard each in a Cluster, else all."""
        if not self.cluster:
            return [shard_scopes] if shard_scopes else []
        groups: dict[str, list[ShardScope]] = {}
        for shard_scope in shard_scopes:
            groups.setdefault(shard_scope.shard.base, []).append(shard_scope)
        return groups.values()

    async def spill(self, state: QueryState) -> None:
        """Move the members to temporary sketches, so that a query's memory stays bounded."""
        pipeline = Pipeline(self.client)
        for part, members in enumerate(state.parts):
            state.temporary(part).add(pipeline, members)
            members.clear()
            await pause()
        await pipeline.send()

    async def _estimate(self, states: Sequence[QueryState], *, sketched: bool) -> list[tuple[int, list[bytes]]]:
        """The estimate of each union: the sum of PFCOUNT over the sketches of each part, with its members added.

        With `sketched` also the union's sketches, by part; they exist even without users.
        """
        together = Pipeline(self.client)
        counted: list[tuple[int, int]] = []
        estimates = [0] * len(states)
        strings: list[list[bytes]] = [[] for _ in states]
        for index, state in enumerate(states):
            scopes_read = state.shard_scopes_read + len(state.query.merged)
            if sketched or self.cluster or scopes_read * (accuracy.K_MONTHS // len(state.parts)) > MAX_MERGED:
                for part in range(len(state.parts)):
                    estimate, string = await self._unite_and_count(state, part, sketched=sketched)
                    estimates[index] += estimate
                    strings[index] += string
                continue
            for part, sketches in enumerate(_by_part(state.query)):
                await pause()
                sent = send_sketches(together, state.temporary(part).key, state.merged_sketches(part))
                if state.parts[part]:
                    state.temporary(part).add(together, state.parts[part])
                keys = [state.temporary(part).key] if state.temporary(part).begun else []
                if sketches or keys or sent:
                    counted.append((index, count(together, sketches, [*keys, *sent])))
        replies = await together.send()
        for index, reply in counted:
            estimates[index] += replies[reply]
        return list(zip(estimates, strings, strict=True))

    async def _unite_and_count(self, state: QueryState, part: int, *, sketched: bool) -> tuple[int, list[bytes]]:
        """The estimate of one part whose sketches are too many for one command, lie in several slots, or are asked."""
        pipeline = Pipeline(self.client)
        await pause()
        await self.unite(pipeline, state, part)
        if not sketched:
            number = count(pipeline, [], [state.temporary(part).key])
            return int((await pipeline.send())[number]), []
        number, string = state.temporary(part).take(pipeline)
        replies = await pipeline.send()
        return int(replies[number]), [replies[string]]

    async def unite(self, pipeline: Pipeline, state: QueryState, part: int) -> None:
        """Unite all users of a part in its temporary sketch; the last commands are left in the pipeline."""
        sketch = state.temporary(part)
        sketch.add(pipeline, state.parts[part], state.merged_sketches(part))
        if not state.has_sketches:
            return
        names = (name for scopes in state.query.shard_scopes() for name in scopes.sketches(part, len(state.parts)))
        if self.cluster:
            await self.copy_to_slot(pipeline, sketch, names)
            return
        for chunk in chunks(names, MAX_MERGED):
            await pipeline.send()
            sketch.merge(pipeline, chunk)

    async def copy_to_slot(self, pipeline: Pipeline, sketch: TemporarySketch, names: Iterable[str]) -> None:
        """Unite with sketches of a Cluster, where commands cannot cross slots; the last are left in the pipeline."""
        if not sketch.begun:
            sketch.add(pipeline)
        async for copies in self._copies(names):
            await pipeline.send()
            sketch.add(pipeline, sketches=copies)

    async def _copies(self, names: Iterable[str]) -> AsyncIterator[list[bytes]]:
        for chunk in chunks(names, MAX_COPIED):
            copies = [raw for raw in await self.client.run([("GET", name) for name in chunk]) if raw is not None]
            if copies:
                yield copies


async def release(states: Iterable[QueryState]) -> None:
    for state in states:
        await state.release()


def _by_part(query: DistinctQuery) -> list[list[str]]:
    """All sketches of a query, by part."""
    found: list[list[str]] = [[] for _ in range(query.parts)]
    for shard_scope in query.shard_scopes():
        for number, name in enumerate(shard_scope.sketches(0, 1)):
            found[number % query.parts].append(name)
    return found


def empty_parts(number: int) -> list[set[bytes]]:
    return [set() for _ in range(number)]
