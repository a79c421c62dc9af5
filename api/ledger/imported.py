"""Imported months: figures of the whole deployment that another system counted.

An imported month stands until it is removed: in answers about the whole deployment it replaces what was counted here.
It has no users, so it joins no union, and no labels, so a realm, client or node shows what was counted here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from schemas.ledger import fields

Counts = dict[tuple[str, ...], int]
"""Counters by the parts of their field, summed over shards."""


class Imported(NamedTuple):
    """A month that another system counted. A counter that is missing is unknown, not zero."""

    active: int
    source: str
    counts: Counts


def decode_months(values: Mapping[bytes, bytes]) -> dict[str, Imported]:
    """Imported months by key (`2025-03`), from the hash's fields. Months without active users are left out."""
    active: dict[str, int] = {}
    source: dict[str, str] = {}
    counts: dict[str, Counts] = defaultdict(dict)
    for field, value in values.items():
        month, *names = fields.split(field.decode())
        if names == [fields.ACTIVE]:
            active[month] = int(value)
        elif names == [fields.SOURCE]:
            source[month] = value.decode()
        else:
            counts[month][tuple(names)] = int(value)
    return {
        month: Imported(users, source.get(month, ""), counts.get(month, {})) for month, users in sorted(active.items())
    }


def month_of(keys: Sequence[str], imported: Mapping[str, Imported]) -> Imported | None:
    """The imported month that these period keys are, if they are exactly one."""
    return imported.get(keys[0]) if len(keys) == 1 else None
