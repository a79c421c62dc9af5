"""`authtally demo`: run everything on one machine, publish sample events and print the answers."""

from __future__ import annotations

import shlex
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import cycle
from threading import Event
from types import FrameType
from typing import Final, NamedTuple, NoReturn
from urllib.parse import quote

import click
from rich.console import Console

from deploy.demo import regions_answers, sources
from deploy.demo.answers import curl_lines, differences, records_sent
from deploy.demo.filling import KEY_PREFIX, fill, set_quotas, wait_until_consumed
from deploy.demo.processes import Children, DemoError
from deploy.demo.region import planned
from deploy.demo.sample_events import SampleEvents
from deploy.demo.site import first_month
from deploy.demo.sources import Sent

WATCH_S: Final = 0.25
TRICKLE_S: Final = 2.0
DAYS_SHOWN: Final = 30
"""Days of the dashboard's first view."""
TRIED: Final = 3
"""Questions that are printed without --show-answers."""
FAILED: Final = 1
INTERRUPTED: Final = 130
STOPPED_BY: Final = (signal.SIGINT, signal.SIGTERM)


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
    regions: bool
    """Play two regions, each with its own processes."""


def run(options: Options) -> int:
    """Run the demo; the exit status. Processes and files are removed when it returns."""
    console = Console(soft_wrap=True, highlight=False, markup=False)
    restore = {number: signal.signal(number, _stop) for number in STOPPED_BY}
    ready = Event()
    try:
        return (_run_regions if options.regions else _run_one)(options, console, ready)
    except DemoError as error:
        click.echo(str(error), err=True)
        return FAILED
    except _Stopped:
        console.print("\nStopped. All files were removed.")
        return 0 if ready.is_set() else INTERRUPTED
    finally:
        for number, handler in restore.items():
            signal.signal(number, handler)


def _run_one(options: Options, console: Console, ready: Event) -> int:
    began = time.monotonic()
    sample = SampleEvents(options.events, options.until or datetime.now(UTC))
    with Children(options.port, options.token) as children:
        try:
            sent = _play(children, sample)
            _report(children, sample, options, time.monotonic() - began, console)
            ready.set()
            if options.then_exit:
                return _check_answers(children, sample, sent, console)
            _run_on([(children, sample)], live=options.until is None)
        finally:
            _ignore_signals()


def _run_regions(options: Options, console: Console, ready: Event) -> int:
    began, until = time.monotonic(), options.until or datetime.now(UTC)
    with ExitStack() as stack:
        played = []
        for place, (port, region) in enumerate(planned(options.port)):
            sample = SampleEvents(options.events // (place + 1), until, abroad=region.name if place else "")
            played.append((stack.enter_context(Children(port, options.token, region)), sample))
        try:
            sent = _play(*played[0])
            for children, sample in played[1:]:
                _play(children, sample, with_sources=False)
            regions_answers.wait_until_met(played)
            regions_answers.report(played, time.monotonic() - began, console, then_exit=options.then_exit)
            ready.set()
            if options.then_exit:
                found = regions_answers.differences(played, sent, KEY_PREFIX)
                return _checked(found, sum(sample.expected.records for _, sample in played), console)
            _run_on(played, live=options.until is None)
        finally:
            _ignore_signals()


def _play(children: Children, sample: SampleEvents, *, with_sources: bool = True) -> list[Sent]:
    """Publish everything and wait until it is counted; the events of the other sources."""
    fill(children, sample)
    children.wait_for_api()
    sent = sources.send(children, sample.expected, first_month(sample.until)) if with_sources else []
    wait_until_consumed(children, records_sent(sample, sent))
    set_quotas(children, sample)
    return sent


def _run_on(played: Sequence[tuple[Children, SampleEvents]], *, live: bool) -> NoReturn:
    """Watch the processes; with `live` publish one more event every TRICKLE_S, in turn for each region."""
    producers = [children.producer() for children, _ in played]
    turns, due = cycle(range(len(played))), time.monotonic() + TRICKLE_S
    while True:
        for (children, _), producer in zip(played, producers, strict=True):
            children.check()
            producer.poll(0)
        time.sleep(WATCH_S)
        if live and time.monotonic() >= due:
            due += TRICKLE_S
            turn = next(turns)
            record = played[turn][1].live(datetime.now(UTC))
            producers[turn].produce(record.topic, record.value, record.key, timestamp=record.time_ms)


def _stop(number: int, frame: FrameType | None) -> None:
    _ignore_signals()
    raise _Stopped


def _ignore_signals() -> None:
    """Ignore a second Ctrl-C, which would interrupt the clean-up."""
    for number in STOPPED_BY:
        signal.signal(number, signal.SIG_IGN)


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
        "KAFKA_IDEMPOTENCE is off here, because the demo's broker does not support idempotent producers. "
        "Leave it on with Kafka."
    )
    if options.then_exit and not options.show_answers:
        return
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
    return _checked(differences(children, sample, sent, KEY_PREFIX), sample.expected.records, console)


def _checked(found: Sequence[str], records: int, console: Console) -> int:
    """Print the differences; the exit status."""
    if found:
        for line in found:
            click.echo(f"WRONG {line}", err=True)
        return FAILED
    console.print(f"\nEvery answer agrees with the {records} events published.")
    return 0
