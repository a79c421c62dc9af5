"""Users of a query as temporary sketches in the store, which further commands merge and count."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Final

from api.ledger.client import Command
from api.ledger.users import (
    MAX_MERGED,
    DistinctQuery,
    DistinctUsers,
    QueryState,
    add_commands,
    chunks,
    empty_parts,
    set_commands,
    slice_queries,
)
from api.turns import pause
from schemas.ledger.keys import TEMPORARY_MS

MAX_SENT: Final = 64
"""Most merged sketches in one pipeline, 12 KB each."""


async def load(users: DistinctUsers, names: Sequence[str], queries: Sequence[DistinctQuery]) -> list[QueryState]:
    """The small sets of each query: in memory, or in its temporary sketches if they are too many."""
    states = [QueryState(name, query, empty_parts(query.parts)) for name, query in zip(names, queries, strict=True)]
    for pieces in slice_queries(queries):
        async with users.slots:
            await users.load_small_sets([(states[piece.query_index], piece.shard_scopes) for piece in pieces])
            for piece in pieces:
                if states[piece.query_index].exact_count > users.exact_up_to:
                    await users.spill(states[piece.query_index])
    return states


async def write(users: DistinctUsers, state: QueryState) -> None:
    """Add all users of a loaded query to its temporary sketches. They exist from then on, even without users."""
    state.spilled = True
    commands: list[Command] = []
    sent_before = 0
    for part, (key, members) in enumerate(zip(sketch_names(users, state), state.parts, strict=True)):
        await pause()
        commands += [("PFADD", key), ("PEXPIRE", key, TEMPORARY_MS), *add_commands(key, members)]
        sketches = iter(state.merged_sketches(part))
        while some := list(islice(sketches, MAX_SENT)):
            if sent_before + len(some) > MAX_SENT:
                await users.client.run(commands)
                commands, sent_before = [], 0
            sent_before += len(some)
            sent = [f"{key}.m{number}" for number in range(len(some))]
            commands += [*set_commands(sent, some), ("PFMERGE", key, *sent), ("UNLINK", *sent)]
        of_shards = (name for unit in state.query.shard_scopes() for name in unit.sketches(part, len(state.parts)))
        if users.cluster:
            await users.client.run(commands)
            commands, sent_before = [], 0
            await users.copy_to_slot(key, of_shards)
        elif state.has_sketches:
            commands += [("PFMERGE", key, *chunk) for chunk in chunks(of_shards, MAX_MERGED)]
    await users.client.run(commands)


def sketch_names(users: DistinctUsers, state: QueryState) -> list[str]:
    return [users.temporary_sketch(state.name, part) for part in range(len(state.parts))]
