"""`/reporting/period` and `/reporting/maximum`: the highest count of each realm and status in a window of days."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from api.dialects.linotp import parameters
from api.inventory.inventory import Inventory, Stream
from api.inventory.maxima import DayRange, HighestCount, maxima
from api.inventory.policy_history import RecordingHistory
from api.inventory.table import table
from api.settings.checks import Shape
from schemas.ledger.inventory import COUNTED_STATUSES, NO_REALM, spellings

HighestCounts = Mapping[tuple[str, int], HighestCount]
"""By realm and status."""
NONE: Final = HighestCount(None)


class CountsQuestion(NamedTuple):
    """`statuses` maps the name of a status in the answer to its index in COUNTED_STATUSES."""

    statuses: dict[str, int]
    days: DayRange


def parse_period(arguments: Mapping[str, str], today: date, shape: Shape) -> CountsQuestion:
    """A pair has its canonical name in the answer, as in the document's sample. Raises BadRequestError."""
    statuses = parameters.counted_statuses(arguments, shape)
    named = {COUNTED_STATUSES[status]: status for status in statuses.values()}
    return CountsQuestion(named, parameters.window(arguments, today))


def parse_maximum(arguments: Mapping[str, str], today: date, shape: Shape) -> CountsQuestion:
    """All time up to today; a status has the caller's spelling in the answer. Raises BadRequestError."""
    return CountsQuestion(parameters.counted_statuses(arguments, shape), parameters.window({}, today))


async def read(
    question: CountsQuestion,
    inventory: Inventory,
    streams: Sequence[Stream],
    history: RecordingHistory,
    shape: Shape,
    zone: ZoneInfo,
) -> HighestCounts:
    """Raises RowsDeletedError if rows are deleted meanwhile. The source finds a pair by its canonical name only."""
    asked = set(question.statuses.values())
    if shape == "documented":
        asked = {written for status in asked for written in spellings(status)}
    visible_table = await table(inventory, streams, history, asked)
    return await maxima(inventory, visible_table, question.days, zone)


def render_period(question: CountsQuestion, realms: Sequence[str], highest: HighestCounts, shape: Shape) -> object:
    """A status without a row in the window has the last count before it."""

    def value(one: HighestCount) -> int | None:
        if one.highest is not None:
            return one.highest
        return None if one.last_before is None else one.last_before[1]

    rows = [
        {
            "name": realm,
            "maxtokencount": {
                name: value(highest.get((realm, status), NONE)) for name, status in question.statuses.items()
            },
        }
        for realm in _listed(realms, shape)
    ]
    period = {name: f"{day.isoformat()}T00:00:00" for name, day in zip(("from", "to"), question.days, strict=True)}
    return {"period": period, "realms": rows} if shape == "documented" else {"realms": rows, "period": period}


def render_maximum(question: CountsQuestion, realms: Sequence[str], highest: HighestCounts, shape: Shape) -> object:
    """-1 for a status without rows."""

    def value(realm: str, status: int) -> int:
        found = highest.get((realm, status), NONE).highest
        return -1 if found is None else found

    return {
        realm: {name: value(realm, status) for name, status in question.statuses.items()}
        for realm in _listed(realms, shape)
    }


def _listed(realms: Sequence[str], shape: Shape) -> list[str]:
    """The document lists tokens without a realm in `show` only."""
    return [realm for realm in realms if shape == "source" or realm != NO_REALM]
