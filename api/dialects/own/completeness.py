"""`complete`: false if labels or words of an answer overflowed and count under `__other__`.

For a bearer of all realms it covers the whole deployment; for a bearer limited to realms only these, because overflowed
labels of other realms do not change its figures.
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
"""Counter hashes read for a limited bearer; if more are needed, the answer counts as incomplete."""


async def is_complete(
    statistics: Statistics,
    status: PipelineStatus,
    dimensions: Iterable[str],
    realms: Collection[str] | None,
    keys: Sequence[str],
) -> bool:
    """False if labels or words of these dimensions overflowed.

    For a limited bearer only its own realms in the periods `keys` count, and whether one of these realms itself may
    have overflowed.
    """
    dimensions = {*dimensions, *(() if realms is None else ("realm",))}
    overflowed = {name for name in dimensions if status.overflowed(name)}
    if realms is None or not overflowed:
        return not overflowed
    own = sorted(realm for realm in realms if realm != OTHER)
    if "realm" in overflowed and not await are_known(statistics, status, own):
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
    """Whether it is a failure: those of unknown clients always count under `__other__`, without an overflow."""
    return parts[0] == FAILED or (parts[0] == ACCOUNT and parts[1] in fields.FAILURE_KINDS)


async def are_known(statistics: Statistics, status: PipelineStatus, realms: Iterable[str]) -> bool:
    """Whether every shard whose realms overflowed knows all of the bearer's realms."""
    full = {shard.keys.shard for shard in status.overflowed("realm")}
    if not full:
        return True
    known = await statistics.labels()
    return all(full <= set(known.get(Scope("realm", (realm,)), ())) for realm in realms)


async def _has_others(statistics: Statistics, keys: Sequence[str], realms: Iterable[str]) -> bool:
    """Whether users of overflowed clients were active; failures never make a user active."""
    users = await statistics.active_over(keys, [Scope("client", (realm, OTHER)) for realm in realms])
    return users.count > 0


async def _counts(statistics: Statistics, keys: Sequence[str], scopes: Sequence[Scope]) -> Counts | None:
    """The counters summed over the periods; None if there are too many to read."""
    held = await statistics.find_periods(keys)
    if sum(len(held.shards.get(key, ())) for key in keys) * len(scopes) > MAX_READS:
        return None
    found = await statistics.sum_counts(held, keys, scopes)
    sums: Counts = {}
    for counts in found.values():
        for parts, count in counts.items():
            sums[parts] = sums.get(parts, 0) + count
    return sums
