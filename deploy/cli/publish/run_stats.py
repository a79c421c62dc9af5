"""Converts elements to events and counts the results: published, ignored, rejected by reason."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, Self

import msgspec
import orjson

from deploy.cli.publish.source import MAX_ELEMENT, Source
from deploy.cli.publish.state import ElementCounts, next_link
from schemas.adapters.elements import Adapter, Element, count_unknown
from schemas.events import BadRecordError, Event, RecordTime
from schemas.unknown_fields import UNKNOWN_FIELDS, describe

EXAMPLES: Final = 3
MAX_WARNINGS: Final = 100


class RejectsError(Exception):
    """The file of rejects cannot be written."""


class Example(NamedTuple):
    """One rejected element, without its value."""

    reason: str
    line: int
    element: int
    detail: str


class Rejects:
    """The file of rejected elements, one JSON object per line. Without a path, only examples are kept."""

    def __init__(self, path: Path | None, resumed_at: int = 0) -> None:
        """`resumed_at`: length of the file to keep; the rest is truncated, because its elements are read again."""
        self.examples: dict[str, list[Example]] = {}
        self.size = resumed_at
        self._path = path
        self._file: IO[bytes] | None = None
        if path is None:
            return
        try:
            self._file = path.open("r+b" if resumed_at and path.exists() else "wb")
            # A file that was moved away meanwhile starts empty.
            self.size = min(resumed_at, self._file.seek(0, 2))
            self._file.truncate(self.size)
            self._file.seek(self.size)
        except OSError as error:
            raise RejectsError(f"--rejects {path}: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                raise RejectsError(f"--rejects {self._path}: {error.strerror}") from error

    def add(self, example: Example, offset: int, value: bytes) -> None:
        of_reason = self.examples.setdefault(example.reason, [])
        if len(of_reason) < EXAMPLES:
            of_reason.append(example)
        if self._file is None:
            return
        text = value.decode(errors="replace")
        document = {**example._asdict(), "byte": offset, "value": text}
        line = orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
        try:
            self._file.write(line)
        except OSError as error:
            raise RejectsError(f"--rejects {self._path}: {error.strerror}") from error
        self.size += len(line)

    def flush(self) -> None:
        """Flush before a state is saved that contains the file's length."""
        if self._file is not None:
            try:
                self._file.flush()
            except OSError as error:
                raise RejectsError(f"--rejects {self._path}: {error.strerror}") from error


class RunStats:
    """Takes elements in order; `tally` and `link` cover all of them up to the latest."""

    def __init__(
        self,
        adapter: Adapter,
        link: bytes,
        rejects: Rejects,
        *,
        ids: bool,
        before: ElementCounts | None = None,
        warn: bool = False,
    ) -> None:
        """`warn`: whether to look for unknown fields, which costs as much as decoding the event."""
        before = before or ElementCounts()
        self.link = link
        self.elements, self.events, self.ignored = before.elements, before.events, before.ignored
        self.rejected = Counter(before.rejected)
        self.unknown = dict(before.unknown)
        self.rejects = rejects
        self._adapter = adapter
        self._ids = ids
        self._find_unknown = UNKNOWN_FIELDS.get(adapter) if warn else None
        self.warnings: dict[str, list[Example]] = {}
        """Unknown fields, in at most MAX_WARNINGS combinations, with the first elements of each."""
        self.warned = Counter[str]()

    def tally(self) -> ElementCounts:
        return ElementCounts(
            self.elements, self.events, self.ignored, dict(self.rejected), self.rejects.size, dict(self.unknown)
        )

    def add(self, raw: bytes, source: Source) -> Iterator[Event]:
        """The events of an element of `source`; counts rejects. Exhaust the iterator before the next element."""
        self.link = next_link(self.link, raw)
        if source.too_long:
            bad = BadRecordError("too_long", f"the line is longer than {MAX_ELEMENT} bytes")
            parts = [Element(0, raw, bad=bad)]
        else:
            # The time of sending becomes the record's timestamp, by which the worker judges the event's time.
            parts = self._adapter(raw, (), RecordTime(time.time_ns() // 1_000_000))
        for part in parts:
            if part.bad is not None:
                self._reject(part, raw, source)
            elif not part.events:
                self.ignored += 1
                if part.unknown is not None:
                    count_unknown(self.unknown, part.unknown)
            elif self._find_unknown is not None and (unknown := self._find_unknown(part.raw or b"")):
                self._warn(describe(unknown), source)
            for event in part.events:
                self.events += 1
                yield self._with_id(event, part.index, len(parts)) if self._ids and event.id is None else event
        self.elements += 1

    def _with_id(self, event: Event, index: int, parts: int) -> Event:
        """Give the event an id that is unique to its element and the same in every run."""
        which = f"/{index}" if parts > 1 else ""
        return msgspec.structs.replace(event, id=f"publish:{self.link.hex()}{which}")

    def _reject(self, part: Element, raw: bytes, source: Source) -> None:
        assert part.bad is not None
        self.rejected[part.bad.reason] += 1
        example = Example(part.bad.reason, source.line, self.elements, part.bad.detail)
        self.rejects.add(example, source.offset, raw if part.raw is None else part.raw)

    def _warn(self, detail: str, source: Source) -> None:
        if detail not in self.warned and len(self.warned) >= MAX_WARNINGS:
            return
        self.warned[detail] += 1
        examples = self.warnings.setdefault(detail, [])
        if len(examples) < EXAMPLES:
            examples.append(Example("unknown_field", source.line, self.elements, detail))

    def warnings_document(self) -> dict[str, Any]:
        """For `--json`: by unknown field, the number of elements and the first of them."""
        return {
            detail: {
                "count": self.warned[detail],
                "examples": [{"line": example.line, "element": example.element} for example in examples],
            }
            for detail, examples in sorted(self.warnings.items())
        }

    def as_document(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "elements": self.elements,
            "events": self.events,
            "ignored": self.ignored,
            "unknown": dict(sorted(self.unknown.items())),
            "rejected": {
                reason: {
                    "count": count,
                    "examples": [
                        {"line": example.line, "element": example.element, "detail": example.detail}
                        for example in self.rejects.examples.get(reason, ())
                    ],
                }
                for reason, count in sorted(self.rejected.items())
            },
        }
