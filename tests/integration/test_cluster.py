"""A worker on a Redis Cluster: its ledger equals, key by key, that of a worker on one server; and so do the answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
import redis

from deploy.demo.servers import Valkey
from schemas.ledger.keys import Shard, ShardKeys
from tests.aggregator import ledgers
from tests.aggregator.inventories import state
from tests.conftest import wait_until
from tests.integration.api_process import ApiProcess
from tests.integration.conftest import MakeSite
from tests.integration.sites import PREFIX, Broker, Site

TOKENS: Final = 900
DAY: Final = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=2)


@pytest.fixture
def gathered() -> Iterator[Valkey]:
    """Where all keys of a Cluster are brought together, to be read like any ledger."""
    with Valkey() as store:
        yield store


def write_inventory(site: Site) -> list[str]:
    """Tokens' states and another system's counts, in topics of their own; answers how TOPICS names these."""
    states, counts, accounts = (f"{site.logins}.{kind}" for kind in ("otp", "otp-count", "account"))
    for topic in (states, counts, accounts):
        site.create_topic(topic, 1)
    for number in range(TOKENS):
        time = (DAY + timedelta(seconds=30 * number)).isoformat()
        user = {"user_id": f"user-{number % 70}"} if number % 3 else {}
        changed = state(time, f"{number % 500}", "token_assign", f"realm-{number % 4}", **user, active=number % 7 > 0)
        row = {"time": time, "realm": f"realm-{number % 3}", "event": "token_init", "status": "total", "count": number}
        account = {"time": time, "realm": "acme", "kind": "signup"}
        for topic, event in ((states, changed), (counts, row), (accounts, account)):
            site.publisher.send(Shard(topic, 0), json.dumps(event).encode())
    site.publisher.flush()
    return [f"{states}=otp", f"{counts}=otp-count", f"{accounts}=account"]


def contents(client: Any) -> dict[str, object]:
    """A ledger's contents without observations of the log, which depend on the moment."""
    found = ledgers.contents(client)
    return {key: value for key, value in found.items() if not key.endswith(":observed")}


def gather(cluster: Any, into: str) -> None:
    with redis.Redis.from_url(into) as client:
        for key in cluster.keys(target_nodes=cluster.PRIMARIES):
            client.restore(key, max(cluster.pexpiretime(key), 0), cluster.dump(key), absttl=True)


def test_a_cluster_holds_the_same_ledger_of_all_events_and_answers_alike(
    embedded: Broker, make_site: MakeSite, cluster: str, gathered: Valkey
) -> None:
    site = make_site(embedded, partitions=2, exact_up_to="200")
    site.publisher.publish(4000)
    inventory = write_inventory(site)
    shards = [*site.shards, *(Shard(binding.partition("=")[0], 0) for binding in inventory)]
    ends = site.log_ends() | dict.fromkeys(shards[len(site.shards) :], TOKENS)
    topics = {"topics": ",".join((site.workers.settings["topics"], *inventory))}
    as_cluster = {"redis_url": cluster, "redis_cluster": "on"}
    site.workers.start(**topics)
    site.workers.start(**topics, **as_cluster, kafka_group=f"{site.logins}.cluster")

    slots: Any = redis.RedisCluster.from_url(cluster)
    for client in (site.client, slots):

        def counted(client: Any = client) -> bool:
            return {shard: int(client.get(ShardKeys(PREFIX, shard).position) or 0) for shard in shards} == ends

        wait_until(counted, 90, f"positions {ends}")
    for worker in site.workers.started:
        worker.stop()
    # Both masters have a share.
    assert all(node.redis_connection.dbsize() for node in slots.get_primaries())

    gather(slots, gathered.url)
    slots.close()
    with ledgers.client(gathered.url) as there, ledgers.client(site.store.url) as here:
        held, wanted = contents(there), contents(here)
        assert held.keys() == wanted.keys()
        assert held == wanted
    day, month = f"{DAY:%Y-%m-%d}", f"{DAY:%Y%m}"
    answering = {"auth": "none", "auth_none_writes": "on", "exact_up_to": "200", "users_by": "realm"}
    with (
        ApiProcess(**answering, redis_url=site.store.url) as one,
        ApiProcess(**answering, **as_cluster) as other,
    ):
        for path in (
            f"/jans-auth/restv1/internal/stat?month={month}",
            f"/oxauth/restv1/internal/stat?month={month}&format=openmetrics",
            "/api/v2/stats/active-users",
            f"/api/v2/stats/daily?from={DAY:%Y%m%d}&to={DAY:%Y%m%d}",
            f"/v1/active-users?from={day}&to={day}&group_by=realm",
            f"/v1/logins?from={day}&to={day}&group_by=reason",
            f"/v1/accounts?from={day}&to={day}",
            "/v1/otp-tokens",
            f"/v1/otp-tokens?from={day}&to={day}",
            "/reporting/maximum",
            "/reporting/show?page=2&pagesize=100",
            "/reporting/delete_all?status=*",
            "/reporting/show",
        ):
            result, wanted_answer = other.get(path), one.get(path)
            assert (result.status, result.text) == (200, wanted_answer.text), path
