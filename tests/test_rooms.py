"""The rules between the rooms: who may import whom, and that importing opens nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CLIENTS = {"redis", "aiokafka", "confluent_kafka", "faust", "aiohttp", "mode"}
RULES = {
    "schemas": {"aggregator", "api", "deploy", "tests"} | CLIENTS,
    "aggregator": {"api", "deploy", "tests"},
    "api": {"aggregator", "deploy", "tests", "faust", "aiokafka", "mode"},
    "deploy": {"tests"},
}
FAUST = {"aggregator/app.py", "aggregator/transport.py", "aggregator/__main__.py"}


def imported(path: Path) -> set[str]:
    """Modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("room", RULES)
def test_a_room_imports_only_what_it_may(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        tops = {module.partition(".")[0] for module in imported(path)}
        assert not tops & RULES[room], path


def test_faust_appears_where_it_is_at_home() -> None:
    for path in (ROOT / "aggregator").rglob("*.py"):
        faust = {module for module in imported(path) if module.partition(".")[0] == "faust"}
        name = path.relative_to(ROOT).as_posix()
        assert not faust or name in FAUST, name


def test_importing_everything_reads_no_environment_and_opens_nothing() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for room in RULES
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
