"""Lifecycle and retention of one region, as the sizes of unions, so that the asker can add regions and their errors.

They are numbers, as an export of the same unions gives too, and never sketches.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Final

from msgspec import Meta

from api.ledger.lifecycle import MAX_COHORT_UNIONS, cohort_unions
from api.ledger.lifecycle_unions import Active, Cohort, CohortRow, LifecycleRow, Pair, Row
from api.regions.wire_parts import (
    MAX_PERIODS,
    InvalidAnswerError,
    Number,
    PeriodKey,
    Periods,
    Scopes,
    Wire,
    parts_of,
    read_scope,
)
from schemas.ledger import accuracy

MAX_ROWS: Final = 200
"""Ten years of months, with room."""

Parts = Annotated[int, Meta(ge=0, le=accuracy.K_MONTHS, description="Sketches of each estimate; 0 for exact numbers.")]


class LifecycleRequest(Wire, frozen=True, kw_only=True):
    """A row for each of `periods` but the first, which is the one before the first row; `base` are all before it."""

    base: Annotated[list[PeriodKey], Meta(max_length=MAX_PERIODS)]
    periods: Annotated[list[Periods], Meta(min_length=1, max_length=MAX_ROWS)]
    scopes: Scopes


class RetentionRequest(Wire, frozen=True, kw_only=True):
    """A row for each of `periods`; with `base`, a cohort has only users who are not active in it."""

    base: Annotated[list[PeriodKey], Meta(max_length=MAX_PERIODS)] | None
    periods: Annotated[list[Periods], Meta(max_length=MAX_ROWS)]
    max_age: Annotated[int, Meta(ge=1, le=60)]
    scopes: Scopes


class ActiveExport(Wire, frozen=True, kw_only=True):
    """The users of one period."""

    parts: Parts
    users: Number


class PairExport(Wire, frozen=True, kw_only=True):
    """The users of a period, of the one before, and of both together."""

    parts: Parts
    previous: Number
    current: Number
    together: Number


class LifecycleExport(Wire, frozen=True, kw_only=True):
    """The unions of one period. `of_row` has those of all periods, `before` it and `after` it, in one mode."""

    active: ActiveExport
    pair: PairExport
    of_row: PairExport
    before: Number
    after: Number
    only_previous: bool
    """Whether no user was active before the period before this one."""


class CohortExport(Wire, frozen=True, kw_only=True):
    """The unions of the periods before a cohort, with its own, with a later one, and with both."""

    parts: Parts
    base: Number
    first: Number
    later: Number
    together: Number
    nobody_later: bool


class RetentionExport(Wire, frozen=True, kw_only=True):
    """A cohort, with an empty later period, and its ages from 1 on."""

    users: CohortExport
    ages: Annotated[list[CohortExport], Meta(max_length=60)]


def check_request(asked: LifecycleRequest | RetentionRequest) -> int:
    """The number of periods times scopes that it reads. Raises ValueError."""
    for text in asked.scopes:
        read_scope(text)
    keys = [*(asked.base or ()), *(key for period_keys in asked.periods for key in period_keys)]
    if isinstance(asked, RetentionRequest):
        scopes = [read_scope(text) for text in asked.scopes]
        with_base = asked.base is not None
        cells, unions = cohort_unions(len(asked.periods), asked.max_age, parts_of(keys, scopes), with_base=with_base)
        if unions > MAX_COHORT_UNIONS:
            raise ValueError(f"`retention` has {cells} cells; the maximum is {MAX_COHORT_UNIONS * cells // unions}")
    return len(keys) * len(asked.scopes)


def export_row(row: LifecycleRow) -> LifecycleExport:
    return LifecycleExport(
        active=ActiveExport(**row.active._asdict()),
        pair=PairExport(**row.pair._asdict()),
        of_row=PairExport(**row.row.pair._asdict()),
        before=row.row.before,
        after=row.row.after,
        only_previous=row.row.only_previous,
    )


def read_row(row: LifecycleExport) -> LifecycleRow:
    return LifecycleRow(
        Active(row.active.parts, row.active.users),
        _pair(row.pair),
        Row(_pair(row.of_row), row.before, row.after, row.only_previous),
    )


def export_cohort(row: CohortRow) -> RetentionExport:
    return RetentionExport(
        users=CohortExport(**row.users._asdict()), ages=[CohortExport(**age._asdict()) for age in row.ages]
    )


def read_cohort(row: RetentionExport) -> CohortRow:
    return CohortRow(_cohort(row.users), [_cohort(age) for age in row.ages])


def check_rows(found: Sequence[LifecycleExport], asked: LifecycleRequest | None) -> None:
    """Raises InvalidAnswerError if these are not the rows that were asked for, or a union is smaller than its part."""
    if len(found) != (0 if asked is None else len(asked.periods) - 1):
        raise InvalidAnswerError("not the periods that were asked for")
    for row in found:
        for pair in (row.pair, row.of_row):
            _check_nested([(pair.previous, pair.together), (pair.current, pair.together)])
            if not pair.parts and pair.together > pair.previous + pair.current:
                raise InvalidAnswerError("more users of two periods than of each")
        whole = row.of_row
        _check_nested([(row.before, row.after), (whole.previous, row.before), (whole.together, row.after)])
        _check_parts([row.active.parts, row.pair.parts, whole.parts])


def check_cohorts(found: Sequence[RetentionExport], asked: RetentionRequest | None) -> None:
    """Raises InvalidAnswerError, as `check_rows` does."""
    if len(found) != (0 if asked is None else len(asked.periods)):
        raise InvalidAnswerError("not the cohorts that were asked for")
    for place, row in enumerate(found):
        if asked is not None and len(row.ages) != min(asked.max_age, len(found) - 1 - place):
            raise InvalidAnswerError("not the ages that were asked for")
        for cohort in (row.users, *row.ages):
            _check_nested(
                [
                    (cohort.base, cohort.first),
                    (cohort.base, cohort.later),
                    (cohort.first, cohort.together),
                    (cohort.later, cohort.together),
                ]
            )
            _check_parts([cohort.parts])
            if not cohort.parts and cohort.together > cohort.first + cohort.later - cohort.base:
                raise InvalidAnswerError("more users of two periods than of each")


def _pair(found: PairExport) -> Pair:
    return Pair(found.parts, found.previous, found.current, found.together)


def _cohort(found: CohortExport) -> Cohort:
    return Cohort(found.parts, found.base, found.first, found.later, found.together, found.nobody_later)


def _check_nested(sizes: Iterable[tuple[int, int]]) -> None:
    if any(part > whole for part, whole in sizes):
        raise InvalidAnswerError("a union with fewer users than a part of it")


def _check_parts(found: Iterable[int]) -> None:
    if not {*found} <= {0, accuracy.K_OTHERS, accuracy.K_MONTHS}:
        raise InvalidAnswerError("a number of sketches that no union has")
