"""Commands whose output cannot be written: a closed stream, a full disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TABLE, HELP, ERROR = "audit", "report --help", "snapshot show none"


def run(command: str, redirection: str, folder: Path, redis_url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" -m deploy.cli.main {command} {redirection}', sys.executable],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "AUTHTALLY_REDIS_URL": redis_url},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("command", [TABLE, ERROR])
def test_a_closed_stream_changes_nothing_else(command: str, tmp_path: Path, redis_url: str) -> None:
    expected = run(command, "", tmp_path, redis_url)
    assert expected.stdout or expected.returncode
    for redirection, stderr in ((">&-", expected.stderr), ("<&- >&- 2>&-", "")):
        found = run(command, redirection, tmp_path, redis_url)
        assert (found.returncode, found.stdout, found.stderr) == (expected.returncode, "", stderr), redirection


@pytest.mark.parametrize("command", [TABLE, HELP])
def test_a_full_disk_is_one_line(command: str, tmp_path: Path, redis_url: str) -> None:
    found = run(command, ">/dev/full", tmp_path, redis_url)
    assert (found.returncode, found.stderr) == (1, "Error: the output cannot be written: No space left on device\n")
