"""The ledger where every key has its slot: a real server in cluster mode, which refuses what crosses slots."""

from __future__ import annotations

import asyncio
from typing import Any

from redis import Redis

from aggregator.fold.fold import fold
from aggregator.fold.range_delta import CountingRules, ShardCache
from aggregator.ledger.ledger import Applied, Ledger, Refused
from aggregator.ledger.store import connect, preflight_error
from deploy.demo.servers import free_port
from schemas.ledger import fields, keys
from schemas.ledger.keys import Shard, ShardKeys
from schemas.ledger.scopes import EVERYTHING
from tests.aggregator import ledgers
from tests.aggregator.logs import NOW_MS, record

SHARDS = [Shard("auth.logins", partition) for partition in range(3)]


async def test_ranges_apply_and_are_refused_in_a_cluster(cluster: str) -> None:
    settings = ledgers.settings(cluster, redis_cluster=True, exact_up_to=10)
    client: Any = connect(settings)
    ledger, rules = Ledger(client, settings), CountingRules.of(settings)
    assert await preflight_error(client) is None
    log = [record(i, {"time": "2026-11-20T10:00:00Z", "user_id": f"u{i}", "realm": "acme"}) for i in range(50)]
    for shard in SHARDS:
        assert isinstance(await ledger.initialize(shard, 0, "id"), Applied)
        delta = fold("login", log, 50, ShardCache(set()), rules, NOW_MS)
        assert isinstance(await ledger.apply(shard, 0, delta), Applied)
        assert await ledger.apply(shard, 0, delta) == Refused(50)
        assert await client.hget(ShardKeys("authtally:", shard).counts("2026-11", EVERYTHING), fields.LOGIN) == "50"
    assert await ledger.positions(SHARDS) == dict.fromkeys(SHARDS, 50)
    assert await client.smembers(keys.shards("authtally:")) == {shard.tag for shard in SHARDS}
    await client.aclose()


async def test_a_slot_on_the_move_is_waited_for_and_nothing_is_counted_twice(cluster: str) -> None:
    """While a slot moves, a script whose keys lie on both sides is answered TRYAGAIN, since all are declared."""
    settings = ledgers.settings(cluster, redis_cluster=True)
    client: Any = connect(settings)
    refused = asyncio.Event()
    ledger = Ledger(client, settings, on_error=lambda error: refused.set() if error else None)
    rules = CountingRules.of(settings)
    shard = Shard("auth.logins", 9)
    shard_keys = ShardKeys("authtally:", shard)
    log = [record(i, {"time": "2026-11-20T10:00:00Z", "user_id": f"u{i}"}) for i in range(20)]
    await ledger.initialize(shard, 0, "id")
    await ledger.apply(shard, 0, fold("login", log[:10], 10, ShardCache(set()), rules, NOW_MS))

    slot = client.keyslot(shard_keys.position)
    home = client.get_node_from_key(shard_keys.position)
    away = next(node for node in client.get_primaries() if node.name != home.name)
    at_home: Any = Redis(host=home.host, port=home.port)
    at_away: Any = Redis(host=away.host, port=away.port)
    home_id, away_id = (node.execute_command("CLUSTER MYID").decode() for node in (at_home, at_away))
    at_away.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", home_id)
    at_home.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", away_id)
    at_home.migrate(away.host, away.port, shard_keys.counts("2026-11", EVERYTHING), 0, 5000)

    applying = asyncio.create_task(
        ledger.apply(shard, 10, fold("login", log[10:], 20, ShardCache(set()), rules, NOW_MS))
    )
    async with asyncio.timeout(20):
        await refused.wait()
    assert not applying.done()
    left = at_home.execute_command("CLUSTER GETKEYSINSLOT", slot, 1000)
    at_home.migrate(away.host, away.port, left, 0, 5000)
    for node in (at_away, at_home):
        node.execute_command("CLUSTER SETSLOT", slot, "NODE", away_id)
    async with asyncio.timeout(30):
        assert isinstance(await applying, Applied)
    assert await client.hget(shard_keys.counts("2026-11", EVERYTHING), fields.LOGIN) == "20"
    assert await client.get(shard_keys.position) == "20"
    for node in (at_home, at_away):
        node.close()
    await client.aclose()


async def test_a_cluster_of_which_no_node_answers_is_waited_for() -> None:
    """redis-py has an exception of its own for that, which is no RedisError."""
    settings = ledgers.settings(f"redis://127.0.0.1:{free_port()}", redis_cluster=True)
    client: Any = connect(settings)
    troubled = asyncio.Event()
    ledger = Ledger(client, settings, on_error=lambda error: troubled.set() if error else None)
    looking = asyncio.create_task(ledger.read_state(SHARDS[0]))
    async with asyncio.timeout(20):
        await troubled.wait()
    assert not looking.done()
    looking.cancel()
    await client.aclose()
