"""Lifecycle and retention over regions.

The sketches of a region join the own unions if all of its periods are in sketches. Any other region adds figures of its
own: with sketches of some periods only, its other users would be new or lapsed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, NamedTuple, TypeVar

from api.ledger.client import together
from api.ledger.distinct_query import DistinctQuery
from api.ledger.lifecycle import cohort_rows, lifecycle_rows
from api.ledger.lifecycle_figures import CohortFigures, LifecycleFigures, cohort_figures, lifecycle_figures
from api.ledger.users import DistinctUsers
from api.regions.reader import PeerReader
from api.regions.union import with_sketches
from schemas.ledger.scopes import Scope

T = TypeVar("T")


class Chain(NamedTuple):
    """The periods of a question, and how many sketches a union of them has."""

    parts: int
    base: Sequence[DistinctQuery]
    """All before `periods`."""
    periods: Sequence[DistinctQuery]

    @property
    def base_keys(self) -> list[str]:
        return [key for query in self.base for key in query.periods]

    @property
    def keys(self) -> list[Sequence[str]]:
        return [query.periods for query in self.periods]

    @property
    def scopes(self) -> Sequence[Scope]:
        return self.periods[0].scopes if self.periods else ()


class Participants(NamedTuple):
    """Those of a question. `own` are the users of the own ledger, in which sketches of peers are united too."""

    own: DistinctUsers
    has_own: bool
    peers: Sequence[PeerReader]
    unites: bool


async def lifecycle(participants: Participants, asked: Chain) -> list[LifecycleFigures]:
    rows, each_once = await _rows(
        participants,
        asked,
        lambda peer: peer.lifecycle(asked.base_keys, asked.keys, asked.scopes),
        lambda chain: lifecycle_rows(participants.own, chain.parts, chain.base, chain.periods),
    )
    return [lifecycle_figures(of_period, united=each_once) for of_period in rows]


async def retention(participants: Participants, asked: Chain, max_age: int, *, compared: bool) -> list[CohortFigures]:
    """With `compared`, a cohort has only users who are in none of the periods before it."""
    base = asked.base_keys if compared else None
    rows, each_once = await _rows(
        participants,
        asked,
        lambda peer: peer.retention(base, asked.keys, asked.scopes, max_age),
        lambda chain: cohort_rows(
            participants.own, chain.parts, chain.base if compared else None, chain.periods, max_age
        ),
    )
    return [cohort_figures(of_period, united=each_once) for of_period in rows]


async def _rows(
    participants: Participants,
    asked: Chain,
    read_peer: Callable[[PeerReader], Coroutine[Any, Any, list[T] | None]],
    read_own: Callable[[Chain], Awaitable[list[T]]],
) -> tuple[list[tuple[T, ...]], bool]:
    """By period, the rows of the united regions and of each other one; and whether each user is in one row only."""
    united, apart = await _join(participants, asked)
    rows = [found for found in await together(read_peer(peer) for peer in apart) if found is not None]
    if united is not None or not rows:
        rows.append(await read_own(united or asked))
    return list(zip(*rows, strict=True)), not participants.unites or len(rows) == 1


async def _join(participants: Participants, asked: Chain) -> tuple[Chain | None, list[PeerReader]]:
    """The periods with the users of all regions that are united, None if there are none; and the other regions.

    A region that lacks one of its unions takes no part: its users would be new in the next period.
    """
    apart: list[PeerReader] = []
    if not participants.unites:
        return (asked if participants.has_own else None), list(participants.peers)
    queries = [*asked.base, *asked.periods]
    unions = [(query.periods, query.scopes) for query in queries]
    joined = participants.has_own
    found = await together(peer.unions(unions, sketches=True) for peer in participants.peers)
    for peer, of_peer in zip(participants.peers, found, strict=True):
        if peer.is_missing:
            continue
        if any(union.united < union.count for union in of_peer):
            peer.not_united = True
            apart.append(peer)
            continue
        joined = True
        queries = [with_sketches(query, union) for query, union in zip(queries, of_peer, strict=True)]
    chain = asked._replace(base=queries[: len(asked.base)], periods=queries[len(asked.base) :])
    return (chain if joined else None), apart
