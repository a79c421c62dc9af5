"""Limits equal warnings of libraries that log every attempt: aiokafka can log one ten times a second for minutes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

WINDOW_S: Final = 60.0
"""A line that was not repeated for so long is written like a new one; one that continues is written this often."""
MAX_LINES: Final = 256
"""Different lines that are remembered; the oldest is forgotten, so it is only written again."""


@dataclass(slots=True)
class _Line:
    first: float
    last: float
    written: float
    count: int = 0


class RepeatFilter(logging.Filter):
    """Passes the 1st, 10th, 100th … of equal warnings, and one in WINDOW_S, with their number. Others are dropped.

    Lines below a warning all pass: they are steps, such as that of joining a group again.

    A filter of a handler, which sees the lines of every logger below `loggers`. Threads may share it.
    """

    def __init__(self, loggers: Collection[str]) -> None:
        super().__init__()
        self._loggers = frozenset(loggers)
        self._lines: dict[tuple[str, int, str], _Line] = {}
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING or record.name.partition(".")[0] not in self._loggers:
            return True
        text, at = record.getMessage(), record.created
        with self._lock:
            line = self._line((record.name, record.levelno, text), at)
            passes = _is_power_of_ten(line.count) or at - line.written >= WINDOW_S
            if passes:
                line.written = at
        if passes and line.count > 1:
            record.msg, record.args = f"{text} ({line.count} such lines in {at - line.first:.0f} s)", ()
        return passes

    def _line(self, key: tuple[str, int, str], at: float) -> _Line:
        line = self._lines.pop(key, None)
        # A clock that was set back ends the series too.
        if line is None or not 0 <= at - line.last < WINDOW_S:
            line = _Line(at, at, at)
        line.last = at
        line.count += 1
        # At the end, so that the first entry is the oldest.
        self._lines[key] = line
        while len(self._lines) > MAX_LINES:
            del self._lines[next(iter(self._lines))]
        return line


def _is_power_of_ten(number: int) -> bool:
    while number % 10 == 0:
        number //= 10
    return number == 1
