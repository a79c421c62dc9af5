"""`/reporting/show`: the rows, as a page or as a stream, in bounded memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime, time
from operator import itemgetter
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import structlog
from aiohttp import hdrs, web

from api.dialects.linotp import envelope, parameters
from api.dialects.linotp.envelope import COLUMNS, Pages
from api.dialects.linotp.parameters import Order, Page
from api.http.errors import BadRequestError
from api.inventory.inventory import Inventory, RowsDeletedError, Stream
from api.inventory.policy_history import RecordingHistory
from api.inventory.rows import lines
from api.inventory.table import Table, table
from api.ledger.client import UNREACHABLE
from api.settings.settings import Shape
from schemas.ledger.inventory import micros

log = structlog.get_logger(__name__)

MAX_SORTED: Final = 100_000
"""Rows that may be sorted by a column other than time; sorting keeps them in memory."""
PART_BYTES: Final = 65_536

Row = tuple[str, str, str, str, str, int, str, str, str]


class ShowQuestion(NamedTuple):
    """`since_us` None is all time, in microseconds since 1970; `statuses` are indexes of WRITTEN_STATUSES.

    `spelled` are the statuses as the caller writes them.
    """

    since_us: int | None
    statuses: frozenset[int]
    spelled: frozenset[str]
    page: Page
    order: Order
    form: str


class RowsPage(NamedTuple):
    """A page of rows, and its format."""

    table: Table
    names: Mapping[str, Mapping[int, str]]
    page: Page
    order: Order
    form: str
    shape: Shape
    zone: ZoneInfo

    @property
    def pages(self) -> Pages:
        total = self.table.lines
        if self.page.size is None:
            return Pages(1, 1, total, total)
        return Pages(self.page.number, -(-total // self.page.size), self.page.size, total)

    @property
    def _first(self) -> int:
        return 0 if self.page.size is None else (self.page.number - 1) * self.page.size

    @property
    def _lines(self) -> int:
        """The number of rows on this page."""
        left = max(0, self.table.lines - self._first)
        return left if self.page.size is None else min(left, self.page.size)

    async def parts(self, inventory: Inventory) -> AsyncIterator[bytes]:
        """The body in parts of about PART_BYTES. Raises RowsDeletedError if rows were deleted meanwhile."""
        before, after = envelope.frame_rows(self.pages, self._lines, self.shape)
        between, written = b",\n", envelope.json_row
        if self.form == "csv":
            # LinOTP takes the head from the first row: without rows there is none.
            before, after = envelope.CSV_HEAD if self._lines else b"", b""
            between, written = b"", envelope.csv_row
        elif self.shape == "source":
            between, written = b",", envelope.source_row
        part = bytearray(before)
        separator = b""
        async for row in self._rows(inventory):
            part += separator
            part += written(row)
            separator = between
            if len(part) >= PART_BYTES:
                yield bytes(part)
                part.clear()
        yield bytes(part + after)

    async def _rows(self, inventory: Inventory) -> AsyncGenerator[Row]:
        left = self._lines
        if not left:
            return
        if self.order.column is None:
            descending = self.order.descending
            async with aclosing(lines(inventory, self.table, self._first, descending=descending)) as found:
                async for line in found:
                    yield self._columns(line)
                    left -= 1
                    if not left:
                        return
        else:
            rows = [self._columns(line) async for line in lines(inventory, self.table, 0, descending=False)]
            rows.sort(key=itemgetter(COLUMNS.index(self.order.column)), reverse=self.order.descending)
            for row in rows[self._first : self._first + left]:
                yield row

    def _columns(self, line: Any) -> Row:
        return envelope.columns(line, self.names[line.shard].get(line.event, ""), self.zone)


def parse(arguments: Mapping[str, str], shape: Shape, zone: ZoneInfo) -> ShowQuestion:
    """Raises BadRequestError."""
    since = parameters.day(arguments, "date")
    return ShowQuestion(
        None if since is None else micros(datetime.combine(since, time(), zone)),
        parameters.shown_statuses(arguments, shape),
        parameters.spelled_statuses(arguments, shape),
        parameters.page(arguments, shape),
        parameters.order(arguments),
        "csv" if arguments.get("outform") == "csv" else "json",
    )


async def read(
    question: ShowQuestion,
    inventory: Inventory,
    streams: Sequence[Stream],
    history: RecordingHistory,
    shape: Shape,
    zone: ZoneInfo,
) -> RowsPage:
    """The page; its rows are read by `parts`. Raises BadRequestError for too many rows to sort, RowsDeletedError."""
    visible_table = await table(inventory, streams, history, question.statuses, question.since_us)
    if question.order.column is not None and visible_table.lines > MAX_SORTED:
        raise BadRequestError(
            f"`sortby={question.order.column}` sorts at most {MAX_SORTED} rows, and the result has "
            f"{visible_table.lines}: name realms, status or date, or sort by timestamp."
        )
    names = await inventory.event_names(streams)
    return RowsPage(visible_table, names, question.page, question.order, question.form, shape, zone)


async def send(
    request: web.Request, parts: AsyncIterator[bytes], first: bytes, form: str, headers: Mapping[str, str]
) -> web.StreamResponse:
    """Sends one part as a plain response, more as a stream. A stream that fails is aborted."""
    headers = {**headers, hdrs.CACHE_CONTROL: "no-store", hdrs.CONTENT_TYPE: envelope.JSON}
    if form == "csv":
        headers[hdrs.CONTENT_TYPE] = envelope.CSV
        headers[hdrs.CONTENT_DISPOSITION] = f"attachment; filename={envelope.CSV_NAME}"
    second = await anext(parts, None)
    if second is None:
        return web.Response(body=first, headers=headers)
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    if request.method == hdrs.METH_HEAD:
        return response
    try:
        await response.write(first)
        await response.write(second)
        async for part in parts:
            await response.write(part)
        await response.write_eof()
    except (RowsDeletedError, *UNREACHABLE) as error:
        # Status 200 has been sent: only a truncated response can show the failure.
        log.warning("reporting rows cut off", error=type(error).__name__)
        if request.transport is not None:
            request.transport.abort()
    return response
