"""Worker processes: started with nothing but settings, ended with the test."""

from __future__ import annotations

import json
import os
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from prometheus_client.parser import text_string_to_metric_families

from deploy.demo.servers.process import HOST, free_port, start_child, tail
from tests.conftest import wait_until

AGGREGATOR: Final = (sys.executable, "-m", "aggregator")
START_S: Final = 40.0
"""A group whose last member was killed gives its share away only after the session timeout of 10 s."""


class WorkerProcess:
    """One worker. It sees the settings given, a home of its own, and no other environment."""

    def __init__(self, folder: Path, settings: Mapping[str, str], command: Sequence[str] = AGGREGATOR) -> None:
        folder.mkdir(parents=True)
        self.port = free_port()
        self.log_file = folder / "worker.log"
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(folder), "TMPDIR": str(folder)}
        environment |= {_variable(name): value for name, value in settings.items()}
        environment["AUTHTALLY_WORKER_PORT"] = str(self.port)
        # Its folder is its working directory too: no `.env` of the checkout is read.
        self._process = start_child(command, self.log_file, folder, environment)

    @property
    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def lines(self, phrase: str) -> list[str]:
        return [line for line in self.log.splitlines() if phrase in line]

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def rss_bytes(self) -> int:
        return rss_bytes(self._process.pid)

    def readiness(self) -> tuple[bool, list[str]]:
        """Whether it is ready, and the troubles that it names; not ready while nothing answers."""
        try:
            body = self._health("ready", 2)
        except OSError:
            return False, ["nothing listens"]
        return body["ready"], body["troubles"]

    def alive(self) -> bool:
        return bool(self._health("live", 5)["alive"])

    def _health(self, name: str, timeout_s: float) -> Any:
        """Raises OSError where nothing listens."""
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.port}/health/{name}", timeout=timeout_s) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as refusal:
            with refusal:
                return json.load(refusal)

    def wait_until_ready(self, timeout_s: float = START_S) -> Self:
        wait_until(lambda: self._ended() or self.readiness()[0], timeout_s, f"worker ready:\n{tail(self.log_file)}")
        assert self.running, f"the worker ended:\n{tail(self.log_file)}"
        return self

    def wait_until_joined(self, timeout_s: float = START_S) -> Self:
        """Return once it has its share of the group, whatever other troubles it may have."""

        def joined() -> bool:
            troubles = self.readiness()[1]
            return not any(word in error for error in troubles for word in ("joining", "nobody", "AUTHTALLY"))

        wait_until(joined, timeout_s, f"worker joined:\n{tail(self.log_file)}")
        return self

    def wait_until_troubled(self, *words: str, timeout_s: float = START_S) -> str:
        """The first trouble that readiness shows with all of these words in it."""
        found: list[str] = []

        def troubled() -> bool:
            found[:] = [error for error in self.readiness()[1] if all(word in error for word in words)]
            return bool(found)

        wait_until(troubled, timeout_s, f"readiness names {words}")
        return found[0]

    def _ended(self) -> bool:
        return not self.running

    def metrics(self) -> str:
        """All of them, as text."""
        with urllib.request.urlopen(f"http://{HOST}:{self.port}/metrics", timeout=5) as answer:
            return str(answer.read().decode())

    def metric(self, sample: str, **labels: str) -> float:
        """The sum of the samples of that name that carry these labels."""
        found: list[float] = [
            float(each.value)
            for family in text_string_to_metric_families(self.metrics())
            for each in family.samples
            if each.name == sample and labels.items() <= each.labels.items()
        ]
        return sum(found)

    def pause(self) -> None:
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, whatever state it is in. Safe to call when it has ended."""
        self._process.kill()
        self._process.wait()

    def terminate(self) -> None:
        self._process.terminate()

    def wait(self, timeout_s: float = 20) -> int:
        """Its exit code, once it has ended by itself or by `terminate`."""
        return self._process.wait(timeout_s)

    def stop(self) -> None:
        """End it in order. Fails the test when that does not go well."""
        self.terminate()
        assert self.wait() == 0, f"the worker did not end well:\n{tail(self.log_file)}"


def _variable(setting: str) -> str:
    """The environment's name for a setting: OpenTelemetry's are not ours and stay as they are."""
    return setting if setting.startswith("OTEL_") else f"AUTHTALLY_{setting.upper()}"


class Workers:
    """All workers of a test, with the settings that they share."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self._folder = folder
        self.settings = settings
        self.started: list[WorkerProcess] = []

    def start(self, command: Sequence[str] = AGGREGATOR, **settings: str) -> WorkerProcess:
        """Start one more; settings given here win. Returns at once, long before it is ready."""
        worker = WorkerProcess(self._folder / f"worker-{len(self.started)}", self.settings | settings, command)
        self.started.append(worker)
        return worker

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.started:
            worker.kill()
            # pytest shows it below the failure, if there is one.
            sys.stdout.write(f"--- {worker.log_file.parent.name}\n{tail(worker.log_file, 60)}\n")


def rss_bytes(pid: int) -> int:
    """Memory that a process holds resident."""
    pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
