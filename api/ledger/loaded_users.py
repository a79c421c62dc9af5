"""Users of a query that are read once and counted several times: in memory while few, else in temporary sketches."""

from __future__ import annotations

from collections.abc import Sequence

from api.ledger.distinct_query import slice_queries
from api.ledger.temporary import Pipeline
from api.ledger.users import DistinctUsers, QueryState
from api.turns import pause


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


def temporary_keys(state: QueryState) -> list[str]:
    return [state.temporary(part).key for part in range(len(state.parts))]
