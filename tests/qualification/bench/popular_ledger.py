"""Ledgers of popular questions: many shards and periods of everything, and a thousand realms."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import Any, Final, NamedTuple

from schemas.ledger import accuracy, changes, fields, keys
from schemas.ledger.keys import SMALL_PARTS, Shard, ShardKeys
from schemas.ledger.periods import Month
from schemas.ledger.scopes import EVERYTHING, Scope

PREFIX: Final = "authtally:"
VARIANTS: Final = 32
DENSE_USERS: Final = 4_000
FEW: Final = 3
"""Users of a realm, and of a client, in each shard and period."""
META: Final = {
    "users_by": "client,realm",
    "counts_by": "client,realm",
    "retain_days": "400",
    "retain_months": "forever",
    "active_on": "login",
    "user_scope": "global",
}


class Size(NamedTuple):
    """`label_days` are the last days that have figures by realm and client."""

    shards: int
    months: int
    days: int
    realms: int
    clients: int
    label_days: int


SHARDS_64: Final = Size(shards=64, months=14, days=62, realms=20, clients=0, label_days=62)
REALMS_1000: Final = Size(shards=4, months=2, days=31, realms=1_000, clients=1_000, label_days=31)


def fill(client: Any, size: Size, today: date) -> None:
    """Write the ledger as the worker leaves it: everything in dense sketches, labels in small sets."""
    days = [str(today - timedelta(days=number)) for number in range(size.days)]
    months = [Month.of(today).plus(-number).key for number in range(size.months)]
    realms = [Scope("realm", (f"realm-{number}",)) for number in range(size.realms)]
    clients = [Scope("client", (f"realm-{number}", "web")) for number in range(size.clients)]
    dense = _dense(client)
    counters = {fields.LOGIN: 7, fields.failed("locked"): 1, fields.failed("invalid_credentials"): 3}
    counters |= {fields.token(grant, "access_token"): 5 for grant in fields.GRANTS} | {fields.account("signup"): 1}
    for number in range(size.shards):
        shard_keys = ShardKeys(PREFIX, Shard("auth.logins", number))
        client.sadd(keys.shards(PREFIX), shard_keys.shard.tag)
        pipeline = client.pipeline(transaction=False)
        pipeline.set(shard_keys.position, 1)
        pipeline.hset(shard_keys.meta, mapping=META | {"topics": "login"})
        pipeline.zadd(shard_keys.index, dict.fromkeys([*days, *months], math.inf))
        pipeline.hset(
            shard_keys.changes, mapping={name: changes.new_token() for name in [changes.EPOCH, *days, *months]}
        )
        pipeline.sadd(
            shard_keys.labels, *(fields.label(scope.dimension, *scope.names) for scope in [*realms, *clients])
        )
        for place, period in enumerate([*days, *months]):
            pipeline.hset(shard_keys.counts(period, EVERYTHING), mapping=counters)
            for part in range(accuracy.sketches(period, EVERYTHING)):
                pipeline.set(
                    shard_keys.users(period, EVERYTHING, part), dense[(number * 7 + place * 3 + part) % VARIANTS]
                )
        for period in [*days[: size.label_days], *months]:
            _labels(pipeline, shard_keys, period, [*realms, *clients], counters)
        pipeline.execute()
    client.set(keys.ledger_id(PREFIX), changes.new_token())


def _labels(
    pipeline: Any, shard_keys: ShardKeys, period: str, scopes: Sequence[Scope], counters: dict[str, int]
) -> None:
    for number, scope in enumerate(scopes):
        pipeline.hset(shard_keys.counts(period, scope), mapping=counters)
        for user in range(number, number + FEW):
            pipeline.sadd(
                shard_keys.small_set(period, scope, user % SMALL_PARTS), user * SMALL_PARTS + shard_keys.shard.partition
            )
    pipeline.execute()


def _dense(client: Any) -> list[bytes]:
    chance = random.Random(1)
    found = []
    for number in range(VARIANTS):
        key = f"{PREFIX}{{variant}}:{number}"
        client.pfadd(key, *_random(chance, DENSE_USERS))
        found.append(client.get(key))
        client.delete(key)
    return found


def _random(chance: random.Random, number: int) -> Iterable[int]:
    return (chance.getrandbits(63) for _ in range(number))
