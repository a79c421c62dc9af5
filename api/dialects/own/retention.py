"""`/v1/retention`: the users of a week or month who are active in later ones."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, Literal, cast
from zoneinfo import ZoneInfo

from msgspec import UNSET

from api.dialects.own import known_periods
from api.dialects.own.filters import Filters
from api.dialects.own.known_periods import PARAMETERS, KnownPeriods
from api.dialects.own.lifecycle import parse_window, period_members, read_head
from api.dialects.own.lifecycle_answer import (
    LifecycleFigure,
    Retention,
    RetentionAge,
    RetentionDefinition,
    RetentionItem,
    RetentionRate,
)
from api.dialects.own.operation import Operation
from api.dialects.own.parameters import BadParameterError, Parameters, choice, number
from api.dialects.own.rendering import Answer, imported_count
from api.dialects.own.window import Period, Window
from api.ledger.lifecycle import MAX_COHORT_UNIONS, cohort_unions
from api.ledger.lifecycle_figures import NO_RATE, UNKNOWN, CohortFigures, Figure, Rate
from api.ledger.statistics import Statistics
from api.settings.settings import ApiSettings
from api.turns import pause

PATH: Final = "/v1/retention"
COHORT: Final = choice(
    "cohort",
    "The users of a cohort: all active ones of the period, or those new in it.",
    ("active", "new"),
    "active",
)
AGES: Final = number("ages", "The highest age, in periods after the cohort's own.", 12, 1, 60)

DEFINITIONS: Final = {
    "active": "All users who are active in the cohort's period.",
    "new": "Users who are active in the cohort's period, and on no day between `history.since` and its start.",
}

OPERATION: Final = Operation(
    PATH,
    "retention",
    "Retention of cohorts",
    "Per whole ISO week or month between `from` and `to`: a cohort, and how many of its users are active in each of "
    "the later periods. Errors and upper bounds are stated as by `/v1/lifecycle`. In CSV a row is one cohort and age.",
    Retention,
    (*PARAMETERS, COHORT, AGES),
    regional=True,
)


@dataclass(frozen=True)
class RetentionQuestion:
    window: Window
    filters: Filters
    zone: ZoneInfo
    cohort: Literal["active", "new"]
    ages: int

    @property
    def key(self) -> str:
        return f"{self.window.text} {self.filters.cache_key} {self.cohort} {self.ages}"

    @property
    def is_wide(self) -> bool:
        return True

    async def read(self, statistics: Statistics, realms: Collection[str] | None) -> Answer[Retention]:
        compared = self.cohort == "new"
        head, known = await read_head(self.window, self.filters, self.zone, statistics, realms, compared=compared)
        self._check_size(known)
        base = known.base(known.previous.keys) if compared else None
        async with statistics.wide_question(realms):
            queries = [known.query(period.keys) for period in known.rows]
            found = await statistics.retention(known.parts, base, queries, self.ages)
        items = []
        for place, figures in enumerate(found):
            await pause()
            items.append(self._item(figures, known.rows[place], known.rows[place + 1 :], known))
        defined = RetentionDefinition(
            active_on=head.pop("active_on"), user_scope=head.pop("user_scope"), users=DEFINITIONS[self.cohort]
        )
        answer = Retention(**head, history=known.history, cohort=self.cohort, definition=defined, items=items)
        return Answer(answer, partial=not answer.complete or not known.all_held)

    def _check_size(self, known: KnownPeriods) -> None:
        periods = len(known.rows)
        cells, counted = cohort_unions(periods, self.ages, known.parts, with_base=self.cohort == "new")
        if counted > MAX_COHORT_UNIONS:
            raise BadParameterError(
                "ages",
                f"{periods} cohorts with up to {self.ages} ages are {cells} cells; at most "
                f"{MAX_COHORT_UNIONS * cells // counted} can be answered: use fewer periods or lower `ages`.",
            )

    def _item(
        self, found: CohortFigures, period: Period, later: Sequence[Period], known: KnownPeriods
    ) -> RetentionItem:
        today = self.window.today
        month = known.imported_month(period)
        unknown = self._unknown(known, period)
        users = LifecycleFigure.of(UNKNOWN if unknown else found.users)
        if month is not None and self.cohort == "active":
            users = LifecycleFigure(**imported_count(month), fewer_than=None)
        ages = [
            _age(age, retained, rate, later_period, today, unknown or self._unknown(known, period, later_period))
            for age, ((retained, rate), later_period) in enumerate(zip(found.ages, later, strict=False), start=1)
        ]
        return RetentionItem(**period_members(period, today), users=users, ages=ages, unknown=unknown or UNSET)

    def _unknown(self, known: KnownPeriods, period: Period, *later: Period) -> Any:
        found = known_periods.unknown_because(period, known, *later)
        return None if found == "history" and self.cohort == "active" else found


def _age(age: int, retained: Figure, rate: Rate, period: Period, today: date, unknown: Any) -> RetentionAge:
    return RetentionAge(
        **period_members(period, today),
        age=age,
        retained=LifecycleFigure.of(UNKNOWN if unknown else retained),
        rate=RetentionRate.of(NO_RATE if unknown else rate),
        unknown=unknown or ("not_united" if retained == UNKNOWN else UNSET),
    )


def parse(parameters: Parameters, settings: ApiSettings, today: date) -> RetentionQuestion:
    asked, subject = parse_window(parameters, settings, today)
    cohort = cast(Literal["active", "new"], parameters.get(COHORT))
    return RetentionQuestion(asked, subject, settings.zone, cohort, parameters.get(AGES))
