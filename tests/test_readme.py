"""The README says what is so: its tables are those of the code, its commands answer as printed."""

from __future__ import annotations

import doctest
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
from schemas.adapters.registry import ADAPTERS
from schemas.events import REASONS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^\$ (curl .*)\n((?:(?!```).*\n)*)```", README, re.MULTILINE)
REHEARSALS = re.findall(
    r"^\$ (printf .*) \| authtally (publish --dry-run -)\n((?:(?!```).*\n)*)```", README, re.MULTILINE
)
DEMO_PORT = ":8080/"
REPORTS = re.findall(r"^\$ authtally (report.*)$", README, re.MULTILINE)
ROUTES = (
    "/v1/live",
    "/v1/labels",
    "/jans-auth/restv1/internal/stat",
    "/oxauth/restv1/internal/stat",
    "/api/v2/stats/active-users",
    "/api/v2/stats/daily",
    *(f"/reporting/{name}" for name in ("show", "maximum", "period", "delete_all", "delete_before")),
    "/admin/getsession",
    "/admin/dropsession",
    "/openapi.json",
    *(
        f"/v1/{name}"
        for name in ("active-users", "overview", "logins", "tokens", "accounts", "m2m", "pipeline", "metrics")
    ),
    *(f"/v1/{name}" for name in ("events", "ingest/keycloak", "ingest/auth0", "ingest/fusionauth")),
)


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


@pytest.mark.parametrize("target", ["demo", "test", "lint", "bench", "chaos", "pictures", "audit", "sbom"])
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
    line = command.replace(DEMO_PORT, f":{demo}/")
    done = subprocess.run(("bash", "-c", line), capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.rstrip("\n") == answer.rstrip("\n")


def test_it_has_an_example_of_every_route() -> None:
    asked = "\n".join(command for command, _ in EXAMPLES)
    for route in ROUTES:
        assert f":8080{route}" in asked, route


@pytest.mark.parametrize("command", REPORTS)
def test_its_reports_are_told(demo: int, command: str) -> None:
    environment = {**os.environ, "AUTHTALLY_URL": f"http://127.0.0.1:{demo}", "AUTHTALLY_TOKEN": "demo-token"}
    done = subprocess.run(
        (sys.executable, "-m", "deploy.command_line", *shlex.split(command)),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_its_rehearsal_tells_what_is_printed() -> None:
    (found,) = re.findall(
        r"^\$ (printf .*) \| authtally (publish --dry-run -)\n((?:(?!```).*\n)*)```", README, re.MULTILINE
    )
    sent, arguments, answer = found
    line = f"{sent} | {sys.executable} -m deploy.command_line {arguments}"
    done = subprocess.run(("bash", "-c", line), capture_output=True, text=True, check=False, timeout=60, cwd=ROOT)
    assert [row.rstrip() for row in done.stdout.splitlines()] == answer.rstrip().splitlines()


def test_its_python_says_what_is_printed() -> None:
    blocks = re.findall(r"^```pycon\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        example = doctest.DocTestParser().get_doctest(block, {}, "README.md", "README.md", 0)
        told: list[str] = []
        doctest.DocTestRunner().run(example, out=told.append)
        assert not told, "".join(told)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_it_names_every_adapter(adapter: str) -> None:
    assert f"`{adapter}`" in README
