"""Reads monthly figures of other systems: JSON answers of the statistics of Janssen and Gluu, and our CSV.

One pass finds all faults and names each by its line or month; figures are returned only if there is no fault.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, NoReturn

from schemas.events import EARLIEST, MAX_LABEL_BYTES
from schemas.ledger import fields
from schemas.ledger.periods import Month

MAX_BYTES: Final = 16 << 20
MAX_COUNT: Final = 2**53
"""JSON readers lose digits above it, and no deployment counts as much."""
SHOWN: Final = 40

ACTIVE_USERS: Final = "active_users"
LOGINS: Final = "logins"
TOKENS: Final = "token_count_per_granttype"
ACTIVE_NAMES: Final = ("monthly_active_users", "montly_active_users")
"""The products' names; the second is the one in the document of Janssen's list."""


class PastMonth(NamedTuple):
    """One month of the whole deployment. `counts` has the parts of a counts field as keys, as in the ledger."""

    month: Month
    active: int
    counts: dict[tuple[str, ...], int]


class PastError(Exception):
    """All faults of the input, one line each."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = list(faults)


class _WrongError(Exception):
    """One wrong value; the text names it."""


def read(text: bytes, present: Month) -> list[PastMonth]:
    """The months of an answer or a CSV, in order. `present` is the month that is not over yet. Raises PastError."""
    if len(text) > MAX_BYTES:
        raise PastError([f"longer than {MAX_BYTES >> 20} MB, which is the limit"])
    try:
        result = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PastError([f"not UTF-8: {error.reason} at byte {error.start}"]) from error
    rows = _of_json(result) if result.lstrip()[:1] in ("{", "[") else _of_csv(result)
    found: dict[Month, PastMonth] = {}
    faults: list[str] = []
    for where, row in rows:
        if isinstance(row, str):
            faults.append(f"{where}: {row}" if where else row)
        elif row.month in found:
            faults.append(f"{where}: month {row.month.key} appears twice")
        elif row.month >= present:
            faults.append(f"{where}: month {row.month.key} is not over; only months before {present.key} are imported")
        elif row.month < Month.of(EARLIEST):
            faults.append(f"{where}: month {row.month.key} is before 2000")
        else:
            found[row.month] = row
    if not faults and not found:
        faults = ["contains no month"]
    if faults:
        raise PastError(faults)
    return [found[month] for month in sorted(found)]


def month_of(text: str) -> Month:
    """`202503` or `2025-03`. Raises ValueError."""
    return Month.parse(text.replace("-", "", 1) if re.fullmatch(r"\d{4}-\d\d", text, re.ASCII) else text)


_Rows = Iterator[tuple[str, PastMonth | str]]
"""The place of each row, and its month or its fault."""


def _of_json(text: str) -> _Rows:
    try:
        answer = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    except _WrongError as wrong:
        yield "", str(wrong)
        return
    except (ValueError, RecursionError) as error:
        yield "", f"not JSON: {error or type(error).__name__}"
        return
    if isinstance(answer, dict) and "error" in answer:
        yield "", f"an error, not an answer: {_shown(answer['error'])}"
        return
    if isinstance(answer, dict):
        # The whole answer; the file of Gluu's exporter; or the inner part alone, as the configuration api returns it.
        answer = answer.get("response", answer.get("data", answer))
    if isinstance(answer, dict):
        items = [(str(key), key, item) for key, item in answer.items() if key != "mau-signature"]
    elif isinstance(answer, list):
        items = [(f"entry {number}", None, item) for number, item in enumerate(answer, start=1)]
    else:
        yield "", "neither an object by month nor a list of months"
        return
    for where, key, item in items:
        try:
            yield where, _of_item(key, item)
        except _WrongError as wrong:
            yield where, str(wrong)


def _of_item(key: str | None, item: Any) -> PastMonth:
    if key is not None and not isinstance(item, dict):
        return PastMonth(_month(key), _count("active users", item), {})
    if not isinstance(item, dict):
        raise _WrongError(f"not an object: {_shown(item)}")
    if "operations_by_type" in item:
        raise _WrongError("operations_by_type: these are statistics of Janssen Lock, which counts other users")
    inner = item.get("month", key)
    month = _month(inner)
    if key is not None and month != _month(key):
        raise _WrongError(f"month: is {_shown(inner)} inside")
    active = {_count(name, item[name]) for name in ACTIVE_NAMES if name in item}
    if len(active) != 1:
        what = f"{ACTIVE_NAMES[1]} has another value" if active else "is missing"
        raise _WrongError(f"{ACTIVE_NAMES[0]}: {what}")
    return PastMonth(month, active.pop(), _tokens(item.get(TOKENS)))


def _tokens(grants: Any) -> dict[tuple[str, ...], int]:
    if grants is None:
        return {}
    if not isinstance(grants, dict):
        raise _WrongError(f"{TOKENS}: not an object")
    counts = {}
    for grant, tokens in grants.items():
        if not isinstance(tokens, dict):
            raise _WrongError(f"{TOKENS}: {_shown(grant)}: not an object")
        for token, count in tokens.items():
            where = f"{TOKENS}: {_shown(grant)}: {_shown(token)}"
            counts[_token(where, grant, token)] = _count(where, count)
    _sample(counts)
    return counts


def _of_csv(text: str) -> _Rows:
    head = text.partition("\n")[0]
    delimiter = ";" if ";" in head and "," not in head else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        columns = [cell.strip() for cell in next(reader, [])]
        faults = list(_faulty(columns))
        yield from (("line 1", fault) for fault in faults)
        if faults:
            return
        while True:
            line = reader.line_num + 1
            row = next(reader, None)
            if row is None:
                return
            if any(cell.strip() for cell in row):
                try:
                    yield f"line {line}", _of_row(columns, [cell.strip() for cell in row])
                except _WrongError as wrong:
                    yield f"line {line}", str(wrong)
    except csv.Error as error:
        yield f"line {line}", f"not CSV: {error}"


def _faulty(columns: Sequence[str]) -> Iterator[str]:
    if columns[:2] != ["month", ACTIVE_USERS]:
        yield (
            f"neither a JSON answer nor a CSV with the columns month,{ACTIVE_USERS}[,{LOGINS}]"
            f"[,GRANT/TOKEN_TYPE …]: it begins with {_shown(','.join(columns))}"
        )
        return
    counts: dict[tuple[str, ...], int] = {}
    for place, column in enumerate(columns):
        if column in columns[:place]:
            yield f"column {_shown(column)} appears twice"
        elif place > 1 and column != LOGINS:
            try:
                counts[_column(column)] = 0
                _sample(counts)
            except _WrongError as wrong:
                yield str(wrong)
                return


def _column(column: str) -> tuple[str, ...]:
    if column == LOGINS:
        return fields.split(fields.LOGIN)
    grant, slash, token = column.rpartition("/")
    if not slash:
        raise _WrongError(f"column {_shown(column)} is neither {LOGINS} nor GRANT/TOKEN_TYPE")
    return _token(f"column {_shown(column)}", grant, token)


def _of_row(columns: Sequence[str], row: Sequence[str]) -> PastMonth:
    if len(row) != len(columns):
        raise _WrongError(f"has {len(row)} cells, the header has {len(columns)}")
    cells = dict(zip(columns, row, strict=True))
    month, active = _month(cells.pop("month")), _cell(ACTIVE_USERS, cells.pop(ACTIVE_USERS))
    # An empty cell means unknown, not zero.
    return PastMonth(month, active, {_column(name): _cell(name, cell) for name, cell in cells.items() if cell})


def _cell(name: str, cell: str) -> int:
    if not (cell.isascii() and cell.isdigit()):
        raise _WrongError(f"{name}: not a whole number: {_shown(cell)}")
    return _count(name, int(cell[:SHOWN]))


def _month(value: Any) -> Month:
    if not isinstance(value, str):
        raise _WrongError("month: is missing" if value is None else f"month: not a string: {_shown(value)}")
    try:
        return month_of(value)
    except ValueError as error:
        raise _WrongError(f"`month` is {_shown(value)}; allowed: YYYY-MM or YYYYMM; example: 2025-03") from error


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _WrongError(f"{name}: not a whole number: {_shown(value)}")
    if not 0 <= value <= MAX_COUNT:
        raise _WrongError(f"{name}: not between 0 and {MAX_COUNT}")
    return value


def _token(where: str, grant: str, token: str) -> tuple[str, ...]:
    for name in (grant, token):
        if not name:
            raise _WrongError(f"{where}: an empty name")
        if len(name.encode(errors="surrogatepass")) > MAX_LABEL_BYTES:
            raise _WrongError(f"{where}: longer than {MAX_LABEL_BYTES} bytes")
        if not name.isprintable():
            raise _WrongError(f"{where}: not printable")
    return fields.split(fields.token(grant, token))


def _sample(counts: dict[tuple[str, ...], int]) -> None:
    for what, place in (("grant types", 1), ("token types", 2)):
        if len({parts[place] for parts in counts if len(parts) > place}) > fields.MAX_WORDS:
            raise _WrongError(f"more than {fields.MAX_WORDS} {what}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _WrongError(f"{_shown(name)} appears twice in one object")
        found[name] = value
    return found


def _no_number(text: str) -> NoReturn:
    raise _WrongError(f"not a number: {text}")
