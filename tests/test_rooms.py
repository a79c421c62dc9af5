"""The rules between the rooms: who may import whom, and that importing opens nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
CLIENTS: Final = {"redis", "aiokafka", "confluent_kafka", "faust", "aiohttp", "mode"}
FORBIDDEN: Final = {
    "schemas": {"aggregator", "api", "deploy", "tests"} | CLIENTS,
    "aggregator": {"api", "deploy", "tests"},
    "api": {"aggregator", "deploy", "tests", "faust", "aiokafka", "mode"},
    "deploy": {"tests"},
}
CONNECTIONS: Final = "schemas/connections/"
"""The one folder of schemas/ that may use a client library."""
FAUST: Final = {
    "aggregator/app.py",
    "aggregator/kafka/consumer_thread.py",
    "aggregator/kafka/transport.py",
    "aggregator/__main__.py",
}
LAYERS: Final = {
    "aggregator": (
        *("fold", "inventory", "kafka", "ledger", "fold_factory", "clocks", "shard_caches", "slots", "isolation"),
        *("assignment", "counting", "progress", "startup", "app", "__main__"),
    ),
    "api": (
        *(
            "http",
            "ledger",
            "settings",
            "cache",
            "inventory",
            "auth",
            "audit",
            "regions",
            "boundary",
            "endpoint",
            "unmatched",
            "ingest",
            "dialects",
            "dashboard",
        ),
        *("health", "app", "__main__"),
    ),
}
"""From the bottom up: no import points upwards."""
BESIDE: Final = {"aggregator": {"settings", "health", "metrics"}, "api": {"metrics", "turns"}}
"""Imported by every layer, so that they import none."""
UPWARDS: Final[set[tuple[str, str]]] = set()
"""Imports still to be turned round. The test fails for a new one, and for one of these that is gone."""


def files(room: str) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((ROOT / room).rglob("*.py")):
        yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.Module) -> set[str]:
    """Modules that a file imports, anywhere in it; of `from package import name` also `package.name`."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def part(name: str) -> str:
    """The layer of a file or module: the second word of its path."""
    return name.replace("/", ".").removesuffix(".py").split(".")[1]


@pytest.mark.parametrize("room", FORBIDDEN)
def test_a_room_imports_only_what_it_may(room: str) -> None:
    for name, tree in files(room):
        forbidden = FORBIDDEN[room] - (CLIENTS if name.startswith(CONNECTIONS) else set())
        assert not {module.partition(".")[0] for module in imported(tree)} & forbidden, name


@pytest.mark.parametrize("room", LAYERS)
def test_no_import_points_upwards(room: str) -> None:
    layers = LAYERS[room]
    upwards = set()
    for name, tree in files(room):
        if name == f"{room}/__init__.py":
            continue
        here = part(name)
        for module in imported(tree):
            if module.partition(".")[0] != room or module == room or (there := part(module)) in BESIDE[room]:
                continue
            if there not in layers:
                assert (ROOT / room / f"{there}.py").exists() is False, f"{name} imports {module}, which has no layer"
                continue
            if here in BESIDE[room] or layers.index(there) > layers.index(here):
                upwards.add((name, module))
    known = {(name, module) for name, module in UPWARDS if name.startswith(f"{room}/")}
    # `from module import Name` gives module.Name too.
    assert {(n, m) for n, m in upwards if not any(n == kn and m.startswith(f"{km}.") for kn, km in known)} == known


@pytest.mark.parametrize("room", LAYERS)
def test_every_file_has_a_layer(room: str) -> None:
    assert {part(name) for name, _ in files(room)} - {"__init__"} == {*LAYERS[room], *BESIDE[room]}


def test_faust_appears_where_it_is_at_home() -> None:
    users = {name for name, tree in files("aggregator") if any(m.partition(".")[0] == "faust" for m in imported(tree))}
    assert users == FAUST


def test_nothing_imports_the_command_line() -> None:
    for room in FORBIDDEN:
        for name, tree in files(room):
            if not name.startswith("deploy/cli/"):
                assert not {m for m in imported(tree) if m == "deploy.cli" or m.startswith("deploy.cli.")}, name


def test_redis_is_opened_in_one_room() -> None:
    """A constructor of redis-py: `Redis(…)`, `Redis.from_url(…)`, `RedisCluster…`, `Sentinel(…)`."""
    openers = set()
    for room in FORBIDDEN:
        for name, tree in files(room):
            for node in ast.walk(tree):
                if isinstance(node, ast.Call):
                    called = ast.unparse(node.func).removeprefix("redis.").removesuffix(".from_url")
                    if called in ("Redis", "RedisCluster", "Sentinel") and not name.startswith(CONNECTIONS):
                        openers.add(name)
    assert not openers


def test_importing_everything_reads_no_environment_and_opens_nothing() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for room in FORBIDDEN
        for path in sorted((ROOT / room).rglob("*.py"))
        if path.stem not in ("__main__", "__init__", "tether")
    ]
    script = (
        "import socket, sys, threading\n"
        "def refuse(*_, **__): raise AssertionError('a socket')\n"
        "socket.socket.connect = refuse\n"
        f"for name in {modules!r}: __import__(name)\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
    )
    # A wrong setting would raise where it is read.
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={"AUTHTALLY_TIMEZONE": "nowhere", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
