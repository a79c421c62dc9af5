"""`authtally demo`: run everything on one machine, publish sample events and print the answers."""

from __future__ import annotations

import shlex
import signal
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain
from types import FrameType
from typing import Any, Final, NamedTuple, NoReturn
from urllib.parse import quote

import click
from confluent_kafka import KafkaError, Message
from rich.console import Console

from deploy.demo import sources
from deploy.demo.answers import STORE_TIMEOUT_S, consumed, curl_lines, differences, records_sent
from deploy.demo.otp_sample import otp_tokens
from deploy.demo.processes import Children, DemoError
from deploy.demo.sample_events import Sample, SampleEvents
from deploy.demo.site import DEAD_LETTERS, TOPICS, first_month
from deploy.demo.sources import Sent
from deploy.progress import progress
from schemas.connections.redis_clients import open_blocking
from schemas.ledger.keys import Shard, ShardKeys
from schemas.ledger.periods import Month

KEY_PREFIX: Final = "authtally:"
CATCH_UP_TIMEOUT_S: Final = 60
"""Longest time without progress of the worker."""
POLL_S: Final = 0.05
WATCH_S: Final = 0.25
TRICKLE_S: Final = 2.0
DAYS_SHOWN: Final = 30
"""Days of the dashboard's first view."""
TRIED: Final = 3
"""Questions that are printed without --show-answers."""
FAILED: Final = 1
INTERRUPTED: Final = 130
STOPPED_BY: Final = (signal.SIGINT, signal.SIGTERM)

Ends = dict[Shard, int]


class _Stopped(BaseException):
    """SIGTERM or Ctrl-C. A BaseException, so that no `except Exception` catches it."""


class Options(NamedTuple):
    events: int
    port: int
    token: str
    until: datetime | None
    """End of the sample; None: now, and new events follow while the demo runs."""
    then_exit: bool
    show_answers: bool


def run(options: Options) -> int:
    """Run the demo; the exit status. Processes and files are removed when it returns."""
    console = Console(soft_wrap=True, highlight=False, markup=False)
    restore = {number: signal.signal(number, _stop) for number in STOPPED_BY}
    ready = False
    try:
        began = time.monotonic()
        sample = SampleEvents(options.events, options.until or datetime.now(UTC))
        with Children(options.port, options.token) as children:
            try:
                _fill(children, sample)
                children.wait_for_api()
                sent = sources.send(children, sample.expected, first_month(sample.until))
                _wait_until_consumed(children, records_sent(sample, sent))
                _set_quotas(children, sample)
                _report(children, sample, options, time.monotonic() - began, console)
                ready = True
                if options.then_exit:
                    return _check_answers(children, sample, sent, console)
                _run_on(children, None if options.until else sample)
            finally:
                _ignore_signals()
    except DemoError as error:
        click.echo(str(error), err=True)
        return FAILED
    except _Stopped:
        console.print("\nStopped. All files were removed.")
        return 0 if ready else INTERRUPTED
    finally:
        for number, handler in restore.items():
            signal.signal(number, handler)


def _run_on(children: Children, sample: SampleEvents | None) -> NoReturn:
    """Watch the processes; publish one event of `sample` every TRICKLE_S."""
    producer, due = children.producer(), time.monotonic() + TRICKLE_S
    while True:
        children.check()
        time.sleep(WATCH_S)
        producer.poll(0)
        if sample is not None and time.monotonic() >= due:
            due += TRICKLE_S
            record = sample.live(datetime.now(UTC))
            producer.produce(record.topic, record.value, record.key, timestamp=record.time_ms)


def _stop(number: int, frame: FrameType | None) -> None:
    _ignore_signals()
    raise _Stopped


def _ignore_signals() -> None:
    """Ignore a second Ctrl-C, which would interrupt the clean-up."""
    for number in STOPPED_BY:
        signal.signal(number, signal.SIG_IGN)


def _fill(children: Children, sample: SampleEvents) -> None:
    """Publish the sample and wait until the worker has counted it."""
    tokens = list(otp_tokens(sample.until))
    with progress("publishing", "events", sample.count + len(tokens)) as job:
        ends = _publish(children, chain(sample, tokens), job.at)
        job.begin("counting")
        _wait_until_counted(children, ends, job.at)


def _set_quotas(children: Children, sample: SampleEvents) -> None:
    last_whole = Month.of(sample.until).plus(-1).compact
    issued = sample.expected.service_tokens.items()
    children.set_quotas({(realm, client): number for (month, realm, client), number in issued if month == last_whole})


def _publish(children: Children, records: Iterable[Sample], show: Any) -> Ends:
    """Publish everything; the acknowledged log end of each partition. Raises DemoError."""
    producer = children.producer()
    ends = {Shard(topic, part): 0 for topic, parts in TOPICS.items() if topic != DEAD_LETTERS for part in range(parts)}
    failures: Counter[str] = Counter()

    def delivered(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            failures[str(error)] += 1
            return
        shard = Shard(str(message.topic()), int(message.partition() or 0))
        ends[shard] = max(ends[shard], int(message.offset() or 0) + 1)

    number = 0
    for number, record in enumerate(records, start=1):
        while True:
            try:
                producer.produce(
                    record.topic, record.value, record.key, timestamp=record.time_ms, on_delivery=delivered
                )
            except BufferError:
                producer.poll(0.1)
            else:
                break
        if number % 1000 == 0:
            producer.poll(0)
            children.check()
            show(number)
    deadline = time.monotonic() + CATCH_UP_TIMEOUT_S
    while producer.flush(0.5):
        children.check()
        if time.monotonic() > deadline:
            raise DemoError("The broker did not accept the sample events.")
    if failures:
        raise DemoError(f"The broker refused sample events: {dict(failures)}")
    show(number)
    return ends


def _wait_until_counted(children: Children, ends: Ends, show: Any) -> None:
    """Wait until the ledger's positions equal the log ends. Raises DemoError without progress."""
    position_keys = [ShardKeys(KEY_PREFIX, shard).position for shard in ends]
    seen, deadline = -1, time.monotonic() + CATCH_UP_TIMEOUT_S
    with open_blocking(children.store.url, STORE_TIMEOUT_S) as client:
        while True:
            children.check()
            found: Any = client.mget(position_keys)
            positions = [int(position or 0) for position in found]
            show(sum(positions))
            if positions == list(ends.values()):
                return
            if sum(positions) != seen:
                seen, deadline = sum(positions), time.monotonic() + CATCH_UP_TIMEOUT_S
            if time.monotonic() > deadline:
                raise DemoError(f"The worker makes no progress. Its last lines:\n{children.worker_log()}")
            time.sleep(POLL_S)


def _wait_until_consumed(children: Children, records: int) -> None:
    """Wait until the ledger has consumed this number of records. Raises DemoError after a timeout."""
    deadline = time.monotonic() + CATCH_UP_TIMEOUT_S
    with open_blocking(children.store.url, STORE_TIMEOUT_S, decode_responses=True) as client:
        while consumed(client, KEY_PREFIX) < records:
            children.check()
            if time.monotonic() > deadline:
                raise DemoError(f"The worker makes no progress. Its last lines:\n{children.worker_log()}")
            time.sleep(POLL_S)


def _report(children: Children, sample: SampleEvents, options: Options, seconds: float, console: Console) -> None:
    last_day = sample.until - timedelta(microseconds=1)
    # Events of today came through other sources, also if the sample ended before.
    months = [month for month in sample.expected.months if month <= f"{last_day:%Y%m}"]
    expected, bad = sample.expected, sample.expected.dead.total()
    console.print(
        f"\nReady after {seconds:.1f} s: {expected.records:,} events of {len(expected.months)} months are counted, "
        f"except {bad} bad ones among them, which became dead letters."
    )
    if options.until is None and not options.then_exit:
        console.print(f"A new event follows every {TRICKLE_S:g} s, so today soon has more than the usual number.")
    console.print(
        "The demo's broker has no idempotent producers: KAFKA_IDEMPOTENCE is off here. Leave it on with Kafka."
    )
    console.print(f"\n  worker   http://127.0.0.1:{children.worker_port}/metrics")
    console.print(f"  broker   {children.broker.address}")
    console.print(f"  store    {children.store.url}")
    console.print("\nTry in another terminal:\n")
    lines = curl_lines(children.url, children.token, months)
    for path, line in lines if options.show_answers else lines[:TRIED]:
        console.print(line)
        if options.show_answers:
            try:
                console.print(children.get(path).rstrip() + "\n")
            except OSError as error:
                raise DemoError(f"The api did not answer {path}: {error}") from error
    console.print("\nOr use the commands, such as authtally report and authtally doctor, after this line:\n")
    console.print(f". {shlex.quote(str(children.settings_file))}")
    console.print("\nCtrl-C stops the demo and removes its files. --show-answers prints more questions with answers.")
    view = "" if options.until is None else f"?from={last_day - timedelta(DAYS_SHOWN - 1):%F}&to={last_day:%F}"
    console.print(f"\n  token      {children.token}")
    console.print(f"  dashboard  {children.url}/{view}#token={quote(children.token)}")


def _check_answers(children: Children, sample: SampleEvents, sent: Sequence[Sent], console: Console) -> int:
    found = differences(children, sample, sent, KEY_PREFIX)
    if found:
        for line in found:
            click.echo(f"WRONG {line}", err=True)
        return FAILED
    console.print(f"\nEvery answer agrees with the {sample.expected.records} events published.")
    return 0
