"""Closed periods merged over all shards: sketches, or the members of small sets, and summed counters.

Merging costs the store as much as answering without it, once; the next answers read one vector per question. A vector
has the state of each shard for a period: epoch, token, expiry. The token changes with every script that touches the
period, so equal vectors mean equal content. Content and token of a shard are read in one step: a store that fails over
between two steps may go back to the first token after its content was read.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from api.ledger.client import Client, Command
from api.ledger.imported import Counts
from api.ledger.merged_store import MergedCounts, MergedStore, MergedUsers
from api.turns import pause
from schemas.ledger import accuracy, fields
from schemas.ledger.keys import SMALL_PARTS, TEMPORARY_MS, ShardKeys, temporary
from schemas.ledger.scopes import Scope

MAX_UNITS: Final = 400
"""Most periods and scopes of one question that are merged: a year of days. Wider questions are read without."""
MIN_SHARDS: Final = 2
MAX_TOGETHER: Final = 256
"""Most shards whose sketches one transaction merges: about 4 ms of the store's time."""
MAX_STRINGS: Final = 64
"""Most sketches, 12 KB each, that one script receives."""

Unit = tuple[str, Scope]
"""A period and a scope."""

_SLICE: Final = f"""
local function slice(position, changes, index)
  if redis.call('GET', position) == '{fields.RESTORING}' then return {{'', '', ''}} end
  local tokens = redis.call('HMGET', changes, 'epoch', ARGV[1])
  return {{tokens[1] or '', tokens[2] or '', redis.call('ZMSCORE', index, ARGV[1])[1] or ''}}
end
"""
READ_COUNTS: Final = (
    _SLICE
    + """
return {slice(KEYS[1], KEYS[2], KEYS[3]), redis.call('HGETALL', KEYS[4])}
"""
)
"""KEYS: position, changes, index, counts. ARGV[1] is the period, here and below."""
READ_PART: Final = (
    _SLICE
    + """
return {{slice(KEYS[1], KEYS[2], KEYS[3])}, redis.call('GET', KEYS[4]) or '', redis.call('SUNION', unpack(KEYS, 5))}
"""
)
"""KEYS: position, changes, index, sketch and small sets of one part in one shard. Returns slices, sketch, members."""
READ_SLICES: Final = (
    _SLICE
    + """
local slices = {}
for at = 1, #KEYS, 3 do slices[#slices + 1] = slice(KEYS[at], KEYS[at + 1], KEYS[at + 2]) end
return slices
"""
)
"""KEYS: position, changes and index of each shard."""
COMBINE: Final = f"""
local strings = tonumber(ARGV[1])
for at = 2, strings + 1 do redis.call('SET', KEYS[at], ARGV[at], 'PX', {TEMPORARY_MS}) end
redis.call('PFMERGE', unpack(KEYS))
redis.call('PEXPIRE', KEYS[1], {TEMPORARY_MS})
for from = strings + 2, #ARGV, 3900 do
  redis.call('PFADD', KEYS[1], unpack(ARGV, from, math.min(from + 3899, #ARGV)))
end
local found = {{redis.call('PFCOUNT', KEYS[1]), redis.call('GET', KEYS[1])}}
redis.call('UNLINK', unpack(KEYS))
return found
"""
"""Returns estimate and sketch of the union of ARGV[1] sketches and further members. KEYS are temporary."""

Slice = tuple[bytes, bytes, bytes]
"""Epoch, token and expiry of a period in one shard; empty if there is none, or while the shard is being restored."""


_PartReply = tuple[Sequence[Sequence[bytes]], bytes, Collection[bytes]]


class Vector(NamedTuple):
    """The state of a closed period in all shards of a ledger."""

    digest: bytes
    """Of the ledger's id and of all shards with their slices, also of those that do not hold the period."""
    held: Sequence[tuple[ShardKeys, Slice]]
    """The shards that hold it."""

    @classmethod
    def of(cls, ledger: bytes, shards: Iterable[tuple[ShardKeys, Slice]], held: Collection[ShardKeys]) -> Vector | None:
        """None if the period must not be merged: the ledger has no id, or a shard no epoch, or a restore is running."""
        found = list(shards)
        if not ledger or any(not slice_[0] for _, slice_ in found):
            return None
        holding = {shard.shard for shard in held}
        state = [(shard.shard.tag, *slice_, shard.shard in holding) for shard, slice_ in found]
        digest = hashlib.blake2b(msgspec.msgpack.encode((ledger, state)), digest_size=16).digest()
        return cls(digest, [(shard, slice_) for shard, slice_ in found if shard.shard in holding])


class MergedPeriods:
    """Merged periods of one ledger. Every method raises one of api.ledger.client.UNREACHABLE."""

    def __init__(self, client: Client, prefix: str, exact_up_to: int, store: MergedStore, *, cluster: bool) -> None:
        self._client = client
        self._prefix = prefix
        self._exact_up_to = exact_up_to
        self._store = store
        self._cluster = cluster

    async def users(self, units: Mapping[Unit, Vector]) -> dict[Unit, MergedUsers]:
        """The users of each unit; a unit that changes meanwhile is missing."""
        if len(units) > MAX_UNITS:
            return {}
        names = {unit: self._name("users", unit) for unit in units}
        found = await self._store.users({names[unit]: vector.digest for unit, vector in units.items()})
        merged = {}
        for unit, vector in units.items():
            users = found.get(names[unit])
            if users is None or users.parts != accuracy.sketches(*unit):
                users = await self._merge_users(unit, vector)
                if users is None:
                    continue
                await self._store.put(names[unit], vector.digest, users)
            merged[unit] = users
        return merged

    async def counts(self, units: Mapping[Unit, Vector]) -> dict[Unit, Counts]:
        """The counters of each unit; a unit that changes meanwhile is missing."""
        if len(units) > MAX_UNITS:
            return {}
        names = {unit: self._name("counts", unit) for unit in units}
        found = await self._store.counts({names[unit]: vector.digest for unit, vector in units.items()})
        merged = {}
        for unit, vector in units.items():
            counts = found.get(names[unit])
            if counts is None:
                counts = await self._sum_counts(unit, vector)
                if counts is None:
                    continue
                await self._store.put(names[unit], vector.digest, counts)
            merged[unit] = {fields.split(name): count for name, count in counts.counts.items()}
        return merged

    def _name(self, kind: str, unit: Unit) -> str:
        period, scope = unit
        return f"{kind} {self._exact_up_to} {period} {scope.text}"

    async def _sum_counts(self, unit: Unit, vector: Vector) -> MergedCounts | None:
        period, scope = unit
        commands: list[Command] = [
            ("EVAL_RO", READ_COUNTS, 4, shard.position, shard.changes, shard.index, shard.counts(period, scope), period)
            for shard, _ in vector.held
        ]
        sums: dict[str, int] = defaultdict(int)
        for (_, expected), (slice_, flat) in zip(vector.held, await self._client.run(commands), strict=True):
            await pause()
            if tuple(slice_) != expected:
                return None
            for name, count in zip(flat[::2], flat[1::2], strict=True):
                sums[name.decode()] += int(count)
        return MergedCounts(dict(sums))

    async def _merge_users(self, unit: Unit, vector: Vector) -> MergedUsers | None:
        parts = accuracy.sketches(*unit)
        sketches: list[tuple[int, bytes]] = []
        members: list[list[bytes]] = []
        for part in range(parts):
            await pause()
            replies = await self._read_part(unit, [shard for shard, _ in vector.held], part, parts)
            slices = [tuple(slice_) for reply in replies for slice_ in reply[0]]
            if slices != [expected for _, expected in vector.held]:
                return None
            strings = [reply[1] for reply in replies if reply[1]]
            found = {member for reply in replies for member in reply[2]}
            if strings:
                # The sketches of all parts exist, or none.
                sketches.append(await self._combine(strings, found))
                found = set()
            members.append(list(found))
        if 0 < len(sketches) < parts:
            return None
        if not sketches and sum(map(len, members)) > self._exact_up_to:
            sketches = [await self._combine([], of_part) for of_part in members]
        if not sketches:
            return MergedUsers(sum(map(len, members)), members, [])
        return MergedUsers(sum(count for count, _ in sketches), [], [sketch for _, sketch in sketches])

    async def _read_part(self, unit: Unit, shards: Sequence[ShardKeys], part: int, parts: int) -> list[_PartReply]:
        """Slices, sketch and members of one part, together for as many shards as one command can read."""
        period, scope = unit

        def small_sets(shard: ShardKeys) -> list[str]:
            return shard.small_sets(period, scope, range(part, SMALL_PARTS, parts))

        def slice_keys(shard: ShardKeys) -> tuple[str, str, str]:
            return shard.position, shard.changes, shard.index

        if self._cluster:
            size = 4 + SMALL_PARTS // parts
            commands: list[Command] = [
                (
                    *("EVAL_RO", READ_PART, size, *slice_keys(shard)),
                    *(shard.users(period, scope, part), *small_sets(shard), period),
                )
                for shard in shards
            ]
            return [(slices, sketch, members) for slices, sketch, members in await self._client.run(commands)]
        found: list[_PartReply] = []
        for first in range(0, len(shards), MAX_TOGETHER):
            some = shards[first : first + MAX_TOGETHER]
            key = temporary(self._prefix, secrets.token_hex(8), "0")
            sketches = [shard.users(period, scope, part) for shard in some]
            # A transaction, not a script: Redis would require the right to write to every key of a script that writes.
            # Each is a pipeline of its own, because a pipeline that is too long is divided.
            *_, done = await self._client.run(
                [
                    ("MULTI",),
                    ("EVAL_RO", READ_SLICES, 3 * len(some), *(name for of in some for name in slice_keys(of)), period),
                    ("EXISTS", *sketches),
                    ("PFMERGE", key, *sketches),
                    ("GET", key),
                    ("UNLINK", key),
                    ("SUNION", *(name for shard in some for name in small_sets(shard))),
                    ("EXEC",),
                ]
            )
            slices, exist, _, sketch, _, members = done
            found.append((slices, sketch if exist else b"", members))
        return found

    async def _combine(self, strings: list[bytes], members: Collection[bytes]) -> tuple[int, bytes]:
        """Estimate and sketch of a union, merged by the store."""
        question = secrets.token_hex(8)
        while True:
            some, strings = strings[:MAX_STRINGS], strings[MAX_STRINGS:]
            names = [temporary(self._prefix, question, str(number)) for number in range(len(some) + 1)]
            last: Collection[bytes] = () if strings else members
            command: tuple[Any, ...] = ("EVAL", COMBINE, len(names), *names, len(some), *some, *last)
            ((count, sketch),) = await self._client.run([command])
            if not strings:
                return count, sketch
            strings.insert(0, sketch)
