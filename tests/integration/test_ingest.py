"""Events over HTTP into Apache Kafka: acknowledged by all replicas, idempotent, and answered singly if some fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from deploy.demo.servers import Valkey, create_topics
from tests.api.ingest.sending import NATIVE, records
from tests.conftest import CreateTopic, wait_until
from tests.integration.api_process import ApiProcess, Reply
from tests.servers import ApacheKafka, JavaMissingError

pytestmark = pytest.mark.apache_kafka

ROOT: Final = Path(__file__).parents[2]
TIME = "2026-11-20T10:00:00Z"


def login(number: int) -> dict[str, str]:
    return {"type": "login", "time": TIME, "user_id": "alice", "id": f"login-{number}"}


SIGNUP = {"type": "account", "time": TIME, "kind": "signup", "id": "signup"}


def serve(store: Valkey, broker: str, **settings: str) -> ApiProcess:
    kafka = {"ingest": "on", "auth_none_writes": "on", "kafka_bootstrap_servers": broker}
    return ApiProcess(**{"auth": "none", "redis_url": store.url} | kafka | settings)


def send(api: ApiProcess, body: Any) -> Reply:
    return api.post("/v1/events", body)


@pytest.fixture
def own_kafka() -> Iterator[ApacheKafka]:
    """A broker of the test's own, to be killed."""
    try:
        server = ApacheKafka(heap_mb=256)
    except JavaMissingError as missing:
        pytest.skip(str(missing))
    with server:
        yield server


def test_a_missing_topic_is_answered_apart(valkey: Valkey, apache_kafka: str, create_topic: CreateTopic) -> None:
    logins = create_topic(apache_kafka, 3)
    topics = f"{logins}=login,nobody.made.this=account"
    with serve(valkey, apache_kafka, topics=topics, ingest_timeout_s="2") as api:
        refused = send(api, [login(1), SIGNUP, login(2), {"type": "login"}])
        assert (refused.status, refused.headers["Content-Type"]) == (503, "application/problem+json")
        assert (refused.json["acknowledged"], refused.json["unacknowledged"]) == ([0, 2], [1])
        assert [rejection["index"] for rejection in refused.json["rejected"]] == [3]
        assert 'error="UNKNOWN_TOPIC_OR_PART"' in api.get("/metrics").text
        assert send(api, login(3)).status == 202
    held = sorted(record.value["id"] for record in records(apache_kafka, logins))
    assert held == [f"{NATIVE}login-{number}" for number in (1, 2, 3)]


def test_a_killed_broker_loses_nothing_that_was_acknowledged(valkey: Valkey, own_kafka: ApacheKafka) -> None:
    create_topics(own_kafka.address, {"logins": 3})
    acknowledged: list[str] = []

    def take(number: int) -> int:
        reply = send(api, [login(number * 10 + place) for place in range(10)])
        if reply.status == 202:
            acknowledged.extend(login(number * 10 + place)["id"] for place in range(10))
        return reply.status

    with serve(valkey, own_kafka.address, topics="logins=login", ingest_timeout_s="2") as api:
        assert [take(number) for number in range(3)] == [202, 202, 202]
        own_kafka.kill()
        refused = send(api, [login(99)])
        assert (refused.status, refused.json["unacknowledged"]) == (503, [0])
        assert int(refused.headers["Retry-After"]) >= 1
        assert api.get("/health/ready").status == 200
        own_kafka.start()
        wait_until(lambda: take(3) == 202, 60, "events are taken again")
        assert "kafka acknowledges events again" in api.log.read_text()
    held = [record.value["id"].removeprefix(NATIVE) for record in records(own_kafka.address, "logins")]
    assert set(acknowledged) <= set(held)


def test_a_stopping_api_answers_whom_it_has_taken(valkey: Valkey, apache_kafka: str, create_topic: CreateTopic) -> None:
    logins = create_topic(apache_kafka, 1)
    with serve(valkey, apache_kafka, topics=f"{logins}=login") as api:
        assert send(api, [login(number) for number in range(5000)]).json["accepted"] == 5000
        api.stop()
    assert len(records(apache_kafka, logins)) == 5000


def test_equal_ids_meet_in_one_partition_however_they_are_sent(
    valkey: Valkey, apache_kafka: str, create_topic: CreateTopic, tmp_path: Path
) -> None:
    logins = create_topic(apache_kafka, 7)
    events = [login(number) for number in range(20)]
    # The ids that ingest gives to these events.
    published = [event | {"id": NATIVE + event["id"]} for event in events]
    (tmp_path / "events.json").write_text(json.dumps(published))
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)} | {
        "AUTHTALLY_KAFKA_BOOTSTRAP_SERVERS": apache_kafka,
        "AUTHTALLY_TOPICS": f"{logins}=login",
        "PYTHONPATH": str(ROOT),
    }
    command = (sys.executable, "-m", "deploy.cli.main", "publish", "events.json")
    subprocess.run(command, env=environment, cwd=tmp_path, check=True, timeout=60, capture_output=True)
    with serve(valkey, apache_kafka, topics=f"{logins}=login") as api:
        assert send(api, events).json["accepted"] == len(events)
    where: dict[str, set[int]] = {}
    for record in records(apache_kafka, logins):
        where.setdefault(record.value["id"], set()).add(record.partition)
    assert len(where) == len(events)
    assert all(len(partitions) == 1 for partitions in where.values()), where
    assert len(set.union(*where.values())) > 1
