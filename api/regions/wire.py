"""What the apis of two regions send each other, as JSON. Every answer of a peer is decoded and checked here.

An export has sketches, numbers and names of labels; it never has the digest of a user, because a small set stays in its
region. A peer may lie about its own figures, but not make this process fail, nor the store read beyond a string.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, field

from api.ledger.merged_store import is_sketch
from api.ledger.status import is_date
from api.regions import wire_lifecycle
from api.regions.wire_lifecycle import LifecycleExport, LifecycleRequest, RetentionExport, RetentionRequest
from api.regions.wire_parts import (
    MAX_PERIODS,
    DayKey,
    Days,
    InvalidAnswerError,
    Number,
    PeriodKey,
    Periods,
    Scopes,
    ScopeText,
    Text,
    Wire,
    check_period,
    parts_of,
    read_scope,
)
from api.turns import pause
from schemas.events import MAX_LABEL_BYTES
from schemas.ledger import accuracy, fields

LAYOUT: Final = 1
MAX_UNIONS: Final = 64
MAX_UNITS: Final = 15_000
"""Periods times scopes of all unions of a request."""
MAX_READS: Final = 50_000
"""Periods times scopes of counters of a request."""
MAX_SHARDS: Final = 4_096
MAX_LABELS: Final = 200_000
MAX_COUNTERS: Final = 20_000
"""Counters of one period and scope: more than a worker's limits on words allow."""
SMALLEST_IDS: Final = 1_000

Version = Annotated[str, Meta(max_length=32)]
KnownBy = Annotated[list[Number], Meta(max_length=MAX_SHARDS)]
Sketch = Annotated[bytes, Meta(max_length=16_384)]
Error = Annotated[float, Meta(ge=0, le=1)]

COUNTER_PARTS: Final = {"login": 1, "failed": 2, "token": 3, "account": 2}
"""Parts of the field of a counter, by its first."""
NUMBERS: Final = ("retain_days", "retain_months", "max_labels", "exact_up_to", "dedupe_window_s", "dedupe_max_ids")
"""Settings of a shard that are numbers, or `forever`."""


class Moment(Wire, frozen=True, kw_only=True):
    """The newest counted event, and the number of records not yet counted."""

    newest_event: Annotated[str, Meta(max_length=40)] | None
    lag: Number | None


class Identity(Wire, frozen=True, kw_only=True):
    """Who answers, and the settings on which figures of two regions depend."""

    layout: int
    region: Annotated[str, Meta(max_length=32)]
    ledger: Annotated[str, Meta(max_length=64)]
    """Random id of the ledger; empty before its first worker."""
    as_of: Moment
    region_users: Literal["shared", "distinct"]
    min_users: Number
    settings: Annotated[dict[Text, Annotated[list[Text], Meta(max_length=MAX_SHARDS)]], Meta(max_length=64)]
    """The different values of each setting over the shards."""
    positions: Annotated[dict[Text, Number | None], Meta(max_length=MAX_SHARDS)]
    """Next offset by shard."""


class HeldHours(Wire, frozen=True, kw_only=True):
    """The window in which a shard recognises repeated events, in hours since 1970."""

    first: Number | None
    last: Number | None
    ids: Number
    evicted_before: Number | None


class ShardExport(Wire, frozen=True, kw_only=True):
    """The status of one shard."""

    topic: Annotated[str, Meta(min_length=1, max_length=249)]
    partition: Number
    meta: Annotated[dict[Text, Text], Meta(max_length=64)]
    position: Number | None
    progress: Annotated[dict[Text, int | None], Meta(max_length=512)]
    observed: Annotated[dict[Text, Text], Meta(max_length=32)]
    unexpected: Number
    ids: HeldHours


class Status(Wire, frozen=True, kw_only=True):
    """All shards, and the periods that they hold or that were imported."""

    shards: Annotated[list[ShardExport], Meta(max_length=MAX_SHARDS)]
    periods: Annotated[list[PeriodKey], Meta(max_length=20_000)]
    imported: Annotated[list[PeriodKey], Meta(max_length=2_000)]


class UnionRequest(Wire, frozen=True, kw_only=True):
    """The distinct users of all these periods and scopes together."""

    periods: Periods
    scopes: Scopes
    sketches: bool = True
    known: Version = ""
    """The version of sketches that the asker has already."""


class UnionExport(Wire, frozen=True, kw_only=True):
    """`united` users are in `sketches`; the others, of periods and scopes with few users, are a number only."""

    count: Number
    standard_error: Error
    united: Number = 0
    sketches: Annotated[list[Sketch], Meta(max_length=accuracy.K_MONTHS)] = field(default_factory=list)
    version: Version = ""
    """Digest of the sketches. With the version that the asker knows, `sketches` is empty."""


class RollingRequest(Wire, frozen=True, kw_only=True):
    """Each window of `length` days, by number only: `users` and, of them, those of days with many users."""

    days: Annotated[list[DayKey], Meta(min_length=1, max_length=MAX_PERIODS)]
    length: Annotated[int, Meta(ge=2, le=90)]
    scopes: Scopes


class CountsRequest(Wire, frozen=True, kw_only=True):
    periods: Annotated[list[PeriodKey], Meta(max_length=MAX_PERIODS)]
    scopes: Scopes


class ExportRequest(Wire, frozen=True, kw_only=True):
    """The members of the answer are those of the request."""

    status: bool = False
    labels: bool = False
    unions: Annotated[list[UnionRequest], Meta(max_length=MAX_UNIONS)] = field(default_factory=list)
    rolling: RollingRequest | None = None
    counts: CountsRequest | None = None
    times: Days = field(default_factory=list)
    lifecycle: LifecycleRequest | None = None
    retention: RetentionRequest | None = None


class RecordTimes(Wire, frozen=True, kw_only=True):
    """First and last record timestamp of a day."""

    first_ms: Number
    last_ms: Number


Counters = dict[ScopeText, dict[Text, Number]]


class Export(Wire, frozen=True, kw_only=True):
    """A region's answer."""

    identity: Identity
    status: Status | None = None
    labels: Annotated[dict[ScopeText, KnownBy], Meta(max_length=MAX_LABELS)] = field(default_factory=dict)
    """Scopes of known labels, with the numbers of the shards that know them."""
    unions: Annotated[list[UnionExport], Meta(max_length=MAX_UNIONS)] = field(default_factory=list)
    rolling: Annotated[list[UnionExport], Meta(max_length=MAX_PERIODS)] = field(default_factory=list)
    counts: dict[PeriodKey, Counters] = field(default_factory=dict)
    times: dict[DayKey, RecordTimes] = field(default_factory=dict)
    lifecycle: Annotated[list[LifecycleExport], Meta(max_length=wire_lifecycle.MAX_ROWS)] = field(default_factory=list)
    retention: Annotated[list[RetentionExport], Meta(max_length=wire_lifecycle.MAX_ROWS)] = field(default_factory=list)


class IdsExport(Wire, frozen=True, kw_only=True):
    """A sample of the digests of event ids of one hour by record time: those that are smallest as numbers."""

    identity: Identity
    hour: Number | None
    """Hours since 1970; null if the ledger holds no ids."""
    ids: Number
    smallest: list[str]
    """16 hexadecimal digits each."""


_REQUEST: Final = msgspec.json.Decoder(ExportRequest)
_EXPORT: Final = msgspec.json.Decoder(Export)
_IDENTITY: Final = msgspec.json.Decoder(Identity)


def read_request(body: bytes) -> ExportRequest:
    """Raises ValueError with the fault."""
    request = _REQUEST.decode(body)
    units = sum(len(union.periods) * len(union.scopes) for union in request.unions)
    if request.rolling is not None:
        units += len(request.rolling.days) * len(request.rolling.scopes)
        if len(request.rolling.days) < request.rolling.length:
            raise ValueError("`rolling.days` are fewer than `rolling.length`")
    rows = [each for each in (request.lifecycle, request.retention) if each is not None]
    units += sum(wire_lifecycle.check_request(each) for each in rows)
    if units > MAX_UNITS:
        raise ValueError(f"users of {units} periods and scopes are asked for; the maximum is {MAX_UNITS}")
    if request.counts is not None and len(request.counts.periods) * len(request.counts.scopes) > MAX_READS:
        raise ValueError(f"`counts` has more than {MAX_READS} periods and scopes")
    days = [*request.times, *(() if request.rolling is None else request.rolling.days)]
    asked = [*days, *(key for union in request.unions for key in union.periods)]
    asked += [key for each in rows for period_keys in (each.base or (), *each.periods) for key in period_keys]
    for key in [*asked, *(() if request.counts is None else request.counts.periods)]:
        check_period(key)
    for text in {text for union in request.unions for text in union.scopes}:
        read_scope(text)
    for part in (request.rolling, request.counts):
        for text in () if part is None else part.scopes:
            read_scope(text)
    return request


def read_identity(body: bytes) -> Identity:
    """Raises InvalidAnswerError."""
    try:
        return _check_identity(_IDENTITY.decode(body))
    except msgspec.DecodeError as error:
        raise InvalidAnswerError("not an identity") from error


def read_export(body: bytes, request: ExportRequest) -> Export:
    """The answer to `request`, checked except for its sketches. Raises InvalidAnswerError."""
    try:
        export = _EXPORT.decode(body)
    except msgspec.DecodeError as error:
        raise InvalidAnswerError("not an export") from error
    _check_identity(export.identity)
    if (export.status is not None) != request.status:
        raise InvalidAnswerError("the status is missing, or was not asked for")
    if export.status is not None:
        _check_status(export.status)
    shards = 0 if export.status is None else len(export.status.shards)
    if export.labels and not request.labels:
        raise InvalidAnswerError("labels were not asked for")
    for text, known_by in export.labels.items():
        read_scope(text)
        if any(number >= shards for number in known_by):
            raise InvalidAnswerError("a label is known by a shard that does not exist")
    _check_unions(export.unions, request.unions)
    windows = 0 if request.rolling is None else len(request.rolling.days) - request.rolling.length + 1
    if len(export.rolling) != windows or any(window.sketches for window in export.rolling):
        raise InvalidAnswerError("not the windows that were asked for")
    wire_lifecycle.check_rows(export.lifecycle, request.lifecycle)
    wire_lifecycle.check_cohorts(export.retention, request.retention)
    _check_counts(export.counts, request.counts)
    if not export.times.keys() <= set(request.times):
        raise InvalidAnswerError("times of days that were not asked for")
    if not all(is_date(times.first_ms) and is_date(times.last_ms) for times in export.times.values()):
        raise InvalidAnswerError("a time is no date")
    return export


async def check_sketches(export: Export) -> None:
    """Raises InvalidAnswerError if one is malformed: the store would read and write beyond the end of its string."""
    for union in export.unions:
        for sketch in union.sketches:
            await pause()
            if not is_sketch(sketch) or has_impossible_register(sketch):
                raise InvalidAnswerError("not a sketch")


def encode_counter(parts: Sequence[str]) -> str:
    """The field of a counter in Redis."""
    kind, *words = parts
    match kind:
        case "failed":
            return fields.failed(*words)
        case "token":
            return fields.token(*words)
        case "account":
            return fields.account(*words)
    return fields.LOGIN


def decode_counter(field: str) -> tuple[str, ...]:
    """The parts of a counter's field. Raises InvalidAnswerError for a text that no counter has."""
    parts = fields.split(field)
    if COUNTER_PARTS.get(parts[0]) != len(parts) or any(len(part.encode()) > MAX_LABEL_BYTES for part in parts):
        raise InvalidAnswerError("not a counter")
    return parts


def has_impossible_register(sketch: bytes) -> bool:
    """Whether a dense sketch has a register above 51, the most that a 64-bit hash can give with 2^14 registers."""
    if sketch[4] != 0:
        return False
    registers = int.from_bytes(sketch[16:], "little")
    # 52 to 63: bits 5 and 4 are set, and bit 3 or bit 2.
    return bool((registers >> 5) & (registers >> 4) & ((registers >> 3) | (registers >> 2)) & _EACH_REGISTER)


_EACH_REGISTER: Final = sum(1 << (6 * number) for number in range(accuracy.REGISTERS))


def _check_identity(identity: Identity) -> Identity:
    if not re.fullmatch("[0-9a-f]{0,64}", identity.ledger, re.ASCII):
        raise InvalidAnswerError("the ledger's id is not hexadecimal")
    return identity


def _check_status(status: Status) -> None:
    for shard in status.shards:
        for name in NUMBERS:
            value = shard.meta.get(name, "0")
            if value != "forever" and not re.fullmatch(r"\d{1,9}", value, re.ASCII):
                raise InvalidAnswerError("a setting is not a number")
        if any(value is not None and abs(value) >= 2**63 for value in shard.progress.values()):
            raise InvalidAnswerError("a number is too large")
    for period in (*status.periods, *status.imported):
        check_period(period)


def _check_unions(found: Sequence[UnionExport], asked: Sequence[UnionRequest]) -> None:
    if len(found) != len(asked):
        raise InvalidAnswerError("not the unions that were asked for")
    for union, request in zip(found, asked, strict=True):
        if union.united > union.count or not math.isfinite(union.standard_error):
            raise InvalidAnswerError("more users in sketches than users")
        if bool(union.version) != bool(union.united):
            raise InvalidAnswerError("sketches without a version, or without users")
        if not union.sketches:
            if union.united and (not request.known or union.version != request.known):
                raise InvalidAnswerError("the sketches are missing")
            continue
        scopes = [read_scope(text) for text in request.scopes]
        if not request.sketches or len(union.sketches) != parts_of(request.periods, scopes):
            raise InvalidAnswerError("not as many sketches as the union has parts")


def _check_counts(found: Mapping[str, Counters], asked: CountsRequest | None) -> None:
    periods, scopes = (set(), set()) if asked is None else (set(asked.periods), set(asked.scopes))
    if not found.keys() <= periods:
        raise InvalidAnswerError("counters of periods that were not asked for")
    for of_period in found.values():
        if not of_period.keys() <= scopes:
            raise InvalidAnswerError("counters of scopes that were not asked for")
        for counters in of_period.values():
            if len(counters) > MAX_COUNTERS:
                raise InvalidAnswerError("too many counters")
            for name in counters:
                decode_counter(name)
