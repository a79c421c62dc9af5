"""`/reporting/show`: the rows, as a page or as a stream, in bounded memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime, time
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import structlog
from aiohttp import hdrs, web

from api.dialects.linotp import envelope, parameters
from api.dialects.linotp.envelope import COLUMNS, Pages
from api.dialects.linotp.parameters import Order, Page
from api.http.errors import BadRequestError
from api.http.places import CallerGoneError
from api.inventory.inventory import Inventory, RowsDeletedError, Stream
from api.inventory.policy_history import RecordingHistory
from api.inventory.rows import TableLine, lines
from api.inventory.selection import Selection
from api.inventory.table import Table, table
from api.ledger.client import UNREACHABLE
from api.settings.checks import Shape
from api.turns import pause
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

    async def parts(self, inventory: Inventory, gone: Callable[[], bool]) -> AsyncIterator[bytes]:
        """The body in parts of about PART_BYTES.

        Raises RowsDeletedError if rows were deleted meanwhile, CallerGoneError if `gone()` before all rows are sorted.
        """
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
        async for row in self._rows(inventory, gone):
            part += separator
            part += written(row)
            separator = between
            if len(part) >= PART_BYTES:
                yield bytes(part)
                part.clear()
            await pause()
        yield bytes(part + after)

    async def _rows(self, inventory: Inventory, gone: Callable[[], bool]) -> AsyncGenerator[Row]:
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
            selection = Selection(
                self._value_of(self.order.column), self._first + left, descending=self.order.descending
            )
            try:
                async with aclosing(lines(inventory, self.table, 0, descending=False)) as found:
                    async for line in found:
                        selection.add(line)
                        await pause()
                        if gone():
                            raise CallerGoneError
                for place, line in enumerate(selection.ordered()):
                    if place >= self._first:
                        yield self._columns(line)
                    await pause()
            finally:
                await selection.release()

    def _value_of(self, column: str) -> Callable[[TableLine], str | int]:
        """The function that returns a line's cell in a column; a shorter way for those that sorting needs most."""
        short: dict[str, Callable[[TableLine], str | int]] = {
            "count": lambda line: line.tokens,
            "event": lambda line: self.names[line.shard].get(line.event, ""),
            "parameter": lambda line: line.parameter,
            "realm": lambda line: line.realm,
        }
        index = COLUMNS.index(column)
        return short.get(column, lambda line: self._columns(line)[index])

    def _columns(self, line: TableLine) -> Row:
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
    request: web.Request,
    parts: AsyncIterator[bytes],
    first: bytes,
    form: str,
    headers: Mapping[str, str],
    limit_s: float | None,
) -> web.StreamResponse:
    """Sends one part as a plain response, more as a stream. A stream that fails, or lasts `limit_s`, is aborted."""
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
        async with asyncio.timeout(limit_s):
            await response.write(first)
            await response.write(second)
            async for part in parts:
                await response.write(part)
            await response.write_eof()
    except (RowsDeletedError, TimeoutError, *UNREACHABLE) as error:
        # Status 200 has been sent: only a truncated response can show the failure.
        log.warning("reporting rows cut off", error=type(error).__name__)
        if request.transport is not None:
            request.transport.abort()
    return response
