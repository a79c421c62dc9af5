"""`authtally publish`: convert a file or stream of events and publish it to Kafka; an interrupted run can resume."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import click

from deploy.cli.json_output import print_json
from deploy.cli.operations import show_table
from deploy.cli.publish.dry_run import KINDS, DryRun
from deploy.cli.publish.progress import showing
from deploy.cli.publish.run import STDIN, Options, PublishSettings, Run, Stopped, StopRequest, state_to_resume
from deploy.cli.publish.run_stats import Example, Rejects, RejectsError, RunStats
from deploy.cli.publish.source import InputError, Readable, Source
from deploy.cli.publish.state import State, StateError, first_link
from deploy.cli.terminal import echo
from schemas.outgoing import UnboundError, outgoing, topics_by_event

FAILED: Final = 1
INTERRUPTED: Final = 130


class _Input(NamedTuple):
    stream: Readable
    size: int | None


def publish(settings: PublishSettings, options: Options) -> int:
    """Run the command; the exit status, 0 if nothing was rejected. Raises click.ClickException."""
    try:
        with _open(options.file) as given:
            if options.dry_run:
                return _dry_run(settings, options, given)
            return _publish(settings, options, given)
    except (StateError, RejectsError, UnboundError) as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def _open(file: str) -> Iterator[_Input]:
    if file == STDIN:
        yield _Input(sys.stdin.buffer, None)  # type: ignore[arg-type]
        return
    path = Path(file)
    try:
        stream: IO[bytes] = path.open("rb")
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}") from error
    with stream:
        yield _Input(stream, path.stat().st_size if path.is_file() else None)  # type: ignore[arg-type]


def _dry_run(settings: PublishSettings, options: Options, given: _Input) -> int:
    summary = DryRun(settings)
    source = Source(given.stream, options.entry)
    bound = topics_by_event(settings.topics)
    broken = None
    with showing(source, given.size) as shown, Rejects(options.rejects) as rejects:
        stats = RunStats(options.adapter(settings), first_link(options.source), rejects, ids=False, warn=True)
        shown.begin("reading", 0)
        try:
            for raw in source:
                for event in stats.add(raw, source):
                    outgoing(event, bound)
                    summary.add(event)
                shown.at(stats.events)
        except InputError as error:
            broken = error
    months = summary.months()
    if options.as_json:
        print_json(
            {
                **stats.as_document(),
                "warnings": stats.warnings_document(),
                "months": months,
                "error": str(broken) if broken else None,
            }
        )
    else:
        echo(f"Dry run: {stats.events:,} events would be published from {stats.elements:,} elements.")
        _report_rest(stats, options.format)
        _report_warnings(stats)
        if months:
            echo()
            show_table(
                ("month", "active users", *(kind.replace("_", " ") for kind in KINDS)),
                (
                    (month, f"{'' if row['exact'] else '~'}{row['active_users']}", *(row[kind] for kind in KINDS))
                    for month, row in months.items()
                ),
            )
        if broken:
            echo(f"Error: {broken}", err=True)
    return FAILED if stats.rejected or broken else 0


def _publish(settings: PublishSettings, options: Options, given: _Input) -> int:
    state = state_to_resume(options)
    stop = StopRequest(given.stream)
    began = time.monotonic()
    try:
        # The source reads the beginning of the input, so the signals are handled before it is made.
        with stop.requested():
            return _publish_until(settings, options, given, stop, state, began)
    except Stopped:
        raise KeyboardInterrupt from None


def _publish_until(
    settings: PublishSettings, options: Options, given: _Input, stop: StopRequest, state: State | None, began: float
) -> int:
    source = Source(stop, options.entry)
    with (
        showing(source, given.size) as shown,
        Rejects(options.rejects, state.tally.rejects_bytes if state else 0) as rejects,
    ):
        run = Run(settings, options, rejects, state, source)
        # Saved once before the start, so that a state file that cannot be written fails now.
        run.save(run.account.tally(), run.account.link)
        problem = run.run(shown, stop)
    _report(options, run, time.monotonic() - began, problem, stopped=stop.requested_at)
    if stop.requested_at:
        return INTERRUPTED
    return FAILED if problem or run.account.rejected else 0


def _report(options: Options, run: Run, seconds: float, problem: str | None, *, stopped: bool) -> None:
    stats, path = run.account, options.state_path
    sent = run.acknowledged
    again = f"{sent.elements:,} elements are acknowledged. " + (
        "Run the same command to continue." if path else "Without --state the next run starts at the beginning."
    )
    if options.as_json:
        result: dict[str, Any] = stats.as_document() | {
            "acknowledged": {"elements": sent.elements, "events": sent.events},
            "resumed_at_element": run.resumed_at,
            "finished": run.finished,
            "error": problem,
            "seconds": round(seconds, 3),
        }
        print_json(result)
    else:
        if run.resumed_at:
            echo(f"{run.resumed_at:,} elements were acknowledged before and were skipped.")
        echo(
            f"Published {sent.events:,} events from {sent.elements:,} elements"
            + (" in all" if run.resumed_at else "")
            + f"; this run took {seconds:.1f} s."
        )
        _report_rest(stats, options.format)
        if stopped:
            echo(f"Stopped. {again}")
    if problem:
        echo(f"Error: {problem}. {again}", err=True)


def _report_warnings(stats: RunStats) -> None:
    for detail, examples in sorted(stats.warnings.items()):
        lines = ", ".join(str(example.line) for example in examples)
        echo(f"Warning: {detail}, in {stats.warned[detail]:,} elements (first lines: {lines}).")


def _report_rest(stats: RunStats, form: str) -> None:
    if stats.ignored:
        echo(f"{stats.ignored:,} elements are of kinds that are not counted and were left out.")
    if stats.unknown:
        types = ", ".join(f"{name} ({count:,})" for name, count in sorted(stats.unknown.items()))
        echo(f"Event types among them that --format {form} does not know: {types}")
    if not stats.rejected:
        return
    echo(f"{stats.rejected.total():,} rejected:")
    examples = stats.rejects.examples
    rows: list[tuple[object, ...]] = []
    for reason, count in sorted(stats.rejected.items()):
        of_reason: list[Example | None] = [*examples.get(reason, ())] or [None]
        for place, example in enumerate(of_reason):
            result = (example.line, example.element, example.detail) if example else ("before", "", "")
            rows.append((*((reason, count) if place == 0 else ("", "")), *result))
    show_table(("reason", "count", "line", "element", "detail"), rows)
