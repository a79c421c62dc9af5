"""The parameters of reporting requests. A bad one gives LinOTP's own error."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import date, timedelta
from typing import Final, NamedTuple

from api.auth.principal import Principal
from api.dialects.linotp.errors import PolicyDeniedError
from api.http.errors import BadRequestError
from api.inventory.maxima import DayRange
from api.settings.reporting_policy import AllowedRealms
from api.settings.settings import Shape
from schemas.ledger.inventory import COUNTED_STATUSES, NO_REALM, STATUSES, canonical_status

EARLIEST: Final = date(1970, 1, 1)
LATEST: Final = date(9998, 12, 31)

SORTABLE: Final = ("event", "realm", "parameter", "value", "count", "detail", "description", "session")
"""Columns to sort by; any other sorts by time."""
DEFAULT_PAGESIZE: Final = 50
BAD_PAGESIZE: Final = 20
MAX_PAGESIZE: Final = 10**9


class Page(NamedTuple):
    """`size` None is all rows on one page."""

    number: int
    size: int | None


class Order(NamedTuple):
    """`column` None sorts by time."""

    column: str | None
    descending: bool


def split_list(parameters: Mapping[str, str], name: str) -> list[str]:
    """The items of `a, b`; empty if the parameter is absent or blank."""
    return [item.strip() for item in parameters.get(name, "").split(",") if item.strip()]


def allowed_realms(
    parameters: Mapping[str, str], known: Collection[str], allowed: AllowedRealms, principal: Principal
) -> list[str]:
    """The names of a request's realms. Raises PolicyDeniedError if the caller may see none of the named realms.

    No policy can name the realm of tokens without a realm, so policies do not hide it; a bearer limited to realms must
    have it in its list.
    """
    mine = [realm for realm in known if principal.realms is None or realm in principal.realms]
    permitted = [
        realm for realm in mine if realm != NO_REALM and (allowed.realms is None or realm.lower() in allowed.realms)
    ]
    without = [NO_REALM] if principal.realms is None or NO_REALM in principal.realms else []
    asked = [item.lower() for item in split_list(parameters, "realms")]
    if not asked or "*" in asked:
        return [*permitted, *without]
    named: dict[str, list[str]] = {}
    for realm in (*permitted, *without):
        named.setdefault(realm.lower(), []).append(realm)
    found: dict[str, None] = {}
    unseen = []
    for item in dict.fromkeys(asked):
        found.update(dict.fromkeys(named.get(item, ())))
        if item not in named:
            unseen.append(item)
    if unseen and not found:
        raise PolicyDeniedError(f"You do not have the rights to see these realms: {unseen!r}. Check the policies!")
    return list(found)


def shown_statuses(parameters: Mapping[str, str]) -> frozenset[int]:
    """The statuses to show, as indexes of COUNTED_STATUSES: all by default. An unknown status matches nothing."""
    asked = split_list(parameters, "status")
    if not asked or "*" in asked:
        return frozenset(range(len(COUNTED_STATUSES)))
    return _status_indexes(asked)


def counted_statuses(parameters: Mapping[str, str], shape: Shape) -> dict[str, int]:
    """The statuses to count: each as the caller wrote it, with its index in COUNTED_STATUSES.

    Raises BadRequestError for an unknown one.
    """
    found = {}
    for written in split_list(parameters, "status") or ["total"]:
        name = written if shape == "source" and written in STATUSES else None
        if shape == "documented":
            name = canonical_status(written)
        if name is None:
            raise BadRequestError(f"unsupported status: {written[:64]!r}")
        found[written] = COUNTED_STATUSES.index(name)
    return found


def deleted_statuses(parameters: Mapping[str, str], shape: Shape, *, all_of: bool) -> frozenset[int]:
    """The statuses to delete: `total` by default. `all_of` is true if the real product accepts `*` here.

    The documented `*` means every status; the real product's means nine of them, and none in delete_before.
    """
    asked = split_list(parameters, "status") or ["total"]
    if "*" in asked:
        if shape == "documented":
            return frozenset(range(len(COUNTED_STATUSES)))
        if all_of:
            asked += STATUSES
    return _status_indexes(asked)


def _status_indexes(asked: Sequence[str]) -> frozenset[int]:
    names = (canonical_status(status) for status in asked)
    return frozenset(COUNTED_STATUSES.index(name) for name in names if name is not None)


def day(parameters: Mapping[str, str], name: str) -> date | None:
    text = parameters.get(name, "").strip()
    if not text:
        return None
    if re.fullmatch(r"\d{4}-\d{1,2}-\d{1,2}", text, re.ASCII):
        try:
            found = date(*map(int, text.split("-")))
        except ValueError:
            found = None
        if found is not None and EARLIEST <= found <= LATEST:
            return found
    # The spelling is the product's.
    raise BadRequestError(f"Failed to convert start time paramter to timestamp [{name}={text[:32]!r}]: YYYY-MM-DD")


def window(parameters: Mapping[str, str], today: date) -> DayRange:
    """The days from `from` to before `to`; by default all time up to the end of today."""
    return DayRange(day(parameters, "from") or EARLIEST, day(parameters, "to") or today + timedelta(days=1))


def page(parameters: Mapping[str, str]) -> Page:
    """The page; malformed numbers get the product's defaults. Raises BadRequestError for a bad page size."""
    if "page" not in parameters:
        return Page(1, None)
    size = DEFAULT_PAGESIZE
    if "pagesize" in parameters:
        given = _whole(parameters["pagesize"])
        size = BAD_PAGESIZE if given is None else given
    if not 1 <= size <= MAX_PAGESIZE:
        raise BadRequestError(f"`pagesize` is not between 1 and {MAX_PAGESIZE}.")
    return Page(max(_whole(parameters["page"]) or 1, 1), size)


def _whole(text: str) -> int | None:
    text = text.strip()
    return int(text) if re.fullmatch(r"[+-]?\d{1,18}", text, re.ASCII) else None


def order(parameters: Mapping[str, str]) -> Order:
    column = parameters.get("sortby")
    return Order(column if column in SORTABLE else None, parameters.get("sortdir") == "desc")
