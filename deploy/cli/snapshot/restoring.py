"""`authtally snapshot restore`: a file back into a store, shard by shard, each as a whole or as nothing.

A shard is restored behind a position that no log reaches: workers of any version leave it alone, and its own position
takes that place when everything else is there. A run that is killed leaves that mark where it was, and the same run
again begins that shard anew and passes by those that it had finished.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

from aggregator.assignment import settings_conflict
from aggregator.ledger.store import Client
from aggregator.settings import WorkerSettings
from deploy.cli.operations import NO_ID, Log
from deploy.cli.snapshot.file import BEGIN, END, GONE, Contents, Entry, SnapshotError, frames
from deploy.cli.snapshot.lease import InTheWayError, alone
from deploy.cli.snapshot.redis_connections import RedisConnection, connect_to, names
from deploy.cli.snapshot.saving import COMMON, common
from schemas.ledger import fields, keys
from schemas.ledger.keys import Shard, ShardKeys

AT_ONCE: Final = 1 << 20
"""Bytes sent before the replies are read."""
MEMBERS: Final = 2_000
"""Members of one command."""
NOTHING: Final = "nothing"
SAME: Final = "the same"
OTHER: Final = "something else"

CLOSE: Final = """
local at = redis.call('GET', KEYS[1]) or ''
if at ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""
"""Sets a position to ARGV[2] if it is ARGV[1], '' for none."""


class Held(NamedTuple):
    """What a store holds of a shard."""

    position: int | None
    restored: str | None
    """The snapshot that it was restored from."""
    anything: bool


@dataclass
class Plan:
    """What a restore would do, by shard's tag; `refused` says why it must not."""

    restore: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    """Restored from this very file already."""
    held: dict[str, Held] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)


@dataclass
class Restored:
    shards: list[str] = field(default_factory=list)
    entries: int = 0
    expired: int = 0
    common: list[str] = field(default_factory=list)
    seconds: float = 0.0


async def plan(
    client: Client,
    settings: WorkerSettings,
    path: Path,
    of_file: Contents,
    logs: Mapping[Shard, Log] | None,
    *,
    replace: bool = False,
) -> Plan:
    """What restoring would mean. `logs`: what Kafka has of the shards' topics; None: not asked. Raises RedisError."""
    found = Plan()
    for key, entry in _common_entries(path, settings.key_prefix):
        if not replace and await _compared(client, key, entry) == OTHER:
            found.refused.append(f"{key}: the store holds something else already: --replace it, or delete it")
    for held_shard in of_file.shards:
        shard, tag = _shard(held_shard), held_shard["section"]
        if shard.topic in settings.topics and (
            differs := settings_conflict(held_shard["meta"], settings.counted_with(shard.topic))
        ):
            found.refused.append(f"{tag}: {differs}")
        if logs is not None:
            _compare(found, tag, held_shard, logs.get(shard))
        held = found.held[tag] = await _held(client, ShardKeys(settings.key_prefix, shard))
        if held.restored == of_file.id and held.position not in (None, fields.RESTORING) and not replace:
            found.done.append(tag)
            continue
        found.restore.append(tag)
        if held.position not in (None, fields.RESTORING) and not replace:
            found.refused.append(
                f"{tag}: the store counts it already, up to {held.position}: "
                "restore into an empty store or KEY_PREFIX, or --replace it"
            )
        elif held.anything and held.position is None and not replace:
            found.refused.append(f"{tag}: the store holds keys of it without a position: --replace them")
    return found


def _compare(found: Plan, tag: str, held_shard: Mapping[str, Any], log: Log | None) -> None:
    """A snapshot's position against the log that workers would go on with."""
    known, position = held_shard["meta"].get("topic_id", NO_ID), held_shard["position"]
    if log is None:
        found.remarks[tag] = "Kafka has no such partition"
    elif NO_ID not in (known, log.topic_id) and known != log.topic_id:
        found.refused.append(
            f"{tag}: the snapshot is of topic id {known}, Kafka's {held_shard['topic']} has {log.topic_id}: "
            "it was made anew, and is not the log that this was counted from"
        )
    elif position > log.end:
        found.refused.append(f"{tag}: the snapshot stands at {position}, beyond the log's end {log.end}")
    elif position < log.start:
        found.remarks[tag] = f"{log.start - position} offsets are gone from Kafka and will be told as lost"
    else:
        found.remarks[tag] = f"{log.end - position} offsets to replay"


async def restore(
    client: Client,
    settings: WorkerSettings,
    path: Path,
    of_file: Contents,
    planned: Plan,
    *,
    on_progress: Callable[[str, int], None] = lambda *_: None,
) -> Restored:
    """Write what is planned. `told` learns the section, and bytes as they are read.

    Raises SnapshotError, RedisError, InTheWayError.
    """
    began, done = time.monotonic(), Restored()
    stands = {on_progress["section"]: on_progress for on_progress in of_file.shards}
    registry = keys.shards(settings.key_prefix)
    async with alone(client, settings.key_prefix) as lease:

        def passed(section: str, read: int) -> None:
            lease.check()
            on_progress(section, read)

        done.common = await _restore_common(client, settings, path)
        for section, entries in _sections(path, passed):
            if section not in planned.restore:
                for _ in entries:
                    pass
                continue
            of = ShardKeys(settings.key_prefix, _shard(stands[section]))
            await begin(client, of, planned.held[section].position)
            # Nobody is told its figures while they are half there.
            await cast(Any, client.srem(registry, section))
            await fill(client, of, entries, of_file.id, done)
            await cast(Any, client.sadd(registry, section))
            await finish(client, of, stands[section]["position"])
            done.shards.append(section)
    done.seconds = time.monotonic() - began
    return done


def _sections(path: Path, on_progress: Callable[[str, int], None]) -> Iterator[tuple[str, Iterator[Entry]]]:
    """Each section's name and entries, which must be taken before the next."""
    found = frames(path)

    def entries(section: str) -> Iterator[Entry]:
        for frame in found:
            on_progress(section, len(frame.payload))
            if frame.kind == END:
                return
            yield from frame.entries

    for frame in found:
        if frame.kind == BEGIN:
            section = str(frame.document["section"])
            yield section, entries(section)


def entries_of(path: Path, section: str) -> Iterator[Entry]:
    """The entries of one section. Raises SnapshotError."""
    for name, entries in _sections(path, lambda *_: None):
        if name == section:
            yield from entries
            return
        for _ in entries:
            pass


async def begin(client: Client, of: ShardKeys, position: int | None) -> None:
    """Close a shard that is at `position`: from here on nobody counts into it. Raises InTheWayError."""
    async with connect_to(client, of.position) as line:
        before = "" if position is None else position
        if not await line.call("EVAL", CLOSE, 1, of.position, before, fields.RESTORING):
            raise InTheWayError(f"{of.shard.tag} moved meanwhile: stop the workers, or repeat")


async def fill(client: Client, of: ShardKeys, entries: Iterable[Entry], snapshot: str, done: Restored) -> None:
    """Replace all that a closed shard holds, but its position."""
    position = of.position.removeprefix(of.base).encode()
    async with connect_to(client, of.position) as line:
        await clear(line, of)
        await write(line, of.base, (entry for entry in entries if entry.name != position), done)
        await line.call("HSET", of.meta, fields.RESTORED, snapshot)


async def finish(client: Client, of: ShardKeys, position: int) -> None:
    """Open a restored shard to workers. Raises InTheWayError."""
    async with connect_to(client, of.position) as line:
        if not await line.call("EVAL", CLOSE, 1, of.position, fields.RESTORING, position):
            raise InTheWayError(f"{of.shard.tag} moved meanwhile: repeat")


async def clear(line: RedisConnection, of: ShardKeys, *, whole: bool = False) -> None:
    """Delete every key of a shard but its position, or that too."""
    async for found in names(line, of.base, () if whole else [of.position.encode()]):
        await line.call("UNLINK", *found)


async def write(line: RedisConnection, base: str, entries: Iterable[Entry], done: Restored) -> None:
    """Write entries under keys that begin with `base`."""
    begins, now_ms = base.encode(), time.time() * 1000
    commands: list[Sequence[Any]] = []
    weight = 0
    for entry in entries:
        name = begins + entry.name
        if not entry.more:
            commands.append(("UNLINK", name))
        if 0 <= entry.expires_ms <= now_ms:
            done.expired += not entry.more
            continue
        if entry.kind != GONE:
            done.entries += not entry.more
            commands += _writing(name, entry)
            if entry.expires_ms >= 0:
                commands.append(("PEXPIREAT", name, entry.expires_ms))
        weight += entry.weight + 64
        if weight > AT_ONCE:
            await line.pipe(commands)
            commands, weight = [], 0
    if commands:
        await line.pipe(commands)


def _writing(name: bytes, entry: Entry) -> Iterator[Sequence[Any]]:
    value = entry.value
    if entry.kind == "string":
        # Appending to a key leaves room in it for as much again.
        yield ("APPEND" if entry.more else "SET", name, value)
        return
    if entry.kind == "zset":
        # As it is read: member, score. As it is written: score, member.
        value = [part for at in range(0, len(value), 2) for part in (value[at + 1], value[at])]
    command = {"hash": "HSET", "set": "SADD", "zset": "ZADD", "list": "RPUSH"}.get(entry.kind)
    if command is None:
        raise SnapshotError(f"the snapshot holds a {entry.kind}, which this version does not know")
    for first in range(0, len(value), MEMBERS):
        yield (command, name, *value[first : first + MEMBERS])


def _common_entries(path: Path, prefix: str) -> Iterator[tuple[str, Entry]]:
    """What belongs to no shard, by its key here. All of it is small."""
    named = common(prefix)
    for entry in entries_of(path, COMMON):
        key = named.get(entry.name.decode())
        if key is not None and entry.kind != GONE:
            yield key, entry


async def _compared(client: Client, key: str, entry: Entry) -> str:
    """Whether a key holds NOTHING, the SAME, or something OTHER."""
    async with connect_to(client, key) as line:
        there = (await line.call("TYPE", key)).decode()
        if there != entry.kind:
            return NOTHING if there == GONE else OTHER
        held = await line.call("HGETALL", key) if there == "hash" else await line.call("LRANGE", key, 0, -1)
        return SAME if _plain(there, held) == _plain(there, entry.value) else OTHER


def _plain(kind: str, value: Any) -> Any:
    return sorted(zip(value[::2], value[1::2], strict=True)) if kind == "hash" else value


async def _restore_common(client: Client, settings: WorkerSettings, path: Path) -> list[str]:
    written = []
    for key, entry in _common_entries(path, settings.key_prefix):
        if await _compared(client, key, entry) != SAME:
            async with connect_to(client, key) as line:
                await write(line, key.removesuffix(entry.name.decode()), [entry], Restored())
            written.append(entry.name.decode())
    return written


async def _held(client: Client, of: ShardKeys) -> Held:
    async with connect_to(client, of.position) as line:
        position, restored = await line.pipe([("GET", of.position), ("HGET", of.meta, fields.RESTORED)])
        anything = position is not None
        if not anything:
            async for _ in names(line, of.base, [of.observed.encode()]):
                anything = True
                break
        at = None if position is None else int(position)
        return Held(at, None if restored is None else restored.decode(), anything)


def _shard(held_shard: Mapping[str, Any]) -> Shard:
    return Shard(held_shard["topic"], held_shard["partition"])
