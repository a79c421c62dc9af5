"""The documentation is true: generated parts equal the code, examples answer as printed, links lead somewhere."""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from aggregator.settings import WorkerSettings
from api.settings.settings import ApiSettings
from deploy.cli import reference
from deploy.cli.environment import OF_COMPOSE
from deploy.cli.report import ReportSettings
from schemas.adapters.registry import ADAPTERS
from schemas.settings import PREFIX
from tests.examples import ANSWER, CURL, ROOT, answer, running_demo
from tests.qualification.chaos import table

PAGES: Final = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in reference.pages()}
TEXT: Final = "\n".join(PAGES.values())
BESIDE: Final = ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "deploy/publishers/README.md")
"""Other documents whose links are checked."""
MAX_LINES: Final = {"README.md": 250}
MAX_LINES_OF_A_PAGE: Final = 400
MADE: Final = {"deploy/compose/secrets/"}
"""Paths that a command makes."""


def found(pattern: str) -> list[object]:
    """A parameter per match: its groups, with the page and a number as the test's id."""
    return [
        pytest.param(*match.groups(), id=f"{page}-{number}")
        for page, text in PAGES.items()
        for number, match in enumerate(re.finditer(pattern, text, re.MULTILINE | re.DOTALL))
    ]


EXAMPLES: Final = found(CURL)
REPORTS: Final = found(r"^\$ authtally (report[^\n]*)$")
DRY_RUNS: Final = found(rf"^\$ (printf [^\n]*) \| authtally (publish --dry-run -)\n{ANSWER}")
SESSIONS: Final = found(r"^```pycon\n(.*?)^```")

ROUTES: Final = (
    "/v1/live",
    "/v1/labels",
    "/v1/lifecycle",
    "/v1/retention",
    "/v1/otp-tokens",
    "/jans-auth/restv1/internal/stat",
    "/jans-auth/sys/health-check",
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


@pytest.mark.parametrize("page", PAGES)
def test_generated_parts_are_those_of_the_code(page: str) -> None:
    assert reference.rendered(PAGES[page]) == PAGES[page], "run `make docs`"


@pytest.mark.parametrize("part", reference.PARTS)
def test_every_generated_part_is_on_one_page(part: str) -> None:
    assert TEXT.count(f"<!-- generated: {part} -->") == 1


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_short(page: str) -> None:
    assert len(PAGES[page].splitlines()) <= MAX_LINES.get(page, MAX_LINES_OF_A_PAGE)


@pytest.mark.parametrize("page", [page for page in PAGES if page != "README.md"])
def test_a_page_is_in_a_table_of_contents(page: str) -> None:
    contents = {target for index in ("README.md", "docs/decisions/README.md") for target, _ in links(index)}
    assert ROOT / page in contents


def links(page: str) -> Iterator[tuple[Path, str]]:
    """Path and anchor of every relative link and picture of a page, outside its code blocks."""
    prose = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if not re.match(r"[a-z]+:", target):
            path, _, anchor = target.partition("#")
            yield ((ROOT / page).parent / path).resolve() if path else ROOT / page, anchor


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub builds them."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, *BESIDE])
def test_links_lead_somewhere(page: str) -> None:
    for path, anchor in links(page):
        name = path.relative_to(ROOT).as_posix()
        assert path.exists(), name
        assert not anchor or anchor in anchors(path), f"{name}#{anchor}"


def test_the_paths_that_pages_name_exist() -> None:
    named = set(re.findall(r"`((?:aggregator|api|deploy|schemas|tests)/[\w./-]+)`", TEXT))
    assert {path for path in named - MADE if not (ROOT / path).exists()} == set()


def test_the_settings_that_pages_name_exist() -> None:
    known = {*WorkerSettings.model_fields, *ApiSettings.model_fields, *ReportSettings.model_fields}
    named = set(re.findall(r"\bAUTHTALLY_([A-Z0-9_]+)\b", TEXT))
    assert named
    assert {name for name in named if name.lower() not in known} == {name.removeprefix(PREFIX) for name in OF_COMPOSE}


@pytest.mark.parametrize(
    "target",
    [
        "demo",
        "test",
        "test-fast",
        "coverage",
        "contracts",
        "lint",
        "docs",
        "examples",
        "bench",
        "chaos",
        "pictures",
        "audit",
        "sbom",
    ],
)
def test_the_targets_that_pages_name_exist(target: str) -> None:
    assert re.search(rf"\bmake {target}\b", TEXT)
    assert re.search(rf"^{target}: \S", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_the_page_of_adapters_names_each(adapter: str) -> None:
    assert f"`{adapter}`" in PAGES["docs/adapters.md"]


def test_the_recorded_runs_are_those_of_their_files() -> None:
    worker = table.recorded("worker")
    arms = [record for arm in ("no-compare", "plain-faust") for record in table.recorded(arm)]
    rows = [*table.runs(worker), *table.runs(arms), *table.faults(worker)]
    lines = PAGES["docs/qualification-runs.md"].splitlines()
    assert [row for row in rows if row not in lines] == []


@pytest.fixture(scope="module")
def demo() -> Iterator[int]:
    """A running demo; the port of its api."""
    with running_demo() as port:
        yield port


@pytest.mark.parametrize(("command", "printed"), EXAMPLES)
def test_an_example_answers_as_printed(demo: int, command: str, printed: str) -> None:
    assert answer(demo, command).rstrip("\n") == printed.rstrip("\n"), "make examples writes the answers again"


@pytest.mark.parametrize("route", ROUTES)
def test_a_route_has_an_example(route: str) -> None:
    assert re.search(rf"^\$ curl .*:8080{re.escape(route)}\b", TEXT, re.MULTILINE)


@pytest.mark.parametrize("command", REPORTS)
def test_a_report_is_answered(demo: int, command: str) -> None:
    environment = {**os.environ, "AUTHTALLY_URL": f"http://127.0.0.1:{demo}", "AUTHTALLY_TOKEN": "demo-token"}
    done = subprocess.run(
        (sys.executable, "-m", "deploy.cli.main", *shlex.split(command)),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize(("sent", "arguments", "answer"), DRY_RUNS)
def test_a_dry_run_prints_what_is_printed(sent: str, arguments: str, answer: str) -> None:
    line = f"{sent} | {sys.executable} -m deploy.cli.main {arguments}"
    done = subprocess.run(("bash", "-c", line), capture_output=True, text=True, check=False, timeout=60, cwd=ROOT)
    assert [row.rstrip() for row in done.stdout.splitlines()] == answer.rstrip().splitlines()


@pytest.mark.parametrize("session", SESSIONS)
def test_python_answers_as_printed(session: str) -> None:
    example = doctest.DocTestParser().get_doctest(session, {}, "page", "page", 0)
    output: list[str] = []
    doctest.DocTestRunner().run(example, out=output.append)
    assert not output, "".join(output)


def test_nothing_of_the_examples_is_lost() -> None:
    assert all((EXAMPLES, REPORTS, DRY_RUNS, SESSIONS))
