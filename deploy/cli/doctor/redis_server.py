"""Checks of the facts that the ledger's store returned. Pure: connects to nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

from deploy.cli.doctor.findings import APART_S, Finding, span
from deploy.cli.doctor.retention import Backup
from deploy.cli.doctor.store import SentinelFacts, Server, Store
from schemas.settings import PREFIX, CommonSettings

NEEDED: Final = {"redis": 7, "valkey": 8}
SLOTS: Final = "16384"
FULL: Final = 0.9
SKEW_S: Final = 5.0


def assess(store: Store, settings: CommonSettings) -> Iterator[Finding]:
    for server in store.servers:
        if not server.info:
            advice = "grant the user of REDIS_URL +info"
            yield Finding("redis.version", server.name, "unknown", "its user may not run INFO", advice)
            continue
        yield _version(server)
        yield _layout(server, settings)
        yield _eviction(server)
        yield _memory(server)
        yield _persistence(server)
        yield _replication(server)
    if store.sentinel is not None:
        yield _sentinel(store.sentinel)
    yield from clocks(store)
    if store.shards is not None:
        yield _rights(store)


def oldest_known(store: Store) -> Backup | None:
    """The RDB file to which a crash resets a Redis without an append-only file; None with one, which loses little."""
    ages = [
        time.time() - int(server.info["rdb_last_save_time"])
        for server in store.servers
        if server.config and server.config.get("save") and not int(server.info.get("aof_enabled", 0))
    ]
    return Backup(max(ages), "the last RDB file", certain=False) if ages else None


def _version(server: Server) -> Finding:
    name = "valkey" if "valkey_version" in server.info else "redis"
    version = str(server.info.get(f"{name}_version", ""))
    major = version.partition(".")[0]
    result = f"{name.capitalize()} {version}"
    if not major.isdecimal() or int(major) < NEEDED[name]:
        advice = "use Redis 7 or Valkey 8, or later"
        found = f"{result} lacks commands that the worker's script uses"
        return Finding("redis.version", server.name, "problem", found, advice)
    return Finding("redis.version", server.name, "ok", result)


def _layout(server: Server, settings: CommonSettings) -> Finding:
    is_cluster = bool(int(server.info.get("cluster_enabled", 0)))
    if is_cluster != settings.redis_cluster:
        word = "is" if is_cluster else "is not"
        return Finding(
            "redis.layout",
            server.name,
            "problem",
            f"{PREFIX}REDIS_CLUSTER is {'on' if settings.redis_cluster else 'off'}, but the server {word} a Cluster",
            f"set {PREFIX}REDIS_CLUSTER={'on' if is_cluster else 'off'}",
        )
    if not is_cluster:
        return Finding(
            "redis.layout", server.name, "ok", "behind Sentinel" if settings.redis_sentinel else "one server"
        )
    state, slots = server.cluster.get("cluster_state"), server.cluster.get("cluster_slots_ok")
    if state is None:
        advice = "grant the user of REDIS_URL +cluster|info"
        return Finding("redis.layout", server.name, "unknown", "its user may not run CLUSTER INFO", advice)
    if state != "ok" or slots != SLOTS:
        advice = "redis-cli --cluster check, and --cluster fix"
        return Finding("redis.layout", server.name, "problem", f"Cluster state {state}, {slots} slots served", advice)
    return Finding(
        "redis.layout", server.name, "ok", f"Cluster of {server.cluster.get('cluster_size')} primaries, complete"
    )


def _eviction(server: Server) -> Finding:
    policy = server.info.get("maxmemory_policy")
    if policy == "noeviction":
        return Finding("redis.eviction", server.name, "ok", "maxmemory-policy noeviction")
    found = f"maxmemory-policy {policy}: an evicted key makes a figure wrong, so workers refuse to start"
    return Finding("redis.eviction", server.name, "problem", found, "CONFIG SET maxmemory-policy noeviction")


def _memory(server: Server) -> Finding:
    used, most = int(server.info.get("used_memory", 0)), int(server.info.get("maxmemory", 0))
    if not most:
        return Finding("redis.memory", server.name, "ok", f"{used >> 20:,} MB used, no maxmemory")
    found = f"{used >> 20:,} of {most >> 20:,} MB used"
    if used < FULL * most:
        return Finding("redis.memory", server.name, "ok", found)
    advice = f"raise maxmemory, or store less: {PREFIX}RETAIN_DAYS, {PREFIX}USERS_BY, {PREFIX}COUNTS_BY"
    if used < most:
        return Finding("redis.memory", server.name, "warning", found, advice)
    return Finding("redis.memory", server.name, "problem", f"{found}: nothing can be counted", advice)


def _persistence(server: Server) -> Finding:
    name, info = server.name, server.info
    failed = [
        what
        for what, field in (("RDB", "rdb_last_bgsave_status"), ("AOF", "aof_last_write_status"))
        if info.get(field, "ok") != "ok"
    ]
    if failed:
        advice = "read its log: disk full, no right to write, or no memory to fork"
        return Finding("redis.persistence", name, "problem", f"the last {' and '.join(failed)} write failed", advice)
    if int(info.get("aof_enabled", 0)):
        sync = (server.config or {}).get("appendfsync")
        return Finding("redis.persistence", name, "ok", "append-only file" + (f", appendfsync {sync}" if sync else ""))
    keep = "CONFIG SET appendonly yes, also in its configuration file: a crash then loses only what Kafka still has"
    if server.config is None:
        found = "no append-only file; its user may not run CONFIG GET save"
        return Finding("redis.persistence", name, "unknown", found, "grant the user of REDIS_URL +config|get")
    if not server.config.get("save"):
        found = "nothing is written to disk: a restart loses every month that Kafka no longer has"
        return Finding("redis.persistence", name, "problem", found, keep)
    age = span(time.time() - int(info["rdb_last_save_time"]))
    return Finding("redis.persistence", name, "ok", f"RDB file only, {age} old: Kafka replays what a crash loses")


def _replication(server: Server) -> Finding:
    name, info = server.name, server.info
    if info.get("role") != "master":
        found = f"a replica of {info.get('master_host')}:{info.get('master_port')}, which accepts no writes"
        advice = f"name the primary in {PREFIX}REDIS_URL, or the sentinels with {PREFIX}REDIS_SENTINEL"
        return Finding("redis.replication", name, "problem", found, advice)
    replicas = [result for field, result in info.items() if field.startswith("slave") and isinstance(result, dict)]
    online = sum(result.get("state") == "online" for result in replicas)
    needed = int((server.config or {}).get("min-replicas-to-write") or 0)
    if needed > online:
        found = f"min-replicas-to-write {needed}, but {online} replicas follow: writes are refused"
        return Finding("redis.replication", name, "problem", found, "start the replicas again, or lower the number")
    if online < len(replicas):
        found = f"{online} of {len(replicas)} replicas follow"
        return Finding("redis.replication", name, "warning", found, "read the logs of the others")
    return Finding("redis.replication", name, "ok", f"primary with {online} replicas" if online else "no replica")


def _sentinel(result: SentinelFacts) -> Finding:
    down = {"s_down", "o_down", "disconnected"} & set(result.flags.split(","))
    if down:
        found = f"sentinels report {result.address} as down ({result.flags})"
        return Finding("redis.layout", "sentinel", "problem", found, "read its log")
    if result.others + 1 < max(result.quorum, 2) or result.others + 1 < 3:
        found = f"{result.others + 1} sentinels, quorum {result.quorum}: too few to agree while one is down"
        return Finding("redis.layout", "sentinel", "warning", found, "run three, each on another machine")
    if not result.replicas:
        found = "no replica to fail over to"
        return Finding("redis.layout", "sentinel", "warning", found, "add a replica")
    return Finding("redis.layout", "sentinel", "ok", f"{result.others + 1} sentinels, quorum {result.quorum}")


def clocks(store: Store) -> Iterator[Finding]:
    """Compare the clock of each server with this machine's; workers tolerate a difference up to APART_S."""
    for server in store.servers:
        if server.ahead_s is None:
            advice = "grant the user of REDIS_URL +time"
            yield Finding("clock.redis", server.name, "unknown", "its user may not run TIME", advice)
        elif abs(server.ahead_s) > SKEW_S:
            found = (
                f"its clock is {span(server.ahead_s)} {'ahead of' if server.ahead_s > 0 else 'behind'} this machine's"
            )
            if abs(server.ahead_s) > APART_S:
                found += f": a worker whose clock differs by more than {span(APART_S)} counts nothing"
                yield Finding("clock.redis", server.name, "problem", found, "synchronise both by NTP")
                continue
            yield Finding("clock.redis", server.name, "warning", found, "synchronise both by NTP")
        else:
            yield Finding("clock.redis", server.name, "ok", f"within {SKEW_S:g} s of this machine's")


def _rights(store: Store) -> Finding:
    if store.refused is None:
        return Finding(
            "redis.rights", "", "unknown", "its user may not run scripts", "grant the user of REDIS_URL +eval"
        )
    if store.refused:
        lacking = " ".join(f"+{command}" for command in store.refused)
        advice = "grant it; deploy/redis/users.acl has users with all necessary rights"
        return Finding("redis.rights", "", "problem", f"the user of REDIS_URL lacks {lacking}", advice)
    return Finding("redis.rights", "", "ok", "the user of REDIS_URL has all necessary rights")


def cache(ledger: Store, settings: Any, info: dict[str, Any]) -> Finding:
    """Compare the server of CACHE_REDIS_URL, whose INFO is `info`, with the ledger's store."""
    from urllib.parse import urlsplit

    def database(url: str) -> str:
        return urlsplit(url).path.strip("/") or "0"

    same_server = any(info.get("run_id") == server.info.get("run_id") for server in ledger.servers if server.info)
    urls = settings.cache_redis_url.get_secret_value(), settings.redis_url.get_secret_value()
    if same_server and database(urls[0]) == database(urls[1]):
        return Finding(
            "redis.cache",
            "",
            "problem",
            "CACHE_REDIS_URL is the ledger's own database: entries that requests cause could fill it",
            f"set {PREFIX}CACHE_REDIS_URL to another database, or better to another server",
        )
    if same_server and int(info.get("maxmemory", 0)):
        found = "another database of the ledger's server, which shares its maxmemory"
        return Finding("redis.cache", "", "warning", found, "use another server, which may evict")
    return Finding("redis.cache", "", "ok", "another database of the same server" if same_server else "another server")
