"""Members that several answers share, as structs: they encode answers, decode them from the cache, and are described in
`/openapi.json`.

Field order is the order in the answer. A field with the default UNSET is in some answers only; every other is in all.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
"""RFC 3339 in UTC, as the ledger's times are written."""
Count = Annotated[int, Meta(ge=0)]
Exact = Annotated[bool, Meta(description="True if users were counted one by one.")]
Value = Annotated[Count | None, Meta(description="Null if the days are no longer kept.")]
Source = Annotated[str, Meta(description="The source, in an imported month only.")]
MonthCount = Annotated[Count | None, Meta(description="Null if an imported month does not have it.")]
StandardError = Annotated[
    float | None, Meta(description="Relative standard error of an estimate, 0.002 for 0.2 %; null if unknown.")
]
Change = Annotated[
    float | None,
    Meta(description="Relative change: 0.25 is a quarter more; null if a value is missing or the previous one is 0."),
]
Complete = Annotated[
    bool,
    Meta(
        description="False if labels or words overflowed and count under `__other__`. For a bearer limited to realms "
        "it covers these realms only. Over regions also false if a region is not current."
    ),
]
Unattributed = Annotated[
    Count | None,
    Meta(
        description="Failed logins of these periods and realms without a known client: no successful event has their "
        "client id, or it overflowed. Only in answers filtered or grouped by `client_id`. Null if too many counters "
        "would have to be read."
    ),
]
Since = Annotated[
    dict[str, Time | None],
    Meta(
        description="Settings that changed within these days, each with the start of its present value; null if the "
        "ledger's time is not valid."
    ),
]
CountedFrom = Annotated[
    date | None,
    Meta(
        description="The day of the oldest counted event; over regions that of the region that began last. Null "
        "without events. Before it there are figures of imported months only."
    ),
]
Dimension = Literal["realm", "client_id", "node"]
RegionName = Annotated[str, Meta(description="The region, in answers grouped by region.")]
RegionState = Literal["current", "stand_in", "missing"]
RegionUsers = Annotated[
    Literal["shared", "distinct"],
    Meta(description="In answers over regions: `shared` users count once, `distinct` ones once per region."),
]


class Part(Struct, frozen=True, gc=False):
    """A part of an answer. Its classes are `kw_only`, so that inherited fields keep their place."""


class AsOf(Part, frozen=True, kw_only=True):
    """The moment of the answer."""

    newest_event: Annotated[Time | None, Meta(description="The time of the newest counted event.")]
    lag: Annotated[Count | None, Meta(description="Records not yet counted when a worker last read the log's end.")]


class RegionShare(Part, frozen=True, kw_only=True):
    """How a region takes part in an answer over regions."""

    region: str
    state: Annotated[
        RegionState,
        Meta(description="`stand_in`: its last export is used; `missing`: figures of it are not in the answer."),
    ]
    age_s: Annotated[Count | UnsetType, Meta(description="Age of the last export, in seconds.")] = UNSET
    reason: Annotated[str | UnsetType, Meta(description="Why it is not current.")] = UNSET
    not_united: Annotated[
        bool | UnsetType,
        Meta(
            description="True if users of it are a number only, because a period and scope has fewer than "
            "REGION_MIN_USERS: users who are active in two regions may then count twice."
        ),
    ] = UNSET
    imported: Annotated[bool | UnsetType, Meta(description="True if it has imported months, which take no part.")] = (
        UNSET
    )


Shares = Annotated[list[RegionShare], Meta(description="Only in answers to a question with `region`.")]


class Definition(Part, frozen=True, kw_only=True):
    """The definition of an active user."""

    active_on: list[str]
    user_scope: Annotated[list[str], Meta(description="`global`, or `realm` if each realm has its own users.")]


class Days(Part, frozen=True, kw_only=True):
    """A range of days; both are included."""

    first: date = field(name="from")
    last: date = field(name="to")


class Figure(Part, frozen=True, kw_only=True):
    """Distinct users or clients."""

    value: Value
    exact: Exact
    standard_error: StandardError


class Item(Part, frozen=True, kw_only=True):
    """A period with its days, and the labels of a group."""

    period: str
    first: date = field(name="from")
    last: date = field(name="to")
    region: RegionName | UnsetType = UNSET
    realm: str | UnsetType = UNSET
    client_id: str | UnsetType = UNSET
    node: str | UnsetType = UNSET


class LeftOut(Part, frozen=True, kw_only=True):
    """Groups beyond `limit`, and the sum of their counts where they have counts."""

    groups: Count
    count: Count | UnsetType = UNSET


class SeriesHead(Days, frozen=True, kw_only=True):
    """The members of every series."""

    granularity: str
    timezone: str
    filters: dict[str, str]
    as_of: AsOf
    counted_from: CountedFrom
    complete: Complete
    since: Since
    regions: Shares | UnsetType = UNSET
    region_users: RegionUsers | UnsetType = UNSET


class Problem(Part, frozen=True, kw_only=True):
    """A problem document (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    parameter: Annotated[str | UnsetType, Meta(description="The name of the invalid parameter, if there is one.")] = (
        UNSET
    )
