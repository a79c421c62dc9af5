"""`authtally recount`: a month counted once more from Kafka, in another way, against what the ledger says.

Nothing here is the worker's: events are read one by one, users go by their plain ids into a HyperLogLog of another
library with another hash, and counters are plain sums. Only the reading of events, which is the contract, is shared.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

import click
from confluent_kafka import KafkaException
from hyperloglog import HyperLogLog
from msgspec.structs import replace

from aggregator.settings import WorkerSettings
from api.ledger.client import UNREACHABLE, open_ledger
from api.ledger.statistics import Counts, Statistics
from api.ledger.users import ActiveUsers
from deploy.cli.operations import Log, kafka_errors_as_usage, logs_of, show_table
from deploy.cli.snapshot import print_json
from deploy.cli.verify.replay import KafkaRecord, LogReader, ReplayError
from deploy.progress import progress
from schemas.adapters.registry import ADAPTERS
from schemas.events import (
    DECODERS,
    MAX_AHEAD,
    AccountEvent,
    BadRecordError,
    Event,
    Login,
    RecordTime,
    TokenIssued,
    decode,
)
from schemas.ledger import fields
from schemas.ledger.inventory import BINDINGS
from schemas.ledger.keys import Shard, ShardKeys
from schemas.ledger.periods import Month
from schemas.ledger.scopes import EVERYTHING
from schemas.settings import PREFIX

QUERY_ERROR: Final = 0.005
RECOUNT_ERROR: Final = 1.04 / math.sqrt(1 << 16)
"""Relative standard error of the other library's largest sketch, which it takes for ASKED_ERROR: 0.41 %."""
EXACT_UP_TO: Final = 100_000
"""Users that are counted one by one, 16 bytes each, before the sketch alone goes on."""
SIGMAS: Final = 3
HOUR_MS: Final = 3_600_000
SUMS: Final = ("logins", "failed logins", "tokens", "account events")
TRIES: Final = 5


class Figure(NamedTuple):
    name: str
    ledger: int
    recount: int
    bound: int
    """How far apart they may be."""

    @property
    def agrees(self) -> bool:
        return abs(self.ledger - self.recount) <= self.bound


@dataclass
class Recounted:
    """What a month holds, by plain counting."""

    sums: Counter[str] = field(default_factory=Counter)
    few: set[bytes] | None = field(default_factory=set)
    """Users one by one; None once they are too many."""
    sketch: Any = field(default_factory=lambda: HyperLogLog(QUERY_ERROR))
    records: int = 0

    def add_user(self, user: str) -> None:
        if self.few is not None:
            digest = hashlib.sha256(user.encode()).digest()[:16]
            if digest in self.few:
                return
            self.few.add(digest)
            if len(self.few) > EXACT_UP_TO:
                self.few = None
        self.sketch.add(user)

    @property
    def users(self) -> int:
        return len(self.sketch) if self.few is None else len(self.few)

    @property
    def error(self) -> float:
        return RECOUNT_ERROR if self.few is None else 0.0


class Repeats:
    """The ids of a partition's events, by hour, as far back as the window reaches behind the newest of them."""

    def __init__(self, window_s: int, most: int) -> None:
        # An event may be dated so far ahead, and must not make its neighbours' ids expire.
        self._hours_back = math.ceil(window_s / 3600) + math.ceil(MAX_AHEAD.total_seconds() / 3600)
        self._most = most if window_s else 0
        self._hours: dict[int, set[bytes]] = {}
        self._begins = -math.inf
        """Hours before it were given up for want of room."""

    def has(self, event_id: str, at_ms: int) -> bool:
        """Whether the id was there before; it is from now on. `at_ms`: the record's time, or the event's if untimed."""
        if not self._most:
            return False
        hour, digest = at_ms // HOUR_MS, hashlib.sha256(event_id.encode()).digest()[:16]
        newest = max(hour, max(self._hours, default=hour))
        for old in [held for held in self._hours if held < newest - self._hours_back]:
            del self._hours[old]
        if any(digest in held for held in self._hours.values()):
            return True
        if hour >= max(newest - self._hours_back, self._begins):
            self._hours.setdefault(hour, set()).add(digest)
            while sum(map(len, self._hours.values())) > self._most:
                oldest = min(self._hours)
                del self._hours[oldest]
                self._begins = oldest if oldest == newest else oldest + 1
        return False


def recount(settings: WorkerSettings, text: str, *, as_json: bool) -> bool:
    """Count and tell; whether all agrees. Raises click.ClickException."""
    try:
        month = Month.of_key(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="MONTH") from error
    logs = logs_of(settings, settings.topics)
    try:
        positions, moved, counts, users, unexpected = asyncio.run(_of_ledger(settings, month))
    except UNREACHABLE as error:
        raise click.ClickException(f"{PREFIX}REDIS_URL: {error or type(error).__name__}") from error
    if not counts and not users.count:
        raise click.ClickException(f"{month.key}: the ledger counted nothing in this month")
    with progress("recounting", "offsets") as job:
        found, missing = _of_kafka(settings, month, positions, unexpected, logs, job.of)
    figures = list(_compared(found, counts, users, moved))
    agree = not missing and all(figure.agrees for figure in figures)
    if as_json:
        print_json(
            {
                "month": month.key,
                "records": found.records,
                "figures": [figure._asdict() | {"agrees": figure.agrees} for figure in figures],
                "missing": missing,
                "agree": agree,
            }
        )
        return agree
    show_table(
        ("month", "", "ledger", "recount", "may differ by", ""),
        (
            (
                month.key,
                figure.name,
                f"{figure.ledger:,}",
                f"{figure.recount:,}",
                f"{figure.bound:,}",
                "agrees" if figure.agrees else "DIFFERS",
            )
            for figure in figures
        ),
    )
    click.echo(f"{found.records:,} records read.")
    for reason in missing:
        click.echo(f"{reason}: the recount is not of the whole month")
    return agree


Unexpected = Mapping[Shard, AbstractSet[int]]
"""Offsets of records that a defect kept the worker from counting: every replay of its ledger skips them."""


async def _of_ledger(
    settings: WorkerSettings, month: Month
) -> tuple[dict[Shard, int], int, Counts, ActiveUsers, Unexpected]:
    """Positions of the shards of TOPICS, how far they moved meanwhile, the figures, and offsets to skip."""
    client = open_ledger(settings)
    try:
        statistics = Statistics(client, settings)
        for _ in range(TRIES):
            before = await _positions(statistics, settings)
            held = await statistics.find_periods([month.key])
            counts = (await statistics.sum_counts(held, [month.key], [EVERYTHING]))[month.key]
            (users,) = await statistics.users.count([held.distinct_query([month.key], [EVERYTHING])])
            moved = sum((await _positions(statistics, settings)).values()) - sum(before.values())
            if not moved:
                break
        replies = await client.run([("SMEMBERS", ShardKeys(settings.key_prefix, shard).unexpected) for shard in before])
        unexpected = {shard: frozenset(map(int, held)) for shard, held in zip(before, replies, strict=True)}
        return before, moved, counts, users, unexpected
    finally:
        await client.close()


async def _positions(statistics: Statistics, settings: WorkerSettings) -> dict[Shard, int]:
    status = await statistics.pipeline_status()
    found = {shard.keys.shard: shard.position for shard in status.shards}
    elsewhere = sorted(shard.tag for shard in found if shard.topic not in settings.topics)
    if elsewhere:
        raise click.ClickException(
            f"{PREFIX}TOPICS does not name the topics of {', '.join(elsewhere)}, which the ledger counted too"
        )
    return {shard: at for shard, at in found.items() if at is not None}


def _of_kafka(
    settings: WorkerSettings,
    month: Month,
    positions: Mapping[Shard, int],
    unexpected: Unexpected,
    logs: Mapping[Shard, Log],
    result: Callable[[str, int, int], None],
) -> tuple[Recounted, list[str]]:
    """The recount, and what stands against its being of the whole month."""
    found, missing = Recounted(), []
    reader = LogReader(settings)
    try:
        for shard, end in sorted(positions.items()):
            log = logs.get(shard)
            if settings.topics[shard.topic] in BINDINGS:
                continue
            if log is None:
                missing.append(f"{shard.tag}: Kafka has no such partition")
                continue
            reason = _count_partition(settings, month, shard, end, log, unexpected[shard], reader, found, result)
            if reason:
                missing.append(f"{shard.tag}: {reason}")
    except KafkaException as error:
        raise kafka_errors_as_usage(error) from error
    except ReplayError as error:
        raise click.ClickException(str(error)) from error
    finally:
        reader.close()
    return found, missing


def _count_partition(
    settings: WorkerSettings,
    month: Month,
    shard: Shard,
    end: int,
    log: Log,
    unexpected: AbstractSet[int],
    reader: LogReader,
    found: Recounted,
    result: Callable[[str, int, int], None],
) -> str | None:
    # No record before this one may tell of the month; ids of the window before it may be repeated in it.
    first_day = month.span.first
    begins = datetime(first_day.year, first_day.month, 1, tzinfo=settings.zone) - MAX_AHEAD
    since_ms = int(begins.timestamp() * 1000)
    start = log.start
    wanted_ms = since_ms - settings.dedupe_window_s * 1000 - HOUR_MS
    try:
        start = reader.first_since(shard, wanted_ms, log)
    except KafkaException:
        # A broker that finds no offsets by time: then all of the log is read.
        start = log.start
    first: KafkaRecord | None = None
    repeats = Repeats(settings.dedupe_window_s, settings.dedupe_max_ids)
    at = start
    now_ms = int(time.time() * 1000)
    reader.seek(shard, start)
    while at < end:
        records, at = reader.read(shard, at, end)
        if first is None and records:
            first = records[0]
        for record in records:
            found.records += 1
            if record.offset in unexpected:
                continue
            timed = RecordTime.of(record.timestamp, now_ms)
            for event in events_of(settings.topics[shard.topic], record, timed):
                at_ms = timed.ms if timed.usable else int(event.time.timestamp() * 1000)
                if event.id is not None and repeats.has(event.id, at_ms):
                    continue
                if _day(event, settings) == (month.year, month.month):
                    _count(settings, event, found)
        result(f"recounting {shard.tag}", at - start, end - start)
    if log.start and start == log.start and (first is None or first.timestamp >= since_ms):
        return f"Kafka has nothing below offset {log.start}, and the month may begin there"
    return None


def events_of(name: str, record: KafkaRecord, at: RecordTime) -> Iterator[Event]:
    """The events of a record that count; bad ones are dead letters, and none of the month's."""
    if name in DECODERS:
        try:
            yield decode(name, record.value, at)
        except BadRecordError:
            return
        return
    for element in ADAPTERS[name](record.value, record.headers, at):
        for place, event in enumerate(element.events):
            # Several events of one element carry one id between them, and each counts.
            yield event if event.id is None or not place else replace(event, id=f"{event.id} {place}")


def _day(event: Event, settings: WorkerSettings) -> tuple[int, int]:
    local = event.time.astimezone(settings.zone)
    return local.year, local.month


def _count(settings: WorkerSettings, event: Event, found: Recounted) -> None:
    active = False
    if isinstance(event, Login):
        found.sums["logins"] += event.success and event.counted
        found.sums["failed logins"] += not event.success
        active = event.success and "login" in settings.active_on
    elif isinstance(event, TokenIssued):
        found.sums["tokens"] += len(event.tokens)
        active = event.grant_type == "refresh_token" and "refresh" in settings.active_on
    elif isinstance(event, AccountEvent):
        found.sums["account events"] += 1
    if active and isinstance(event, (Login, TokenIssued)) and event.user_id:
        of_realm = f"{event.realm or ''}\0" if settings.user_scope == "realm" else ""
        found.add_user(of_realm + event.user_id)


def _compared(found: Recounted, counts: Counts, users: ActiveUsers, moved: int) -> Iterator[Figure]:
    error = math.hypot(users.standard_error, found.error)
    yield Figure("active users", users.count, found.users, math.ceil(SIGMAS * error * found.users) + moved)
    kinds = dict(
        zip(
            (fields.LOGIN, fields.failed(""), fields.token("", ""), fields.account("")),
            SUMS,
            strict=True,
        )
    )
    sums: Counter[str] = Counter()
    named = {fields.split(name)[0]: result for name, result in kinds.items()}
    for names, count in counts.items():
        sums[named[names[0]]] += count
    for name in SUMS:
        yield Figure(name, sums[name], found.sums[name], moved)
