"""`authtally snapshot restore`: write a file into a store, shard by shard, each completely or not at all.

During the restore a shard has a position that no log reaches, so workers of any version do not count into it. Its own
position is written last. A killed run leaves that marker; repeating the run restores the marked shard again and skips
the finished ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from aggregator.ledger.store import Client
from aggregator.settings import WorkerSettings
from deploy.cli.snapshot.file import GONE, Contents, Entry, SnapshotError, sections
from deploy.cli.snapshot.lease import InTheWayError, alone
from deploy.cli.snapshot.planning import SAME, Plan, common_entries, compared, shard_of
from deploy.cli.snapshot.redis_connections import RedisConnection, connect_to, names
from schemas.ledger import changes, fields, keys
from schemas.ledger.keys import ShardKeys

AT_ONCE: Final = 1 << 20
"""Bytes sent before the replies are read."""
MEMBERS: Final = 2_000
"""Members per command."""
CLOSE: Final = """
local at = redis.call('GET', KEYS[1]) or ''
if at ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[2], 'epoch', ARGV[3])
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""
"""Sets a position to ARGV[2] if it is ARGV[1], '' for none, and renews the epoch: what the api merged is void."""


@dataclass
class Restored:
    shards: list[str] = field(default_factory=list)
    entries: int = 0
    expired: int = 0
    common: list[str] = field(default_factory=list)
    seconds: float = 0.0


async def restore(
    client: Client,
    settings: WorkerSettings,
    path: Path,
    of_file: Contents,
    planned: Plan,
    *,
    on_progress: Callable[[str, int], None] = lambda *_: None,
) -> Restored:
    """Write the planned shards. `on_progress` gets the section and the bytes of each payload.

    Raises SnapshotError, RedisError, InTheWayError.
    """
    began, done = time.monotonic(), Restored()
    shards = {held_shard["section"]: held_shard for held_shard in of_file.shards}
    registry = keys.shards(settings.key_prefix)
    async with alone(client, settings.key_prefix) as lease:

        def passed(section: str, read: int) -> None:
            lease.check()
            on_progress(section, read)

        done.common = await _restore_common(client, settings, path)
        for section, entries in sections(path, passed):
            if section not in planned.restore:
                for _ in entries:
                    pass
                continue
            shard_keys = ShardKeys(settings.key_prefix, shard_of(shards[section]))
            await begin(client, shard_keys, planned.held[section].position, replace=planned.replace)
            # Unregistered meanwhile, so that no reader sees incomplete figures.
            await cast(Any, client.srem(registry, section))
            await fill(client, shard_keys, entries, of_file.id, done)
            await cast(Any, client.sadd(registry, section))
            await finish(client, shard_keys, shards[section]["position"])
            done.shards.append(section)
    done.seconds = time.monotonic() - began
    return done


async def begin(client: Client, shard_keys: ShardKeys, position: int | None, *, replace: bool = False) -> None:
    """Close a shard at `position`, so that no worker counts into it; with `replace` at any position.

    Raises InTheWayError.
    """
    async with connect_to(client, shard_keys.position) as line:
        while not await _move(line, shard_keys, "" if position is None else position, fields.RESTORING):
            if not replace:
                raise InTheWayError(f"{shard_keys.shard.tag} moved meanwhile: stop the workers, or repeat")
            # A worker has counted since the plan was made; what it counted is replaced too.
            found = await line.call("GET", shard_keys.position)
            position = None if found is None else int(found)


async def fill(client: Client, shard_keys: ShardKeys, entries: Iterable[Entry], snapshot: str, done: Restored) -> None:
    """Replace all keys of a closed shard except its position and, which is of this store only, its changes."""
    kept = [name.removeprefix(shard_keys.base).encode() for name in (shard_keys.position, shard_keys.changes)]
    async with connect_to(client, shard_keys.position) as line:
        await clear(line, shard_keys)
        await write(line, shard_keys.base, (entry for entry in entries if entry.name not in kept), done)
        await line.call("HSET", shard_keys.meta, fields.RESTORED, snapshot)


async def finish(client: Client, shard_keys: ShardKeys, position: int) -> None:
    """Open a restored shard to workers. Raises InTheWayError."""
    async with connect_to(client, shard_keys.position) as line:
        if not await _move(line, shard_keys, fields.RESTORING, position):
            raise InTheWayError(f"{shard_keys.shard.tag} moved meanwhile: repeat")


async def _move(line: RedisConnection, shard_keys: ShardKeys, before: int | str, after: int) -> bool:
    return bool(
        await line.call("EVAL", CLOSE, 2, shard_keys.position, shard_keys.changes, before, after, changes.new_token())
    )


async def clear(line: RedisConnection, shard_keys: ShardKeys, *, whole: bool = False) -> None:
    """Delete every key of a shard, its position only if `whole`."""
    async for found in names(line, shard_keys.base, () if whole else [shard_keys.position.encode()]):
        await line.call("UNLINK", *found)


async def write(line: RedisConnection, base: str, entries: Iterable[Entry], done: Restored) -> None:
    """Write entries under keys with the prefix `base`."""
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
        # SET instead of APPEND for the first piece, because APPEND reserves twice the memory.
        yield ("APPEND" if entry.more else "SET", name, value)
        return
    if entry.kind == "zset":
        # Redis returns member, score; ZADD takes score, member.
        value = [part for at in range(0, len(value), 2) for part in (value[at + 1], value[at])]
    command = {"hash": "HSET", "set": "SADD", "zset": "ZADD", "list": "RPUSH"}.get(entry.kind)
    if command is None:
        raise SnapshotError(f"the snapshot contains a {entry.kind}, which this version does not know")
    for first in range(0, len(value), MEMBERS):
        yield (command, name, *value[first : first + MEMBERS])


async def _restore_common(client: Client, settings: WorkerSettings, path: Path) -> list[str]:
    written = []
    for key, entry in common_entries(path, settings.key_prefix):
        if await compared(client, key, entry) != SAME:
            async with connect_to(client, key) as line:
                await write(line, key.removesuffix(entry.name.decode()), [entry], Restored())
            written.append(entry.name.decode())
    return written
