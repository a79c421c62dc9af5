"""Reads a whole ledger and compares every key in it with what was published."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from schemas.ledger import accuracy, fields, keys
from schemas.ledger.keys import SMALL_PARTS, Shard, ShardKeys
from schemas.ledger.scopes import Scope
from tests.integration.publishing import Expected

SIGMAS = 4


def log_ends(bootstrap: str, shards: Iterable[Shard]) -> dict[Shard, int]:
    """The offset after the last record or marker of each partition."""
    # Uncommitted, so that an open transaction would show as an end never reached.
    consumer: Any = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "expected-counts",
            "isolation.level": "read_uncommitted",
            "log_level": 0,
        }
    )
    try:
        return {shard: consumer.get_watermark_offsets(TopicPartition(*shard), timeout=10)[1] for shard in shards}
    finally:
        consumer.close()


def positions(client: Any, shards: Iterable[Shard], prefix: str = "authtally:") -> dict[Shard, int | None]:
    """Where each shard stands; None when it holds nothing."""
    asked = list(shards)
    found = client.mget([ShardKeys(prefix, shard).position for shard in asked])
    return {shard: None if at is None else int(at) for shard, at in zip(asked, found, strict=True)}


def differences(
    client: Any, expected: Mapping[Shard, Expected], ends: Mapping[Shard, int], prefix: str = "authtally:"
) -> list[str]:
    """Everything in the ledger that is not as published, a line each; empty when all is exact.

    Shards not in `expected` may hold a position, but no figures.
    """
    found: list[str] = []
    there = set(client.scan_iter(count=10_000))
    allowed = {keys.shards(prefix), keys.ledger_id(prefix), keys.audit(prefix)}
    registered = client.smembers(keys.shards(prefix))
    for shard, wanted in expected.items():
        shard_keys = ShardKeys(prefix, shard)
        found += [f"{shard.tag}: {line}" for line in _shard(client, shard_keys, wanted, ends[shard], allowed, there)]
        if shard.tag not in registered:
            found.append(f"{shard.tag}: not registered")
    for tag in registered:
        shard_keys = ShardKeys(prefix, Shard.parse(tag))
        allowed |= {
            shard_keys.meta,
            shard_keys.position,
            shard_keys.progress,
            shard_keys.observed,
            shard_keys.labels,
            shard_keys.shares,
            shard_keys.changes,
            shard_keys.index,
        }
        allowed |= {shard_keys.ids, shard_keys.unexpected}
        if shard_keys.shard not in expected:
            found += _same(f"{tag}: progress", client.hgetall(shard_keys.progress), {})
    found += [f"unexpected key {key}" for key in sorted(there - allowed)]
    return found


def _shard(
    client: Any, shard_keys: ShardKeys, wanted: Expected, end: int, allowed: set[str], there: set[str]
) -> Iterable[str]:
    yield from _same("position", client.get(shard_keys.position), str(end))
    progress = client.hgetall(shard_keys.progress)
    consumed, counted = (int(progress.get(name, 0)) for name in (fields.CONSUMED, fields.COUNTED))
    dead = sum(int(value) for name, value in progress.items() if fields.split(name)[0] == "dead")
    repeats = int(progress.get(fields.DUPLICATES, 0))
    yield from _same("consumed = counted + duplicates + dead", consumed, counted + repeats + dead)
    yield from _ids(client, shard_keys, len(wanted.ids), allowed)
    yield from _same("unexpected", client.smembers(shard_keys.unexpected), set(map(str, wanted.unexpected)))
    for period, clients in wanted.clients.items():
        allowed.add(shard_keys.clients(period))
        yield from _same(f"clients {period}", client.pfcount(shard_keys.clients(period)), len(clients))
    if wanted.records_ms:
        yield from _same("first record", progress.get(fields.FIRST_RECORD), str(min(wanted.records_ms)))
        yield from _same("last record", progress.get(fields.LAST_RECORD), str(max(wanted.records_ms)))
    stamps = {fields.FIRST_EVENT, fields.LAST_EVENT, fields.FIRST_RECORD, fields.LAST_RECORD}
    numbers = {name: int(value) for name, value in progress.items() if name not in stamps and value != "0"}
    yield from _same("progress", numbers, {name: value for name, value in wanted.progress.items() if value})
    yield from _same("labels", client.smembers(shard_keys.labels), wanted.labels)
    shares = Counter(fields.share(member) for member in wanted.labels if member.count("/") == 2)
    wanted_shares = {group: str(number) for group, number in shares.items() if not group.startswith("all/")}
    yield from _same("shares", client.hgetall(shard_keys.shares), wanted_shares)
    periods = {period for period, _ in wanted.counts}
    yield from _same("index", set(client.zrange(shard_keys.index, 0, -1)), periods)

    for day, (first, last) in wanted.written.items():
        allowed.add(shard_keys.record_times(day))
        yield from _same(
            f"written {day}",
            client.hgetall(shard_keys.record_times(day)),
            {fields.FIRST: str(first), fields.LAST: str(last)},
        )
    asked = list(wanted.counts.items())
    pipeline = client.pipeline(transaction=False)
    for (period, scope), _ in asked:
        pipeline.hgetall(shard_keys.counts(period, scope))
    for ((period, scope), counts), held in zip(asked, pipeline.execute(), strict=True):
        allowed.add(shard_keys.counts(period, scope))
        yield from _same(
            f"counts {period} {scope.text}",
            {name: int(value) for name, value in held.items()},
            {name: value for name, value in counts.items() if value},
        )
    for (period, scope), users in wanted.users.items():
        yield from _users(client, shard_keys, period, scope, len(users), allowed, there)


def _ids(client: Any, shard_keys: ShardKeys, wanted: int, allowed: set[str]) -> Iterable[str]:
    hours = {int(hour): int(held) for hour, held in client.hgetall(shard_keys.ids).items()}
    allowed.update(key for hour in hours for key in (shard_keys.ids_of(hour), shard_keys.id_realms_of(hour)))
    yield from _same("ids", sum(hours.values()), wanted)
    for hour, held in hours.items():
        yield from _same(f"bytes of ids of hour {hour}", client.strlen(shard_keys.ids_of(hour)), 8 * held)
        by_realm = sum(map(int, client.hvals(shard_keys.id_realms_of(hour))))
        yield from _same(f"ids of hour {hour} by realm", by_realm, held)


def _users(
    client: Any, shard_keys: ShardKeys, period: str, scope: Scope, wanted: int, allowed: set[str], there: set[str]
) -> Iterable[str]:
    what = f"users {period} {scope.text}"
    small = [shard_keys.small_set(period, scope, part) for part in range(SMALL_PARTS)]
    sketches = [shard_keys.users(period, scope, part) for part in range(accuracy.sketches(period, scope))]
    allowed.update(small, sketches)
    if there.isdisjoint(sketches):
        yield from _same(what, sum(client.scard(key) for key in small), wanted)
        return
    if not there.isdisjoint(small):
        yield f"{what}: in small sets and in sketches at once"
    estimate = sum(client.pfcount(key) for key in sketches)
    if abs(estimate - wanted) > max(1, SIGMAS * accuracy.standard_error(period, scope) * wanted):
        yield f"{what}: estimated {estimate}, published {wanted}"


def _same(what: str, held: Any, wanted: Any) -> list[str]:
    return [] if held == wanted else [f"{what}: holds {held}, published {wanted}"]
