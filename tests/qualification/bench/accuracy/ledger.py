"""One shard in a real store: written by the worker's own digest, fold and script, answered by the api's own reads."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final

from aggregator.fold.digest import Digest
from aggregator.fold.range_delta import RangeDelta, ShardCache
from aggregator.ledger.ledger import Applied, Refused
from aggregator.settings import WorkerSettings
from api.ledger.client import open_ledger
from api.ledger.ledger_statistics import LedgerStatistics
from api.ledger.statistics import ActiveUsers
from schemas.ledger.keys import SMALL_PARTS, Shard, ShardKeys
from schemas.ledger.scopes import EVERYTHING, Scope
from tests.aggregator import ledgers
from tests.aggregator.counting import Counting
from tests.aggregator.logs import LogRecord

MONTH: Final = "2026-11"
NODE: Final = Scope("node", ("server0",))
"""A scope of k = 4; everything has k = 16."""
SHARD: Final = Shard("auth.logins", 0)
STEP: Final = 10_000
"""Users of one script: each counts in two scopes, and a script takes 20,000."""
RECORD_MS: Final = int(datetime(2026, 11, 15, 12, tzinfo=UTC).timestamp() * 1000)


class OneShard:
    """Adds users to `MONTH`, of everything and of `NODE`."""

    def __init__(self, redis_url: str, secret: str) -> None:
        self._counting = Counting(
            redis_url,
            SHARD,
            user_hash_key=secret,
            users_by=("node",),
            counts_by=("node",),
            retain_days=0,
            exact_up_to=4096,
            log_level="warning",
        )
        self._counting.now_ms = RECORD_MS
        self.settings: WorkerSettings = self._counting.settings
        self.keys = ShardKeys(self.settings.key_prefix, SHARD)
        self.client: Any = self._counting.client
        self._reader = open_ledger(self.settings)
        self._statistics = LedgerStatistics(self._reader, self.settings)
        self._digest = Digest(secret)
        self._at = 0

    async def begin(self) -> None:
        """Empty the store and open the shard."""
        await self.client.flushall()
        await self._counting.ledger.initialize(SHARD, 0, "")
        self._at = 0
        self._counting.in_sketches = frozenset()

    async def add(self, users: Sequence[str]) -> None:
        """Count users who have not been there before: the digest and the script, without a log."""
        for start in range(0, len(users), STEP):
            some = users[start : start + STEP]
            await self._apply(self._tally(some))

    async def add_from_elsewhere(self, users: Sequence[str]) -> bool:
        """Send users as a range that begins where the shard does not stand; whether it was refused."""
        return isinstance(await self._counting.ledger.apply(SHARD, self._at + 1, self._tally(users)), Refused)

    async def replay(self, users: Sequence[str], cuts: Iterator[int]) -> None:
        """Count a log of one login a user, cut into ranges of these lengths: digest, fold and script."""
        log = [LogRecord(self._at + number, RECORD_MS, _login(user)) for number, user in enumerate(users)]
        end = self._at + len(log)
        self._counting.known = ShardCache(set())
        while self._at < end:
            until = min(self._at + next(cuts), end)
            _require_applied(await self._counting.count(log, self._at, until))
            self._at = until
        progress = await self.client.hgetall(self.keys.progress)
        if any(name.startswith("dead") for name in progress):
            raise RuntimeError(f"void: a login was not counted: {progress}")

    def _tally(self, users: Sequence[str]) -> RangeDelta:
        parts = self._digest.users(users)
        return RangeDelta(self._at + len(users), users={(MONTH, EVERYTHING): parts, (MONTH, NODE): parts})

    async def _apply(self, delta: RangeDelta) -> None:
        counting = self._counting
        done = await counting.ledger.apply(SHARD, self._at, delta, counting.in_sketches)
        counting.in_sketches |= _require_applied(done).in_sketches
        self._at = delta.end

    async def active(self, scope: Scope) -> ActiveUsers:
        return await self._statistics.active_users(MONTH, scope)

    async def sketches(self, scope: Scope, parts: int) -> list[tuple[bytes, int]]:
        """Each part's sketch as it lies in the store, and what PFCOUNT says of it."""
        names = [self.keys.users(MONTH, scope, part) for part in range(parts)]
        replies = await self._reader.run([(command, name) for name in names for command in ("GET", "PFCOUNT")])
        return list(zip(replies[::2], replies[1::2], strict=True))

    def contents(self) -> dict[str, object]:
        """Everything in the store, as plain values to compare; sketches by their registers."""
        with ledgers.client(self.settings.redis_url.get_secret_value()) as client:
            return ledgers.contents(client)

    async def close(self) -> None:
        await self.client.aclose()
        await self._reader.close()

    async def bytes_of(self, scope: Scope) -> int:
        """Memory that the store says the users of a scope take, the keys' names included."""
        names = [self.keys.small_set(MONTH, scope, part) for part in range(SMALL_PARTS)]
        names += [self.keys.users(MONTH, scope, part) for part in range(SMALL_PARTS)]
        replies = await self._reader.run([("MEMORY", "USAGE", name, "SAMPLES", 0) for name in names])
        return sum(reply or 0 for reply in replies)

    async def small_bytes(self, scope: Scope) -> tuple[int, set[str]]:
        """Bytes of the small sets' integers alone, from their lengths, and their encodings."""
        names = [self.keys.small_set(MONTH, scope, part) for part in range(SMALL_PARTS)]
        lengths = await self._reader.run([("SCARD", name) for name in names])
        held = [name for name, length in zip(names, lengths, strict=True) if length]
        encodings = await self._reader.run([("OBJECT", "ENCODING", name) for name in held])
        # An intset: eight bytes a member and eight of header.
        return sum(8 + 8 * length for length in lengths if length), {encoding.decode() for encoding in encodings}


def _require_applied(outcome: Applied | Refused) -> Applied:
    if not isinstance(outcome, Applied):
        raise RuntimeError(f"void: the ledger refused a range: {outcome}")
    return outcome


def _login(user: str) -> bytes:
    return json.dumps({"time": "2026-11-15T12:00:00Z", "user_id": user, "node": NODE.names[0]}).encode()


@asynccontextmanager
async def one_shard(redis_url: str, secret: str = "the same in every run") -> AsyncIterator[OneShard]:
    shard = OneShard(redis_url, secret)
    try:
        yield shard
    finally:
        await shard.close()
