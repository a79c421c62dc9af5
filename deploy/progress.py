"""Progress of a long job on stderr: a bar on a terminal, otherwise a plain line every 30 s; none for a short job."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

SHOW_S: Final = 0.2
FIRST_LINE_S: Final = 10.0
LINES_S: Final = 30.0
"""Time between two plain lines: a job's log needs a sign of life, not details."""
SLOW: Final = 10
"""Below this rate a decimal is shown."""


class Job:
    """A job with a bar or lines. `done` drives the bar and `counted` the rate; they may differ, as bytes and events."""

    def __init__(
        self,
        what: str,
        unit: str,
        total: int | None,
        bar: Progress | None,
        lines: TextIO,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Without a `bar`, plain lines go to `lines`. `total` is the final `done`; None if it is unknown."""
        self._what, self._unit, self._total, self._lines, self._clock = what, unit, total, lines, clock
        self._bar = bar
        self._task = bar.add_task("", total=total, what=what, rate="") if bar is not None else None
        self._began = clock()
        self._next = self._began if bar is not None else self._began + FIRST_LINE_S
        self._done_before = self._counted_before = self._sum = 0

    def begin(self, what: str, counted: int = 0, done: int = 0) -> None:
        """Begin another stage; rates count from here."""
        self._what, self._began = what, self._clock()
        self._done_before, self._counted_before = done, counted
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, what=what)

    def of(self, what: str, done: int, total: int) -> None:
        """Set stage, progress and total, for a job that learns its total while it runs."""
        self._what, self._total = what, total
        self.at(done)

    def add(self, more: int, what: str = "") -> None:
        self._what = what or self._what
        self._sum += more
        self.at(self._sum)

    def at(self, done: int, counted: int | None = None) -> None:
        now = self._clock()
        if now < self._next:
            return
        counted = done if counted is None else counted
        passed = max(now - self._began, SHOW_S)
        rate = f"{_number((counted - self._counted_before) / passed)} {self._unit}/s"
        if self._bar is not None and self._task is not None:
            self._next = now + SHOW_S
            self._bar.update(self._task, completed=done, total=self._total, what=self._what, rate=rate)
            return
        self._next = now + LINES_S
        result = [f"{counted:,} {self._unit}", rate]
        if self._total:
            result.insert(0, f"{done / self._total:.0%}")
            speed = (done - self._done_before) / passed
            if speed > 0:
                result.append(f"{_span((self._total - done) / speed)} left")
        print(f"{self._what}: {', '.join(result)}", file=self._lines, flush=True)


@contextmanager
def progress(what: str, unit: str, total: int | None = None) -> Iterator[Job]:
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Job(what, unit, total, None, sys.stderr)
        return
    columns = (
        TextColumn("{task.fields[what]:<10}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        yield Job(what, unit, total, bar, sys.stderr)


def _number(rate: float) -> str:
    """With a decimal below SLOW, because a large shard takes seconds and 0.4 shards/s must not look like none."""
    return f"{rate:,.1f}" if 0 < rate < SLOW else f"{rate:,.0f}"


def _span(seconds: float) -> str:
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left:02}"
