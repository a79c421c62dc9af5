"""Answers as JSON and CSV (RFC 4180), errors as problem documents (RFC 9457), and the members all answers share."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, time
from itertools import chain
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct

from api.cache.cache import ResponseBody
from api.dialects.own.answers import AsOf, Figure
from api.dialects.own.filters import Filters
from api.dialects.own.window import Window
from api.http.errors import ApiError, ErrorBody
from api.http.problem import render_problem
from api.ledger.distinct_query import ActiveUsers
from api.ledger.imported import Imported
from api.ledger.status import PipelineStatus, shown
from api.turns import pause
from schemas.events import BOM

JSON: Final = "application/json"
CSV: Final = "text/csv; charset=utf-8"
CSV_WITH_BOM: Final = "csv with bom"
"""The format `csv` with `bom=1`: spreadsheets read a file as UTF-8 only if it begins with the mark."""

PIECE_ROWS: Final = 256
"""Rows packed or rendered at once: less than a millisecond."""

_PACKER: Final = msgspec.msgpack.Encoder()
_UNPACKER: Final = msgspec.msgpack.Decoder()

Document = TypeVar("Document", bound=Struct)


@runtime_checkable
class HasRows(Protocol):
    """A document whose items are no flat rows."""

    def csv_rows(self) -> list[dict[str, Any]]: ...


class Answer(NamedTuple, Generic[Document]):
    """The figures of a question. Its CSV table has the items of `document`, if there are any, then `more_rows`.

    A `partial` answer lacks a period that was asked for, or is incomplete.
    """

    document: Document
    more_rows: Sequence[Mapping[str, Any]] = ()
    columns: Sequence[str] = ()
    """Columns whose order among each other the caller chose."""
    partial: bool = False
    pieces: Sequence[bytes] = ()
    """The items of `document`, packed in lists of PIECE_ROWS, if it has more of them."""


async def in_pieces(answer: Answer[Any]) -> Answer[Any]:
    """The same answer; many items are packed in pieces, because 50,000 take tens of milliseconds at once."""
    items = getattr(answer.document, "items", ())
    if isinstance(answer.document, HasRows) or len(items) <= PIECE_ROWS:
        return answer
    pieces = []
    for first in range(0, len(items), PIECE_ROWS):
        pieces.append(_PACKER.encode(items[first : first + PIECE_ROWS]))
        await pause()
    return answer._replace(document=msgspec.structs.replace(answer.document, items=[]), pieces=pieces)


def render(answer: Answer[Any], format_: str) -> ResponseBody:
    pieces: Iterator[bytes]
    if format_ in ("csv", CSV_WITH_BOM):
        mark = BOM if format_ == CSV_WITH_BOM else b""
        pieces, content_type = chain((mark,), _table(answer)), CSV
    else:
        pieces, content_type = _document(answer), JSON
    return ResponseBody(pieces if answer.pieces else b"".join(pieces), content_type)


def _document(answer: Answer[Any]) -> Iterator[bytes]:
    document = msgspec.json.encode(answer.document)
    if not answer.pieces:
        yield document
        return
    # Quotes in strings are escaped, so this is the member.
    before, _, after = document.partition(b'"items":[]')
    before += b'"items":['
    for piece in answer.pieces:
        yield before + msgspec.json.encode(_UNPACKER.decode(piece))[1:-1]
        before = b","
    yield b"]" + after


def _table(answer: Answer[Any]) -> Iterator[bytes]:
    """A header line, then the rows; a missing column is blank."""
    chosen = iter(answer.columns)
    found: dict[str, None] = {}
    for rows in _rows(answer):
        for row in rows:
            found.update(dict.fromkeys(row))
        yield b""
    columns = [next(chosen) if name in answer.columns else name for name in found]
    text = io.StringIO()
    writer = csv.writer(text)
    if columns:
        writer.writerow(columns)
    for rows in _rows(answer):
        writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)
        # `encode` cannot fail: labels were decoded from UTF-8, so they contain no lone surrogates.
        yield text.getvalue().encode()
        text.seek(0)
        text.truncate()


def _rows(answer: Answer[Any]) -> Iterator[Sequence[Mapping[str, Any]]]:
    for piece in answer.pieces:
        yield _UNPACKER.decode(piece)
    document = answer.document
    items = document.csv_rows() if isinstance(document, HasRows) else getattr(document, "items", ())
    yield [*msgspec.to_builtins(items), *answer.more_rows]


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


def imported_count(month: Imported) -> dict[str, Any]:
    """The members of a Figure for the active users of an imported month; their error is unknown."""
    return {"value": month.active, "exact": False, "standard_error": None}


def as_of(status: PipelineStatus) -> AsOf:
    """The moment of an answer: the newest counted event, and the number of records not yet counted; null if unknown."""
    return AsOf(newest_event=shown(status.newest_event_ms), lag=status.lag)


def counted_from(status: PipelineStatus, zone: ZoneInfo) -> date | None:
    at_ms = status.first_event_ms
    return None if at_ms is None else datetime.fromtimestamp(at_ms / 1000, zone).date()


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
        "counted_from": counted_from(status, zone),
        "complete": complete,
        "since": status.since(changing, start),
    }
