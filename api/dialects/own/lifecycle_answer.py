"""The answers of `/v1/lifecycle` and `/v1/retention` as structs, and as the flat rows of their CSV."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType, field

from api.dialects.own.answers import Count, Definition, Exact, Part, SeriesHead, Source
from api.ledger import lifecycle_figures

STANDARD_ERROR: Final = (
    "Relative standard error of an estimate, 0.02 for 2 %; 0 if exact. Null without a value, and where users of "
    "several regions may count twice."
)
Share = Annotated[float, Meta(ge=0, le=1)]
Ended = Annotated[bool, Meta(description="False while the period is not over: its users may still come.")]


class LifecycleFigure(Part, frozen=True, kw_only=True):
    """Users; too few for their error if only `fewer_than` has a number, and unknown if nothing has."""

    value: Annotated[Count | None, Meta(description="Null if the figure is too small for its error, or unknown.")]
    exact: Exact
    standard_error: Annotated[float | None, Meta(description=STANDARD_ERROR)]
    fewer_than: Annotated[
        Count | None, Meta(description="Only if the figure is too small for its error: it is below this number.")
    ]

    @classmethod
    def of(cls, figure: lifecycle_figures.Figure) -> LifecycleFigure:
        return cls(
            value=figure.value,
            exact=figure.exact,
            standard_error=_rounded(figure.standard_error),
            fewer_than=figure.fewer_than,
        )


class RetentionRate(Part, frozen=True, kw_only=True):
    """A share of users; too small for its error if only `less_than` has a number, and unknown if nothing has."""

    value: Annotated[Share | None, Meta(description="Null if it is too small for its error, or unknown.")]
    exact: Exact
    standard_error: Annotated[float | None, Meta(description=STANDARD_ERROR)]
    less_than: Annotated[
        Share | None, Meta(description="Only if the rate is too small for its error: it is below this one.")
    ]

    @classmethod
    def of(cls, rate: lifecycle_figures.Rate) -> RetentionRate:
        return cls(
            value=_rounded(rate.value),
            exact=rate.exact,
            standard_error=_rounded(rate.standard_error),
            less_than=_rounded(rate.less_than),
        )


Unknown = Annotated[
    Literal["history", "imported", "not_united"],
    Meta(
        description="Why figures are unknown: `history` if the period does not begin after `history.since`, `imported` "
        "if it, or the one with which it is compared, is an imported month, `not_united` if users of several regions "
        "are not united and their sum is too small for its error."
    ),
]


class History(Part, frozen=True, kw_only=True):
    """The time from which users are known."""

    since: Annotated[date | None, Meta(description="The first day; null if nothing was counted, or it is not known.")]
    reason: Annotated[
        Literal["first_counted", "retain_months", "active_on", "users_by"] | None,
        Meta(
            description="What it is: the first counted day, the first month that RETAIN_MONTHS keeps, or the last "
            "change of ACTIVE_ON or USERS_BY."
        ),
    ]
    imported: Annotated[
        list[str],
        Meta(description="Imported months from `since` on: numbers without users, which take no part."),
    ]


class LifecycleDefinition(Definition, frozen=True, kw_only=True):
    """The definition of every figure."""

    active: str = "Active in the period: the figure of /v1/active-users."
    new: str = "Active in the period, and on no day between `history.since` and its start."
    returning: str = "Active in the period and in the one before it."
    reactivated: str = "Active in the period, not in the one before it, and on some day earlier since `history.since`."
    lapsed: str = "Active in the period before, and not in this one (so far, while `ended` is false)."


class RetentionDefinition(Definition, frozen=True, kw_only=True):
    """The definition of every figure."""

    users: str
    retained: str = "Those of `users` who are active in the period of the age, whether or not in between."
    rate: str = "`retained` divided by `users`."


class LifecyclePeriod(Part, frozen=True, kw_only=True):
    """A period with its days; both ends are included."""

    period: str
    first: date = field(name="from")
    last: date = field(name="to")
    ended: Ended


class LifecycleItem(LifecyclePeriod, frozen=True, kw_only=True):
    """One period. `new`, `returning` and `reactivated` add up to `active`, but for errors."""

    active: LifecycleFigure
    new: LifecycleFigure
    returning: LifecycleFigure
    reactivated: LifecycleFigure
    lapsed: LifecycleFigure
    imported: Source | UnsetType = UNSET
    unknown: Unknown | UnsetType = UNSET


class RetentionAge(LifecyclePeriod, frozen=True, kw_only=True):
    """A later period, and how many of the cohort are active in it."""

    age: Annotated[int, Meta(ge=1, description="Periods after the cohort's own.")]
    retained: LifecycleFigure
    rate: RetentionRate
    unknown: Unknown | UnsetType = UNSET


class RetentionItem(LifecyclePeriod, frozen=True, kw_only=True):
    """The cohort of one period."""

    users: LifecycleFigure
    ages: list[RetentionAge]
    unknown: Unknown | UnsetType = UNSET


class Lifecycle(SeriesHead, frozen=True, kw_only=True):
    """New, returning, reactivated and lapsed users by period."""

    history: History
    definition: LifecycleDefinition
    items: list[LifecycleItem]

    def csv_rows(self) -> list[dict[str, Any]]:
        """One row per item."""
        return [_without_optional(item) | _optional(item) for item in self.items]


class Retention(SeriesHead, frozen=True, kw_only=True):
    """Cohorts by period, with the share of their users in later periods."""

    history: History
    cohort: Literal["active", "new"]
    definition: RetentionDefinition
    items: list[RetentionItem]

    def csv_rows(self) -> list[dict[str, Any]]:
        """One row per cohort and age; a cohort without ages has one row."""
        rows = []
        for item in self.items:
            cohort = msgspec.to_builtins(item)
            for age in cohort.pop("ages") or [{}]:
                cell = {f"age_{name}" if name in PERIOD else name: value for name, value in age.items()}
                rows.append(dict.fromkeys(RETENTION_COLUMNS) | flat(cohort | cell))
        return rows


OPTIONAL: Final = ("imported", "unknown")
PERIOD: Final = ("period", "from", "to", "ended")
FIGURE: Final = ("value", "exact", "standard_error", "fewer_than")
RATE: Final = ("value", "exact", "standard_error", "less_than")
RETENTION_COLUMNS: Final = (
    *PERIOD,
    *(f"users_{name}" for name in FIGURE),
    *("age", *(f"age_{name}" for name in PERIOD)),
    *(f"retained_{name}" for name in FIGURE),
    *(f"rate_{name}" for name in RATE),
    "unknown",
)


def flat(nested: Mapping[str, Any]) -> dict[str, Any]:
    """Members of members as columns: `new.value` becomes `new_value`."""
    row: dict[str, Any] = {}
    for name, value in nested.items():
        row.update(
            {f"{name}_{part}": each for part, each in value.items()} if isinstance(value, dict) else {name: value}
        )
    return row


def _without_optional(item: LifecycleItem) -> dict[str, Any]:
    return flat({name: value for name, value in msgspec.to_builtins(item).items() if name not in OPTIONAL})


def _optional(item: LifecycleItem) -> dict[str, str | None]:
    """The optional members, whose columns the CSV always has."""
    return {name: getattr(item, name) or None for name in OPTIONAL}


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 6)
