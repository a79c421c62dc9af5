"""The parameters of reporting requests. A bad one gives LinOTP's own error."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Final, NamedTuple

from api.auth.principal import Principal
from api.dialects.linotp.errors import realms_error
from api.http.errors import BadRequestError
from api.inventory.maxima import DayRange
from api.settings.checks import Shape
from api.settings.reporting_policy import AllowedRealms
from schemas.ledger.inventory import (
    NO_REALM,
    STATUSES,
    WRITTEN_STATUSES,
    canonical_index,
    canonical_status,
    spellings,
)

EARLIEST: Final = date(1970, 1, 1)
DAY_FORMAT: Final = "%Y-%m-%d"
MAX_DAY_CHARS: Final = 32

SORTABLE: Final = ("event", "realm", "parameter", "value", "count", "detail", "description", "session")
"""Columns to sort by; any other sorts by time."""
DEFAULT_PAGESIZE: Final = 50
BAD_PAGESIZE: Final = 20
MAX_PAGESIZE: Final = 10**9

EVERY_STATUS: Final = frozenset(range(len(WRITTEN_STATUSES)))


class Page(NamedTuple):
    """`size` None is all rows on one page."""

    number: int
    size: int | None


class Order(NamedTuple):
    """`column` None sorts by time."""

    column: str | None
    descending: bool


def known_realms(configured: Sequence[str], found: Collection[str]) -> list[str]:
    """The configured realms in their order, then the others that have rows. Names differ in more than their case."""
    lowered = {realm.lower() for realm in configured}
    spelled = {realm.lower(): realm for realm in found}
    return [
        *(spelled.get(realm.lower(), realm) for realm in configured),
        *(realm for realm in found if realm.lower() not in lowered),
    ]


def allowed_realms(
    parameters: Mapping[str, str], known: Collection[str], allowed: AllowedRealms, principal: Principal
) -> list[str]:
    """The names of a request's realms. Raises PolicyDeniedError if the caller may see none of the named realms.

    Policies do not hide the realm of tokens without a realm; a bearer limited to realms must have it in its list. An
    empty `realms` is every realm but that one (linotp/lib/realm.py, match_realms).
    """
    mine = [realm for realm in known if principal.realms is None or realm in principal.realms]
    permitted = [
        realm for realm in mine if realm != NO_REALM and (allowed.realms is None or realm.lower() in allowed.realms)
    ]
    without = [NO_REALM] if principal.realms is None or NO_REALM in principal.realms else []
    asked = parameters.get("realms", "*").split(",")
    if asked == [""]:
        return permitted
    if "*" in asked:
        return [*permitted, *without]
    named: dict[str, list[str]] = {}
    for realm in (*permitted, *without):
        named.setdefault(realm.lower(), []).append(realm)
    found: dict[str, None] = {}
    unseen = []
    for item in (text.strip().lower() for text in asked):
        found.update(dict.fromkeys(named.get(item, ())))
        if item not in named:
            unseen.append(item)
    if unseen and not found:
        raise realms_error(unseen)
    return list(found)


def _statuses(parameters: Mapping[str, str], shape: Shape) -> list[str]:
    """The items of `status`. The real product compares texts, so a space belongs to its item."""
    items = parameters["status"].split(",")
    return items if shape == "source" else [item.strip() for item in items]


def _matching(asked: Collection[str], shape: Shape) -> frozenset[int]:
    """The indexes in WRITTEN_STATUSES of rows to find; an unknown status finds none.

    The documented shape finds a pair by either spelling.
    """
    indexes = {WRITTEN_STATUSES.index(status) for status in asked if status in WRITTEN_STATUSES}
    if shape == "documented":
        indexes = {written for index in indexes for written in spellings(canonical_index(index))}
    return frozenset(indexes)


def shown_statuses(parameters: Mapping[str, str], shape: Shape) -> frozenset[int]:
    """The statuses to show, as indexes of WRITTEN_STATUSES: all by default. An unknown or empty one matches nothing."""
    if "status" not in parameters:
        return EVERY_STATUS
    asked = _statuses(parameters, shape)
    return EVERY_STATUS if "*" in asked else _matching(asked, shape)


def spelled_statuses(parameters: Mapping[str, str], shape: Shape) -> frozenset[str]:
    """The statuses as the caller writes them, for rows whose spelling no policy defines."""
    return frozenset(_statuses(parameters, shape)) if "status" in parameters else frozenset()


def counted_statuses(parameters: Mapping[str, str], shape: Shape) -> dict[str, int]:
    """The statuses to count: each as the caller wrote it, with its index in COUNTED_STATUSES.

    Raises BadRequestError for an unknown one, also for an empty one, or one with a space.
    """
    found = {}
    for written in parameters.get("status", "total").split(","):
        name = canonical_status(written) if shape == "documented" or written in STATUSES else None
        if name is None:
            raise BadRequestError(f"unsupported status: {written[:64]!r}")
        found[written] = WRITTEN_STATUSES.index(name)
    return found


def deleted_statuses(parameters: Mapping[str, str], shape: Shape, *, all_of: bool) -> frozenset[int]:
    """The statuses to delete, as indexes of WRITTEN_STATUSES: `total` by default, nothing if `status` is empty.

    The documented `*` means every status. The real product's means nine of them, and none in delete_before: `all_of` is
    true if it accepts `*` here.
    """
    asked = _statuses(parameters, shape) if "status" in parameters else ["total"]
    if "*" in asked:
        if shape == "documented":
            return EVERY_STATUS
        if all_of:
            asked += STATUSES
    return _matching(asked, shape)


def parse_day(text: str) -> date:
    """Raises ValueError with the text of LinOTP, which parses with the same function."""
    day = datetime.strptime(text[:MAX_DAY_CHARS], DAY_FORMAT).date()  # noqa: DTZ007 - a day has no zone
    if not text.isascii():
        raise ValueError(f"time data {text[:MAX_DAY_CHARS]!r} does not match format {DAY_FORMAT!r}")
    return day


def day(parameters: Mapping[str, str], name: str) -> date | None:
    """The day of a parameter; None without it. Raises BadRequestError."""
    if name not in parameters:
        return None
    try:
        return parse_day(parameters[name])
    except ValueError as error:
        # The spelling is the product's.
        message = f"Failed to convert start time paramter to timestamp {[repr(error)]!r}"
        raise BadRequestError(message) from None


def deleted_before(parameters: Mapping[str, str], shape: Shape) -> date:
    """The required `date` of delete_before. Raises BadRequestError."""
    if shape == "documented":
        found = day(parameters, "date")
        if found is None:
            raise BadRequestError("Missing parameter: 'date'")
        return found
    if "date" not in parameters:
        raise BadRequestError("strptime() argument 1 must be str, not None")
    try:
        return parse_day(parameters["date"])
    except ValueError as error:
        raise BadRequestError(str(error)) from None


def window(parameters: Mapping[str, str], today: date) -> DayRange:
    """The days from `from` to before `to`; by default all time up to the end of today."""
    return DayRange(day(parameters, "from") or EARLIEST, day(parameters, "to") or today + timedelta(days=1))


def page(parameters: Mapping[str, str], shape: Shape) -> Page:
    """The page; malformed numbers get the product's defaults. Raises BadRequestError for a bad page size."""
    if "page" not in parameters:
        return Page(1, None)
    size = DEFAULT_PAGESIZE
    if "pagesize" in parameters:
        given = _whole(parameters["pagesize"])
        size = BAD_PAGESIZE if given is None else given
    if size == 0 and shape == "source":
        raise BadRequestError("float division by zero")
    if not 1 <= size <= MAX_PAGESIZE:
        raise BadRequestError(f"`pagesize` is not between 1 and {MAX_PAGESIZE}.")
    return Page(max(_whole(parameters["page"]) or 1, 1), size)


def _whole(text: str) -> int | None:
    text = text.strip()
    return int(text) if re.fullmatch(r"[+-]?\d{1,18}", text, re.ASCII) else None


def order(parameters: Mapping[str, str]) -> Order:
    column = parameters.get("sortby")
    return Order(column if column in SORTABLE else None, parameters.get("sortdir") == "desc")
