"""Closed periods merged over all shards: sketches, or the members of small sets, and summed counters.

Merging costs the store as much as answering without it, once; the next answers read one vector per question. A vector
has the state of each shard for a period: epoch, token, expiry. The token changes with every script that touches the
period, so equal vectors mean equal content. Content and token of a shard are read in one step: a store that fails over
between two steps may go back to the first token after its content was read.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import Final, NamedTuple

from api.ledger.client import Client, Command, chunks, together
from api.ledger.imported import Counts
from api.ledger.merged_store import MergedCounts, MergedStore, MergedUsers
from api.ledger.temporary import Pipeline, TemporarySketch, transaction
from api.ledger.vector import Tokens, Unit, Vector
from api.turns import pause
from schemas.ledger import accuracy, fields
from schemas.ledger.keys import SMALL_PARTS, ShardKeys, temporary

MAX_UNITS: Final = 1_000
"""Most periods and scopes of one question whose users are merged, 49 KB each if dense. Wider ones are read without."""
MAX_COUNTED: Final = 2_000
"""The same for counters, which are small."""
MAX_HASHES: Final = 500
"""Most hashes of counters that one pipeline reads."""
MAX_SCRIPT_HASHES: Final = 64
"""Most that one script reads: about 0.3 ms of the store's time."""
MIN_SHARDS: Final = 2
MAX_TOGETHER: Final = 256
"""Most sketches that one transaction merges: 0.2 ms of the store's time, or 4 ms without vector instructions."""
MAX_STRINGS: Final = 64
"""Most sketches, 12 KB each, that one script receives."""
MAX_MEMBERS: Final = 65_000
"""Most members of small sets that one transaction is expected to read."""
MAX_UNITED: Final = 16
"""Most shards whose small sets the first transaction reads: MAX_MEMBERS at the default EXACT_UP_TO, if all are full."""
MAX_CONCURRENT: Final = 4
"""Most units that are merged at the same time, so that api and store work in parallel. In a Cluster the most parts of
one unit: each has a sketch of 12 KB from every shard."""

READ_COUNTS: Final = """
local found = {}
for at = 1, #KEYS, 2 do
  found[#found + 1] = {redis.call('HMGET', KEYS[at], 'epoch', ARGV[1]), redis.call('HGETALL', KEYS[at + 1])}
end
return found
"""
"""KEYS: changes and counts of each shard. Returns epoch, token, counts of each. ARGV[1] is the period, also below."""
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


class Part(NamedTuple):
    """One part of a unit: sketches, and members of small sets."""

    sketches: list[bytes]
    members: Collection[bytes]
    estimate: int | None = None
    """Of one sketch; without the members."""


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
        merged = {
            unit: users
            for unit in units
            if (users := found.get(names[unit])) is not None and users.parts == accuracy.sketches(*unit)
        }
        missing = [(unit, vector) for unit, vector in units.items() if unit not in merged]
        for some in chunks(missing, 1 if self._cluster else MAX_CONCURRENT):
            results = await together(self._merge_users(unit, vector) for unit, vector in some)
            for (unit, vector), read in zip(some, results, strict=True):
                if read is not None:
                    await self._store.put(names[unit], vector.digest, read)
                    merged[unit] = read
        return merged

    async def counts(self, units: Mapping[Unit, Vector]) -> dict[Unit, Counts]:
        """The counters of each unit; a unit that changes meanwhile is missing."""
        if len(units) > MAX_COUNTED:
            return {}
        names = {unit: self._name("counts", unit) for unit in units}
        found = await self._store.counts({names[unit]: vector.digest for unit, vector in units.items()})
        merged = {unit: counts for unit in units if (counts := found.get(names[unit])) is not None}
        missing = [(unit, vector) for unit, vector in units.items() if unit not in merged]
        most = max((len(vector.held) for _, vector in missing), default=1)
        for some in chunks(missing, max(1, MAX_HASHES // most)):
            for (unit, vector), counts in zip(some, await self._sum_counts(some), strict=True):
                if counts is not None:
                    await self._store.put(names[unit], vector.digest, counts)
                    merged[unit] = counts
        return {
            unit: {fields.split(name): count for name, count in vector.counts.items()}
            for unit, vector in merged.items()
        }

    def _name(self, kind: str, unit: Unit) -> str:
        period, scope = unit
        return f"{kind} {self._exact_up_to} {period} {scope.text}"

    async def _sum_counts(self, units: Sequence[tuple[Unit, Vector]]) -> list[MergedCounts | None]:
        """The sums of each unit, read together; None if a shard has changed."""
        commands: list[Command] = []
        for (period, scope), vector in units:
            # In a Cluster each shard has a slot of its own.
            for held in chunks(vector.held, 1 if self._cluster else MAX_SCRIPT_HASHES):
                hashes = [name for shard, _ in held for name in (shard.changes, shard.counts(period, scope))]
                commands.append(("EVAL_RO", READ_COUNTS, len(hashes), *hashes, period))
        replies = (of_shard for reply in await self._client.run(commands) for of_shard in reply)
        found: list[MergedCounts | None] = []
        for _, vector in units:
            sums: dict[str, int] = defaultdict(int)
            read: list[Tokens] = []
            for tokens, flat in islice(replies, len(vector.held)):
                await pause()
                read.append(tuple(tokens))
                for name, count in zip(flat[::2], flat[1::2], strict=True):
                    sums[name.decode()] += int(count)
            found.append(MergedCounts(dict(sums)) if read == vector.tokens else None)
        return found

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
        found: list[Part] = []
        while len(found) < number:
            parts = range(len(found), min(number, len(found) + _at_once(found, number, len(vector.held))))
            # The sketches of all parts exist, or none.
            sketched = not found or bool(found[0].sketches)
            groups = []
            for held in chunks(vector.held, MAX_TOGETHER):
                await pause()
                read = await self._merge_on_server(unit, Vector(vector.digest, held), parts, sketched=sketched)
                if read is None:
                    return None
                groups.append(read)
            found += groups[0] if len(groups) == 1 else map(_joined, zip(*groups, strict=True))
        return found

    async def _merge_on_server(
        self, unit: Unit, vector: Vector, parts: Sequence[int], *, sketched: bool
    ) -> list[Part] | None:
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
            commands.append(("SUNION", *small))
            if sketched:
                commands += [("EXISTS", *sketches), ("PFMERGE", key, *sketches)]
                commands += [("PFCOUNT", key), ("GET", key), ("UNLINK", key)]
        # One pipeline holds all of it: MAX_TOGETHER sketches need fewer arguments than a pipeline may have.
        *_, done = await self._client.run([*commands, ("EXEC",)])
        tokens, *replies = transaction(done)
        if [tuple(of_shard) for of_shard in tokens] != vector.tokens:
            return None
        if not sketched:
            return [Part([], members) for members in replies]
        found = []
        for at in range(0, len(replies), 6):
            members, exist, _, count, sketch, _ = replies[at : at + 6]
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


def _at_once(found: Sequence[Part], number: int, shards: int) -> int:
    """How many parts the next transaction may read, by those that were found: all have about as many users."""
    if not found:
        return max(1, min(MAX_TOGETHER, MAX_UNITED * number) // shards)
    members = max(len(part.members) for part in found)
    sketches = shards if found[0].sketches else 0
    return max(1, min(MAX_MEMBERS // (2 * members + 1), MAX_TOGETHER // sketches if sketches else number))


def _small_sets(shard: ShardKeys, unit: Unit, part: int, number: int) -> list[str]:
    """The small sets of a part of `number`."""
    return shard.small_sets(*unit, range(part, SMALL_PARTS, number))


def _joined(parts: Iterable[Part]) -> Part:
    """The same part of several groups of shards."""
    found = list(parts)
    return Part(
        [sketch for part in found for sketch in part.sketches], {each for part in found for each in part.members}
    )
