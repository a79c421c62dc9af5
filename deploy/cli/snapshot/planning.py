"""The plan of a restore: the shards to write, and the conflicts with settings, Kafka and the store that forbid it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from aggregator.assignment import settings_conflict
from aggregator.ledger.store import Client
from aggregator.settings import WorkerSettings
from deploy.cli.operations import NO_ID, Log
from deploy.cli.snapshot.file import GONE, Contents, Entry, entries_of
from deploy.cli.snapshot.redis_connections import connect_to, names
from deploy.cli.snapshot.saving import COMMON, common
from schemas.ledger import fields
from schemas.ledger.keys import Shard, ShardKeys

NOTHING: Final = "nothing"
SAME: Final = "the same"
OTHER: Final = "something else"


class Held(NamedTuple):
    """One shard in the store."""

    position: int | None
    restored: str | None
    """The id of the snapshot from which it was restored."""
    anything: bool
    """Whether it has any key."""


@dataclass
class Plan:
    """Effects of a restore, by the shard's tag. `refused` has the reasons that forbid it."""

    restore: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    """Shards that were already restored from this file."""
    held: dict[str, Held] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    replace: bool = False
    """Whether shards that are counted already are restored too."""
    counted: bool = False
    """Whether a shard is refused because the store has counted it."""


async def plan(
    client: Client,
    settings: WorkerSettings,
    path: Path,
    of_file: Contents,
    logs: Mapping[Shard, Log] | None,
    *,
    replace: bool = False,
) -> Plan:
    """Compare the file with settings, store and `logs` (Kafka's partitions; None skips them). Raises RedisError."""
    found = Plan(replace=replace)
    for key, entry in common_entries(path, settings.key_prefix):
        if not replace and await compared(client, key, entry) == OTHER:
            found.refused.append(f"{key}: the store has another value: delete it, or use --replace")
    for held_shard in of_file.shards:
        shard, tag = shard_of(held_shard), held_shard["section"]
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
            found.counted = True
            found.refused.append(f"{tag}: the store has it already, up to position {held.position}")
        elif held.anything and held.position is None and not replace:
            found.refused.append(f"{tag}: the store has keys of it, but no position: use --replace")
    return found


def _compare(found: Plan, tag: str, held_shard: Mapping[str, Any], log: Log | None) -> None:
    """Compare a snapshot's position with the log from which workers would continue."""
    known, position = held_shard["meta"].get("topic_id", NO_ID), held_shard["position"]
    if log is None:
        found.remarks[tag] = "Kafka has no such partition"
    elif NO_ID not in (known, log.topic_id) and known != log.topic_id:
        found.refused.append(
            f"{tag}: the snapshot has topic id {known}, Kafka's {held_shard['topic']} has {log.topic_id}: "
            "the topic was created again, so its log is not the one that was counted"
        )
    elif position > log.end:
        found.refused.append(f"{tag}: the snapshot's position is {position}, beyond the log's end {log.end}")
    elif position < log.start:
        found.remarks[tag] = f"{log.start - position} offsets are gone from Kafka and will count as lost"
    else:
        found.remarks[tag] = f"{log.end - position} offsets to replay"


def common_entries(path: Path, prefix: str) -> Iterator[tuple[str, Entry]]:
    """The entries that belong to no shard, with their key in this store. All of them are small."""
    named = common(prefix)
    for entry in entries_of(path, COMMON):
        key = named.get(entry.name.decode())
        if key is not None and entry.kind != GONE:
            yield key, entry


async def compared(client: Client, key: str, entry: Entry) -> str:
    """Whether the key has NOTHING, the SAME value or an OTHER one."""
    async with connect_to(client, key) as line:
        there = (await line.call("TYPE", key)).decode()
        if there != entry.kind:
            return NOTHING if there == GONE else OTHER
        held = await line.call("HGETALL", key) if there == "hash" else await line.call("LRANGE", key, 0, -1)
        return SAME if _plain(there, held) == _plain(there, entry.value) else OTHER


def _plain(kind: str, value: Any) -> Any:
    return sorted(zip(value[::2], value[1::2], strict=True)) if kind == "hash" else value


async def _held(client: Client, shard_keys: ShardKeys) -> Held:
    async with connect_to(client, shard_keys.position) as line:
        position, restored = await line.pipe([("GET", shard_keys.position), ("HGET", shard_keys.meta, fields.RESTORED)])
        anything = position is not None
        if not anything:
            async for _ in names(line, shard_keys.base, [shard_keys.observed.encode()]):
                anything = True
                break
        at = None if position is None else int(position)
        return Held(at, None if restored is None else restored.decode(), anything)


def shard_of(held_shard: Mapping[str, Any]) -> Shard:
    return Shard(held_shard["topic"], held_shard["partition"])
