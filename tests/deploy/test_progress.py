"""Long jobs say how far they are: a bar on a terminal, a line now and then elsewhere, on stderr in either case."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

from deploy.progress import Job

ROOT = Path(__file__).parents[2]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def job(lines: io.StringIO, clock: Clock, total: int | None = None) -> Job:
    return Job("publishing", "events", total, None, lines, clock)


def test_a_short_job_says_nothing() -> None:
    lines, clock = io.StringIO(), Clock()
    running_job = job(lines, clock, 1000)
    for number in range(9):
        clock.now += 1
        running_job.at(number * 100)
    assert lines.getvalue() == ""


def test_a_long_one_says_how_far_it_is_after_ten_seconds_and_then_each_half_minute() -> None:
    lines, clock = io.StringIO(), Clock()
    running_job = job(lines, clock, 1000)
    for number in range(1, 51):
        clock.now += 1
        running_job.at(number * 10, number * 2000)
    assert lines.getvalue().splitlines() == [
        "publishing: 10%, 20,000 events, 2,000 events/s, 0:01:30 left",
        "publishing: 40%, 80,000 events, 2,000 events/s, 0:01:00 left",
    ]


def test_without_an_end_there_is_no_time_left() -> None:
    lines, clock = io.StringIO(), Clock()
    running_job = job(lines, clock)
    clock.now += 10
    running_job.at(5000)
    assert lines.getvalue() == "publishing: 5,000 events, 500 events/s\n"


def test_a_stage_has_a_rate_of_its_own() -> None:
    lines, clock = io.StringIO(), Clock()
    running_job = job(lines, clock, 1000)
    clock.now += 5
    running_job.begin("sending", counted=4000, done=500)
    clock.now += 5
    running_job.at(600, 4500)
    assert lines.getvalue() == "sending: 60%, 4,500 events, 100 events/s, 0:00:20 left\n"


def publish(folder: Path, **streams: int) -> subprocess.CompletedProcess[str]:
    event = '{"type":"login","time":"2026-11-20T10:00:00Z","user_id":"alice"}\n'
    (folder / "events.jsonl").write_text(event * 60_000)
    return subprocess.run(
        (sys.executable, "-m", "deploy.cli.main", "publish", "--dry-run", "--json", "events.jsonl"),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100"},
        stdout=subprocess.PIPE,
        stderr=streams.get("stderr", subprocess.PIPE),
        text=True,
        timeout=60,
        check=True,
    )


def test_a_terminal_sees_a_bar_while_stdout_is_data(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    try:
        done = publish(tmp_path, stderr=theirs)
        shown = os.read(ours, 1 << 20).decode(errors="replace")
    finally:
        os.close(ours)
        os.close(theirs)
    assert "reading" in shown
    assert "events/s" in shown
    assert json.loads(done.stdout)["events"] == 60_000


def test_elsewhere_nothing_is_in_the_way(tmp_path: Path) -> None:
    done = publish(tmp_path)
    assert done.stderr == ""
    assert json.loads(done.stdout)["events"] == 60_000
