"""Answers as JSON and CSV (RFC 4180), errors as problem documents (RFC 9457), and the members all answers share."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, time
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct

from api.cache.cache import ResponseBody
from api.dialects.own.answers import AsOf, Figure
from api.dialects.own.filters import Filters
from api.dialects.own.window import Window
from api.http.errors import ApiError, ErrorBody
from api.http.problem import render_problem
from api.ledger.status import PipelineStatus, shown
from api.ledger.users import ActiveUsers

JSON: Final = "application/json"
CSV: Final = "text/csv; charset=utf-8"


class Answer(NamedTuple):
    """An answer, and the rows of its CSV table."""

    document: Struct
    rows: Sequence[Struct | Mapping[str, Any]]
    columns: Sequence[str] = ()
    """Columns whose order among each other the caller chose."""


def render(answer: Answer, format_: str) -> ResponseBody:
    if format_ == "csv":
        return ResponseBody(_table(answer), CSV)
    return ResponseBody(msgspec.json.encode(answer.document), JSON)


def _table(answer: Answer) -> bytes:
    """A header line, then the rows; a missing column is blank."""
    rows = [msgspec.to_builtins(row) for row in answer.rows]
    chosen = iter(answer.columns)
    found = dict.fromkeys(name for row in rows for name in row)
    columns = [next(chosen) if name in answer.columns else name for name in found]
    text = io.StringIO()
    writer = csv.writer(text)
    if columns:
        writer.writerow(columns)
    writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)
    # `encode` cannot fail: labels were decoded from UTF-8, so they contain no lone surrogates.
    return text.getvalue().encode()


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    return msgspec.json.encode(value).decode() if isinstance(value, dict | list) else value


def render_error(error: ApiError) -> ErrorBody:
    return render_problem(error, {"type": "about:blank"})


def figure(users: ActiveUsers) -> Figure:
    return Figure(**user_count(users))


def user_count(users: ActiveUsers) -> dict[str, Any]:
    """The members of a Figure, for structs that have more."""
    return {"value": users.count, "exact": users.exact, "standard_error": round(users.standard_error, 6)}


def as_of(status: PipelineStatus) -> AsOf:
    """The moment of an answer: the newest counted event, and the number of records not yet counted; null if unknown."""
    return AsOf(newest_event=shown(status.newest_event_ms), lag=status.lag)


def series_head(
    status: PipelineStatus, window: Window, subject: Filters, zone: ZoneInfo, changing: Iterable[str], *, complete: bool
) -> dict[str, Any]:
    """The members of a SeriesHead. `changing` names the settings whose change affects the figures."""
    start = datetime.combine(window.span.first, time(), zone)
    return {
        "first": window.span.first,
        "last": window.span.last,
        "granularity": window.granularity,
        "timezone": zone.key,
        "filters": subject.as_document,
        "as_of": as_of(status),
        "complete": complete,
        "since": status.since(changing, start),
    }
