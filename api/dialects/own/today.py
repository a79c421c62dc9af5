"""The figures of `/v1/live` for the current day: few, so that they can be read every two seconds."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo

from msgspec import Meta, field

from api.dialects.own.answers import AsOf, Count, Figure, Part
from api.dialects.own.overview import MEASURES, NO_USERS, measures
from api.dialects.own.rendering import as_of, figure
from api.ledger.retention import is_kept
from api.ledger.statistics import Statistics

PATH: Final = "/v1/live"
EVENT: Final = "figures"
UNAVAILABLE: Final = "unavailable"


Today = Annotated[Count | None, Meta(description="Null if no days are kept.")]


class Live(Part, frozen=True, kw_only=True):
    """The figures of today so far: the data of an event `figures`."""

    day: date = field(name="date")
    timezone: str
    active_users: Figure
    logins: Today
    failed_logins: Today
    signups: Today
    tokens: Today
    as_of: AsOf
    dead_letters: Annotated[
        Count | None, Meta(description="All dead letters so far; null for bearers limited to realms.")
    ]


async def read(statistics: Statistics, realms: Collection[str] | None, today: date, zone: ZoneInfo) -> Live:
    """The data of one event. Raises ForbiddenError for a bearer limited to realms if users are not kept by realm.

    Dead letters belong to all realms, so a limited bearer gets null. The day's figures are null if no days are kept.
    """
    status = await statistics.pipeline_status()
    scopes = statistics.scopes_of(realms)
    held = await statistics.find_periods([today.isoformat()])
    (users,) = await statistics.users.count([held.distinct_query([today.isoformat()], scopes)])
    counts = (await statistics.sum_counts(held, [today.isoformat()], scopes))[today.isoformat()]
    figures: dict[str, Any] = {"active_users": figure(users), **measures(counts)}
    if not is_kept([today.isoformat()], status, today):
        figures = {"active_users": Figure(**NO_USERS), **dict.fromkeys(MEASURES)}
    dead = sum(count or 0 for shard in status.shards for count in shard.dead.values())
    return Live(
        day=today,
        timezone=zone.key,
        **figures,
        as_of=as_of(status),
        dead_letters=dead if realms is None else None,
    )
