"""Ends a process that does not exit in time, and writes the stacks of its threads and tasks."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TextIO

STATUS: Final = 1
"""Exit status of a process that the deadline ended, as faulthandler defines it."""
CRASH_S: Final = 8.0
"""Time for a crashed process to close its connections."""
TASKS_S: Final = 1.0
"""The tasks are written this long before the end."""
MAX_DEPTH: Final = 30

Loops = Callable[[], Iterable[asyncio.AbstractEventLoop]]


class ExitDeadline:
    """The time at which a process ends even if a lock, a socket, a thread or its event loop hangs."""

    def __init__(self, loops: Loops = tuple) -> None:
        """`loops`: the event loops whose tasks are written."""
        self._loops = loops
        self._at = float("inf")

    def within(self, seconds: float) -> None:
        """End the process in `seconds` at the latest, with STATUS. An earlier deadline stays. Safe in any thread.

        No `finally` and no `atexit` runs. The ledger needs none: records that are not applied are read again.
        """
        if time.monotonic() + seconds >= self._at:
            return
        self._at = time.monotonic() + seconds
        # faulthandler's thread is in C and needs neither the event loop nor the interpreter lock.
        faulthandler.dump_traceback_later(seconds, exit=True, file=_stderr())
        threading.Thread(target=self._write_tasks_before, args=(self._at,), name="exit-deadline", daemon=True).start()

    def write_stacks(self) -> None:
        """Write the stacks of all threads and tasks to stderr now."""
        faulthandler.dump_traceback(_stderr(), all_threads=True)
        self._write_tasks()

    def _write_tasks_before(self, at: float) -> None:
        time.sleep(max(0.0, at - TASKS_S - time.monotonic()))
        if at == self._at:
            self._write_tasks()

    def _write_tasks(self) -> None:
        # Best effort: another thread may change the loops meanwhile.
        with contextlib.suppress(Exception):
            for loop in self._loops():
                for task in asyncio.all_tasks(loop):
                    lines = [f"Task {task.get_name()} (outermost call first):", *_frames(task.get_coro())]
                    _stderr().write("\n".join(lines) + "\n")
        _stderr().flush()


def _frames(awaited: Any) -> Iterator[str]:
    """The frames of a suspended coroutine and of the coroutines that it awaits."""
    for _ in range(MAX_DEPTH):
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is None:
            if awaited is not None:
                yield f"  waits for {awaited!r}"[:300]
            return
        yield f'  File "{frame.f_code.co_filename}", line {frame.f_lineno} in {frame.f_code.co_name}'
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)


def _stderr() -> TextIO:
    # The process's own stderr, even if sys.stderr was replaced.
    return sys.__stderr__ or sys.stderr
