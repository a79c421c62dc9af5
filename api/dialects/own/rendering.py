"""Answers as JSON and CSV (RFC 4180), errors as problem documents (RFC 9457), and the members all answers share."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, time
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import orjson

from api.cache.cache import ResponseBody
from api.dialects.own.filters import Filters
from api.dialects.own.window import Window
from api.http.errors import ApiError, ErrorBody
from api.http.problem import render_problem
from api.ledger.imported import Imported
from api.ledger.status import PipelineStatus, shown
from api.ledger.users import ActiveUsers
from schemas.events import BOM

JSON: Final = "application/json"
CSV: Final = "text/csv; charset=utf-8"
CSV_WITH_BOM: Final = "csv with bom"
"""The format `csv` with `bom=1`: spreadsheets read a file as UTF-8 only if it begins with the mark."""


class Answer(NamedTuple):
    """The figures of a question: the JSON `document`, and the `rows` of its CSV table, empty if they are its items.

    A `partial` answer lacks a period that was asked for, or is incomplete. An answer from the cache has dictionaries
    and lists only, so `render` must not depend on other types.
    """

    document: dict[str, Any]
    rows: Sequence[Mapping[str, Any]]
    partial: bool = False

    @property
    def without_copies(self) -> Answer:
        """The same answer with each row once: a cache entry of 50,000 rows takes half the memory and time."""
        return self._replace(rows=()) if self.rows is self.document.get("items") else self


def render(answer: Answer, format_: str) -> ResponseBody:
    if format_ in ("csv", CSV_WITH_BOM):
        mark = BOM if format_ == CSV_WITH_BOM else b""
        return ResponseBody(mark + _table(answer.rows or answer.document.get("items", ())), CSV)
    return ResponseBody(orjson.dumps(answer.document), JSON)


def _table(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """A header line, then the rows; a missing column is blank."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
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
    return orjson.dumps(value).decode() if isinstance(value, dict | list) else value


def render_error(error: ApiError) -> ErrorBody:
    return render_problem(error, {"type": "about:blank"})


def user_count(users: ActiveUsers) -> dict[str, Any]:
    return {"value": users.count, "exact": users.exact, "standard_error": round(users.standard_error, 6)}


def imported_count(month: Imported) -> dict[str, Any]:
    """The active users of an imported month; their error is unknown."""
    return {"value": month.active, "exact": False, "standard_error": None}


def as_of(status: PipelineStatus) -> dict[str, Any]:
    """The moment of an answer: the newest counted event, and the number of records not yet counted; null if unknown."""
    newest = status.newest_event_ms
    return {"newest_event": shown(newest), "lag": status.lag}


def series_head(
    status: PipelineStatus, window: Window, subject: Filters, zone: ZoneInfo, changing: Iterable[str], *, complete: bool
) -> dict[str, Any]:
    """The members of every series. `changing` names the settings whose change affects the figures."""
    start = datetime.combine(window.span.first, time(), zone)
    return {
        "from": window.span.first.isoformat(),
        "to": window.span.last.isoformat(),
        "granularity": window.granularity,
        "timezone": zone.key,
        "filters": subject.as_document,
        "as_of": as_of(status),
        "complete": complete,
        "since": status.since(changing, start),
    }
