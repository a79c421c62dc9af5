"""Podman with a configuration of its own, so that its commands need no options that only this machine needs."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

LIMIT_S: Final = 540


class EngineError(Exception):
    """A command of the engine failed; the text has its output."""


class Engine:
    """`folder` gets containers.conf, which child processes (podman-compose, buildah) also read."""

    def __init__(self, folder: Path) -> None:
        # Podman's default is above the hard limit of some machines, where no container would start. Both limits are
        # equal, because `kube play` of Podman 4.3 exchanges them.
        files = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 1_048_576)
        configuration = folder / "containers.conf"
        configuration.write_text(
            # runc, because crun of Debian 12 needs cgroups v2.
            '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
            f'[containers]\ndefault_ulimits = ["nofile={files}:{files}", "nproc=4096:4096"]\nlog_driver = "k8s-file"\n',
            encoding="utf-8",
        )
        self.environment: Mapping[str, str] = {**os.environ, "CONTAINERS_CONF": str(configuration)}

    def attempt(
        self,
        words: Sequence[str | Path],
        folder: Path | None = None,
        given: str | None = None,
        environment: Mapping[str, str] | None = None,
        limit_s: float = LIMIT_S,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, whatever its exit status. `given` is its standard input."""
        return subprocess.run(
            [str(word) for word in words],
            cwd=folder,
            env={**self.environment, **(environment or {})},
            input="" if given is None else given,
            capture_output=True,
            text=True,
            check=False,
            timeout=limit_s,
        )

    def run(self, *words: str | Path, folder: Path | None = None, given: str | None = None) -> str:
        """The output of a command. Raises EngineError."""
        done = self.attempt(words, folder, given)
        if done.returncode != 0:
            raise EngineError(f"{' '.join(map(str, words))}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def podman(self, *words: str | Path) -> str:
        return self.run("podman", *words)

    def inspect(self, container: str, template: str) -> str:
        return self.podman("inspect", "--format", template, container).strip()

    def healthy(self, container: str) -> bool:
        """Whether the container's health check passes. Podman schedules checks by systemd, which may be missing."""
        return self.attempt(("podman", "healthcheck", "run", container)).returncode == 0

    def logs(self, container: str, lines: int = 30) -> str:
        done = self.attempt(("podman", "logs", "--tail", str(lines), container))
        return done.stdout + done.stderr
