"""`authtally recount`: count a month again from Kafka by independent code, and compare the result with the ledger.

Counting shares no code with the worker, except for the decoding of events: see plain_counting.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Final, NamedTuple

import click
from confluent_kafka import KafkaException

from aggregator.settings import WorkerSettings
from api.ledger.client import UNREACHABLE, open_ledger
from api.ledger.distinct_query import ActiveUsers
from api.ledger.ledger_statistics import LedgerStatistics
from api.ledger.statistics import Counts
from deploy.cli.operations import Log, kafka_errors_as_usage, logs_of, show_table
from deploy.cli.snapshot import print_json
from deploy.cli.terminal import echo
from deploy.cli.verify.plain_counting import HOUR_MS, Recounted, Repeats, events_of
from deploy.cli.verify.replay import KafkaRecord, LogReader, ReplayError
from deploy.progress import progress
from schemas.events import (
    MAX_AHEAD,
    Event,
    RecordTime,
)
from schemas.ledger import fields
from schemas.ledger.inventory import INVENTORY_BINDINGS
from schemas.ledger.keys import Shard, ShardKeys
from schemas.ledger.periods import Month
from schemas.ledger.scopes import EVERYTHING, OTHER
from schemas.settings import PREFIX

SIGMAS: Final = 3
SUMS: Final = ("logins", "failed logins", "tokens", "account events")
TRIES: Final = 5


class Figure(NamedTuple):
    name: str
    ledger: int
    recount: int
    bound: int
    """Allowed difference of the two."""

    @property
    def agrees(self) -> bool:
        return abs(self.ledger - self.recount) <= self.bound


def recount(settings: WorkerSettings, text: str, *, as_json: bool) -> bool:
    """Count the month and print the comparison; whether all figures agree. Raises click.ClickException."""
    try:
        month = Month.of_key(text)
    except ValueError as error:
        message = f"{text!r} is not a month; allowed: YYYY-MM; example: 2026-10"
        raise click.BadParameter(message, param_hint="YYYY-MM") from error
    logs = logs_of(settings, settings.topics)
    try:
        held = asyncio.run(_of_ledger(settings, month))
    except UNREACHABLE as error:
        raise click.ClickException(f"{PREFIX}REDIS_URL: {error or type(error).__name__}") from error
    if not held.counts and not held.users.count:
        raise click.ClickException(f"{month.key}: the ledger has no counts of this month")
    with progress("recounting", "offsets") as job:
        found, missing = _of_kafka(settings, month, held, logs, job.of)
    figures = list(_compared(found, held.counts, held.users, held.moved))
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
    echo(f"{found.records:,} records read.")
    for reason in missing:
        echo(f"{reason}: the recount does not cover the whole month")
    return agree


class _Held(NamedTuple):
    """What the recount needs of the ledger."""

    positions: Mapping[Shard, int]
    """Of the shards of TOPICS."""
    moved: int
    """Records counted while the figures were read."""
    counts: Counts
    users: ActiveUsers
    unexpected: Mapping[Shard, AbstractSet[int]]
    """Offsets of unexpected records, which every replay of the ledger skips."""
    realms: Mapping[str, AbstractSet[Shard]]
    """Known realms, with the shards that know them."""


async def _of_ledger(settings: WorkerSettings, month: Month) -> _Held:
    client = open_ledger(settings)
    try:
        statistics = LedgerStatistics(client, settings)
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
        known = await statistics.labels()
        realms = {scope.names[0]: shards for scope, shards in known.items() if scope.dimension == "realm"}
        return _Held(before, moved, counts, users, unexpected, realms)
    finally:
        await client.close()


async def _positions(statistics: LedgerStatistics, settings: WorkerSettings) -> dict[Shard, int]:
    status = await statistics.pipeline_status()
    found = {shard.keys.shard: shard.position for shard in status.shards}
    elsewhere = sorted(shard.tag for shard in found if shard.topic not in settings.topics)
    if elsewhere:
        raise click.ClickException(
            f"{PREFIX}TOPICS lacks the topics of {', '.join(elsewhere)}, which the ledger counted too"
        )
    return {shard: at for shard, at in found.items() if at is not None}


def _of_kafka(
    settings: WorkerSettings,
    month: Month,
    held: _Held,
    logs: Mapping[Shard, Log],
    on_progress: Callable[[str, int, int], None],
) -> tuple[Recounted, list[str]]:
    """The recount, and the reasons for which it may not cover the whole month."""
    found, missing = Recounted(), []
    reader = LogReader(settings)
    try:
        for shard, end in sorted(held.positions.items()):
            log = logs.get(shard)
            if settings.topics[shard.topic] in INVENTORY_BINDINGS:
                continue
            if log is None:
                missing.append(f"{shard.tag}: Kafka has no such partition")
                continue
            reason = _count_partition(settings, month, shard, end, log, held, reader, found, on_progress)
            if reason:
                missing.append(f"{shard.tag}: {reason}")
    except KafkaException as error:
        raise kafka_errors_as_usage(error, settings) from error
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
    held: _Held,
    reader: LogReader,
    found: Recounted,
    on_progress: Callable[[str, int, int], None],
) -> str | None:
    """Add the month's events of one partition; the reason for which the log may lack some of them."""
    # Records older than this cannot have events of the month. Reading begins one window earlier, because repeated ids
    # in the month may first appear there.
    first_day = month.span.first
    begins = datetime(first_day.year, first_day.month, 1, tzinfo=settings.zone) - MAX_AHEAD
    since_ms = int(begins.timestamp() * 1000)
    start = log.start
    wanted_ms = since_ms - settings.dedupe_window_s * 1000 - HOUR_MS
    try:
        start = reader.first_since(shard, wanted_ms, log)
    except KafkaException:
        # The broker cannot find offsets by time, so the whole log is read.
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
            if record.offset in held.unexpected[shard]:
                continue
            timed = RecordTime.of(record.timestamp, now_ms)
            for event in events_of(shard.topic, settings, record, timed):
                at_ms = timed.ms if timed.usable else int(event.time.timestamp() * 1000)
                if event.id is not None and repeats.has(event.id, at_ms, _realm(event, settings, shard, held)):
                    continue
                if _day(event, settings) == (month.year, month.month):
                    found.add(event, settings)
        on_progress(f"recounting {shard.tag}", at - start, end - start)
    if log.start and start == log.start and (first is None or first.timestamp >= since_ms):
        return f"Kafka has no offset below {log.start}, and the month may begin before it"
    return None


def _realm(event: Event, settings: WorkerSettings, shard: Shard, held: _Held) -> str:
    """The label of an event's realm, whose share its id uses."""
    realm = getattr(event, "realm", None)
    if not realm or {"realm", "client"}.isdisjoint((*settings.users_by, *settings.counts_by)):
        return ""
    return realm if shard in held.realms.get(realm, ()) else OTHER


def _day(event: Event, settings: WorkerSettings) -> tuple[int, int]:
    local = event.time.astimezone(settings.zone)
    return local.year, local.month


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
