"""The figures of `/v1/live` for the current day: few, so that they can be read every two seconds."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from typing import Any, Final
from zoneinfo import ZoneInfo

from api.dialects.own.overview import measures
from api.dialects.own.rendering import as_of, user_count
from api.ledger.retention import is_kept
from api.ledger.statistics import Statistics

PATH: Final = "/v1/live"
EVENT: Final = "figures"
UNAVAILABLE: Final = "unavailable"


async def read(statistics: Statistics, realms: Collection[str] | None, today: date, zone: ZoneInfo) -> dict[str, Any]:
    """The data of one event. Raises ForbiddenError for a bearer limited to realms if users are not kept by realm.

    Dead letters belong to all realms, so a limited bearer gets null. The day's figures are null if no days are kept.
    """
    status = await statistics.pipeline_status()
    scopes = statistics.scopes_of(realms)
    held = await statistics.find_periods([today.isoformat()])
    (users,) = await statistics.users.count([held.distinct_query([today.isoformat()], scopes)])
    counts = measures((await statistics.sum_counts(held, [today.isoformat()], scopes))[today.isoformat()])
    figures: dict[str, Any] = {"active_users": user_count(users), **counts}
    if not is_kept([today.isoformat()], status, today):
        figures = {"active_users": {"value": None, "exact": False, "standard_error": None}, **dict.fromkeys(counts)}
    dead = sum(count or 0 for shard in status.shards for count in shard.dead.values())
    return {
        "date": today.isoformat(),
        "timezone": zone.key,
        **figures,
        "as_of": as_of(status),
        "dead_letters": dead if realms is None else None,
    }
