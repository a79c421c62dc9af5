"""All reads of the ledger's OTP token inventory, in pipelines of bounded size."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from api.ledger.client import Client, Command, chunks
from api.ledger.ledger_statistics import LedgerStatistics
from api.turns import pause
from schemas.ledger import fields
from schemas.ledger.inventory import (
    COUNTED_STATUSES,
    INVENTORY_BINDINGS,
    ROWS_PER_CHUNK,
    WRITTEN_STATUSES,
    RealmTotals,
    Row,
    row_of,
    row_times,
)
from schemas.ledger.keys import ShardKeys
from schemas.ledger.scopes import OTHER

MAX_COMMANDS: Final = 256
"""Most commands of one pipeline whose replies are chunks: 2 MB of replies."""


class RowsDeletedError(Exception):
    """Rows were deleted during the query. A new query succeeds."""


class Stream(NamedTuple):
    """A realm's rows in one shard."""

    shard: ShardKeys
    realm: str
    number: int
    totals: RealmTotals | None
    """None if the realm has only external rows."""
    external_statuses: tuple[int, ...]
    """The statuses with external rows, by their index in WRITTEN_STATUSES."""
    delete_watermarks: Mapping[int, int] = {}
    """By status, as its index in COUNTED_STATUSES: the first row that is not deleted."""
    freed: int = 0
    """Number of deleted chunks."""

    @property
    def rows(self) -> int:
        return 0 if self.totals is None else self.totals.rows


class Inventory:
    """Reads of the inventory. Every method raises one of api.ledger.client.UNREACHABLE if Redis does not answer."""

    def __init__(self, client: Client, statistics: LedgerStatistics) -> None:
        self._client = client
        self._statistics = statistics

    async def shards(self) -> list[ShardKeys]:
        shards = await self._statistics.shards()
        bound = await self.run([("HGET", shard.meta, "topics") for shard in shards])
        return [
            shard
            for shard, to in zip(shards, bound, strict=True)
            if to is not None and to.decode() in INVENTORY_BINDINGS
        ]

    async def streams(self) -> list[Stream]:
        """Every realm of every inventory, in order of name."""
        found = []
        for shard in await self.shards():
            commands: list[Command] = [("HGETALL", name) for name in (shard.realms, shard.totals, shard.reported)]
            realms, totals, reported = await self._client.run(commands)
            for realm, number in realms.items():
                packed, mask = totals.get(number), int(reported.get(number, 0))
                external = tuple(status for status in range(len(WRITTEN_STATUSES)) if mask >> status & 1)
                unpacked = None if packed is None else RealmTotals.unpack(packed)
                found.append(Stream(shard, realm.decode(), int(number), unpacked, external))
        return sorted(found, key=lambda stream: (stream.realm, stream.shard.base))

    async def with_watermarks(self, streams: Sequence[Stream]) -> list[Stream]:
        """The streams with their delete watermarks."""
        watermarks = await self.run([("HGETALL", stream.shard.delete_watermarks(stream.number)) for stream in streams])
        return [apply_watermarks(stream, held) for stream, held in zip(streams, watermarks, strict=True)]

    async def event_names(self, streams: Sequence[Stream]) -> dict[str, dict[int, str]]:
        """By a shard's `base`: event names by number."""
        shards = {stream.shard.base: stream.shard for stream in streams}
        replies = await self.run([("HGETALL", shard.event_names) for shard in shards.values()])
        return {
            base: {0: OTHER} | {int(number): name.decode() for name, number in names.items()}
            for base, names in zip(shards, replies, strict=True)
        }

    async def chunk_starts(self, streams: Sequence[Stream]) -> list[array[int]]:
        """The start times (µs) of each stream's chunks."""
        replies = await self.run([("GET", stream.shard.chunk_starts(stream.number)) for stream in streams])
        return [array("q", reply or b"") for reply in replies]

    async def chunks(self, wanted: Sequence[tuple[Stream, int]]) -> list[bytes]:
        """Chunks of rows; empty bytes for deleted chunks."""
        commands: list[Command] = [("GET", stream.shard.rows(stream.number, chunk)) for stream, chunk in wanted]
        return [reply or b"" for reply in await self.run(commands)]

    async def rows(self, wanted: Sequence[tuple[Stream, int]]) -> list[Row]:
        """Single rows by number. Raises RowsDeletedError."""
        found: list[Row] = []
        for batch in chunks(wanted, MAX_COMMANDS):
            held = await self.chunks([(stream, number // ROWS_PER_CHUNK) for stream, number in batch])
            for (_, number), chunk in zip(batch, held, strict=True):
                await pause()
                times, index = row_times(chunk), number % ROWS_PER_CHUNK
                if index >= len(times):
                    raise RowsDeletedError
                found.append(row_of(chunk, index, times[index]))
        return found

    async def rows_before(self, wanted: Sequence[tuple[Stream, int]]) -> list[int]:
        """For each stream and moment (µs), the number of rows before it, including deleted ones."""
        found = [0] * len(wanted)
        inside = []
        for index, (stream, at_us) in enumerate(wanted):
            if stream.totals is None or at_us <= stream.totals.first_us:
                continue
            if at_us > stream.totals.last_us:
                found[index] = stream.totals.rows
            else:
                inside.append(index)
        for batch in chunks(inside, MAX_COMMANDS):
            asked = [wanted[index] for index in batch]
            starts = await self.chunk_starts([stream for stream, _ in asked])
            cut = [bisect_left(times, at_us) - 1 for times, (_, at_us) in zip(starts, asked, strict=True)]
            held = await self.chunks([(stream, chunk) for (stream, _), chunk in zip(asked, cut, strict=True)])
            for index, (_, at_us), number, chunk in zip(batch, asked, cut, held, strict=True):
                # All rows of a missing chunk are deleted, so its end is as good.
                rows = bisect_left(row_times(chunk), at_us) if chunk else ROWS_PER_CHUNK
                found[index] = number * ROWS_PER_CHUNK + rows
        return found

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """Replies in order; the pipelines are small enough for chunks as replies."""
        return await self._statistics.run(commands, MAX_COMMANDS)


def apply_watermarks(stream: Stream, held: Mapping[bytes, bytes]) -> Stream:
    numbers = {name.decode(): int(value) for name, value in held.items()}
    freed = numbers.pop(fields.FREED_CHUNKS, 0)
    # Deleted chunks are deleted for every status.
    watermarks = dict.fromkeys(range(len(COUNTED_STATUSES)), freed * ROWS_PER_CHUNK)
    for name, watermark in numbers.items():
        status = COUNTED_STATUSES.index(name)
        watermarks[status] = max(watermarks[status], watermark)
    return stream._replace(delete_watermarks=watermarks, freed=freed)
