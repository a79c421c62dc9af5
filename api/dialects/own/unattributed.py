"""`unattributed`: failed logins without a known client, in answers filtered or grouped by client.

Only a successful event makes a client known. Failures with any other client id, which anyone can type at a login page,
count in the client scope `__other__` of their realm.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from api.dialects.own.filters import Filters
from api.ledger.statistics import HeldPeriods, Statistics
from schemas.ledger import fields
from schemas.ledger.scopes import OTHER, Scope

MAX_READS: Final = 50_000
"""Counter hashes read for the number; if more are needed, the number is null."""

FAILED: Final = fields.split(fields.failed(""))[0]


async def unattributed(
    subject: Filters, statistics: Statistics, realms: Collection[str] | None, held: HeldPeriods, keys: Sequence[str]
) -> dict[str, int] | None:
    """The number per period. None if too many realms and periods would have to be read."""
    scopes = [Scope("client", (realm, OTHER)) for realm in await _realms(subject, statistics, realms)]
    reads = sum(len(held.shards.get(key, ())) for key in keys) * len(scopes)
    if reads > MAX_READS:
        return None
    counts = await statistics.sum_counts(held, keys, scopes)
    return {key: sum(count for parts, count in counts[key].items() if parts[0] == FAILED) for key in keys}


async def _realms(subject: Filters, statistics: Statistics, realms: Collection[str] | None) -> Sequence[str]:
    """The requested realms that the bearer sees."""
    if realms is not None:
        return sorted(realm for realm in realms if realm != OTHER and subject.realm in (None, realm))
    if subject.realm is not None:
        return [subject.realm]
    known = {scope.names[0] for scope in await statistics.labels() if scope.dimension == "realm"}
    return sorted({*known, "", OTHER})
