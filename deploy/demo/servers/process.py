"""Starts servers as child processes: waits until they answer, and ends them with this process."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Self

HOST: Final = "127.0.0.1"
POLL_S: Final = 0.02
TAIL_LINES: Final = 20

# Below Linux's ephemeral range: an outgoing connection could take an ephemeral port while its server restarts, and a
# client that retries a closed ephemeral port can even connect to itself.
PORTS: Final = range(12_000, 32_000)

# Linux sends the parent-death signal when the *thread* that started the child ends. So one thread starts all children
# and lives as long as the interpreter, unlike threads of an event loop's executor.
_STARTER: Final = ThreadPoolExecutor(1, thread_name_prefix="starts-children")


class ServerError(Exception):
    """A server did not start, or ended unexpectedly; the text has the end of its log."""


def free_port() -> int:
    """An unused port of 127.0.0.1 outside the ephemeral range."""
    for _ in range(100):
        port = random.choice(PORTS)  # noqa: S311
        with socket.socket() as probe:
            # Servers set it too: a port with connections in TIME_WAIT is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise ServerError("found no free port in 100 tries")


def accepts(port: int) -> bool:
    """Whether a port of 127.0.0.1 accepts connections."""
    try:
        with socket.create_connection((HOST, port), timeout=1):
            return True
    except OSError:
        return False


def start_child(
    command: Sequence[str | Path], log: Path, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a child that appends its output to `log`; on Linux it is killed whenever this process ends.

    It has its own process group, so Ctrl-C at the terminal reaches only this process, which then stops the child.
    """
    words = [str(word) for word in command]
    if sys.platform == "linux":
        tether = Path(__file__).with_name("tether.py")
        words = [sys.executable, "-I", "-S", str(tether), str(os.getpid()), *words]

    def start() -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(
                words,
                cwd=cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    return _STARTER.submit(start).result()


def stop_child(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    """SIGTERM, then SIGKILL after `timeout_s`. Safe to call for a child that is stopped (SIGSTOP) or has ended."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a log; empty if there is none."""
    try:
        return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""


class ServerProcess(ABC):
    """One server with its folder, port and process.

    `stop` and `kill` keep folder and port, and `start` uses them again. `close` (or the end of a `with` block) also
    removes a temporary folder, which is created without `folder`.
    """

    name: str
    start_timeout_s: float = 30
    stop_timeout_s: float = 10

    def __init__(self, folder: Path | None = None, port: int | None = None) -> None:
        self._owns_folder = folder is None
        self.folder = Path(tempfile.mkdtemp(prefix=f"authtally-{self.name}-")) if folder is None else folder
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> Sequence[str | Path]: ...

    @abstractmethod
    def answers(self) -> bool:
        """Whether the server answers a request; accepting connections is not enough."""

    def prepare(self) -> None:  # noqa: B027 (a server may need nothing)
        """Write the files that the command needs into the folder."""

    def environment(self) -> dict[str, str]:
        """The server's environment: no setting of authtally, and its folder as home."""
        return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.folder), "TMPDIR": str(self.folder)}

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The server's process id. Raises ServerError if it is not started."""
        if self._process is None:
            raise ServerError(f"{self.name} is not started")
        return self._process.pid

    def start(self) -> Self:
        """Start with the present folder and wait until it answers. Raises ServerError with the end of the log."""
        if self.running:
            return self
        self.folder.mkdir(parents=True, exist_ok=True)
        self.prepare()
        if accepts(self.port):
            raise ServerError(f"{self.name}: port {self.port} is in use")
        self._process = start_child(self.command(), self.log, self.folder, self.environment())
        deadline = time.monotonic() + self.start_timeout_s
        try:
            while not (accepts(self.port) and self.answers()):
                if self._process.poll() is not None:
                    raise ServerError(f"{self.name} ended with {self._process.returncode}:\n{tail(self.log)}")
                if time.monotonic() > deadline:
                    raise ServerError(f"{self.name} gave no answer in {self.start_timeout_s:g} s:\n{tail(self.log)}")
                time.sleep(POLL_S)
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self) -> None:
        """End it by SIGTERM, after a timeout by SIGKILL. Its data stays."""
        if self._process is not None:
            stop_child(self._process, self.stop_timeout_s)

    def kill(self) -> None:
        """End it by SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def restart(self) -> Self:
        self.stop()
        return self.start()

    def pause(self) -> None:
        """SIGSTOP: connections stay open without answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """Stop and remove a temporary folder; safe to call twice."""
        self.stop()
        if self._owns_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()
