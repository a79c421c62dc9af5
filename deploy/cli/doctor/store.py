"""Redis queries of `authtally doctor`: facts of each server, and the ledger's shards."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, cast

from redis.asyncio import RedisCluster
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import AskError, ClusterDownError, NoPermissionError, RedisError, ResponseError

from aggregator.ledger.store import Client
from schemas.ledger import fields, keys
from schemas.ledger.keys import Shard, ShardKeys
from schemas.ledger.periods import Month, Span, day_key
from schemas.ledger.scopes import EVERYTHING

REFUSED: Final = """
local refused = {}
for i = 1, #ARGV do
  local words = {}
  for word in string.gmatch(ARGV[i], '%S+') do words[#words + 1] = word == 'KEY' and KEYS[1] or word end
  local known, may = pcall(redis.acl_check_cmd, unpack(words))
  if known and not may then refused[#refused + 1] = ARGV[i] end
end
return refused
"""
"""Returns the calls in ARGV that our user may not make. Makes none of them, and needs only the right to run scripts."""

CALLS: Final = (
    *(
        "APPEND KEY 1",
        "DEL KEY",
        "EVAL 1 0",
        "EVALSHA 1 0",
        "EVAL_RO 1 0",
        "EXEC",
        "EXISTS KEY",
        "EXPIREAT KEY 1",
        "GET KEY",
        "MULTI",
    ),
    *("GETRANGE KEY 0 0", "HDEL KEY 1", "HGET KEY 1", "HGETALL KEY", "HINCRBY KEY 1 1", "HKEYS KEY", "HMGET KEY 1"),
    *(
        "HSET KEY 1 1",
        "INFO",
        "LINDEX KEY 0",
        "LLEN KEY",
        "LRANGE KEY 0 0",
        "LREM KEY 0 1",
        "MGET KEY",
        "PEXPIRE KEY 1",
    ),
    *("PFADD KEY 1", "PFCOUNT KEY", "PFMERGE KEY KEY", "PING", "RPUSH KEY 1", "SADD KEY 1", "SCARD KEY", "SET KEY 1"),
    *("SETRANGE KEY 0 1", "SMEMBERS KEY", "STRLEN KEY", "SUNION KEY", "TIME", "TYPE KEY", "UNLINK KEY"),
    *("XADD KEY * 1 1", "XREVRANGE KEY + -", "ZADD KEY 1 1"),
    *("ZCARD KEY", "ZCOUNT KEY 0 0", "ZMSCORE KEY 1", "ZRANGE KEY 0 0", "ZREMRANGEBYRANK KEY 0 0"),
    *("ZREMRANGEBYSCORE KEY 0 0", "ZREVRANGE KEY 0 0", "ZREVRANGEBYSCORE KEY 0 0"),
)
"""Each call is valid: Redis 7.0 and Valkey 9.1 crash on acl_check_cmd of a call that lacks arguments."""

SAMPLE: Final = 20
"""Shards whose index is checked: a cause that empties one index affects all of them."""
SAMPLE_DAYS: Final = 40
QUERIED: Final = ("save", "appendfsync", "min-replicas-to-write")


@dataclass
class Server:
    """One server that has all of the ledger or a part of it."""

    name: str
    info: Mapping[str, Any]
    ahead_s: float | None
    """Its clock minus ours; None without the right to ask."""
    config: Mapping[str, str] | None = None
    """CONFIG GET of QUERIED; None without the right to ask."""
    cluster: Mapping[str, str] = field(default_factory=dict)


@dataclass
class SentinelFacts:
    """The answer of a sentinel about the master that it watches."""

    address: str
    flags: str
    others: int
    replicas: int
    quorum: int


class Counted(NamedTuple):
    """The counts of a shard that show faults of its records and its index."""

    untimed: int
    """Records without a usable timestamp."""
    unexpected: int
    last_record_ms: int | None
    unindexed: Sequence[str]
    """The checked periods that have counts and are not in the index."""
    unknown_types: Mapping[str, int]
    """Ignored elements by unknown event type."""


@dataclass
class Store:
    servers: list[Server]
    sentinel: SentinelFacts | None
    shards: dict[Shard, tuple[int | None, Mapping[str, str]]] | None
    """Position and meta of every registered shard; None if the client's kind (Cluster or not) is wrong."""
    refused: Sequence[str] | None
    """Commands that our user may not run; None if this is unknown."""
    counted: Mapping[Shard, Counted] | None = None
    """For the first SAMPLE shards with `unindexed`; None if our user lacks the rights."""


async def inspect(client: Client, prefix: str, roles: Mapping[str, Collection[str]]) -> Store:
    """Read all facts; checks rights for the commands of each role. Raises RedisError, OSError without an answer."""
    if isinstance(client, RedisCluster):
        await client.initialize()
        nodes: list[Any] = client.get_primaries()
    else:
        nodes = [None]
    servers = [await _server(client, node) for node in nodes]
    try:
        shards = await _shards(client, prefix)
    except (AskError, ClusterDownError):
        # A Cluster behind a client for a single server.
        return Store(servers, None, None, None)
    refused = await _refused(client, prefix, roles)
    try:
        counted = {shard: await _counted(client, prefix, shard, number < SAMPLE) for number, shard in enumerate(shards)}
    except NoPermissionError:
        counted = None
    return Store(servers, await _sentinel(client), shards, refused, counted)


async def _shards(client: Client, prefix: str) -> dict[Shard, tuple[int | None, Mapping[str, str]]]:
    tags = await cast(Any, client.smembers(keys.shards(prefix)))
    shards = {}
    for shard in sorted(map(Shard.parse, tags)):
        shard_keys = ShardKeys(prefix, shard)
        position = await cast(Any, client.get(shard_keys.position))
        shards[shard] = None if position is None else int(position), await cast(Any, client.hgetall(shard_keys.meta))
    return shards


async def _counted(client: Client, prefix: str, shard: Shard, with_index: bool) -> Counted:
    shard_keys = ShardKeys(prefix, shard)
    progress = await cast(Any, client.hgetall(shard_keys.progress))
    names = (fields.UNTIMED, fields.LAST_EVENT, fields.LAST_RECORD)
    untimed, last_event_ms, last_record_ms = map(progress.get, names)
    periods = _newest_periods(int(last_event_ms)) if last_event_ms and with_index else []
    asking: Any = client.pipeline(transaction=False)
    asking.scard(shard_keys.unexpected)
    for period in periods:
        asking.exists(shard_keys.counts(period, EVERYTHING))
    # Read after the counts, so that the index has a period that a worker adds meanwhile.
    if periods:
        asking.zmscore(shard_keys.index, periods)
    unexpected, *found = await asking.execute()
    there, scores = found[: len(periods)], found[-1] if periods else []
    unindexed = [
        period for period, exists, score in zip(periods, there, scores, strict=True) if exists and score is None
    ]
    unknown = fields.split(fields.unknown(""))[0]
    types = {
        parts[1]: int(number)
        for name, number in progress.items()
        if (parts := fields.split(name))[0] == unknown and len(parts) == 2
    }
    return Counted(int(untimed or 0), unexpected, int(last_record_ms) if last_record_ms else None, unindexed, types)


def _newest_periods(last_event_ms: int) -> list[str]:
    """The days and months up to the newest event, in any time zone; the index most likely has them."""
    newest = datetime.fromtimestamp(last_event_ms / 1000, UTC).date() + timedelta(days=1)
    days = list(Span.ending(newest, SAMPLE_DAYS).days)
    return [*map(day_key, days), *sorted({Month.of(day).key for day in days})]


async def _refused(client: Client, prefix: str, roles: Mapping[str, Collection[str]]) -> list[str] | None:
    refused: set[str] = set()
    for role, commands in roles.items():
        # The api may write to few keys only; this is one of them.
        key = keys.temporary(prefix, "doctor", "rights") if role == "api" else keys.shards(prefix)
        calls = [call for call in CALLS if call.partition(" ")[0].lower() in commands]
        try:
            found = await cast(Any, client.eval(REFUSED, 1, key, *calls))
        except ResponseError:
            # No right to run scripts, or a server without acl_check_cmd.
            return None
        refused |= {call.partition(" ")[0].lower() for call in found}
    return sorted(refused)


async def _server(client: Client, node: Any) -> Server:
    async def ask(*command: str | int) -> Any:
        if node is None:
            return await client.execute_command(*command)
        return await client.execute_command(*command, target_nodes=node)

    async def ask_if_allowed(*command: str | int) -> Any:
        try:
            return await ask(*command)
        except NoPermissionError:
            return None

    info = await ask_if_allowed("INFO")
    before = time.time()
    result = await ask_if_allowed("TIME")
    between = (before + time.time()) / 2
    ahead = None if result is None else int(result[0]) + int(result[1]) / 1e6 - between
    config = await ask_if_allowed("CONFIG GET", *QUERIED)
    cluster = await ask_if_allowed("CLUSTER INFO") if (info or {}).get("cluster_enabled") else None
    return Server("" if node is None else node.name, info or {}, ahead, _pairs(config), _lines(cluster))


def _pairs(result: Any) -> Mapping[str, str] | None:
    if result is None or isinstance(result, dict):
        return result
    return dict(zip(result[::2], result[1::2], strict=True))


def _lines(result: Any) -> Mapping[str, str]:
    return result if isinstance(result, dict) else {}


async def _sentinel(client: Client) -> SentinelFacts | None:
    pool = getattr(client, "connection_pool", None)
    if not isinstance(pool, SentinelConnectionPool):
        return None
    for asked in pool.sentinel_manager.sentinels:
        try:
            result = await asked.sentinel_master(pool.service_name)
        except (RedisError, OSError):
            continue
        return SentinelFacts(
            f"{result['ip']}:{result['port']}",
            str(result["flags"]),
            int(result["num-other-sentinels"]),
            int(result["num-slaves"]),
            int(result["quorum"]),
        )
    return None
