"""`authtally positions rebuild-index`: add the periods that a shard's index lost, found by the shard's keys.

Format 1 removed periods from the index by the newest record's timestamp: one timestamp far in the future hid every day
from readers, although the counts were still there. Safe while workers run: only impossible timestamps are removed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import click
from redis.asyncio import RedisCluster

from aggregator.ledger.store import Client
from aggregator.settings import WorkerSettings
from deploy.cli import audit
from deploy.cli.json_output import print_json
from deploy.cli.operations import confirmed, shards_held, show_table
from deploy.cli.positions import no_such_shard
from deploy.cli.snapshot import with_connection
from deploy.cli.snapshot.redis_connections import RedisConnection, connect_to, is_same_node, names
from deploy.cli.terminal import echo
from schemas.events import EARLIEST, MAX_AHEAD
from schemas.ledger import changes, fields
from schemas.ledger.keys import Shard, ShardKeys

AT_ONCE: Final = 1_000
"""Members per command, and keys per pipeline."""
NEVER: Final = math.inf
NO_EXPIRY: Final = -1

UNUSABLE: Final = """
local latest = redis.call('TIME')[1] * 1000 + ARGV[2]
local found = {}
for number = 4, #ARGV do
  local held = redis.call('HGET', KEYS[1], ARGV[number])
  if held and (tonumber(held) < tonumber(ARGV[1]) or tonumber(held) > latest) then
    found[#found + 1] = ARGV[number]
    found[#found + 1] = held
    if ARGV[3] == 'remove' then redis.call('HDEL', KEYS[1], ARGV[number]) end
  end
end
return found
"""
"""Returns names and values of the fields ARGV[4…] of the hash KEYS[1] that hold unusable times.

Unusable is below ARGV[1] ms, or more than ARGV[2] ms ahead of the store's clock. The script compares and removes in one
step, because a worker may write a usable value at any time.
"""
EARLIEST_MS: Final = int(EARLIEST.timestamp() * 1000)
AHEAD_MS: Final = int(MAX_AHEAD.total_seconds() * 1000)


@dataclass
class Repair:
    """Changes to one shard, found or made."""

    shard: Shard
    unfit: str = ""
    """The reason for which nothing was read."""
    periods: dict[str, float] = field(default_factory=dict)
    """Periods that the index lacks, or keeps for longer than their keys, with their expiry in Unix seconds."""
    times: dict[str, int] = field(default_factory=dict)
    """Unusable record timestamps in ms, by `progress` or `written:DAY` and field."""
    added: int = 0
    removed: int = 0


def rebuild_index(settings: WorkerSettings, shard: Shard | None, yes: bool, *, as_json: bool) -> None:
    """Repair one shard, or all shards of the ledger, after printing the changes. Safe to repeat.

    Raises click.ClickException.
    """

    async def run(client: Client, change: bool) -> list[Repair]:
        held = await shards_held(client, settings)
        if shard is not None and shard not in held:
            raise click.ClickException(no_such_shard(settings, shard))
        chosen = sorted(held) if shard is None else [shard]
        return [await repair(client, ShardKeys(settings.key_prefix, each), change=change) for each in chosen]

    found = with_connection(settings, lambda client: run(client, False))
    needed = any(each.periods or each.times for each in found)
    if not as_json:
        _show(found)
    changes = needed and confirmed(yes, "Add and remove these?", as_json=as_json)
    if changes:
        found = with_connection(settings, lambda client: run(client, True))
        named = {"shards": [each.shard.tag for each in found if each.added or each.removed]}
        audit.record(settings, "positions rebuild-index", named, sum(each.added + each.removed for each in found))
    if as_json:
        print_json({"shards": [_as_document(each) for each in found], "changed": changes})
    elif changes:
        added, removed = sum(each.added for each in found), sum(each.removed for each in found)
        echo(f"Added {added} periods and removed {removed} timestamps. Answers include them from now on.")


async def repair(client: Client, shard_keys: ShardKeys, *, change: bool) -> Repair:
    """Find the periods of a shard's keys that its index lacks, and add them if `change`. Raises RedisError."""
    found = Repair(shard_keys.shard)
    async with connect_to(client, shard_keys.position) as line:
        if isinstance(client, RedisCluster):
            await is_same_node(line, shard_keys.position)
        position = await line.call("GET", shard_keys.position)
        if position is not None and int(position) == fields.RESTORING:
            found.unfit = "is being restored; repair it afterwards"
            return found
        expiries, days = await _periods(line, shard_keys)
        found.periods = await _missing(line, shard_keys, expiries)
        if change:
            found.added = await _add(line, shard_keys, found.periods)
        await _times(line, shard_keys, days, found, change=change)
        if isinstance(client, RedisCluster):
            await is_same_node(line, shard_keys.position)
    return found


async def _periods(line: RedisConnection, shard_keys: ShardKeys) -> tuple[dict[str, float], list[str]]:
    """The earliest expiry of each period's keys, in seconds; and the days that have record timestamps."""
    expiries: dict[str, float] = {}
    days: list[str] = []
    async for some in names(line, shard_keys.base):
        keyed = []
        for name in map(bytes.decode, some):
            if (period := shard_keys.period_of(name)) is not None:
                keyed.append((name, period))
            elif (day := shard_keys.day_written(name)) is not None:
                days.append(day)
        expire = await line.pipe([("PEXPIRETIME", name) for name, _ in keyed]) if keyed else []
        for (_, period), at_ms in zip(keyed, expire, strict=True):
            if at_ms >= NO_EXPIRY:  # otherwise the key expired meanwhile
                at = NEVER if at_ms == NO_EXPIRY else float(at_ms // 1000)
                # Keys differ after a change of RETAIN_DAYS. The earliest expiry hides a period before it is incomplete.
                expiries[period] = min(at, expiries.get(period, NEVER))
    return expiries, days


async def _missing(line: RedisConnection, shard_keys: ShardKeys, expiries: dict[str, float]) -> dict[str, float]:
    missing: dict[str, float] = {}
    periods = sorted(expiries)
    for first in range(0, len(periods), AT_ONCE):
        some = periods[first : first + AT_ONCE]
        scores = await line.call("ZMSCORE", shard_keys.index, *some)
        for period, score in zip(some, scores, strict=True):
            if score is None or float(score) > expiries[period]:
                missing[period] = expiries[period]
    return missing


async def _add(line: RedisConnection, shard_keys: ShardKeys, periods: dict[str, float]) -> int:
    """Add periods or shorten their expiry; never lengthen one that a worker has written meanwhile."""
    added, rows = 0, list(periods.items())
    if rows:
        # First: what the api merged under the old epoch must not be used for a period that returns.
        await line.call("HSET", shard_keys.changes, changes.EPOCH, changes.new_token())
    for first in range(0, len(rows), AT_ONCE):
        flat = [part for period, at in rows[first : first + AT_ONCE] for part in (_score(at), period)]
        added += await line.call("ZADD", shard_keys.index, "LT", "CH", *flat)
    return added


async def _times(line: RedisConnection, shard_keys: ShardKeys, days: list[str], found: Repair, *, change: bool) -> None:
    what = "remove" if change else "find"
    hashes = {"progress": (shard_keys.progress, fields.FIRST_RECORD, fields.LAST_RECORD)}
    hashes |= {f"written:{day}": (shard_keys.record_times(day), fields.FIRST, fields.LAST) for day in sorted(days)}
    asked = list(hashes.items())
    for first in range(0, len(asked), AT_ONCE):
        some = asked[first : first + AT_ONCE]
        commands = [("EVAL", UNUSABLE, 1, key, EARLIEST_MS, AHEAD_MS, what, *checked) for _, (key, *checked) in some]
        replies = await line.pipe(commands)
        for (short, _), flat in zip(some, replies, strict=True):
            for name, value in zip(flat[::2], flat[1::2], strict=True):
                found.times[f"{short} {name.decode()}"] = int(value)
                found.removed += change


def _score(at: float) -> str:
    return "+inf" if at == NEVER else str(int(at))


def _as_document(each: Repair) -> dict[str, Any]:
    return {
        "topic": each.shard.topic,
        "partition": each.shard.partition,
        "unfit": each.unfit or None,
        "periods": {period: None if at == NEVER else int(at) for period, at in each.periods.items()},
        "times": each.times,
        "added": each.added,
        "removed": each.removed,
    }


def _show(found: list[Repair]) -> None:
    rows: list[tuple[object, ...]] = []
    for each in found:
        if each.unfit:
            rows.append((*each.shard, "", each.unfit))
        for period, at in each.periods.items():
            until = "forever" if at == NEVER else f"until {datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"
            rows.append((*each.shard, period, f"would be in the index {until}"))
        for name, at_ms in each.times.items():
            rows.append((*each.shard, name, f"would be removed: {at_ms} ms is not between 2000 and tomorrow"))
    if rows:
        show_table(("topic", "partition", "period or field", ""), rows)
    else:
        echo("Nothing to repair: every period that has keys is in its shard's index.")
