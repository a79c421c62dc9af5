"""Progress of `authtally publish`: the share by bytes of the input, the rate by events."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from deploy.cli.publish.source import Source
from deploy.progress import Job, progress


class Shown:
    """Reports the bytes read and the events made of them to a progress job."""

    def __init__(self, job: Job, source: Source) -> None:
        self._job, self._source = job, source

    def begin(self, what: str, events: int) -> None:
        self._job.begin(what, events, self._source.read_bytes)

    def at(self, events: int) -> None:
        self._job.at(self._source.read_bytes, events)


@contextmanager
def showing(source: Source, size: int | None) -> Iterator[Shown]:
    with progress("reading", "events", size) as job:
        yield Shown(job, source)
