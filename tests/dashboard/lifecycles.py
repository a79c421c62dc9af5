"""New, returning, reactivated and lapsed users of the sample, and its retention, counted with plain sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from functools import cache
from typing import Final, NamedTuple

from schemas.ledger.periods import Month, Span, Week
from tests.dashboard.sample import TODAY, events

FIRST_COUNTED: Final = date(2025, 10, 15)


class Kinds(NamedTuple):
    """Numbers of users; None where no user before the period is known."""

    active: int
    new: int | None
    returning: int | None
    reactivated: int | None
    lapsed: int | None


@cache
def activity() -> tuple[tuple[date, str, str, str], ...]:
    """Day, user, realm and client of each event that makes a user active."""
    found = []
    for event in events():
        active = event["type"] == "login" and event.get("success", True)
        refreshed = event["type"] == "token" and event["grant_type"] == "refresh_token"
        if (active or refreshed) and "user_id" in event:
            day = datetime.fromisoformat(event["time"]).date()
            found.append((day, event["user_id"], event["realm"], event["client_id"]))
    return tuple(found)


def users(span: Span, filters: Mapping[str, str]) -> set[str]:
    realm, client = filters.get("realm"), filters.get("client_id")
    return {
        user
        for day, user, of_realm, of_client in activity()
        if span.first <= day <= span.last and realm in (None, of_realm) and client in (None, of_client)
    }


def periods(first: date, last: date, by: str) -> dict[str, Span]:
    """Whole periods that these days touch."""
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    if by == "week":
        return {week.text: week.span for week in dict.fromkeys(map(Week.of, days))}
    return {f"{month.span.first:%Y-%m}": month.span for month in dict.fromkeys(map(Month.of, days))}


def before(span: Span, by: str) -> Span:
    day = span.first - timedelta(days=1)
    return Week.of(day).span if by == "week" else Month.of(day).span


def earlier(span: Span, filters: Mapping[str, str]) -> set[str]:
    return users(Span(FIRST_COUNTED, span.first - timedelta(days=1)), filters)


def kinds(span: Span, by: str, filters: Mapping[str, str]) -> Kinds:
    active = users(span, filters)
    if span.first <= FIRST_COUNTED:
        return Kinds(len(active), None, None, None, None)
    ever, last = earlier(span, filters), users(before(span, by), filters)
    return Kinds(len(active), len(active - ever), len(active & last), len((active & ever) - last), len(last - active))


def shares(
    spans: Iterable[Span], filters: Mapping[str, str], *, new: bool = False
) -> list[tuple[int, list[float | None]]]:
    """Per cohort the number of its users, and their share in each later period that has begun; None without users."""
    found = []
    ordered = [span for span in spans if span.first <= TODAY]
    for number, span in enumerate(ordered):
        cohort = users(span, filters) - (earlier(span, filters) if new else set())
        later = [users(each, filters) for each in ordered[number + 1 :]]
        found.append((len(cohort), [len(cohort & each) / len(cohort) if cohort else None for each in later]))
    return found
