"""The demo answers what it published, says what goes wrong, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.cli.main import main
from deploy.demo.answers import _against, _openmetrics
from deploy.demo.sample_events import SampleEvents
from deploy.demo.servers import Valkey, free_port
from deploy.demo.servers.process import accepts
from tests.conftest import wait_until

EVENTS = "2000"


@pytest.fixture
def places(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment with an empty home and an empty folder for temporary files, both empty at the end."""
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    yield {**os.environ, "HOME": str(home), "TMPDIR": str(temporary), "AUTHTALLY_KEY_PREFIX": "not-the-demo's:"}
    assert list(home.iterdir()) == []
    assert list(temporary.iterdir()) == []


def command(port: int, *options: str) -> list[str]:
    return [sys.executable, "-m", "deploy.cli.main", "demo", "--events", EVENTS, "--port", str(port), *options]


def test_every_answer_agrees_with_what_was_published(places: dict[str, str]) -> None:
    done = subprocess.run(
        command(free_port(), "--exit", "--token", "s3cret"),
        env=places,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Every answer agrees with the {EVENTS} events published." in done.stdout
    assert "KAFKA_IDEMPOTENCE is off here" in done.stdout
    assert "another terminal" not in done.stdout, "it has ended"


def free_neighbours() -> int:
    """A free port whose next one is free too."""
    while True:
        port = free_port()
        if not accepts(port + 1):
            return port


def test_every_answer_over_two_regions_agrees_with_what_was_published(places: dict[str, str]) -> None:
    done = subprocess.run(
        command(free_neighbours(), "--exit", "--regions"),
        env=places,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every answer agrees with the 3000 events published." in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_two_regions_run_until_they_are_stopped(places: dict[str, str]) -> None:
    demo = RunningDemo(places, "--regions", port=free_neighbours())
    for name, port in (("eu", demo.port), ("us", demo.port + 1)):
        assert f"  {name}  http://127.0.0.1:{port}  " in demo.text
    assert len(demo.text.splitlines()) <= 25
    grouped = re.search(r"^curl .*group_by=region.*$", demo.text, re.MULTILINE)
    assert grouped is not None
    answer = subprocess.run(shlex.split(grouped[0]), capture_output=True, text=True, timeout=10, check=True)
    assert {row.split(",")[3] for row in answer.stdout.splitlines()[1:]} == {"eu", "us"}

    demo.process.send_signal(signal.SIGTERM)

    assert demo.process.wait(40) == 0, demo.text
    assert not accepts(demo.port)
    assert not accepts(demo.port + 1)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--regions", "--show-answers"), "--show-answers is for one region"),
        (("--regions", "--port", "65535"), "needs the port after --port too"),
    ],
)
def test_what_two_regions_cannot_do_is_refused(options: tuple[str, ...], why: str) -> None:
    done = CliRunner().invoke(main, ["demo", *options])
    assert (done.exit_code, why in done.output) == (2, True), done.output


class RunningDemo:
    def __init__(self, environment: dict[str, str], *options: str, port: int | None = None) -> None:
        self.port = port or free_port()
        self.output = Path(environment["TMPDIR"]).with_name("output")
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(command(self.port, *options), env=environment, stdout=output, stderr=output)
        wait_until(lambda: "  dashboard  http" in self.text or self.process.poll() is not None, 240)
        assert self.process.poll() is None, self.text

    @property
    def text(self) -> str:
        return self.output.read_text()

    def children(self) -> dict[str, int]:
        """Command lines of the four processes, shortened to a name, and their ids."""
        found = {}
        for thread in Path(f"/proc/{self.process.pid}/task").iterdir():
            for pid in (thread / "children").read_text().split():
                line = Path(f"/proc/{pid}/cmdline").read_text()
                for name in ("valkey", "tansu", "aggregator", "api"):
                    if f"{name}\0" in line or f"{name}-server" in line:
                        found[name] = int(pid)
        return found


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_it_runs_until_it_is_stopped(places: dict[str, str], stop: signal.Signals) -> None:
    demo = RunningDemo(places)
    children = demo.children()
    assert set(children) == {"valkey", "tansu", "aggregator", "api"}
    pasted = re.search(r"^curl .*/internal/stat.*$", demo.text, re.MULTILINE)
    assert pasted is not None
    answer = subprocess.run(shlex.split(pasted[0]), capture_output=True, text=True, timeout=10, check=True)
    assert json.loads(answer.stdout)["response"]
    demo.process.send_signal(stop)

    assert demo.process.wait(20) == 0, demo.text
    assert not accepts(demo.port)
    assert [pid for pid in children.values() if Path(f"/proc/{pid}").exists()] == []


def test_commands_use_the_demo_after_its_settings_file(places: dict[str, str]) -> None:
    demo = RunningDemo(places)
    line = re.search(r"^\. (/\S+)$", demo.text, re.MULTILINE)
    assert line is not None
    assert stat.S_IMODE(Path(line[1]).stat().st_mode) == 0o600
    printed = {}
    # The environment has a setting of another ledger, which must not count.
    for tool in ("report pipeline", "positions show", "worker --check", "api --check"):
        command = f"{line[0]} && authtally {tool} --json"
        done = subprocess.run(
            ("sh", "-c", command), env=places, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, (tool, done.stdout + done.stderr)
        printed[tool] = json.loads(done.stdout)
    earlier = sum(item["position"] for item in printed["report pipeline"]["items"])
    later = sum(shard["position"] for shard in printed["positions show"]["shards"])
    assert int(EVENTS) <= earlier <= later
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(20) == 0, demo.text


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("victim", "message"), [("aggregator", "The worker ended"), ("valkey", "valkey ended")])
def test_a_child_that_dies_ends_the_demo_with_its_name(places: dict[str, str], victim: str, message: str) -> None:
    demo = RunningDemo(places)
    os.kill(demo.children()[victim], signal.SIGKILL)
    assert demo.process.wait(20) == 1
    assert message in demo.text
    assert "Its last lines:" in demo.text


def test_a_port_in_use_is_one_clear_line(places: dict[str, str]) -> None:
    with Valkey() as taken:
        done = subprocess.run(command(taken.port), env=places, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert done.stderr == f"Port {taken.port} is in use; choose another with --port.\n"


def test_a_wrong_answer_is_noticed() -> None:
    sample = SampleEvents(5000, datetime(2026, 11, 26, tzinfo=UTC))
    list(sample)
    expected = sample.expected
    month = expected.months[0]
    families = ("access_token", "id_token", "refresh_token", "uma_token")
    right = {
        month: (
            expected.active(month),
            {grant: dict.fromkeys(families, 0) | tokens for grant, tokens in expected.grants(month).items()},
        )
        for month in expected.months
    }
    assert list(_against(right, expected)) == []
    users, grants = right[month]
    assert list(_against({**right, month: (users + 1, grants)}, expected)) == [
        f"{month}: {users + 1} active users, published {users}, allowed ± 0"
    ]
    off = {**grants, "password": {**grants["password"], "access_token": 0}}
    assert len(list(_against({**right, month: (users, off)}, expected))) == 1
    assert len(list(_against({month: right[month] for month in expected.months[1:]}, expected))) == 1


def test_metrics_text_is_read_back() -> None:
    text = (
        "# TYPE monthly_active_users counter\n"
        'monthly_active_users{month="202605"} 7.0\n'
        "# TYPE access_token counter\n"
        'access_token{month="202605",grantType="password"} 3.0\n'
    )
    assert _openmetrics(text) == {"202605": (7, {"password": {"access_token": 3}})}
