"""Unions over regions that were computed before: closed periods and unchanged exports give the same number again.

Without it every question sends the sketches of all regions to the store, 49 KB a day and region.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from api.ledger.distinct_query import ActiveUsers, DistinctQuery
from api.regions.wire import UnionExport

MAX_UNIONS: Final = 10_000

Key = tuple[object, ...]


class UnionMemory:
    """Figures by what they follow from, at most MAX_UNIONS, evicting the oldest use."""

    def __init__(self) -> None:
        self._kept: dict[Key, ActiveUsers] = {}

    def get(self, key: Key | None) -> ActiveUsers | None:
        found = None if key is None else self._kept.pop(key, None)
        if key is not None and found is not None:
            self._kept[key] = found
        return found

    def put(self, key: Key | None, users: ActiveUsers) -> None:
        if key is None:
            return
        self._kept[key] = users
        while len(self._kept) > MAX_UNIONS:
            del self._kept[next(iter(self._kept))]


def union_key(query: DistinctQuery, exports: Sequence[UnionExport]) -> Key | None:
    """Everything on which the own union with these exports depends; None if an own period may still change.

    A vector changes with every change of a closed period, and a version with every change of an export's sketches.
    """
    units = dict.fromkeys((each.period, each.scope) for each in query.shard_scopes())
    if not units.keys() <= query.units.keys():
        return None
    own = tuple((period, scope.text, query.units[period, scope].digest) for period, scope in units)
    return (own, query.parts, tuple(export.version for export in exports))
