"""What every message between the apis of two regions is made of: keys of periods, scopes and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

from msgspec import Meta, Struct

from api.ledger.status import MAX_COUNT
from schemas.events import MAX_LABEL_BYTES
from schemas.ledger import accuracy
from schemas.ledger.periods import Month
from schemas.ledger.scopes import Scope

MAX_PERIODS: Final = 500
MAX_SCOPES: Final = 10_000

Number = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
Text = Annotated[str, Meta(max_length=1_024)]
PeriodKey = Annotated[str, Meta(pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])(-(0[1-9]|[12][0-9]|3[01]))?$")]
DayKey = Annotated[str, Meta(pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$")]
Periods = Annotated[list[PeriodKey], Meta(min_length=1, max_length=MAX_PERIODS)]
Days = Annotated[list[DayKey], Meta(max_length=MAX_PERIODS)]
ScopeText = Annotated[str, Meta(min_length=1, max_length=8 * MAX_LABEL_BYTES)]
Scopes = Annotated[list[ScopeText], Meta(max_length=MAX_SCOPES)]


class InvalidAnswerError(ValueError):
    """A peer's answer is not what a region answers. The text has no figure and no name of it."""


class Wire(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another layout has another LAYOUT, so unknown members are errors."""


def read_scope(text: str) -> Scope:
    """Raises InvalidAnswerError for a text that no scope has."""
    parts = {"all": 0, "realm": 1, "client": 2, "node": 1}
    scope = Scope.parse(text)
    if len(scope.names) != parts.get(scope.dimension, -1) or scope.text != text:
        raise InvalidAnswerError("not a scope")
    if any(len(name.encode(errors="surrogatepass")) > MAX_LABEL_BYTES for name in scope.names):
        raise InvalidAnswerError("a label is too long")
    return scope


def parts_of(periods: Sequence[str], scopes: Sequence[Scope]) -> int:
    """The number of sketches of a union: as many as the coarsest of its periods and scopes has."""
    return min((accuracy.sketches(period, scope) for period in periods for scope in scopes), default=accuracy.K_OTHERS)


def check_period(key: str) -> None:
    # Python's `$` also matches before a final line break, and `\Z` is unknown to readers of the OpenAPI document.
    if key.endswith("\n"):
        raise InvalidAnswerError("not a period")
    try:
        month = Month.of_key(key[:7])
        days = month.span.last.day
    except ValueError as error:
        raise InvalidAnswerError("not a period") from error
    if len(key) == 10 and int(key[8:]) > days:
        raise InvalidAnswerError("not a day of the calendar")
