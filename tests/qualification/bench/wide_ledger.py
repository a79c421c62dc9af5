"""A ledger whose widest questions reach the api's own limits: many users, labels, days and rows."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, NamedTuple

from schemas.ledger import fields, keys
from schemas.ledger.inventory import (
    COUNTED_STATUSES,
    ROWS_PER_CHUNK,
    micros,
    pack_chunk_start,
    pack_day,
    pack_row,
    pack_totals,
    status_counts,
)
from schemas.ledger.keys import SMALL_PARTS, Shard, ShardKeys
from schemas.ledger.scopes import EVERYTHING, Scope

PREFIX: Final = "authtally:"
LOGINS: Final = ShardKeys(PREFIX, Shard("auth.logins", 0))
TOKENS: Final = ShardKeys(PREFIX, Shard("auth.otp-tokens", 0))


class Size(NamedTuple):
    user_days: int
    users_a_day: int
    clients: int
    client_days: int
    """Days with counters, and the last tenth of them with users, for each client."""
    realms: int
    rows: int
    """Rows of the OTP inventory, over all realms."""


FULL: Final = Size(120, 4_000, 120, 400, 20, 90_000)


def fill(client: Any, size: Size, today: date) -> None:
    """Write the ledger as the worker leaves it, without its speed."""
    _logins(client, size, today)
    _inventory(client, size, today)


def _logins(client: Any, size: Size, today: date) -> None:
    client.sadd(keys.shards(PREFIX), LOGINS.shard.tag)
    client.set(LOGINS.position, 1)
    meta = {"users_by": "client,realm", "counts_by": "client,realm", "retain_days": "400", "retain_months": "forever"}
    client.hset(LOGINS.meta, mapping=meta | {"topics": "login", "active_on": "login", "user_scope": "realm"})
    days = [today - timedelta(days=number) for number in range(max(size.user_days, size.client_days))]
    months = sorted({f"{day:%Y-%m}" for day in days})
    client.zadd(LOGINS.index, dict.fromkeys([*map(str, days), *months], "+inf"))
    of_clients = [Scope("client", (f"realm-{number % size.realms}", f"app-{number}")) for number in range(size.clients)]
    of_realms = [Scope("realm", (f"realm-{number}",)) for number in range(size.realms)]
    client.sadd(LOGINS.labels, *(fields.label(scope.dimension, *scope.names) for scope in [*of_clients, *of_realms]))
    pipeline = client.pipeline(transaction=False)
    for number, day in enumerate(days[: size.user_days]):
        users = range(number * size.users_a_day // 2, number * size.users_a_day // 2 + size.users_a_day)
        for part in range(SMALL_PARTS):
            members = [user * 2**20 + part for user in users if user % SMALL_PARTS == part]
            pipeline.sadd(LOGINS.small_set(str(day), EVERYTHING, part), *members)
        pipeline.execute()
    counters = {fields.LOGIN: 7, fields.failed("locked"): 1, fields.failed("invalid_credentials"): 3}
    counters |= {fields.token(grant, "access_token"): 5 for grant in fields.GRANTS}
    for period in [*map(str, days[: size.client_days]), *months]:
        for scope in [EVERYTHING, *of_realms, *of_clients]:
            pipeline.hset(LOGINS.counts(period, scope), mapping=counters)
        pipeline.execute()
    for day in days[: size.client_days // 10]:
        for number, scope in enumerate([*of_realms, *of_clients]):
            pipeline.sadd(LOGINS.small_set(str(day), scope, 0), *range(number * 16, number * 16 + 160, 16))
        pipeline.execute()


def _inventory(client: Any, size: Size, today: date) -> None:
    client.sadd(keys.shards(PREFIX), TOKENS.shard.tag)
    client.set(TOKENS.position, 1)
    client.hset(TOKENS.meta, mapping={"topics": "otp"})
    client.hset(TOKENS.event_names, mapping={"token_init": 1})
    chance = random.Random(1)
    each = size.rows // size.realms
    days = min(each, 300)
    for number in range(size.realms):
        client.hset(TOKENS.realms, f"realm-{number}", number)
        starts, chunk, maxima = bytearray(), bytearray(), (0,) * len(COUNTED_STATUSES)
        packed_days: dict[int, bytearray] = {}
        day = first = today
        day_first = at = start_us = slot = 0
        for row in range(each):
            now = today - timedelta(days=days - 1 - row * days // each)
            at = micros(datetime(now.year, now.month, now.day, tzinfo=UTC)) + row * 1_000_000 % 80_000_000_000
            counts = chance.randrange(1, 10_000), 9, 8, 7, 6
            if not row % ROWS_PER_CHUNK:
                starts += pack_chunk_start(at)
                chunk = bytearray(pack_chunk_start(at))
            chunk += pack_row(at, 1, *counts)
            if row and now != day:
                packed_days.setdefault(day.year, bytearray()).extend(pack_day(day.toordinal(), day_first, *maxima))
                slot = slot + 1 if now.year == day.year else 0
            if not row or now != day:
                day, day_first, maxima = now, row, (0,) * len(COUNTED_STATUSES)
            if not row:
                first, start_us = now, at
            maxima = tuple(map(max, maxima, status_counts(*counts)))
            if not (row + 1) % ROWS_PER_CHUNK or row + 1 == each:
                client.set(TOKENS.rows(number, row // ROWS_PER_CHUNK), bytes(chunk))
        assert first <= day
        for year, packed in packed_days.items():
            client.set(TOKENS.days(number, year), bytes(packed))
        client.set(TOKENS.chunk_starts(number), bytes(starts))
        totals = pack_totals(*counts, each, start_us, at, day.toordinal(), slot, day_first, *maxima)
        client.hset(TOKENS.totals, str(number), totals)
