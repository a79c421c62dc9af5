"""Worker processes that somebody restarts when they end, as an orchestrator does; of this version or of an older."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.integration.workers import WorkerProcess, Workers
from tests.qualification.chaos.clocks import FalseClock
from tests.qualification.chaos.network import CHECKOUT

RESTART_S: Final = 1.0
MODULE: Final = ("-m", "aggregator")


def is_fixed(revision: str) -> bool:
    """Whether it names the same commit tomorrow: a tag or a commit's own digits, no branch and nothing relative."""
    tags = subprocess.run(("git", "tag", "--list", revision), cwd=CHECKOUT, capture_output=True, check=True)
    return bool(re.fullmatch("[0-9a-f]{7,40}", revision) or tags.stdout.strip())


def unpack(revision: str, folder: Path) -> Path | None:
    """The product as of a commit, in a folder; None where there is no such commit, or no git."""
    try:
        packed = subprocess.run(
            ("git", "archive", revision, "aggregator", "schemas"), cwd=CHECKOUT, capture_output=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return folder


class Fleet:
    """`size` workers by number. Number 0 has a clock of its own, all others share one."""

    def __init__(
        self, folder: Path, size: int, settings: dict[str, str], program: tuple[str, ...] = MODULE, older: str = ""
    ) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._workers = Workers(folder, **settings)
        self._program = program
        self.size = size
        self.older = unpack(older, folder / "older") if older else None
        self._is_old = [False] * size
        self.members: list[WorkerProcess] = []
        self.ended: list[str] = []
        """Why workers ended that the harness had not ended, a line each."""
        self._expected: set[int] = set()
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._clocks = [FalseClock(folder, "first"), *[FalseClock(folder, "others")] * (size - 1)]
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)

    @property
    def has_clock(self) -> bool:
        return self._clocks[0].can_be_set

    def start(self) -> None:
        self.members = [self._start(number) for number in range(self.size)]
        self._thread.start()

    def _start(self, number: int) -> WorkerProcess:
        environment = [f"PYTHONPATH={self.older if self._is_old[number] else CHECKOUT}"]
        environment += [f"{name}={value}" for name, value in self._clocks[number].environment.items()]
        return self._workers.start(("/usr/bin/env", *environment, sys.executable, *self._program))

    def _watch(self) -> None:
        while not self._closed.wait(0.1):
            with self._lock:
                for number, worker in enumerate(self.members):
                    if worker.running:
                        continue
                    if number not in self._expected:
                        self.ended.append(
                            f"{'older ' if self._is_old[number] else ''}{worker.log_file.parent.name} ended with "
                            f"{worker.wait()}: {_reason(worker.log)}"
                        )
                        time.sleep(RESTART_S)
                    self._expected.discard(number)
                    self.members[number] = self._start(number)

    def kill(self, number: int, away_s: float, struck: Callable[[], object] = lambda: None) -> None:
        """SIGKILL; another takes its place after a while."""
        with self._lock:
            self.members[number].kill()
            struck()
            time.sleep(away_s)
            self.members[number] = self._start(number)

    def replace(self, number: int, timeout_s: float = 60) -> bool:
        """End it in order and start the other version in its place. Answers whether that is the older one."""
        with self._lock:
            worker = self.members[number]
            if self.older is not None:
                self._is_old[number] = not self._is_old[number]
            if worker.lines("Starting"):
                worker.terminate()
                try:
                    worker.wait(timeout_s)
                except subprocess.TimeoutExpired:
                    self.ended.append(
                        f"{worker.log_file.parent.name} did not end within {timeout_s:g} s of SIGTERM: "
                        f"{worker.log.splitlines()[-25:]}"
                    )
                    worker.kill()
            else:
                worker.kill()
            self.members[number] = self._start(number)
            return self._is_old[number]

    def jump(self, offset_s: int) -> None:
        """Set the clock of worker 0 that far from the true time."""
        self._clocks[0].set(offset_s)

    def jump_all(self, offset_s: int) -> None:
        """Set the clocks of all workers, those that start later too, that far from the true time."""
        for clock in self._clocks:
            clock.set(offset_s)

    def refusals(self) -> int:
        """Ranges that the store refused to any worker, by their logs."""
        return sum(len(worker.lines("range refused")) for worker in self._workers.started)

    def logs(self, phrase: str) -> list[str]:
        return [line for worker in self._workers.started for line in worker.lines(phrase)]

    def copy_logs(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        for worker in self._workers.started:
            shutil.copy(worker.log_file, folder / f"{worker.log_file.parent.name}.log")

    def close(self) -> None:
        self._closed.set()
        if self._thread.ident is not None:
            self._thread.join()
        for worker in self._workers.started:
            worker.kill()


def _reason(log: str) -> str:
    """The last exception that a log names, or else its last line."""
    lines = [line for line in log.splitlines() if line.strip()]
    raised = [line for line in lines if re.match(r"\w+(\.\w+)*(Error|Exception|Down)\b", line)]
    return (raised or lines or ["it said nothing"])[-1][:300]
