"""`authtally report year`: twelve months with their average, maximum and peak day, in total and per realm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from msgspec import Struct

from api.dialects.own.parameters import EARLIEST, LATEST
from deploy.cli.json_output import print_json
from deploy.cli.operations import show_table
from deploy.cli.report import Api, WrongQuestionError, ask
from deploy.cli.report.tables import cell, error_of, head, number, remark
from deploy.cli.report.year_page import page
from deploy.cli.terminal import echo
from schemas.ledger.periods import Month

MONTHS: Final = 12
REALMS: Final = 20
"""Realms that one page has room for."""
MOST_REALMS: Final = 1_000
"""Each realm is a question of its own about the days."""
FILTERS: Final = ("realm", "client_id", "node", "region")
MEASURES: Final = ("logins", "failed_logins", "signups", "tokens")

Answer = Mapping[str, Any]


class Users(Struct, frozen=True):
    """Distinct users of a month or day; all null if there is no figure."""

    period: str
    value: int | None
    exact: bool
    standard_error: float | None

    @classmethod
    def of(cls, row: Answer) -> Users:
        return cls(row.get("month") or row["period"], row["value"], row["exact"], row["standard_error"])


class Summary(Struct, frozen=True):
    """The average of the months that are over, the largest month, the day with most users."""

    average: float | None
    months_averaged: int
    maximum: Users | None
    peak_day: Users | None


class Realm(Struct, frozen=True):
    realm: str
    summary: Summary
    months: list[Users]


class Year(Struct, frozen=True, kw_only=True):
    """Twelve months. `notes` says which parts the api cannot answer, and why."""

    first: date = msgspec.field(name="from")
    last: date = msgspec.field(name="to")
    made: datetime
    api: str
    timezone: str
    filters: dict[str, str]
    as_of: dict[str, Any]
    complete: bool
    definition: dict[str, Any]
    regions: list[dict[str, Any]] | None
    summary: Summary
    months: list[dict[str, Any]]
    realms: list[Realm]
    realms_left_out: int
    notes: list[str]


def year(api: Api, parameters: Mapping[str, str], html: Path | None, *, as_json: bool) -> None:
    """Print the view of twelve months, and write it as a page. Raises click.ClickException."""
    found = _asked(api, parameters)
    if html is not None:
        try:
            html.write_text(page(msgspec.to_builtins(found)), encoding="utf-8")
        except OSError as error:
            raise click.ClickException(f"{html}: {error.strerror}") from error
    if as_json:
        print_json(msgspec.to_builtins(found))
        return
    _show(found)
    if html is not None:
        echo(f"Wrote the page: {html}")


def _asked(api: Api, parameters: Mapping[str, str]) -> Year:
    for name in parameters:
        if name not in (*FILTERS, "month", "limit"):
            raise click.UsageError(
                f"year takes no --{name.replace('_', '-')}; it takes --month, --limit, "
                + ", ".join("--" + each.replace("_", "-") for each in FILTERS)
            )
    filters = {name: value for name, value in parameters.items() if name in FILTERS}
    limit = parameters.get("limit", str(REALMS))
    if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit) <= MOST_REALMS:
        raise click.BadParameter(f"{limit!r} is not a number from 1 to {MOST_REALMS}", param_hint="--limit")
    try:
        last = Month.of_key(parameters["month"]) if "month" in parameters else None
        if last is not None and not EARLIEST <= last.plus(1 - MONTHS).span.first <= last.span.last <= LATEST:
            raise ValueError(f"twelve months up to {last.key} are not between {EARLIEST} and {LATEST}")
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--month") from error
    try:
        if last is None:
            # The api knows the time zone in which today is.
            today = date.fromisoformat(ask(api, "/v1/overview", filters)["date"])
            last = Month.of(today).plus(-1)
        overview = ask(api, "/v1/overview", {"date": f"{last.span.last}", **filters})
        return _assembled(api, overview, last, filters, int(limit))
    except (KeyError, TypeError, ValueError) as error:
        raise click.ClickException(
            f"{api.shown} returned an answer that this version cannot read ({type(error).__name__}: {error})"
        ) from error


def _assembled(api: Api, overview: Answer, last: Month, filters: Mapping[str, str], limit: int) -> Year:
    first = last.plus(1 - MONTHS)
    window = {"from": f"{first.span.first}", "to": f"{last.span.last}"}
    notes: list[str] = []
    peak_day = _peak_day(api, {**window, **filters}, notes)
    realms, left_out = _realms(api, window, filters, overview["months"], limit, notes)
    months = [dict(row) for row in overview["months"]]
    return Year(
        first=first.span.first,
        last=last.span.last,
        made=datetime.now(UTC).replace(microsecond=0),
        api=api.shown,
        timezone=overview["timezone"],
        filters=overview["filters"],
        as_of=overview["as_of"],
        complete=overview["complete"],
        definition=overview["definition"],
        regions=overview.get("regions"),
        summary=summary([Users.of(row) for row in months], _over(months), peak_day),
        months=months,
        realms=realms,
        realms_left_out=left_out,
        notes=notes,
    )


def summary(months: Sequence[Users], over: Iterable[str], peak_day: Users | None) -> Summary:
    """`over` are the months that the average covers."""
    figures = [row for row in months if row.value is not None]
    averaged = set(over)
    values = [row.value or 0 for row in figures if row.period in averaged]
    return Summary(
        average=round(sum(values) / len(values), 1) if values else None,
        months_averaged=len(values),
        maximum=max(figures, key=lambda row: (row.value or 0, row.period), default=None),
        peak_day=peak_day,
    )


def _over(months: Sequence[Answer]) -> list[str]:
    return [row["month"] for row in months if row["value"] is not None and not row["to_date"]]


def _peak_day(api: Api, query: Mapping[str, str], notes: list[str] | None = None) -> Users | None:
    """The first of the days with most users; None, and a note, if the api no longer keeps the days."""
    try:
        days = ask(api, "/v1/active-users", {"granularity": "day", **query})["items"]
    except WrongQuestionError as error:
        if notes is not None:
            notes.append(f"Peak day: {error.message}")
        return None
    largest = max(days, key=lambda row: row["value"] or 0, default=None)
    return Users.of(largest) if largest is not None and largest["value"] else None


def _realms(
    api: Api,
    window: Mapping[str, str],
    filters: Mapping[str, str],
    months: Sequence[Answer],
    limit: int,
    notes: list[str],
) -> tuple[list[Realm], int]:
    """The realms with most users, and the number of the others; none under a filter that excludes grouping."""
    if filters.keys() - {"region"}:
        return [], 0
    query = {"granularity": "month", "group_by": "realm", "limit": f"{limit}", **window, **filters}
    try:
        answer = ask(api, "/v1/active-users", query)
    except WrongQuestionError as error:
        notes.append(f"Realms: {error.message}")
        return [], 0
    rows: dict[str, dict[str, Answer]] = {}
    for row in answer["items"]:
        rows.setdefault(row["realm"], {})[row["period"]] = row
    # An imported month has no figures of realms. In other months no row means no user.
    counted = [row["month"] for row in months if row["value"] is not None and row["imported"] is None]
    over = set(_over(months))
    found = []
    for realm, by_key in rows.items():
        users = [
            Users.of(by_key[key]) if key in by_key else Users(key, 0, exact=True, standard_error=0.0) for key in counted
        ]
        day = _peak_day(api, {**window, **filters, "realm": realm})
        found.append(Realm(realm, summary(users, over, day), users))
    return found, answer["left_out"]["groups"]


def _show(found: Year) -> None:
    document = msgspec.to_builtins(found)
    head(f"{found.first:%Y-%m} to {found.last:%Y-%m} ({found.timezone})", document)
    show_table(
        ("month", "users", "error", *(name.replace("_", " ") for name in MEASURES), ""),
        (
            (
                row["month"],
                number(row["value"]),
                error_of(row),
                *(number(row[name]) for name in MEASURES),
                remark(row),
            )
            for row in found.months
        ),
    )
    echo()
    rows = [("everything", found.summary), *((each.realm, each.summary) for each in found.realms)]
    show_table(
        ("", "average", "months", "maximum", "error", "in", "peak day", "error", "on"),
        (
            (
                name,
                cell(summary.average),
                summary.months_averaged,
                *_shown(summary.maximum),
                *_shown(summary.peak_day),
            )
            for name, summary in rows
        ),
    )
    if found.realms_left_out:
        echo(f"{number(found.realms_left_out)} smaller realms are left out (--limit).")
    for note in found.notes:
        echo(note)


def _shown(users: Users | None) -> tuple[str, str, str]:
    if users is None:
        return "-", "-", "-"
    return number(users.value), error_of(msgspec.to_builtins(users)), users.period
