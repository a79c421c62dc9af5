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
from typing import Final, NamedTuple

import msgspec

from api.ledger.client import Client, Command, chunks, together
from api.ledger.imported import Counts
from api.ledger.merged_store import MergedCounts, MergedStore, MergedUsers
from api.ledger.temporary import Pipeline, TemporarySketch, transaction
from api.turns import pause
from schemas.ledger import accuracy, fields
from schemas.ledger.keys import SMALL_PARTS, ShardKeys, temporary
from schemas.ledger.scopes import Scope

MAX_UNITS: Final = 400
"""Most periods and scopes of one question that are merged: a year of days. Wider questions are read without."""
MIN_SHARDS: Final = 2
MAX_TOGETHER: Final = 256
"""Most sketches that one transaction merges: 0.2 ms of the store's time, or 4 ms without vector instructions."""
MAX_STRINGS: Final = 64
"""Most sketches, 12 KB each, that one script receives."""
MAX_UNITED: Final = 16
"""Most shards whose small sets one transaction reads: 65,000 members at the default EXACT_UP_TO, if all are full."""
MAX_CONCURRENT: Final = 4
"""Most parts of a unit that are read at the same time in a Cluster, each with a sketch of 12 KB from every shard."""

Unit = tuple[str, Scope]
"""A period and a scope."""

READ_COUNTS: Final = """
return {redis.call('HMGET', KEYS[1], 'epoch', ARGV[1]), redis.call('HGETALL', KEYS[2])}
"""
"""KEYS: changes, counts. ARGV[1] is the period, here and below."""
READ_PART: Final = """
return {redis.call('HMGET', KEYS[1], 'epoch', ARGV[1]), redis.call('GET', KEYS[2]) or '',
        redis.call('SUNION', unpack(KEYS, 3))}
"""
"""KEYS: changes, sketch and small sets of one part in one shard. Returns epoch and token, sketch, members."""
READ_TOKENS: Final = """
local found = {}
for at = 1, #KEYS do found[at] = redis.call('HMGET', KEYS[at], 'epoch', ARGV[1]) end
return found
"""
"""KEYS: changes of each shard. Returns epoch and token of each."""

Slice = tuple[bytes, bytes, bytes]
"""Epoch, token and expiry of a period in one shard; empty if there is none, or while the shard is being restored."""


Tokens = tuple[bytes | None, bytes | None]
"""Epoch and token. Each change of position or expiry renews one of them too, so equal tokens mean an equal slice."""


class Part(NamedTuple):
    """One part of a unit: sketches, and members of small sets."""

    sketches: list[bytes]
    members: Collection[bytes]
    estimate: int | None = None
    """Of one sketch; without the members."""


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

    @property
    def tokens(self) -> list[Tokens]:
        """Of the shards that hold the period; a missing token is None, as HMGET returns it."""
        return [(epoch or None, token or None) for _, (epoch, token, _) in self.held]


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
            ("EVAL_RO", READ_COUNTS, 2, shard.changes, shard.counts(period, scope), period) for shard, _ in vector.held
        ]
        sums: dict[str, int] = defaultdict(int)
        for expected, (tokens, flat) in zip(vector.tokens, await self._client.run(commands), strict=True):
            await pause()
            if tuple(tokens) != expected:
                return None
            for name, count in zip(flat[::2], flat[1::2], strict=True):
                sums[name.decode()] += int(count)
        return MergedCounts(dict(sums))

    async def _merge_users(self, unit: Unit, vector: Vector) -> MergedUsers | None:
        parts = await (self._read_cluster(unit, vector) if self._cluster else self._read_server(unit, vector))
        if parts is None:
            return None
        sketched = sum(1 for part in parts if part.sketches)
        # The sketches of all parts exist, or none.
        if 0 < sketched < len(parts):
            return None
        if not sketched and sum(len(part.members) for part in parts) <= self._exact_up_to:
            members = [list(part.members) for part in parts]
            return MergedUsers(sum(map(len, members)), members, [])
        found = [await self._united(part) for part in parts]
        return MergedUsers(sum(count for count, _ in found), [], [sketch for _, sketch in found])

    async def _read_server(self, unit: Unit, vector: Vector) -> list[Part] | None:
        """The parts of a unit, of which each transaction reads as many as it may; None if a shard has changed."""
        number = accuracy.sketches(*unit)
        at_once = max(1, min(MAX_TOGETHER, MAX_UNITED * number) // len(vector.held))
        found: list[Part] = []
        for parts in chunks(range(number), at_once):
            groups = []
            for held in chunks(vector.held, MAX_TOGETHER):
                await pause()
                read = await self._merge_on_server(unit, Vector(vector.digest, held), parts)
                if read is None:
                    return None
                groups.append(read)
            found += groups[0] if len(groups) == 1 else map(_joined, zip(*groups, strict=True))
        return found

    async def _merge_on_server(self, unit: Unit, vector: Vector, parts: Sequence[int]) -> list[Part] | None:
        """These parts of a vector's shards, merged by the store in one transaction; None if a shard has changed.

        A transaction, not a script: Redis would require the right to write to every key of a script that writes.
        """
        period, scope = unit
        number = accuracy.sketches(*unit)
        key = temporary(self._prefix, secrets.token_hex(8), "0")
        shards = [shard for shard, _ in vector.held]
        commands: list[Command] = [
            ("MULTI",),
            ("EVAL_RO", READ_TOKENS, len(shards), *(shard.changes for shard in shards), period),
        ]
        for part in parts:
            sketches = [shard.users(period, scope, part) for shard in shards]
            small = (name for shard in shards for name in _small_sets(shard, unit, part, number))
            commands += [("EXISTS", *sketches), ("SUNION", *small)]
            commands += [("PFMERGE", key, *sketches), ("PFCOUNT", key), ("GET", key), ("UNLINK", key)]
        # One pipeline holds all of it: MAX_TOGETHER sketches need fewer arguments than a pipeline may have.
        *_, done = await self._client.run([*commands, ("EXEC",)])
        tokens, *replies = transaction(done)
        if [tuple(of_shard) for of_shard in tokens] != vector.tokens:
            return None
        found = []
        for at in range(0, len(replies), 6):
            exist, members, _, count, sketch, _ = replies[at : at + 6]
            found.append(Part([sketch] if exist else [], members, count))
        return found

    async def _read_cluster(self, unit: Unit, vector: Vector) -> list[Part] | None:
        """The parts of a unit. Each shard is a slot of its own, whose sketch is copied to the slot of the union."""
        number = accuracy.sketches(*unit)
        found: list[Part] = []
        for parts in chunks(range(number), MAX_CONCURRENT):
            some = await together(self._copy_part(unit, vector, part, number) for part in parts)
            if any(part is None for part in some):
                return None
            found += (part for part in some if part is not None)
        return found

    async def _copy_part(self, unit: Unit, vector: Vector, part: int, number: int) -> Part | None:
        period, scope = unit
        size = 2 + SMALL_PARTS // number
        commands: list[Command] = []
        for shard, _ in vector.held:
            small = _small_sets(shard, unit, part, number)
            commands.append(
                ("EVAL_RO", READ_PART, size, shard.changes, shard.users(period, scope, part), *small, period)
            )
        replies = await self._client.run(commands)
        if [tuple(tokens) for tokens, _, _ in replies] != vector.tokens:
            return None
        read = Part([sketch for _, sketch, _ in replies if sketch], {each for reply in replies for each in reply[2]})
        if not read.sketches:
            return read
        count, sketch = await self._united(read)
        return Part([sketch], (), count)

    async def _united(self, part: Part) -> tuple[int, bytes]:
        """Estimate and sketch of a part."""
        if part.estimate is not None and part.sketches and not part.members:
            return part.estimate, part.sketches[0]
        pipeline = Pipeline(self._client)
        union = TemporarySketch(temporary(self._prefix, secrets.token_hex(8), "0"))
        union.add(pipeline, part.members)
        for strings in chunks(part.sketches, MAX_STRINGS):
            union.add(pipeline, sketches=strings)
        count, sketch = union.take(pipeline)
        replies = await pipeline.send()
        return replies[count], replies[sketch]


def _small_sets(shard: ShardKeys, unit: Unit, part: int, number: int) -> list[str]:
    """The small sets of a part of `number`."""
    return shard.small_sets(*unit, range(part, SMALL_PARTS, number))


def _joined(parts: Iterable[Part]) -> Part:
    """The same part of several groups of shards."""
    found = list(parts)
    return Part([sketch for of in found for sketch in of.sketches], {each for of in found for each in of.members})
