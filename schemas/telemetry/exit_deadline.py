"""Ends a process that does not end by itself, and writes what each thread and task was doing."""

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
"""Exit status of a process that had to be ended: faulthandler's own."""
CRASH_S: Final = 8.0
"""For a crashed process to close its connections."""
TASKS_S: Final = 1.0
"""How long before the end the tasks are written."""
MAX_DEPTH: Final = 30

Loops = Callable[[], Iterable[asyncio.AbstractEventLoop]]


class ExitDeadline:
    """The moment at which a process ends whatever hangs: a lock, a socket, a thread, its event loop."""

    def __init__(self, loops: Loops = tuple) -> None:
        """`loops`: the event loops whose tasks are written."""
        self._loops = loops
        self._at = float("inf")

    def within(self, seconds: float) -> None:
        """End the process in `seconds` at the latest, by STATUS. An earlier deadline stays. Safe to call in any thread.

        Nothing runs at the end: no `finally`, no `atexit`. The ledger needs none: what is not applied is read again.
        """
        if time.monotonic() + seconds >= self._at:
            return
        self._at = time.monotonic() + seconds
        # A thread of C, which needs neither the event loop nor the interpreter's lock.
        faulthandler.dump_traceback_later(seconds, exit=True, file=_stderr())
        threading.Thread(target=self._write_tasks_before, args=(self._at,), name="exit-deadline", daemon=True).start()

    def write_stacks(self) -> None:
        """Every thread and task to stderr, now."""
        faulthandler.dump_traceback(_stderr(), all_threads=True)
        self._write_tasks()

    def _write_tasks_before(self, at: float) -> None:
        time.sleep(max(0.0, at - TASKS_S - time.monotonic()))
        if at == self._at:
            self._write_tasks()

    def _write_tasks(self) -> None:
        # Best effort: another thread may change what is looked at.
        with contextlib.suppress(Exception):
            for loop in self._loops():
                for task in asyncio.all_tasks(loop):
                    lines = [f"Task {task.get_name()} (outermost call first):", *_frames(task.get_coro())]
                    _stderr().write("\n".join(lines) + "\n")
        _stderr().flush()


def _frames(awaited: Any) -> Iterator[str]:
    """Where a suspended coroutine stands, and what it waits for, and so on."""
    for _ in range(MAX_DEPTH):
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is None:
            if awaited is not None:
                yield f"  waits for {awaited!r}"[:300]
            return
        yield f'  File "{frame.f_code.co_filename}", line {frame.f_lineno} in {frame.f_code.co_name}'
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)


def _stderr() -> TextIO:
    # The process's own, whatever has been put in its place.
    return sys.__stderr__ or sys.stderr
