"""The answer of `/v1/overview`."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from msgspec import UNSET, Meta, UnsetType, field

from api.dialects.own.answers import (
    AsOf,
    Change,
    Complete,
    Count,
    Days,
    Definition,
    Exact,
    Part,
    RegionUsers,
    Shares,
    Source,
    StandardError,
    Unattributed,
    Value,
)


class PreviousUsers(Days, frozen=True, kw_only=True):
    """Distinct active users of the previous days."""

    value: Value
    exact: Exact
    standard_error: StandardError
    imported: Source | UnsetType = UNSET


class ComparedUsers(Days, frozen=True, kw_only=True):
    """Distinct active users, compared with those of the previous days."""

    value: Value
    exact: Exact
    standard_error: StandardError
    imported: Source | UnsetType = UNSET
    previous: PreviousUsers
    change: Change


class Measure(Part, frozen=True, kw_only=True):
    """A count, compared with that of the previous days."""

    value: Value
    previous: Value
    change: Change


class Activity(Days, frozen=True, kw_only=True):
    """Events of these days."""

    logins: Measure
    failed_logins: Measure
    signups: Measure
    tokens: Measure
    failed_logins_by_reason: dict[str, Count]
    tokens_by_grant_type: dict[str, Count]
    unattributed: Annotated[
        Measure | UnsetType,
        Meta(description="Failed logins without a known client. Only in answers filtered by `client_id`."),
    ] = UNSET


class ActivitySpans(Part, frozen=True, kw_only=True):
    """Counts of the day and of its month so far."""

    day: Activity
    month: Activity


class OverviewMonth(Part, frozen=True, kw_only=True):
    """A month; its figures are null if the ledger has none."""

    month: str
    to_date: Annotated[bool, Meta(description="True if the month is not over.")]
    value: Value
    exact: Exact
    standard_error: StandardError
    logins: Value
    failed_logins: Value
    signups: Value
    tokens: Value
    imported: Annotated[str | None, Meta(description="The source of imported figures.")]
    unattributed: Unattributed | UnsetType = UNSET


class Billing(Part, frozen=True, kw_only=True):
    """Figures of the months that have any."""

    average: Annotated[float | None, Meta(description="Average active users of complete months.")]
    months_averaged: Count
    maximum: Annotated[Count | None, Meta(description="The maximum of all months.")]
    maximum_month: Annotated[str | None, Meta(description="The month of the maximum.")]


class Overview(Part, frozen=True, kw_only=True):
    """The figures of one day."""

    day: date = field(name="date")
    timezone: str
    filters: dict[str, str]
    as_of: AsOf
    complete: Complete
    regions: Shares | UnsetType = UNSET
    region_users: RegionUsers | UnsetType = UNSET
    definition: Definition
    dau: ComparedUsers
    wau: ComparedUsers
    mau: ComparedUsers
    rolling_7_days: ComparedUsers
    rolling_30_days: ComparedUsers
    stickiness: Annotated[float | None, Meta(description="`dau` divided by `rolling_30_days`.")]
    activity: ActivitySpans
    months: Annotated[list[OverviewMonth], Meta(description="The twelve months up to that of `date`.")]
    billing: Billing
