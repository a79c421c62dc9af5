"""Names from events cannot steer the terminal on which an operator reads them."""

from __future__ import annotations

import ast
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Final

import click
import pytest

from deploy.cli import operations
from deploy.cli.commands.help import HelpGroup
from deploy.cli.json_output import print_json
from deploy.cli.report.tables import TABLES
from deploy.cli.terminal import echo, printable
from tests.deploy.conftest import Deployment

CLI: Final = Path(operations.__file__).parent
HOSTILE: Final = [
    ("\x1b]0;x\x07", r"\x1b]0;x\x07", "sets the window's title"),
    ("\x1b[2J", r"\x1b[2J", "clears the screen"),
    ("\x9b2J", r"\x9b2J", "the same in one character"),
    ("a\rb", r"a\rb", "writes over the line"),
    ("a\x08b", r"a\x08b", "deletes a character"),
    ("\x7f", r"\x7f", "delete"),
    ("a\u202eb", r"a\u202eb", "changes the direction"),
    ("a\u2066b", r"a\u2066b", "isolates a direction"),
    ("a\u200bb", r"a\u200bb", "cannot be seen"),
    ("a\u2028b", r"a\u2028b", "ends a line"),
    ("\ud800", r"\ud800", "cannot be encoded"),
    ("\U000e0041", r"\U000e0041", "a tag, which cannot be seen"),
]
HARMLESS: Final = ["acme", "Größe", "東京", "😀", "a b", "back\\slash", ""]


@pytest.mark.parametrize(("text", "shown", "why"), HOSTILE)
def test_controls_are_escaped(text: str, shown: str, why: str) -> None:
    assert printable(text) == shown, why


@pytest.mark.parametrize("text", HARMLESS)
def test_other_text_stays(text: str) -> None:
    assert printable(text) == text


def test_tables_and_lines_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    for text, shown, why in HOSTILE:
        operations.show_table((text, "records"), [(text, 1), ("a\nb\tc", 2)])
        echo(f"name {text}\nsecond line")
        found = capsys.readouterr().out
        assert text not in found, why
        assert found.count(shown) == 3, why
        assert r"a\nb\tc" in found, "a cell has one line"
        assert "\nsecond line\n" in found


def test_a_narrow_terminal_gets_every_cell_whole() -> None:
    remark = f"{'long ' * 30}end"
    code = (
        "from deploy.cli.operations import show_table\n"
        f"show_table(('topic id', 'remark'), [('8HX3JiJjRDWJk2E3eUXE0w', {remark!r})])"
    )
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "40"}
    ours, theirs = pty.openpty()
    try:
        subprocess.run(
            (sys.executable, "-c", code), cwd=CLI.parents[1], env=environment, stdout=theirs, check=True, timeout=60
        )
        shown = os.read(ours, 1 << 16).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert "8HX3JiJjRDWJk2E3eUXE0w  long long" in shown
    assert "long end\r\n" in shown
    assert "…" not in shown


def test_json_is_escaped_and_means_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    for text, _, why in HOSTILE:
        if text == "\ud800":
            continue
        print_json({text: [text]})
        found = capsys.readouterr().out
        assert text not in found, why
        assert json.loads(found) == {text: [text]}


def test_errors_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    @click.command()
    def fails() -> None:
        raise click.ClickException("no topic \x1b]0;x\x07\nsecond line")

    group = HelpGroup(name="authtally", sections={"Run": [fails]})
    with pytest.raises(SystemExit):
        group(["fails"])
    assert capsys.readouterr().err == "Error: no topic \\x1b]0;x\\x07\nsecond line\n"


def test_commands_print_through_these_functions_only() -> None:
    """`click.echo` prints its argument as it is: allowed for fixed texts, JSON, and what `printable` has escaped."""
    allowed = {"terminal.py", "json_output.py", "main.py"}
    raw = []
    for path in CLI.rglob("*.py"):
        if path.name in allowed:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("click.echo", "click.secho", "print"):
                text = ast.unparse(node)
                if "{" in text and "printable" not in text and "json" not in text and "join(result)" not in text:
                    raw.append(f"{path.name}:{node.lineno}")
    assert raw == []


ESCAPE: Final = "\x1b]0;x\x07"


def test_report_escapes_labels(capsys: pytest.CaptureFixture[str]) -> None:
    answer = {
        "from": "2026-11-01",
        "to": "2026-11-30",
        "granularity": "month",
        "timezone": "UTC",
        "as_of": {"newest_event": None, "lag": None},
        "filters": {"realm": ESCAPE},
        "items": [{"month": "2026-11", "realm": ESCAPE, "logins": 1}],
    }
    TABLES["logins"](answer)
    found = capsys.readouterr().out
    assert "\x1b" not in found
    assert found.count(r"\x1b]0;x\x07") == 2


def test_dead_letters_list_escapes_details(deployment: Deployment) -> None:
    deployment.produce(
        json.dumps({"type": "login", "time": "2026-11-20T10:00:00Z", "user_id": 7, "realm": ESCAPE}).encode()
    )
    deployment.produce(json.dumps({ESCAPE: 1}).encode())
    deployment.count_up_to(2)
    listed = deployment.run("dead-letters", "list")
    assert listed.exit_code == 0, listed.output
    assert "\x1b" not in listed.output
