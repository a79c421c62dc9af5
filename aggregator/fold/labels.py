"""Labels: the names from outside that have counters of their own.

Anyone who reaches a login page can send names, so their number is limited: the first realms, clients and nodes in log
order become known; a client only by a success. All others count under OTHER, so totals stay exact.
"""

from __future__ import annotations

from collections.abc import Iterable

from schemas.ledger import fields
from schemas.ledger.scopes import OTHER


class Labels:
    """The labels of one shard: those known before, and those that one fold admits.

    `existing` are members of the ledger's labels set and never changed here; new members are added to `new`.
    """

    def __init__(self, existing: frozenset[str] | set[str], max_labels: int) -> None:
        self._existing = existing
        self._max_labels = max_labels
        self._remaining: dict[str, int] = {}
        self.new: set[str] = set()
        self.overflowed: str | None = None
        """The dimension of the last label, if the limit refused it; else None."""

    def admit(self, dimension: str, names: tuple[str, ...], *, may_add: bool) -> str:
        """The label to count under: the last of `names` if it is known or admitted now, else OTHER.

        `names` is one name, or realm and client_id; with `may_add` the event may make it known.
        """
        return names[-1] if self._admitted(dimension, names, may_add=may_add) else OTHER

    def _admitted(self, dimension: str, names: tuple[str, ...], *, may_add: bool) -> bool:
        self.overflowed = None
        reserved = fields.RESERVED.get(dimension)
        if names[-1] == OTHER or (reserved is not None and names[0] in reserved):
            return True
        member = fields.label(dimension, *names)
        if member in self._existing or member in self.new:
            return True
        if not may_add:
            return False
        remaining = self._remaining.get(dimension)
        if remaining is None:
            limit = self._max_labels if reserved is None else fields.MAX_WORDS - len(reserved)
            remaining = limit - count(dimension, self._existing)
        if remaining <= 0:
            self._remaining[dimension] = 0
            self.overflowed = dimension
            return False
        self._remaining[dimension] = remaining - 1
        self.new.add(member)
        return True


def count(dimension: str, members: Iterable[str]) -> int:
    """The number of a dimension's labels in a labels set."""
    start = dimension + "/"
    return sum(member.startswith(start) for member in members)
