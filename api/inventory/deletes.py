"""Deletes of inventory rows. A delete raises a watermark per realm and status: rows below it are no longer visible.

The worker only appends rows above every watermark and never reads them, so neither waits for the other. Memory is freed
once the watermarks of all statuses have passed it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date, datetime, time
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo

from api.inventory.inventory import Inventory, Stream, apply_watermarks
from api.inventory.maxima import years_of
from api.inventory.policy_history import RecordingHistory
from api.inventory.table import VisibleRows, table
from api.ledger.client import Command, chunks
from schemas.ledger import fields
from schemas.ledger.inventory import (
    COUNTED_STATUSES,
    DAY_BYTES,
    ROWS_PER_CHUNK,
    TOTAL_USERS,
    canonical_index,
    days,
    micros,
    spellings,
)

UNLINK_BATCH: Final = 500
EXTERNAL_BATCH: Final = 5_000
"""External rows deleted by one script."""

RAISE_WATERMARKS: Final = """
local before = redis.call('HGETALL', KEYS[1])
local held = {}
for place = 1, #before, 2 do held[before[place]] = tonumber(before[place + 1]) end
for place = 1, #ARGV, 2 do
  if tonumber(ARGV[place + 1]) > (held[ARGV[place]] or 0) then
    redis.call('HSET', KEYS[1], ARGV[place], ARGV[place + 1])
  end
end
return before
"""
"""Raises watermarks and returns the old ones, so that two concurrent deletes never both count a row."""

DELETE_EXTERNAL: Final = """
local bound, most = ARGV[1], tonumber(ARGV[3])
local count = redis.call('ZCOUNT', KEYS[1], '-inf', bound)
if count > most then
  return {redis.call('ZREMRANGEBYRANK', KEYS[1], 0, most - 1), 1}
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', bound)
if bound == '+inf' then
  redis.call('DEL', KEYS[2])
else
  for _, ordinal in ipairs(redis.call('HKEYS', KEYS[2])) do
    if tonumber(ordinal) < tonumber(ARGV[2]) then redis.call('HDEL', KEYS[2], ordinal) end
  end
end
return {count, 0}
"""
"""Deletes external rows before a midnight, and with the last of them the maxima of their days. Returns how many, and
whether there are more."""


async def delete(
    inventory: Inventory,
    streams: Sequence[Stream],
    history: RecordingHistory,
    statuses: frozenset[int],
    before: date | None,
    zone: ZoneInfo,
) -> int:
    """Delete the rows of `statuses` before a day, or all present rows. Returns the number of lines that were visible.

    `statuses` are indexes of WRITTEN_STATUSES. A pair is deleted by the spelling in which its realm records it.
    A second call deletes nothing more. A crash in between leaves memory that the next delete frees.
    """
    visible_table = await table(inventory, streams, history, statuses)
    visible = {(each.stream.shard.base, each.stream.number): each for each in visible_table.visible}
    own = [stream for stream in streams if stream.totals is not None]
    ends = [stream.rows for stream in own]
    bound, ordinal = "+inf", 0
    if before is not None:
        at_us = micros(datetime.combine(before, time(), zone))
        ends = await inventory.rows_before([(stream, at_us) for stream in own])
        bound, ordinal = f"({at_us}", before.toordinal()
    deleted = 0
    for batch in chunks(zip(own, ends, strict=True), 500):
        commands: list[Command] = []
        for stream, end in batch:
            passing = _passing(stream, history, statuses)
            arguments = [argument for status in passing for argument in (COUNTED_STATUSES[status], end)]
            commands.append(("EVAL", RAISE_WATERMARKS, 1, stream.shard.delete_watermarks(stream.number), *arguments))
        for (stream, end), held in zip(batch, await inventory.run(commands), strict=True):
            old = apply_watermarks(stream, dict(zip(held[::2], held[1::2], strict=True)))
            if (each := visible.get((stream.shard.base, stream.number))) is not None:
                deleted += _lines_between(each, old, statuses, end)
            watermarks = {
                status: max(old.delete_watermarks.get(status, 0), end) for status in _passing(stream, history, statuses)
            }
            await _free(
                inventory, old._replace(delete_watermarks={**old.delete_watermarks, **watermarks}), history, zone
            )
    for stream in streams:
        for status in stream.external_statuses:
            if status in statuses:
                deleted += await _delete_external(inventory, stream, status, bound, ordinal)
    return deleted


def _passing(stream: Stream, history: RecordingHistory, statuses: frozenset[int]) -> list[int]:
    """The statuses, as indexes of COUNTED_STATUSES, whose watermark a delete raises: recorded so, or not at all."""
    recorded = history.intervals(stream.realm)
    passing = []
    for status in range(len(COUNTED_STATUSES)):
        written = [each for each in spellings(status) if each in recorded] or [status]
        if not statuses.isdisjoint(written):
            passing.append(status)
    return passing


def _lines_between(visible: VisibleRows, old: Stream, statuses: Collection[int], end: int) -> int:
    """Number of visible lines from the old watermarks up to `end`."""
    lines = 0
    for first, stop, segment_statuses in visible.segments:
        for status in segment_statuses:
            if status in statuses:
                lines += max(0, min(stop, end) - max(first, old.delete_watermarks.get(canonical_index(status), 0)))
    return lines


async def _free(inventory: Inventory, stream: Stream, history: RecordingHistory, zone: ZoneInfo) -> None:
    """Delete the chunks that the watermarks of all statuses have passed, and the days of years without other rows.

    Only full chunks, which the worker never writes again.
    """
    passed = min((stream.delete_watermarks.get(status, 0) for status in _deletable(stream, history)), default=0)
    freed = passed // ROWS_PER_CHUNK
    if freed <= stream.freed:
        return
    shard, number = stream.shard, stream.number
    for batch in chunks(range(stream.freed, freed), UNLINK_BATCH):
        await inventory.run([("UNLINK", *(shard.rows(number, chunk) for chunk in batch))])
    years = list(years_of(stream, zone))
    first_days = await inventory.run([("GETRANGE", shard.days(number, year), 0, DAY_BYTES - 1) for year in years])
    firsts = [(year, next(days(packed)).first) for year, packed in zip(years, first_days, strict=True) if packed]
    if stream.totals is not None and (not firsts or firsts[-1][0] != years[-1]):
        # No day of the last year is over, so its first row is in the totals.
        firsts.append((years[-1], stream.totals.day_first))
    over = [year for (year, _), (_, following) in pairwise(firsts) if following <= passed]
    commands: list[Command] = [("UNLINK", shard.days(number, year)) for year in over]
    # Written last: after a crash before it, the next delete repeats the deletes without harm.
    commands.append(("EVAL", RAISE_WATERMARKS, 1, shard.delete_watermarks(number), fields.FREED_CHUNKS, freed))
    await inventory.run(commands)


def _deletable(stream: Stream, history: RecordingHistory) -> list[int]:
    """Every status, but users only if they were ever recorded, because LinOTP's `*` does not include them."""
    users = COUNTED_STATUSES.index(TOTAL_USERS)
    return [
        status for status in range(len(COUNTED_STATUSES)) if status != users or users in history.intervals(stream.realm)
    ]


async def _delete_external(inventory: Inventory, stream: Stream, status: int, bound: str, ordinal: int) -> int:
    shard, number = stream.shard, stream.number
    keys = shard.external_rows(number, status), shard.external_days(number, status)
    deleted, more = 0, True
    while more:
        command: Command = ("EVAL", DELETE_EXTERNAL, 2, *keys, bound, ordinal, EXTERNAL_BATCH)
        ((count, left),) = await inventory.run([command])
        deleted, more = deleted + count, bool(left)
    return deleted
