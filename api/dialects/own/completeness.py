"""`complete`: whether every label and word of an answer found room for figures of its own.

A bearer of all realms gets it for the whole deployment. A bearer that is limited to realms gets its own: labels of
other realms that found no room change none of its figures.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from api.dialects.own.unattributed import FAILED
from api.ledger.statistics import Counts, Statistics
from api.ledger.status import PipelineStatus
from schemas.ledger import fields
from schemas.ledger.scopes import OTHER, Scope

ACCOUNT: Final = fields.split(fields.account(""))[0]

MAX_READS: Final = 50_000
"""Counter hashes read for a limited bearer; beyond it the answer counts as incomplete."""


async def is_complete(
    statistics: Statistics,
    status: PipelineStatus,
    dimensions: Iterable[str],
    realms: Collection[str] | None,
    keys: Sequence[str],
) -> bool:
    """False where labels or words of these dimensions found no room.

    For a limited bearer: in the periods `keys`, in its own realms; and where one of its realms may be among those that
    found no room themselves.
    """
    dimensions = {*dimensions, *(() if realms is None else ("realm",))}
    overflowed = {name for name in dimensions if status.overflowed(name)}
    if realms is None or not overflowed:
        return not overflowed
    own = sorted(realm for realm in realms if realm != OTHER)
    if "realm" in overflowed and not await _are_known(statistics, status, own):
        return False
    if "client" in overflowed:
        others = await _counts(statistics, keys, [Scope("client", (realm, OTHER)) for realm in own])
        if others is None or not all(_is_failure(parts) for parts in others):
            return False
        if not status.keeps_dimension("counts_by", "client") and await _has_others(statistics, keys, own):
            return False
    if overflowed - {"realm", "client", "node"}:
        counts = await _counts(statistics, keys, [Scope("realm", (realm,)) for realm in own])
        return counts is not None and not any(OTHER in parts[1:] for parts in counts)
    return True


def _is_failure(parts: tuple[str, ...]) -> bool:
    """Whether an unknown client counts under `__other__` by right: a failure makes no client known."""
    return parts[0] == FAILED or (parts[0] == ACCOUNT and parts[1] in fields.FAILURE_KINDS)


async def _are_known(statistics: Statistics, status: PipelineStatus, realms: Iterable[str]) -> bool:
    """Whether the bearer's realms have a place in every shard that had no room for one."""
    full = {shard.keys.shard for shard in status.overflowed("realm")}
    known = await statistics.labels()
    return all(full <= set(known.get(Scope("realm", (realm,)), ())) for realm in realms)


async def _has_others(statistics: Statistics, keys: Sequence[str], realms: Iterable[str]) -> bool:
    """Whether users of clients without a place were active; failures make nobody active."""
    users = await statistics.active_over(keys, [Scope("client", (realm, OTHER)) for realm in realms])
    return users.count > 0


async def _counts(statistics: Statistics, keys: Sequence[str], scopes: Sequence[Scope]) -> Counts | None:
    """The counters of all the periods together; None where they are too many to read."""
    held = await statistics.find_periods(keys)
    if sum(len(held.shards.get(key, ())) for key in keys) * len(scopes) > MAX_READS:
        return None
    found = await statistics.sum_counts(held, keys, scopes)
    sums: Counts = {}
    for counts in found.values():
        for parts, count in counts.items():
            sums[parts] = sums.get(parts, 0) + count
    return sums
