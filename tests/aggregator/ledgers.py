"""Reads one shard's whole ledger back, key by key, as plain values to compare."""

from __future__ import annotations

from typing import Any

from redis import Redis

from aggregator.settings import WorkerSettings
from schemas.ledger import accuracy, keys
from schemas.ledger.keys import Shard, ShardKeys
from schemas.ledger.scopes import Scope
from schemas.settings import read


def settings(redis_url: str, **given: Any) -> WorkerSettings:
    return read(WorkerSettings, **{"redis_url": redis_url, "user_hash_key": "sixteen characters", **given})


def contents(client: Any) -> dict[str, object]:
    """Keys with value and lifetime, except random tokens and the audit log. HyperLogLogs by their registers only."""
    found: dict[str, object] = {}
    for key in sorted(client.keys("*")):
        if key.endswith((":changes", ":ledger", ":audit")):
            continue
        kind = client.type(key)
        value: object
        if kind == "hash":
            value = client.hgetall(key)
        elif kind == "set":
            value = client.smembers(key)
        elif kind == "zset":
            value = dict(client.zrange(key, 0, -1, withscores=True))
        elif kind == "list":
            value = client.lrange(key, 0, -1)
        elif kind == "stream":
            value = client.xrange(key)
        else:
            text = client.get(key)
            # Dense and sparse say the same; a copy of the merge of one is always dense.
            value = registers(client, key) if text.startswith("HYLL") else text
        found[key] = (value, client.expiretime(key))
    return found


def registers(client: Any, key: str) -> str:
    copy = f"copy of {key}"
    client.pfmerge(copy, key)
    value: str = client.execute_command("PFDEBUG", "TODENSE", copy) and client.get(copy)
    client.delete(copy)
    # 16 bytes of header: magic, encoding, and the cached cardinality.
    return value[16:]


def small(client: Any, shard_keys: ShardKeys, period: str, scope: Scope) -> set[str]:
    """Members of the small sets."""
    members: set[str] = client.sunion([shard_keys.small_set(period, scope, part) for part in range(keys.SMALL_PARTS)])
    return members


def estimate(client: Any, shard_keys: ShardKeys, period: str, scope: Scope) -> int:
    """The sum of the sketches' estimates."""
    return sum(
        client.pfcount(shard_keys.users(period, scope, part)) for part in range(accuracy.sketches(period, scope))
    )


def client(redis_url: str) -> Any:
    # Latin-1 reads any byte of a HyperLogLog; nothing else in a ledger is outside ASCII, since labels are quoted.
    return Redis.from_url(redis_url, decode_responses=True, encoding="latin-1")


__all__ = ["Shard", "client", "contents", "estimate", "registers", "settings", "small"]
