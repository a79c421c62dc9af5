"""Labels: the names from outside that have counters of their own.

Anyone who reaches a login page can send names, so their number is limited. The first realms and nodes in log order
become known. Clients and words have shares per realm: each realm can make some known, and further ones from a pool of
which it takes half at most. All others count under OTHER, so totals stay exact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet

from schemas.ledger import fields
from schemas.ledger.scopes import OTHER


class Labels:
    """The labels of one shard: those known before, and those that one fold admits.

    `known` are members of the ledger's labels set, `sizes` is `table_sizes` of them, and `shares` is the ledger's
    shares hash; they are never changed here.
    """

    def __init__(
        self, known: AbstractSet[str], sizes: Mapping[str, int], shares: Mapping[str, int], max_labels: int
    ) -> None:
        self._known = known
        self._sizes = sizes
        self._shares = shares
        self._max_labels = max_labels
        self._used: dict[str, int] = {}
        """By dimension: the labels that realms took from the pool."""
        self._new_sizes: Counter[str] = Counter()
        self.new: set[str] = set()
        """New members of the labels set."""
        self.new_shares: Counter[str] = Counter()
        """Increments of the shares hash."""
        self.overflowed = False
        """Whether a limit refused the last label."""

    def admit(self, dimension: str, name: str, *, may_add: bool) -> str:
        """The realm or node to count under: `name` if it is known or admitted now, else OTHER.

        With `may_add` the event may make it known.
        """
        self.overflowed = False
        member = fields.label(dimension, name)
        return name if name == OTHER or self._in_table(dimension, member, self._max_labels, may_add=may_add) else OTHER

    def admit_client(self, realm: str, client_id: str, *, may_add: bool) -> str:
        """The client of a realm to count under, or OTHER."""
        self.overflowed = False
        member = fields.label("client", realm, client_id)
        guaranteed, pool = fields.REALM_CLIENTS, 2 * self._max_labels
        return client_id if client_id == OTHER or self._in_share(member, guaranteed, pool, may_add=may_add) else OTHER

    def admit_word(self, dimension: str, realm: str, word: str) -> str:
        """The word to count under in the counters of a realm and its clients, or OTHER."""
        self.overflowed = False
        if self._is_reserved(dimension, word):
            return word
        member = fields.label(dimension, realm, word)
        return word if self._in_share(member, fields.REALM_WORDS, fields.WORD_POOL, may_add=True) else OTHER

    def admit_common_word(self, dimension: str, word: str) -> str:
        """The word to count under in the counters of everything and of nodes, or OTHER."""
        self.overflowed = False
        member, table = fields.common_word(dimension, word), fields.common_word(dimension, "")
        known = self._is_reserved(dimension, word) or self._in_table(table, member, fields.MAX_WORDS, may_add=True)
        return word if known else OTHER

    def _is_reserved(self, dimension: str, word: str) -> bool:
        """Whether the word always has a counter of its own: one of RESERVED, or a word of format 1."""
        return word == OTHER or word in fields.RESERVED[dimension] or fields.label(dimension, word) in self._known

    def _in_table(self, table: str, member: str, limit: int, *, may_add: bool) -> bool:
        if member in self._known or member in self.new:
            return True
        if not may_add:
            return False
        if self._sizes.get(table, 0) + self._new_sizes[table] >= limit:
            self.overflowed = True
            return False
        self._new_sizes[table] += 1
        self.new.add(member)
        return True

    def _in_share(self, member: str, guaranteed: int, pool: int, *, may_add: bool) -> bool:
        """Whether a label is known or admitted.

        It is admitted within `guaranteed`, or while more is left in the pool than the realm has taken from it. So one
        realm takes half of the pool at most. What it has taken never shrinks, so a refusal is final.
        """
        if member in self._known or member in self.new:
            return True
        if not may_add:
            return False
        group = fields.share(member)
        dimension = group.partition("/")[0]
        taken = self._shares.get(group, 0) + self.new_shares[group] - guaranteed
        if taken >= 0:
            used = self._used.get(dimension)
            if used is None:
                used = self._count_used(dimension, guaranteed)
            if taken >= pool - used:
                self._used[dimension] = used
                self.overflowed = True
                return False
            self._used[dimension] = used + 1
        self.new_shares[group] += 1
        self.new.add(member)
        return True

    def _count_used(self, dimension: str, guaranteed: int) -> int:
        start = dimension + "/"
        groups = {group for group in (*self._shares, *self.new_shares) if group.startswith(start)}
        numbers = (self._shares.get(group, 0) + self.new_shares[group] for group in groups)
        return sum(number - guaranteed for number in numbers if number > guaranteed)


def table_sizes(members: Iterable[str]) -> Counter[str]:
    """The number of realms, of nodes and of each kind of common words among members of a labels set."""
    sizes: Counter[str] = Counter()
    for member in members:
        dimension, _, rest = member.partition("/")
        if dimension == "all":
            sizes[fields.common_word(rest.partition("/")[0], "")] += 1
        elif "/" not in rest:
            # A word without a realm is of format 1. It takes a place among the common words.
            sizes[fields.common_word(dimension, "") if dimension in fields.RESERVED else dimension] += 1
    return sizes
