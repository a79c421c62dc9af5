"""compose.yaml by podman-compose, with images of this machine in place of those that a registry would give."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from deploy.demo.servers.process import free_port
from tests.conftest import wait_until
from tests.qualification.container.engine import Engine, EngineError
from tests.qualification.container.images import AUTHTALLY, KAFKA, PROMETHEUS, ROOT, VALKEY

COMPOSE: Final = Path(sys.executable).with_name("podman-compose")
SERVICES: Final = ("kafka", "valkey", "topics", "worker", "api", "snapshots", "prometheus")
"""In the order of their dependencies. Grafana is left out, because Debian has no package of it."""
CHECKED: Final = ("kafka", "valkey", "worker", "api", "prometheus")
"""The services with a health check."""
SNAPSHOT_SECONDS: Final = 3
KEEP: Final = 2


class Stack:
    """A copy of the Compose folder with new secrets, in a project of its own. Only images and ports are set."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine, self.folder = engine, folder / "compose"
        self.project = f"authtally-{uuid.uuid4().hex[:8]}"
        for name in ("compose", "redis", "observability"):
            shutil.copytree(ROOT / "deploy" / name, folder / name, ignore=shutil.ignore_patterns("secrets", ".env"))
        self.api_port, self.kafka_port, self.prometheus_port = (free_port() for _ in range(3))
        variables = {
            "AUTHTALLY_IMAGE": AUTHTALLY,
            "KAFKA_IMAGE": KAFKA,
            "VALKEY_IMAGE": VALKEY,
            "PROMETHEUS_IMAGE": PROMETHEUS,
            "API_PORT": self.api_port,
            "KAFKA_PORT": self.kafka_port,
            "PROMETHEUS_PORT": self.prometheus_port,
            "SNAPSHOT_SECONDS": SNAPSHOT_SECONDS,
            "SNAPSHOT_KEEP": KEEP,
        }
        lines = "".join(f"{name}={value}\n" for name, value in variables.items())
        (self.folder / ".env").write_text(lines, encoding="utf-8")
        engine.run(self.folder / "prepare.sh")

    def compose(self, *words: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        return self.engine.attempt((COMPOSE, "-p", self.project, *words), self.folder, given, limit_s=120)

    def container(self, service: str) -> str:
        return f"{self.project}_{service}_1"

    def start(self, services: Sequence[str] = SERVICES) -> None:
        """Services in order. Podman 4.3 cannot wait for the health of a dependency, so this does."""
        for service in services:
            # Without --no-deps, Podman 4.3 fails on dependencies of dependencies.
            done = self.compose("up", "--detach", "--no-build", "--no-deps", service)
            if done.returncode != 0:
                raise EngineError(f"{service}: {done.stdout}{done.stderr}")
            if service in CHECKED:
                wait_until(partial(self.engine.healthy, self.container(service)), 90, service)
            if service == "topics":
                self.engine.podman("wait", self.container(service))

    def stop(self) -> None:
        self.compose("down", "--volumes", "--timeout", "10")

    def tools(self, *words: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        """An operator's command, as the documentation gives it."""
        return self.compose("--profile", "tools", "run", "--rm", "-T", "tools", *words, given=given)

    def secret(self, name: str) -> str:
        return (self.folder / "secrets" / name).read_text(encoding="utf-8").strip()

    def ask(self, path: str, token: str, body: bytes | None = None) -> Any:
        headers = {"Authorization": f"Bearer {self.secret(f'{token}_token')}", "Content-Type": "application/json"}
        return _answer(urllib.request.Request(f"http://127.0.0.1:{self.api_port}{path}", body, headers))

    def targets(self) -> dict[str, str]:
        """The health of Prometheus' targets by job."""
        url = f"http://127.0.0.1:{self.prometheus_port}/api/v1/targets"
        return {each["labels"]["job"]: each["health"] for each in _answer(url)["data"]["activeTargets"]}

    def ready(self) -> bool:
        try:
            _answer(f"http://127.0.0.1:{self.api_port}/health/ready")
        except (OSError, urllib.error.HTTPError):
            return False
        return True


def _answer(request: urllib.request.Request | str) -> Any:
    with urllib.request.urlopen(request, timeout=15) as answer:
        return json.loads(answer.read())
