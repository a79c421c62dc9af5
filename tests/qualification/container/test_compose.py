"""The Compose file by podman-compose: Kafka, Valkey, worker, api, Prometheus, snapshots and the operator's commands."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.conftest import wait_until
from tests.qualification.container.engine import Engine
from tests.qualification.container.stack import CHECKED, KEEP, Stack

pytestmark = pytest.mark.container


@pytest.fixture(scope="module")
def stack(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    made = Stack(engine, tmp_path_factory.mktemp("stack"))
    try:
        made.start()
        wait_until(made.ready, 60, engine.logs(made.container("api")))
        yield made
    finally:
        made.stop()


def login(user: str) -> bytes:
    return json.dumps({"type": "login", "time": datetime.now(UTC).isoformat(), "user_id": user}).encode()


def logins(stack: Stack) -> int:
    """Logins of this month."""
    now = datetime.now(UTC)
    path = f"/v1/logins?granularity=month&from={now:%Y-%m}-01&to={now:%Y-%m-%d}"
    items = stack.ask(path, "dashboard")["items"]
    return items[0]["succeeded"] if items else 0


def grows(stack: Stack, by: int, before: int) -> None:
    # The api keeps an answer for ten seconds.
    wait_until(lambda: logins(stack) == before + by, 60, stack.engine.logs(stack.container("worker")))


def test_every_service_is_healthy_and_restricted(stack: Stack, facts: dict[str, Any]) -> None:
    for service in CHECKED:
        name = stack.container(service)
        assert stack.engine.healthy(name), stack.engine.logs(name)
        # An empty list of capabilities; --format prints null for none.
        assert stack.engine.inspect(name, "{{json .EffectiveCaps}}") in {"[]", "null"}, service
        read_only = stack.engine.inspect(name, "{{.HostConfig.ReadonlyRootfs}}") == "true"
        assert read_only is (service != "kafka"), service
        facts[f"compose {service}, MB"] = _memory(stack, name)


def _memory(stack: Stack, name: str) -> str:
    return stack.engine.podman("stats", "--no-stream", "--no-reset", "--format", "{{.MemUsage}}", name).split(" / ")[0]


def test_an_event_over_http_is_counted(stack: Stack) -> None:
    before = logins(stack)
    assert stack.ask("/v1/events", "publisher", login("alice"))["accepted"] == 1
    grows(stack, 1, before)


def test_a_producer_on_the_same_machine_uses_the_outer_port(stack: Stack) -> None:
    before = logins(stack)
    producer = Producer({"bootstrap.servers": f"127.0.0.1:{stack.kafka_port}"})
    producer.produce("auth.logins", login("bob"), b"bob")
    assert producer.flush(30) == 0
    grows(stack, 1, before)


def test_the_operators_commands_run_with_the_operators_rights(stack: Stack) -> None:
    before = logins(stack)
    published = stack.tools("publish", "-", given=f"{login('carol').decode()}\n{login('dave').decode()}\n")
    assert published.returncode == 0, published.stdout + published.stderr
    grows(stack, 2, before)
    for command in (("doctor",), ("positions", "show"), ("dead-letters", "list"), ("settings", "adopt")):
        done = stack.tools(*command)
        assert done.returncode == 0, (command, done.stdout + done.stderr)


def test_snapshots_are_saved_and_old_ones_removed(stack: Stack) -> None:
    def saved() -> list[str]:
        return sorted(stack.engine.podman("exec", stack.container("snapshots"), "ls", "/snapshots").split())

    before = logins(stack)
    assert stack.ask("/v1/events", "publisher", login("frank"))["accepted"] == 1
    grows(stack, 1, before)
    first = saved()
    wait_until(lambda: len(saved()) == KEEP and not set(saved()) & set(first), 60)
    newest = saved()[-1]
    # On a slow machine the next snapshots would remove the file before it is read.
    stack.engine.podman("stop", "--time", "10", stack.container("snapshots"))
    listed = stack.tools("snapshot", "show", f"/snapshots/{newest}")
    stack.engine.podman("start", stack.container("snapshots"))
    assert listed.returncode == 0, listed.stdout + listed.stderr
    assert "auth.logins" in listed.stdout


def test_prometheus_reads_every_target(stack: Stack) -> None:
    jobs = ("authtally-worker", "authtally-api", "authtally-statistics", "authtally-gluu")
    wait_until(lambda: stack.targets() == dict.fromkeys(jobs, "up"), 90, str(stack.targets()))


def test_a_killed_worker_comes_back_and_nothing_is_lost(stack: Stack) -> None:
    before, name = logins(stack), stack.container("worker")
    restarts = int(stack.engine.inspect(name, "{{.RestartCount}}"))
    # The engine treats its own `kill` as a stop by the operator, after which it does not restart.
    os.kill(int(stack.engine.inspect(name, "{{.State.Pid}}")), signal.SIGKILL)
    assert stack.ask("/v1/events", "publisher", login("erin"))["accepted"] == 1
    wait_until(lambda: int(stack.engine.inspect(name, "{{.RestartCount}}")) > restarts, 60)
    grows(stack, 1, before)


def test_services_stop_cleanly(stack: Stack) -> None:
    for service in ("api", "worker", "snapshots"):
        name = stack.container(service)
        stack.engine.podman("stop", "--time", "40", name)
        # The shell of `snapshots` ends by the signal itself.
        assert stack.engine.inspect(name, "{{.State.ExitCode}}") == ("143" if service == "snapshots" else "0")
