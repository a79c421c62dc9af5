"""Ctrl-C and SIGTERM end a command that waits for its input with the documented status, 130."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

TRIES = 12


def _stopped(process: subprocess.Popen[str], number: int) -> tuple[str, str]:
    """Signal until the process ends: a signal just before the process begins to read does not interrupt that read."""
    for _ in range(TRIES):
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=10)
    process.kill()
    raise AssertionError(f"the command ignored {TRIES} signals: {process.communicate()}")


CALLS = (["publish"], ["publish", "--dry-run"], ["publish", "--json"], ["import-stat"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("call", CALLS, ids=[" ".join(call) for call in CALLS])
def test_a_signal_while_waiting_for_input_is_130(call: list[str], number: signal.Signals, tmp_path: Path) -> None:
    source = tmp_path / "events"
    os.mkfifo(source)
    process = subprocess.Popen(
        (sys.executable, "-m", "deploy.cli.main", *call, str(source)),
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # Returns once the command has opened its end.
    with source.open("wb"):
        out, error = _stopped(process, number)
    assert (process.returncode, "Traceback" in error) == (130, False), error
    if "--json" in call:
        assert json.loads(out)["exit_status"] == 130
    else:
        assert (out, error) == ("", "Stopped before it was done.\n")
