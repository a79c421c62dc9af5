"""Speed of one consuming process, between the moment it has begun and the moment it has everything."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

TICKS: Final = os.sysconf("SC_CLK_TCK")
POLL_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Speed:
    """One run: events, and the seconds of wall and of the process's CPU that they took; RSS in bytes at its end."""

    events: int
    wall_s: float
    cpu_s: float
    rss: int

    @property
    def per_second(self) -> float:
        return self.events / self.wall_s

    @property
    def per_cpu_second(self) -> float:
        return self.events / self.cpu_s


def cpu_s(pid: int) -> float:
    """User and system seconds of a process, its threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak(pid: int) -> int:
    """The most that a process has had in memory so far, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split(maxsplit=1)[0]) * 1024


class Stopwatch:
    """Runs from the first progress seen to the last event, so that start-up and joining a group do not count."""

    def __init__(self, pid: int, events: int) -> None:
        self._pid = pid
        self._events = events
        self._first: tuple[int, float, float] | None = None

    def saw(self, consumed: int) -> Speed | None:
        """The speed, once everything is consumed."""
        now, cpu = time.perf_counter(), cpu_s(self._pid)
        if consumed and self._first is None:
            self._first = (consumed, now, cpu)
        if consumed < self._events or self._first is None:
            return None
        begun, at, spent = self._first
        return Speed(consumed - begun, now - at, max(cpu - spent, 1 / TICKS), rss(self._pid))


def watch(
    processes: Sequence[subprocess.Popen[bytes]],
    events: int,
    consumed: Callable[[], int],
    limit_s: float,
    look: Callable[[int, int], None] = lambda _, __: None,
) -> Speed:
    """Poll processes from outside until they have consumed everything; CPU and RSS are those of all of them.

    `look` is called with a pid and the events consumed. Raises RuntimeError when one dies or they are too slow.
    """
    stopwatches = [Stopwatch(process.pid, events) for process in processes]
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if any(process.poll() is not None for process in processes):
            raise RuntimeError("a process under measurement died")
        now = consumed()
        for process in processes:
            look(process.pid, now)
        speeds = [speed for stopwatch in stopwatches if (speed := stopwatch.saw(now)) is not None]
        if len(speeds) == len(processes):
            cpu, held = sum(speed.cpu_s for speed in speeds), sum(speed.rss for speed in speeds)
            return Speed(speeds[0].events, speeds[0].wall_s, cpu, held)
        time.sleep(POLL_S)
    raise RuntimeError(f"not done within {limit_s:.0f} s")


def report(speed: Speed, **more: object) -> None:
    """What an arm in a process of its own prints for its parent; `more` says what work it did."""
    # A line of its own: Faust writes escape codes to standard output as it leaves and comes.
    print("\n" + json.dumps({"speed": asdict(speed), **more}), flush=True)  # noqa: T201
