"""A bar with rate and time left, on a terminal; nothing elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from deploy.publish_source import Source

SHOW_S: Final = 0.2


class Shown:
    """What the bar says: how much of the input was read, and how many events a second came of it."""

    def __init__(self, progress: Progress, source: Source, size: int | None) -> None:
        self._progress, self._source = progress, source
        self._task = progress.add_task("", total=size, what="reading", rate="")
        self._next = self._began = time.monotonic()
        self._before = 0

    def begin(self, what: str, events: int) -> None:
        self._began, self._before = time.monotonic(), events
        self._progress.update(self._task, what=what)

    def at(self, events: int) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + SHOW_S
            rate = (events - self._before) / max(now - self._began, SHOW_S)
            self._progress.update(self._task, completed=self._source.read_bytes, rate=f"{rate:,.0f} events/s")


@contextmanager
def showing(source: Source, size: int | None) -> Iterator[Shown]:
    columns = (
        TextColumn("{task.fields[what]:<10}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        yield Shown(progress, source, size)
