"""How answers and refusals look: JSON, CSV (RFC 4180), problem documents (RFC 9457), and what every answer says."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, time
from http import HTTPStatus
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import orjson

from api.cache.cache import Body
from api.dialects.own.filters import Subject
from api.dialects.own.parameters import BadParameter
from api.dialects.own.window import Window
from api.http.errors import PROBLEM, Fault, NoScope
from api.ledger.status import Standing, shown
from api.ledger.users import ActiveUsers

JSON: Final = "application/json"
CSV: Final = "text/csv; charset=utf-8"


class Told(NamedTuple):
    """An answer, and the rows of it that make a table."""

    answer: dict[str, Any]
    rows: Sequence[Mapping[str, Any]]


def told(told: Told, form: str) -> Body:
    if form == "csv":
        return Body(_table(told.rows), CSV)
    return Body(orjson.dumps(told.answer), JSON)


def _table(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """A header line, then the rows; a column that a row has not is blank in it."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.writer(text)
    if columns:
        writer.writerow(columns)
    writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)
    # A lone surrogate cannot come from UTF-8, and a label is nothing else.
    return text.getvalue().encode()


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    return orjson.dumps(value).decode() if isinstance(value, dict | list) else value


def problem(fault: Fault) -> Body:
    status = HTTPStatus(403 if isinstance(fault, NoScope) else fault.status)
    sentence = "The token does not carry the required scope." if isinstance(fault, NoScope) else fault.sentence
    document: dict[str, object] = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "detail": sentence,
    }
    if isinstance(fault, BadParameter):
        document["parameter"] = fault.parameter
    return Body(orjson.dumps(document), PROBLEM, status=status.value)


def figure(users: ActiveUsers) -> dict[str, Any]:
    return {"value": users.count, "exact": users.exact, "standard_error": round(users.standard_error, 6)}


def as_of(standing: Standing) -> dict[str, Any]:
    """Of which moment an answer is: the newest event counted, and how many records wait; null where nobody knows."""
    newest = standing.newest_event_ms
    return {"newest_event": shown(newest), "lag": standing.lag}


def head(
    standing: Standing, window: Window, subject: Subject, zone: ZoneInfo, changing: Iterable[str], *, complete: bool
) -> dict[str, Any]:
    """What every series says of itself. `changing` are the settings whose change would show in it."""
    start = datetime.combine(window.span.first, time(), zone)
    return {
        "from": window.span.first.isoformat(),
        "to": window.span.last.isoformat(),
        "granularity": window.granularity,
        "timezone": zone.key,
        "filters": subject.filters,
        "as_of": as_of(standing),
        "complete": complete,
        "since": standing.since(changing, start),
    }
