"""Users of a query that are read once and counted several times: in memory while few, else in temporary sketches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from api.ledger.client import Command, chunks
from api.ledger.distinct_query import slice_queries
from api.ledger.temporary import Pipeline
from api.ledger.users import MAX_MERGED, DistinctUsers, QueryState
from api.turns import pause

LOST: Final = "temporary sketches have expired or were lost"


async def load(users: DistinctUsers, states: Sequence[QueryState]) -> None:
    """Read the small sets of each query: into memory, or into its temporary sketches if they are too many."""
    for pieces in slice_queries([state.query for state in states]):
        async with users.slots:
            await users.load_small_sets([(states[piece.query_index], piece.shard_scopes) for piece in pieces])
            for piece in pieces:
                if states[piece.query_index].exact_count > users.exact_up_to:
                    await users.spill(states[piece.query_index])


async def write(users: DistinctUsers, state: QueryState) -> None:
    """Add all users of a loaded query to its temporary sketches. They exist from then on, even without users."""
    pipeline = Pipeline(users.client)
    for part in range(len(state.parts)):
        await pause()
        await users.unite(pipeline, state, part)
        await pipeline.send()


async def estimate(users: DistinctUsers, unions: Sequence[Sequence[QueryState]], at_once: int) -> list[int]:
    """The estimate of each union of written queries with the same number of parts; 0 for one of nothing.

    `at_once`: most unions of one part that the store counts without a pause. Raises TimeoutError if a temporary sketch
    expired or was lost before all were counted.
    """
    states = {id(state): state for union in unions for state in union}.values()
    keys = {id(state): temporary_keys(state) for state in states}
    commands: Iterator[Command] = (
        ("PFCOUNT", *of_part) for union in unions for of_part in zip(*(keys[id(state)] for state in union), strict=True)
    )
    counts: list[int] = []
    for chunk in chunks(commands, at_once):
        await pause()
        counts += await users.client.run(chunk)
    existing = 0
    for some in chunks((key for of_state in keys.values() for key in of_state), MAX_MERGED):
        (found,) = await users.client.run([("EXISTS", *some)])
        existing += found
    if existing < sum(map(len, keys.values())):
        raise TimeoutError(LOST)
    sizes = iter(counts)
    return [sum(islice(sizes, len(union[0].parts))) if union else 0 for union in unions]


def temporary_keys(state: QueryState) -> list[str]:
    return [state.temporary(part).key for part in range(len(state.parts))]
