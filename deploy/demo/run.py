"""`authtally demo`: run everything on one machine, publish sample events and print the answers."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from types import FrameType
from typing import Any, Final

import click
from confluent_kafka import KafkaError, Message
from rich.console import Console

from deploy.demo import sources
from deploy.demo.answers import STORE_TIMEOUT_S, consumed, curl_lines, differences, records_sent
from deploy.demo.processes import Children, DemoError
from deploy.demo.sample_events import DEAD_LETTERS, TOPICS, Expected, Sample, SampleEvents, otp_tokens
from deploy.demo.sources import Sent
from deploy.progress import progress
from schemas.connections.redis_clients import open_blocking
from schemas.ledger.keys import Shard, ShardKeys

KEY_PREFIX: Final = "authtally:"
CATCH_UP_TIMEOUT_S: Final = 60
"""Longest time without progress of the worker."""
POLL_S: Final = 0.05
WATCH_S: Final = 0.25
FAILED: Final = 1
INTERRUPTED: Final = 130
STOPPED_BY: Final = (signal.SIGINT, signal.SIGTERM)

Ends = dict[Shard, int]


class _Stopped(BaseException):
    """SIGTERM or Ctrl-C. A BaseException, so that no `except Exception` catches it."""


def run(events: int, port: int, token: str, then_exit: bool) -> int:
    """Run the demo; the exit status. Processes and files are removed when it returns."""
    console = Console(soft_wrap=True, highlight=False, markup=False)
    restore = {number: signal.signal(number, _stop) for number in STOPPED_BY}
    ready = False
    try:
        began = time.monotonic()
        with Children(port, token) as children:
            try:
                expected = _fill(children, events)
                children.wait_for_api()
                sent = sources.send(children)
                _wait_until_consumed(children, records_sent(expected, sent))
                _report(children, expected, sent, began, console)
                ready = True
                if then_exit:
                    return _check_answers(children, expected, sent, console)
                while True:
                    children.check()
                    time.sleep(WATCH_S)
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


def _stop(number: int, frame: FrameType | None) -> None:
    _ignore_signals()
    raise _Stopped


def _ignore_signals() -> None:
    """Ignore a second Ctrl-C, which would interrupt the clean-up."""
    for number in STOPPED_BY:
        signal.signal(number, signal.SIG_IGN)


def _fill(children: Children, events: int) -> Expected:
    """Publish the sample and wait until the worker has counted it."""
    sample, tokens = SampleEvents(events), list(otp_tokens())
    with progress("publishing", "events", events + len(tokens)) as job:
        ends = _publish(children, chain(sample, tokens), job.at)
        job.begin("counting")
        _wait_until_counted(children, ends, job.at)
    return sample.expected


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


def _report(children: Children, expected: Expected, sent: Sequence[Sent], began: float, console: Console) -> None:
    users = ", ".join(f"{month}: {expected.active(month)}" for month in expected.months)
    console.print(f"\nReady after {time.monotonic() - began:.1f} s: {expected.records} events published and counted.")
    console.print(f"  api      {children.url}")
    console.print(f"  token    {children.token}")
    console.print(f"  worker   http://127.0.0.1:{children.worker_port}/metrics")
    console.print(f"  broker   {children.broker.address}")
    console.print(f"  store    {children.store.url}")
    console.print(f"\nActive users published, by month: {users}.")
    names = ", ".join(each.source for each in sent)
    console.print(
        f"In addition, {sent[0].logins} logins of today came by each of: {names}; most were sent twice and count once."
    )
    console.print(f"{expected.dead.total()} records could not be counted; they are in {DEAD_LETTERS}.")
    console.print(
        "KAFKA_IDEMPOTENCE is off here: the embedded broker has no idempotent producers. Leave it on with Kafka."
    )
    console.print("\nTry:")
    for path, line in curl_lines(children.url, children.token, expected.months):
        console.print(f"\n{line}")
        try:
            console.print(children.get(path).rstrip())
        except OSError as error:
            raise DemoError(f"The api did not answer {path}: {error}") from error
    console.print("\nCtrl-C stops the demo and removes its files.")


def _check_answers(children: Children, expected: Expected, sent: Sequence[Sent], console: Console) -> int:
    found = differences(children, expected, sent, KEY_PREFIX)
    if found:
        for line in found:
            click.echo(f"WRONG {line}", err=True)
        return FAILED
    console.print(f"\nEvery answer agrees with the {expected.records} events published.")
    return 0
