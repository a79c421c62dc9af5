"""The answers to a sender while Kafka is gone, is frozen or takes only a part; and that it then comes back."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from api.ingest.producer import EventProducer, properties
from api.ingest.records import Message
from api.settings.settings import ApiSettings
from deploy.demo.servers import Tansu, create_topics
from tests.api.ingest.sending import NATIVE, MakeSite, records
from tests.conftest import CreateTopic

LOGIN = {"type": "login", "time": "2026-11-20T10:00:00Z", "user_id": "alice", "realm": "acme"}
BAD = LOGIN | {"time": "yesterday"}


@pytest.fixture
def own_broker() -> Iterator[Tansu]:
    """A broker of the test's own, to be killed."""
    with Tansu() as server:
        yield server


@pytest.mark.parametrize("end", ["kill", "pause"])
async def test_kafka_gone_is_a_503_and_back_a_202(make_site: MakeSite, own_broker: Tansu, end: str) -> None:
    site = await make_site(own_broker.address, ingest_timeout_s=1)
    assert (await site.send(LOGIN)).status == 202
    getattr(own_broker, end)()
    answer = await site.send([LOGIN | {"id": "a"}, BAD, LOGIN | {"id": "b"}])
    assert (answer.status, answer.headers["Content-Type"]) == (503, "application/problem+json")
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.json["unacknowledged"] == [0, 2]
    assert (answer.json["acknowledged"], answer.json["accepted"]) == ([], 0)
    assert [rejection["index"] for rejection in answer.json["rejected"]] == [1]

    if end == "kill":
        own_broker.restart()
        create_topics(own_broker.address, dict.fromkeys(site.topics, 3))
    else:
        own_broker.resume()
    answer = await site.send([LOGIN | {"id": "a"}, LOGIN | {"id": "b"}])
    while answer.status == 503:
        answer = await site.send([LOGIN | {"id": "a"}, LOGIN | {"id": "b"}])
    assert answer.json["accepted"] == 2
    assert {record.value.get("id") for record in site.holds("login")} >= {f"{NATIVE}a", f"{NATIVE}b"}


async def test_each_of_many_senders_gets_the_result_of_its_own_events(make_site: MakeSite) -> None:
    site = await make_site()
    sizes = [1, 7, 100, 2500]
    answers = await asyncio.gather(
        *(site.send([LOGIN | {"id": f"{size}-{number}"} for number in range(size)]) for size in sizes)
    )
    assert [answer.json["accepted"] for answer in answers] == sizes
    ids = [record.value["id"] for record in site.holds("login")]
    assert len(ids) == len(set(ids)) == sum(sizes)


def settings(bootstrap: str, **more: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"auth": ("none",), "kafka_bootstrap_servers": bootstrap, "kafka_idempotence": False}
    return properties(ApiSettings(**given), 5) | more


def made(number: int) -> list[Message]:
    return [{"key": b"k%d" % place, "value": b'{"n":%d}' % place} for place in range(number)]


async def test_a_full_queue_is_waited_for(broker: str, create_topic: CreateTopic) -> None:
    producer = EventProducer(settings(broker, **{"queue.buffering.max.messages": 10}))
    topic = create_topic(broker, 1)
    try:
        assert await producer.send({topic: made(95)}) == {}
    finally:
        await producer.close()
    assert len(records(broker, topic)) == 95


async def test_a_queue_that_stays_full_ends_in_time() -> None:
    producer = EventProducer(settings("127.0.0.1:1", **{"queue.buffering.max.messages": 10, "message.timeout.ms": 500}))
    try:
        undelivered = await producer.send({"events": made(25)})
    finally:
        await producer.close()
    assert sorted(undelivered) == [("events", place) for place in range(25)]
    assert set(undelivered.values()) <= {"_MSG_TIMED_OUT", "_QUEUE_FULL"}


async def test_each_failed_record_is_found_by_its_place(broker: str, create_topic: CreateTopic) -> None:
    producer = EventProducer(settings(broker, **{"message.max.bytes": 1000}))
    topic = create_topic(broker, 1)
    large: Message = {"key": b"k", "value": b"x" * 2000}
    small = made(3)
    try:
        undelivered = await producer.send({topic: [small[0], large, small[1], large.copy(), small[2]]})
    finally:
        await producer.close()
    assert sorted(undelivered) == [(topic, 1), (topic, 3)]
    assert [record.value["n"] for record in records(broker, topic)] == [0, 1, 2]


async def test_a_closing_producer_answers_waiting_senders() -> None:
    producer = EventProducer(settings("127.0.0.1:1", **{"message.timeout.ms": 300}))
    sending = asyncio.create_task(producer.send({"events": made(3)}))
    await asyncio.sleep(0)
    await producer.close()
    assert sorted(place for _, place in await sending) == [0, 1, 2]


def test_an_api_without_ingest_loads_no_kafka_client() -> None:
    script = (
        "import sys\n"
        "from api.app import build_app\n"
        "from api.settings.settings import ApiSettings\n"
        "build_app(ApiSettings(auth=('none',)))\n"
        "assert 'confluent_kafka' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
