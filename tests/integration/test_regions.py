"""Two regions as operators run them: two Kafkas, two stores, two workers, two api processes, and users of both."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

import redis
from confluent_kafka import Producer

from api.ledger.client import open_ledger
from api.ledger.statistics import Statistics
from api.settings.settings import ApiSettings
from deploy.demo.servers import Tansu, Valkey, create_topics
from schemas.ledger.keys import Shard, ShardKeys
from schemas.ledger.periods import Month
from schemas.settings import read
from tests.api.sources import listed
from tests.api.worker import Event, count, login
from tests.conftest import wait_until
from tests.integration.api_process import ApiProcess
from tests.integration.workers import Workers

KEY: Final = "a key for nothing but tests"
TOPIC: Final = "auth.logins"
MONTH: Final = Month(2026, 10)
PATH: Final = "/v1/active-users?from=2026-10-01&to=2026-10-31&granularity=month"
TOKENS: Final = {
    "reader": {"scopes": ["stats:read"], "regions": ["*"]},
    "peer": {"scopes": ["sketches:read"]},
}


def events(region: str, users: range) -> list[Event]:
    return [
        login(f"2026-10-{1 + user % 28:02}T10:00:00Z", f"canary-{user}", realm="acme", id=f"{region}-{user}")
        for user in users
    ]


def publish(address: str, published: Sequence[Event]) -> None:
    create_topics(address, {TOPIC: 2, "auth.dead-letter": 1})
    producer = Producer({"bootstrap.servers": address})
    for number, event in enumerate(published):
        producer.produce(TOPIC, json.dumps(event).encode(), partition=number % 2)
    assert producer.flush(30) == 0


def is_counted(client: Any, size: int) -> bool:
    positions = [client.get(ShardKeys("authtally:", Shard(TOPIC, number)).position) for number in range(2)]
    return sum(int(position or 0) for position in positions) == size


def test_two_regions_with_two_kafkas_answer_like_one_ledger(tmp_path: Path) -> None:
    logs = {"eu": events("eu", range(400)), "us": events("us", range(300, 700))}
    tokens = tmp_path / "tokens.json"
    tokens.write_text(json.dumps([listed(name, **entry) for name, entry in TOKENS.items()]))
    (tmp_path / "peer.token").write_text("peer")
    with ExitStack() as stack:
        stores = {name: stack.enter_context(Valkey()) for name in (*logs, "one")}
        clients: dict[str, Any] = {
            name: stack.enter_context(redis.Redis.from_url(store.url)) for name, store in stores.items()
        }
        for name, published in logs.items():
            broker = stack.enter_context(Tansu())
            publish(broker.address, published)
            folder = tmp_path / name
            workers = Workers(
                folder,
                kafka_bootstrap_servers=broker.address,
                kafka_group=name,
                kafka_idempotence="false",
                redis_url=stores[name].url,
                user_hash_key=KEY,
                topics=f"{TOPIC}=login",
                exact_up_to="0",
                retain_days="forever",
            )
            stack.enter_context(workers).start()
        asyncio.run(count(stores["one"].url, [*logs["eu"], *logs["us"]], user_hash_key=KEY, exact_up_to=0))
        expected = asyncio.run(of_one_ledger(stores["one"].url))
        apis = {
            name: ApiProcess(
                auth="static",
                auth_tokens_file=str(tokens),
                redis_url=stores[name].url,
                exact_up_to="0",
                region=name,
                region_users="shared",
                region_min_users="100",
                region_timeout_s="1.5",
                peers_file=str(tmp_path / f"{name}.json"),
                cache_ttl_s="0",
            )
            for name in logs
        }
        for name, other in (("eu", "us"), ("us", "eu")):
            peer = {"name": other, "url": f"http://{apis[other].address}", "token_file": str(tmp_path / "peer.token")}
            (tmp_path / f"{name}.json").write_text(json.dumps([peer]))
        for name, log in logs.items():
            wait_until(partial(is_counted, clients[name], len(log)), 90, f"{name} is counted")
            stack.enter_context(apis[name])

        def value(name: str) -> tuple[bool, int]:
            answer = apis[name].get(f"{PATH}&region=all", "reader")
            return answer.status == 200 and answer.json["complete"], answer.json.get("items", [{}])[0].get("value")

        for name in logs:
            wait_until(partial(lambda region: value(region)[0], name), 60, f"{name} answers for both")
            assert value(name)[1] == expected, "united sketches are those of one ledger"
            assert apis[name].get(PATH, "reader").json["items"][0]["value"] < expected
        apis["us"].kill()
        wait_until(lambda: not value("eu")[0], 30, "the outage shows")
        answer = apis["eu"].get(f"{PATH}&region=all", "reader").json
        assert answer["regions"][1]["state"] == "stand_in"
        assert answer["items"][0]["value"] == expected
        for name, client in clients.items():
            assert not [key for key in client.scan_iter("*") if b"canary" in key], name


async def of_one_ledger(url: str) -> int:
    settings = read(ApiSettings, auth=("none",), redis_url=url, exact_up_to=0)
    client = open_ledger(settings)
    (month,) = await Statistics(client, settings).months([MONTH])
    await client.close()
    return month.active.count
