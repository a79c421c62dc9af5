"""The images, the servers on the loopback interface, and the record of the run."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from deploy.demo.servers import Valkey
from tests.qualification.container.engine import Engine
from tests.qualification.container.images import AUTHTALLY, build_all
from tests.qualification.container.site import Site
from tests.servers import ApacheKafka

FACTS: Final[dict[str, Any]] = {}
"""Measured values of this run, by name."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", type=Path, help="write versions, results and measured values of the run to this file")


def pytest_sessionstart(session: pytest.Session) -> None:
    # At the start: the checkout may change during the run.
    FACTS["commit"] = _output("git", "describe", "--always", "--dirty", "--exclude", "*")


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int, config: pytest.Config) -> None:
    for name, value in FACTS.items():
        terminalreporter.write_line(f"{name}: {json.dumps(value)}")
    if config.getoption("--record"):
        _record(config.getoption("--record"), terminalreporter.stats, exitstatus)


def _record(path: Path, stats: dict[str, list[Any]], exit_status: int) -> None:
    results = {
        report.nodeid.partition("container/")[2]: {"outcome": report.outcome, "seconds": round(report.duration, 1)}
        for outcome in ("passed", "failed")
        for report in stats.get(outcome, [])
        if report.when == "call"
    }
    document = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "exit_status": exit_status,
        "machine": f"{platform.freedesktop_os_release()['PRETTY_NAME']}, Linux {platform.release()}",
        "podman": _output("podman", "--version"),
        "buildah": _output("buildah", "--version"),
        "runc": _output("runc", "--version").splitlines()[0],
        "podman-compose": _output("podman-compose", "--version").splitlines()[0],
        "facts": FACTS,
        "tests": results,
    }
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _output(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="session")
def facts() -> dict[str, Any]:
    return FACTS


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine(tmp_path_factory.mktemp("engine"))


@pytest.fixture(scope="session", autouse=True)
def images(engine: Engine) -> None:
    """All images, built from this checkout."""
    FACTS["seconds of builds"] = build_all(engine)
    size = int(engine.podman("image", "inspect", "--format", "{{.Size}}", AUTHTALLY))
    FACTS["image, MB"] = size // 1_000_000


@pytest.fixture
def site(engine: Engine, tmp_path: Path) -> Iterator[Site]:
    """Apache Kafka and Valkey as processes on the loopback interface, and containers in the host's network."""
    with ApacheKafka() as kafka, Valkey(options=("--appendonly", "yes")) as valkey:
        made = Site(engine, kafka.address, valkey.url, tmp_path)
        try:
            yield made
        finally:
            made.close()
