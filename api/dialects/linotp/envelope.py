"""The envelope of every LinOTP answer, and the text of reporting rows."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import orjson

from api.inventory.rows import TableLine
from api.settings.checks import Shape
from schemas.ledger.inventory import from_micros

JSON: Final = "application/json"
CSV: Final = "text/csv; charset=utf-8"
CSV_NAME: Final = "linotp-reports.csv"

VERSION: Final = "LinOTP 2.12.5"
"""The newest version in the documentation; clients check that it is LinOTP."""
SOURCE_VERSION: Final = "4.0.0.dev0"
SOURCE_NAME: Final = f"LinOTP {SOURCE_VERSION}"

COLUMNS: Final = ("timestamp", "event", "realm", "parameter", "value", "count", "detail", "session", "description")


class Pages(NamedTuple):
    """The paging of rows: page number, number of pages, rows per page, rows in all."""

    page: int
    pages: int
    pagesize: int
    report_rows: int


def success(value: object, shape: Shape) -> bytes:
    return _wrapped({"status": True, "value": value}, shape)


def failure(code: int, message: str, shape: Shape) -> bytes:
    return _wrapped({"status": False, "error": {"code": code, "message": message}}, shape)


def _wrapped(result: dict[str, Any], shape: Shape) -> bytes:
    if shape == "documented":
        document = {"version": VERSION, "jsonrpc": "2.0802", "result": result, "id": 1}
    else:
        document = {
            "jsonrpc": "2.0802",
            "result": result,
            "version": SOURCE_NAME,
            "versionNumber": SOURCE_VERSION,
            "id": 1,
        }
    return json.dumps(document, indent=3).encode()


def frame_rows(pages: Pages, lines: int, shape: Shape) -> tuple[bytes, bytes]:
    """The text before and after the rows; `lines` is the number of rows on this page."""
    if shape == "documented":
        head = {"version": VERSION, "jsonrpc": "2.0802"}
        result = b'{"status": true, "value": {"resultset": ' + _dumped(pages._asdict()) + b', "data": [\n'
        return _dumped(head)[:-1] + b', "result": ' + result, b'\n]}}, "id": 1}'
    # Spaces and line breaks are the product's too: some scripts read this answer line by line.
    before = b'{"jsonrpc": "2.0802", "result": {"status": true, "value":  ['
    version = json.dumps(SOURCE_NAME).encode()
    detail = {name: getattr(pages, name) for name in ("pages", "pagesize", "report_rows", "page")}
    after = b'] , "queried" : %d }, "version": %s, "id": 1, "detail": %s}' % (lines, version, _dumped(detail))
    return before, after


def _dumped(document: object) -> bytes:
    return json.dumps(document).encode()


def columns(line: TableLine, event: str, zone: ZoneInfo) -> tuple[str, str, str, str, str, int, str, str, str]:
    """A row in the order of COLUMNS. `detail` is the event's own time if it was counted late, else the row's own."""
    texts = line.texts
    detail = texts.detail if line.time_us == line.at_us else timestamp(line.time_us, zone)
    stamp = timestamp(line.at_us, zone)
    return (
        *(stamp, event, line.realm, line.parameter, texts.value),
        *(line.tokens, detail, texts.session, texts.description),
    )


def timestamp(at_us: int, zone: ZoneInfo) -> str:
    """`2026-11-20 12:00:00` in `zone`, with a fraction if it is not zero."""
    return str(datetime.replace(from_micros(at_us).astimezone(zone), tzinfo=None))


def json_row(row: tuple[str | int, ...]) -> bytes:
    return orjson.dumps(dict(zip(COLUMNS, row, strict=True)))


def source_row(row: tuple[str | int, ...]) -> bytes:
    return json.dumps(dict(zip(COLUMNS, row, strict=True))).encode() + b"\n"


CSV_HEAD: Final = "".join(f'"{name}",' for name in COLUMNS).encode() + b"\n"
"""Without the spaces of the rows, as LinOTP writes it."""


def csv_row(row: tuple[str | int, ...]) -> bytes:
    """Texts are quoted, numbers are not, and the last cell has a comma too, as LinOTP writes it.

    A line break becomes a space, and quotes are not doubled, so a text with `", "` cannot be read back.
    """
    return "".join([f"{cell}, " if isinstance(cell, int) else _quoted(cell) for cell in row]).encode() + b"\n"


def _quoted(cell: str) -> str:
    line = cell.replace("\n", " ")
    return f'"{line}", '
