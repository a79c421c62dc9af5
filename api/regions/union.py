"""The users of a peer joining those of the own region."""

from __future__ import annotations

from api.ledger.distinct_query import DistinctQuery
from api.ledger.merged_store import MergedUsers
from api.regions.wire import UnionExport


def with_sketches(query: DistinctQuery, union: UnionExport) -> DistinctQuery:
    """The query with the users of a peer that are in sketches."""
    if not union.sketches:
        return query
    return query._replace(merged=[*query.merged, MergedUsers(union.united, [], union.sketches)])
