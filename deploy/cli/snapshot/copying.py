"""Copies one shard as of one position while its worker runs, without stopping the worker or the store.

Keys are copied in batches, and again if they change meanwhile, until one short script can read the rest together with
the position. That last step is valid only if the position has not moved since all changes were known. Every change of a
shard's counts moves its position, so the copy then is complete as of that position.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import RedisCluster

from aggregator.ledger.store import Client
from deploy.cli.snapshot.file import GONE, Entry, Writer
from deploy.cli.snapshot.redis_connections import RedisConnection, Watch, is_same_node, names, watching
from schemas.ledger import fields
from schemas.ledger.keys import ShardKeys

PIECE: Final = 256 << 10
"""A key of more weight is copied in pieces, so that no command blocks the store for long."""
STEP: Final = 512 << 10
"""Weight of one step: half a megabyte or 8,000 members, about 2 ms of the store's time."""
MEMBER: Final = 64
"""Weight of a member of a hash or set: reading it costs as much as that many bytes of a string."""
TRIES: Final = 8
"""Failed last steps after which the limit of a step doubles."""
TRIES_IN_PIECES: Final = 3
"""Copies of a large key that changed during each of them; then the key is left to the last step."""

WEIGH: Final = """
local found = {}
for number, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key).ok
  local length = 0
  if kind == 'string' then length = redis.call('STRLEN', key)
  elseif kind == 'hash' then length = redis.call('HLEN', key)
  elseif kind == 'set' then length = redis.call('SCARD', key)
  elseif kind == 'zset' then length = redis.call('ZCARD', key)
  elseif kind == 'list' then length = redis.call('LLEN', key) end
  found[number] = {kind, length, redis.call('PEXPIRETIME', key)}
end
return found
"""
READ: Final = """
local found = {}
for number = 2, #KEYS do
  local key = KEYS[number]
  local kind = redis.call('TYPE', key).ok
  local value = ''
  if kind == 'string' then value = redis.call('GET', key) or ''
  elseif kind == 'hash' then value = redis.call('HGETALL', key)
  elseif kind == 'set' then value = redis.call('SMEMBERS', key)
  elseif kind == 'zset' then value = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  elseif kind == 'list' then value = redis.call('LRANGE', key, 0, -1) end
  found[number - 1] = {kind, redis.call('PEXPIRETIME', key), value}
end
return found
"""
READ_AT: Final = (
    """
local at = redis.call('GET', KEYS[1])
if at ~= ARGV[1] then return {at or ''} end
local weight = 0
for number = 2, #KEYS do
  local key = KEYS[number]
  local kind = redis.call('TYPE', key).ok
  if kind == 'string' then weight = weight + redis.call('STRLEN', key)
  elseif kind == 'hash' then weight = weight + 64 * redis.call('HLEN', key)
  elseif kind == 'set' then weight = weight + 64 * redis.call('SCARD', key)
  elseif kind == 'zset' then weight = weight + 64 * redis.call('ZCARD', key) end
end
if weight > tonumber(ARGV[2]) then return {at, weight} end
local function read()
"""
    + READ
    + """
end
return {at, weight, read()}
"""
)
"""ARGV: the expected position and the largest weight. Returns the position; if it is the expected one, also the weight;
if that is within the limit, also all values, read at one moment."""


class NotWholeError(Exception):
    """The shard cannot be copied; the text gives the reason."""


@dataclass(slots=True)
class Copied:
    position: int
    meta: dict[str, str]
    entries: int = 0
    """Number of written keys; a key that changed meanwhile counts each time."""
    steps: int = 0
    """Number of last steps tried."""
    longest_ms: float = 0.0
    """Longest duration of one command, measured by the client."""


async def copy_shard(client: Client, shard_keys: ShardKeys, into: Writer) -> Copied | None:
    """Write every key of a shard as of one position; returns None if the shard has no position.

    Raises RedisError, MovedAwayError: the written entries are then invalid. Raises NotWholeError.
    """
    async with watching(client, shard_keys.position, shard_keys.base) as (line, watch):
        clustered = isinstance(client, RedisCluster)
        if clustered:
            await is_same_node(line, shard_keys.position)
        at = await line.call("GET", shard_keys.position)
        if at is None:
            return None
        if int(at) == fields.RESTORING:
            raise NotWholeError(f"{shard_keys.shard.tag} is only partly restored: repeat its restore first")
        copied = await _Copy(line, watch, shard_keys, into).run()
        if clustered:
            await is_same_node(line, shard_keys.position)
        return copied


class _Copy:
    def __init__(self, line: RedisConnection, watch: Watch, shard_keys: ShardKeys, into: Writer) -> None:
        self._line = line
        self._watch = watch
        self._shard_keys = shard_keys
        self._base = len(shard_keys.base.encode())
        self._into = into
        self._copied: Copied = Copied(0, {})
        self._torn: dict[bytes, int] = {}
        """Number of copies of each large key that changed during them."""
        # The api changes these keys without moving the position.
        self._unguarded = shard_keys.delete_watermarks(0)[:-1].encode(), shard_keys.external_rows(0, 0)[:-3].encode()

    async def run(self) -> Copied:
        before = self._into.keys
        async for found in names(self._line, self._shard_keys.base):
            await self._copy(found)
        position, most = await self._line.call("GET", self._shard_keys.position), STEP
        while position is not None:
            self._copied.steps += 1
            if self._copied.steps % TRIES == 0:
                most *= 2
            position, whole = await self._last_step(position, most)
            if whole:
                self._copied.entries = self._into.keys - before
                return self._copied
        raise NotWholeError(f"{self._shard_keys.shard.tag} was deleted meanwhile")

    async def _last_step(self, position: bytes, most: int) -> tuple[bytes | None, bool]:
        """Read the keys that changed since they were copied, if the shard is still at `position`.

        Returns the present position, and whether the copy is complete.
        """
        watch, shard_keys = self._watch, self._shard_keys
        # 1. Wait until every change up to this position is known.
        await watch.sync()
        changed = sorted(watch.changed | {shard_keys.position.encode(), shard_keys.meta.encode()})
        # 2. Read only if the position has not moved: then no other key has changed.
        (at, *more), took_ms = await self._timed(
            "EVAL_RO", READ_AT, 1 + len(changed), shard_keys.position, *changed, position, most
        )
        if not more:
            return at or None, False
        if len(more) == 1:
            await self._copy(changed)
            return await self._line.call("GET", shard_keys.position), False
        # 3. A delete by the api moves no position. It may have come before or after the step, so try again.
        watch.changed.difference_update(changed)
        await watch.sync()
        if any(name.startswith(self._unguarded) for name in watch.changed):
            watch.changed.update(changed)
            return at, False
        self._copied.position = int(at)
        self._copied.longest_ms = max(self._copied.longest_ms, took_ms)
        for name, (kind, expires_ms, value) in zip(changed, more[1], strict=True):
            self._add(name, kind.decode(), expires_ms, value)
            if name == shard_keys.meta.encode():
                texts = [item.decode() for item in value]
                self._copied.meta = dict(zip(texts[::2], texts[1::2], strict=True))
        return at, True

    async def _copy(self, found: Sequence[bytes]) -> None:
        """Copy keys, each as of its own moment; the watch collects those that change later."""
        batch: list[bytes] = []
        total = 0
        for name, (kind, weight, expires_ms) in zip(found, await self._weigh(found), strict=True):
            if weight > PIECE:
                if self._torn.get(name, 0) < TRIES_IN_PIECES:
                    self._torn[name] = self._torn.get(name, 0) + 1
                    self._watch.changed.discard(name)
                    await self._copy_in_pieces(name, kind, weight, expires_ms)
                continue
            batch.append(name)
            total += weight
            if total > STEP:
                await self._copy_batch(batch)
                batch, total = [], 0
        if batch:
            await self._copy_batch(batch)

    async def _copy_batch(self, batch: list[bytes]) -> None:
        # Removed before the read: a change in between then only causes another copy.
        self._watch.changed.difference_update(batch)
        found, took_ms = await self._timed("EVAL_RO", READ, 1 + len(batch), self._shard_keys.position, *batch)
        self._copied.longest_ms = max(self._copied.longest_ms, took_ms)
        for name, (kind, expires_ms, value) in zip(batch, found, strict=True):
            self._add(name, kind.decode(), expires_ms, value)

    async def _copy_in_pieces(self, name: bytes, kind: str, weight: int, expires_ms: int) -> None:
        call, more = self._line.call, False
        if kind in ("string", "list"):
            length, size = (weight, PIECE) if kind == "string" else (weight // MEMBER, PIECE // MEMBER)
            command = "GETRANGE" if kind == "string" else "LRANGE"
            for first in range(0, length, size):
                self._add(name, kind, expires_ms, await call(command, name, first, first + size - 1), more=more)
                more = True
            return
        cursor = b"0"
        scan = {"hash": "HSCAN", "set": "SSCAN", "zset": "ZSCAN"}[kind]
        while cursor != b"0" or not more:
            cursor, items = await call(scan, name, cursor, "COUNT", PIECE // MEMBER)
            self._add(name, kind, expires_ms, items, more=more)
            more = True

    def _add(self, name: bytes, kind: str, expires_ms: int, value: Any, *, more: bool = False) -> None:
        self._into.add(Entry(name[self._base :], kind, expires_ms if kind != GONE else -1, more, value))

    async def _weigh(self, found: Sequence[bytes]) -> list[tuple[str, int, int]]:
        weighed = []
        for first in range(0, len(found), 1_000):
            some = found[first : first + 1_000]
            for kind, length, expires_ms in await self._line.call("EVAL_RO", WEIGH, len(some), *some):
                weighed.append((kind.decode(), length if kind == b"string" else length * MEMBER, expires_ms))
        return weighed

    async def _timed(self, *command: Any) -> tuple[Any, float]:
        began = time.perf_counter()
        found = await self._line.call(*command)
        return found, (time.perf_counter() - began) * 1_000


async def copy_keys(line: RedisConnection, keys: Iterable[tuple[str, str]], into: Writer) -> None:
    """Write keys that belong to no shard, each as of its own moment. `keys`: full name and name in the file."""
    for name, short in keys:
        ((kind, expires_ms, value),) = await line.call("EVAL_RO", READ, 2, name, name)
        into.add(Entry(short.encode(), kind.decode(), expires_ms, False, value))
