"""What is asked of the ledger's users: unions of scopes and periods in shards, and how they are read piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from api.ledger.merged_store import MergedUsers
from api.ledger.vector import Unit, Vector
from schemas.ledger import accuracy
from schemas.ledger.keys import SMALL_PARTS, ShardKeys
from schemas.ledger.scopes import Scope

MAX_SHARD_SCOPES: Final = 256
"""Most shard scopes whose small sets are read at once: a million ids at the default EXACT_UP_TO, if all are full."""


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
    periods: Sequence[str] = ()
    scopes: Sequence[Scope] = ()

    def using(self, found: Mapping[Unit, MergedUsers]) -> DistinctQuery:
        """The same query, with these units merged instead of read shard by shard."""
        used = {unit: found[unit] for unit in self.units if unit in found}
        if not used:
            return self
        every = self.shard_scopes
        return self._replace(
            shard_scopes=lambda: (each for each in every() if (each.period, each.scope) not in used),
            units={},
            merged=[*self.merged, *used.values()],
        )

    def ready(self, *, sketched: bool) -> Sketched | None:
        """The answer, if the query is exactly one merged unit; with `sketched` only one that has sketches."""
        if len(self.merged) != 1 or self.merged[0].parts != self.parts or next(iter(self.shard_scopes()), None):
            return None
        (users,) = self.merged
        if sketched and not users.sketches:
            return None
        return Sketched(ActiveUsers(users.count, users.error), users.sketches)


class Sketched(NamedTuple):
    """Distinct users in sketches, one per part, which together estimate them."""

    users: ActiveUsers
    """Exact where the users are few."""
    sketches: list[bytes]


class Piece(NamedTuple):
    query_index: int
    shard_scopes: list[ShardScope]
    last: bool


def slice_queries(queries: Sequence[DistinctQuery]) -> Iterator[list[Piece]]:
    """All shard scopes in order, at most MAX_SHARD_SCOPES at a time; the piece with `last` ends its query."""
    pieces: list[Piece] = []
    free = MAX_SHARD_SCOPES
    for index, query in enumerate(queries):
        shard_scopes: list[ShardScope] = []
        for shard_scope in query.shard_scopes():
            if not free:
                pieces.append(Piece(index, shard_scopes, last=False))
                yield pieces
                pieces, shard_scopes, free = [], [], MAX_SHARD_SCOPES
            shard_scopes.append(shard_scope)
            free -= 1
        pieces.append(Piece(index, shard_scopes, last=True))
    if pieces:
        yield pieces
