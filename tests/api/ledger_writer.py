"""Writes a ledger as the worker leaves it, by the vocabulary of schemas/."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import redis

from schemas.ledger import accuracy, fields, keys
from schemas.ledger.keys import SMALL_PARTS, Shard, ShardKeys
from schemas.ledger.scopes import EVERYTHING, Scope

PREFIX = "authtally:"
DEFAULT = Shard("auth.logins", 0)


def part_of(user: int) -> int:
    """A user's part 0…15, independent of the bits that the sketch hashes; any function of the user will do."""
    return (user * 2654435761 >> 7) % SMALL_PARTS


class LedgerWriter:
    def __init__(self, client: Any) -> None:
        self._client = client

    def hold(self, period: str, shard: Shard = DEFAULT, expires: float = math.inf) -> ShardKeys:
        """Add a period to the index of a shard, as a worker does; the names of the shard's keys."""
        names = ShardKeys(PREFIX, shard)
        self._client.sadd(keys.shards(PREFIX), shard.tag)
        self._client.zadd(names.index, {period: expires})
        return names

    def few_users(self, period: str, users: Iterable[int], shard: Shard = DEFAULT, scope: Scope = EVERYTHING) -> None:
        names = self.hold(period, shard)
        for user in users:
            self._client.sadd(names.small_set(period, scope, part_of(user)), user)

    def many_users(
        self, period: str, users: Collection[int], shard: Shard = DEFAULT, scope: Scope = EVERYTHING
    ) -> None:
        """Promoted: in sketches, and in no small set."""
        names = self.hold(period, shard)
        if not users:
            return
        k = accuracy.sketches(period, scope)
        parts: dict[int, list[int]] = {part: [] for part in range(k)}
        for user in users:
            parts[part_of(user) % k].append(user)
        for part, members in parts.items():
            # Without members too: the first one's presence stands for all.
            self._client.pfadd(names.users(period, scope, part), *members)

    def tokens(
        self,
        period: str,
        grants: Mapping[str, Mapping[str, int]],
        shard: Shard = DEFAULT,
        scope: Scope = EVERYTHING,
    ) -> None:
        names = self.hold(period, shard)
        for grant, counts in grants.items():
            for token_type, count in counts.items():
                self._client.hincrby(names.counts(period, scope), fields.token(grant, token_type), count)

    def other_counts(self, period: str, shard: Shard = DEFAULT) -> None:
        """Logins, failures and account events, which the statistics of tokens must not mistake for tokens."""
        names = self.hold(period, shard)
        for field in (fields.LOGIN, fields.failed("locked"), fields.account("signup")):
            self._client.hincrby(names.counts(period, EVERYTHING), field, 7)


def open_ledger(url: str) -> LedgerWriter:
    return LedgerWriter(redis.Redis.from_url(url))
