"""Compares two copies of a shard in one store, key by key, and describes the differences."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final, NamedTuple

from deploy.cli.snapshot.copying import MEMBER, PIECE, READ, WEIGH
from deploy.cli.snapshot.redis_connections import RedisConnection, names
from schemas.ledger import fields
from schemas.ledger.keys import ShardKeys

AT_ONCE: Final = 100
SINCE_FORMAT: Final = fields.since(fields.FORMAT)
EXPIRES_SOON_S: Final = 900
"""A key that is this close to its expiry may have expired in one copy only."""
SHOWN: Final = 5
"""Largest number of fields named per key."""
SKETCH: Final = b"HYLL"
HEADER_BYTES: Final = 16
"""Header of a HyperLogLog: magic, encoding and the cached estimate, which readers write."""


class Difference(NamedTuple):
    key: str
    """The key without its shard's prefix."""
    detail: str


class Comparison:
    """`ledger` has the keys to check, `log` those of the replayed log."""

    def __init__(self, line: RedisConnection, ledger: ShardKeys, log: ShardKeys) -> None:
        self._line = line
        self._ledger, self._log = ledger, log
        self.keys = 0
        """Number of keys compared so far."""

    async def differences(self) -> AsyncIterator[Difference]:
        freed = await self._freed()
        ours, theirs = self._ledger.base.encode(), self._log.base.encode()
        async for found in names(self._line, self._ledger.base):
            short = [name[len(ours) :] for name in found if self._follows(name[len(ours) :], freed)]
            for first in range(0, len(short), AT_ONCE):
                async for difference in self._compare(short[first : first + AT_ONCE]):
                    yield difference
        async for found in names(self._line, self._log.base):
            short = [name[len(theirs) :] for name in found if self._follows(name[len(theirs) :], freed)]
            there = await self._line.pipe([("EXISTS", ours + name) for name in short]) if short else []
            for name, exists in zip(short, there, strict=True):
                if not exists and not await self._expires(theirs + name):
                    self.keys += 1
                    yield Difference(name.decode(), "missing in the ledger, exists by the log")

    def _follows(self, name: bytes, freed: dict[str, int]) -> bool:
        """Whether a key follows from the log: observations, random tokens and deletes of inventory rows do not."""
        log = self._log
        full = log.base + name.decode()
        if full in (log.observed, log.changes) or full.startswith(
            (log.delete_watermarks(0)[:-1], log.external_rows(0, 0)[:-3], log.external_days(0, 0)[:-3])
        ):
            return False
        beginning = log.rows(0, 0)[:-3]
        if full.startswith(beginning):
            realm, chunk = full[len(beginning) :].split(":")
            return int(chunk) >= freed.get(realm, 0)
        days = log.days(0, 0)[:-3]
        return not (full.startswith(days) and full[len(days) :].split(":")[0] in freed)

    async def _freed(self) -> dict[str, int]:
        """The number of freed chunks, by the number of each realm whose rows were deleted."""
        beginning, found = self._ledger.delete_watermarks(0)[:-1], {}
        async for some in names(self._line, beginning):
            for name in some:
                freed = await self._line.call("HGET", name, fields.FREED_CHUNKS)
                if freed is not None:
                    found[name.decode()[len(beginning) :]] = int(freed)
        return found

    async def _compare(self, short: list[bytes]) -> AsyncIterator[Difference]:
        ours = [self._ledger.base.encode() + name for name in short]
        theirs = [self._log.base.encode() + name for name in short]
        call = self._line.call
        weighed = await call("EVAL_RO", WEIGH, len(ours), *ours)
        light = [number for number, (kind, length, _) in enumerate(weighed) if _weight(kind, length) <= PIECE]
        values: dict[int, tuple[Any, Any]] = {}
        for some in _batches(light, weighed):
            asked = [key for number in some for key in (ours[number], theirs[number])]
            found = await call("EVAL_RO", READ, 1 + len(asked), ours[0], *asked)
            values |= {number: (found[2 * at], found[2 * at + 1]) for at, number in enumerate(some)}
        for number, name in enumerate(short):
            self.keys += 1
            if number in values:
                held, logged = values[number]
                detail = await self._detail(name, ours[number], theirs[number], held, logged)
            else:
                detail = await self._detail_in_pieces(ours[number], theirs[number], weighed[number])
            if detail is not None:
                yield Difference(name.decode(), detail)

    async def _detail(self, name: bytes, ours: bytes, theirs: bytes, held: Any, logged: Any) -> str | None:
        (kind, expires, value), (log_kind, log_expires, log_value) = held, logged
        if kind != log_kind:
            if b"none" in (kind, log_kind):
                there = theirs if kind == b"none" else ours
                if await self._expires(there):
                    return None
                return "exists in the ledger, missing by the log" if log_kind == b"none" else "missing in the ledger"
            return f"a {kind.decode()} in the ledger, a {log_kind.decode()} by the log"
        if kind == b"hash":
            mine, other = _pairs(value), _pairs(log_value)
            if name == b"meta":
                for each in (mine, other):
                    _drop_what_no_log_has(each)
            if mine != other:
                return _fields(mine, other)
        elif kind == b"set":
            if set(value) != set(log_value):
                return f"{_members(set(value), set(log_value))}"
        elif kind == b"zset":
            mine, other = _pairs(value), _pairs(log_value)
            if name == b"index":
                mine, other = _unexpired(mine), _unexpired(other)
            if mine != other:
                return _fields(mine, other)
        elif value != log_value:
            return await self._strings(ours, theirs, value, log_value)
        if expires != log_expires:
            return f"expires at {expires} ms in the ledger, at {log_expires} by the log"
        return None

    async def _strings(self, ours: bytes, theirs: bytes, value: bytes, log_value: bytes) -> str | None:
        if value[:4] == log_value[:4] == SKETCH:
            if value[HEADER_BYTES:] == log_value[HEADER_BYTES:]:
                return None
            # Equal registers have several sparse encodings, but one dense one. Both keys are copies, so convert them.
            for key in (ours, theirs):
                await self._line.call("PFDEBUG", "TODENSE", key)
            dense, log_dense = await self._line.pipe([("GET", ours), ("GET", theirs)])
            if dense[HEADER_BYTES:] == log_dense[HEADER_BYTES:]:
                return None
            counts = await self._line.pipe([("PFCOUNT", ours), ("PFCOUNT", theirs)])
            return f"another sketch: about {counts[0]} in the ledger, {counts[1]} by the log"
        if len(value) < 32 and len(log_value) < 32 and value.isascii() and log_value.isascii():
            return f"{value.decode()} in the ledger, {log_value.decode()} by the log"
        return f"{len(value)} bytes in the ledger, {len(log_value)} by the log, which differ"

    async def _detail_in_pieces(self, ours: bytes, theirs: bytes, weighed: Any) -> str | None:
        kind, length, _ = weighed
        call = self._line.call
        ((log_kind, log_length, _),) = await call("EVAL_RO", WEIGH, 1, theirs)
        if (kind, length) != (log_kind, log_length):
            return f"a {kind.decode()} of {length} in the ledger, a {log_kind.decode()} of {log_length} by the log"
        if kind == b"string":
            for first in range(0, length, PIECE):
                bounds = first, first + PIECE - 1
                if await call("GETRANGE", ours, *bounds) != await call("GETRANGE", theirs, *bounds):
                    return f"differs after byte {first}"
            return None
        scan, state = {
            b"hash": ("HSCAN", "HMGET"),
            b"set": ("SSCAN", "SMISMEMBER"),
            b"zset": ("ZSCAN", "ZMSCORE"),
        }[kind]
        cursor = None
        while cursor != b"0":
            cursor, items = await call(scan, ours, cursor or b"0", "COUNT", PIECE // MEMBER)
            members, values = (items, [1] * len(items)) if kind == b"set" else (items[::2], items[1::2])
            found = await call(state, theirs, *members) if members else []
            if found != values:
                return _fields(
                    dict(zip(members, map(_bytes, values), strict=True)),
                    {
                        member: _bytes(value)
                        for member, value in zip(members, found, strict=True)
                        if value not in (None, 0)
                    },
                )
        return None

    async def _expires(self, key: bytes) -> bool:
        """Whether a key expires about now, so that it may be missing in one copy because of the clock."""
        at_ms: int = await self._line.call("PEXPIRETIME", key)
        return at_ms == -2 or 0 <= at_ms < (time.time() + EXPIRES_SOON_S) * 1000


def _drop_what_no_log_has(meta: dict[bytes, bytes]) -> None:
    """Drop the fields that operators write, and the time of an upgrade; its offset stays."""
    for name in (fields.RESTORED, fields.UNEXPECTED_ALLOWED):
        meta.pop(name.encode(), None)
    since = meta.pop(SINCE_FORMAT.encode(), None)
    if since is not None:
        meta[SINCE_FORMAT.encode()] = str(fields.split_observation(since.decode())[0]).encode()


def _unexpired(index: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """The index without the periods that the next range drops, because their expiry depends on the clock."""
    return {period: at for period, at in index.items() if float(at) > time.time() + EXPIRES_SOON_S}


def _weight(kind: bytes, length: int) -> int:
    return int(length) if kind == b"string" else length * MEMBER


def _batches(numbers: list[int], weighed: Any) -> Iterator[list[int]]:
    batch: list[int] = []
    weight = 0
    for number in numbers:
        batch.append(number)
        weight += _weight(*weighed[number][:2])
        if weight > PIECE:
            yield batch
            batch, weight = [], 0
    if batch:
        yield batch


def _pairs(flat: list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _fields(ledger: dict[bytes, bytes], log: dict[bytes, bytes]) -> str:
    wrong = [name for name in sorted(ledger.keys() | log.keys()) if ledger.get(name) != log.get(name)]
    result = [
        f"{_text(name)} {_text(ledger.get(name))} in the ledger, {_text(log.get(name))} by the log" for name in wrong
    ]
    more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
    return "; ".join(result[:SHOWN]) + more


def _members(ledger: set[bytes], log: set[bytes]) -> str:
    return f"{len(ledger - log)} members only in the ledger, {len(log - ledger)} only by the log"


def _text(value: bytes | None) -> str:
    if value is None:
        return "nothing"
    return value.decode() if value.isascii() and len(value) < 80 else f"{len(value)} bytes"
