"""The README says what is so: its tables are those of the code, its commands answer as printed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from deploy import reference
from deploy.command_line import main
from deploy.servers import free_port
from schemas.events import REASONS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^\$ (curl .*)\n((?:(?!```).*\n)*)```", README, re.MULTILINE)
DEMO_PORT = ":8080/"


def test_its_settings_are_those_of_the_code() -> None:
    assert reference.settings() in README


def test_its_metrics_are_those_of_the_code() -> None:
    assert reference.metrics() in README


def test_it_explains_every_reason_of_a_dead_letter() -> None:
    for reason, meaning in REASONS.items():
        assert f"| `{reason}` | {meaning} |" in README


def commands(group: click.Group, path: tuple[str, ...] = ("authtally",)) -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name))


@pytest.mark.parametrize("command", list(commands(main)))
def test_it_shows_every_command(command: str) -> None:
    assert command in README


@pytest.mark.parametrize("target", ["demo", "test", "lint", "bench", "chaos"])
def test_the_targets_that_it_names_exist(target: str) -> None:
    assert f"make {target}" in README
    assert re.search(rf"^{target}: setup\b", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.fixture(scope="module")
def demo() -> Iterator[int]:
    """A running demo; the port of its api."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "deploy.command_line", "demo", "--port", str(port)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if line.startswith("Ctrl-C ends it"):
                break
        else:
            pytest.fail("".join(said))
        yield port
    finally:
        process.terminate()
        process.wait(60)
        if process.stdout is not None:
            process.stdout.close()


@pytest.mark.parametrize(("command", "answer"), EXAMPLES, ids=[str(number) for number in range(len(EXAMPLES))])
def test_its_examples_answer_as_printed(demo: int, command: str, answer: str) -> None:
    assert DEMO_PORT in command
    arguments = shlex.split(command.replace(DEMO_PORT, f":{demo}/"))
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.rstrip("\n") == answer.rstrip("\n")


def test_it_has_examples() -> None:
    assert len(EXAMPLES) >= 4
