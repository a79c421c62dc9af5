"""The nightly snapshot is a command that exists, with options that it takes."""

from __future__ import annotations

import shlex
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

from deploy.cli.main import main

UNITS = Path(__file__).parents[3] / "deploy" / "systemd"


def unit(name: str) -> ConfigParser:
    found = ConfigParser(interpolation=None, delimiters="=", comment_prefixes="#", strict=False)
    found.optionxform = str  # type: ignore[assignment,method-assign]
    assert found.read(UNITS / name)
    return found


def test_the_service_runs_a_command_that_parses() -> None:
    program, group, command, *arguments = shlex.split(unit("authtally-snapshot.service")["Service"]["ExecStart"])
    assert Path(program).name == "authtally"
    found = main.commands[group].commands[command]  # type: ignore[attr-defined]
    given = found.make_context(command, arguments).params
    assert (given["keep"], str(given["file"])) == (30, "%S/authtally/snapshots")


def test_it_may_write_where_it_saves_and_nowhere_else() -> None:
    service = unit("authtally-snapshot.service")["Service"]
    assert service["StateDirectory"] == "authtally/snapshots"
    assert (service["ProtectSystem"], service["ProtectHome"], service["UMask"]) == ("strict", "yes", "0077")
    assert "ReadWritePaths" not in service


def test_the_timer_starts_it_every_night() -> None:
    timer = unit("authtally-snapshot.timer")["Timer"]
    assert timer["Unit"] == "authtally-snapshot.service"
    assert (timer["OnCalendar"], timer["Persistent"]) == ("*-*-* 03:15", "yes")


def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    # The command is looked up too, so it becomes one of this machine.
    installed = Path(sys.executable).with_name("authtally")
    for name in ("authtally-snapshot.service", "authtally-snapshot.timer"):
        text = (UNITS / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(text.replace("/opt/authtally/bin/authtally", str(installed)), encoding="utf-8")
    units = sorted(tmp_path.iterdir())
    done = subprocess.run(
        ("systemd-analyze", "verify", "--man=no", *units), capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
