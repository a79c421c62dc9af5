"""How aiokafka is made to hand out fetched batches in one piece, where it would look at each record on its way."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from operator import attrgetter
from typing import Any, Final, NamedTuple, cast

from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.memory_records import MemoryRecords

from aggregator.kafka.lenient_batches import lenient_records, offsets_rise

MAX_RANGE_RECORDS: Final = 16_384
"""Records of a partition handed out at once: batches are added until there are so many."""
OVERHEAD: Final = struct.calcsize(">qi")
"""Base offset and length, which lead every batch."""

_offset = attrgetter("offset")


class Unreadable(NamedTuple):
    """A batch that no parser can read."""

    offset: int
    """The position that cannot be read."""
    beyond: int
    """The first offset after the batch, as far as its header can be trusted; at least the offset after `offset`."""
    error: str
    """The type of the error. Its text may repeat bytes of the batch."""


class RecordBatch(list[Any]):
    """The records of one batch, standing where aiokafka expects one record."""

    @property
    def offset(self) -> int:
        return cast(int, self[-1].offset)


class WholeBatch:
    """A fetched batch that is read in one piece. Whatever else aiokafka asks of it, the batch itself answers."""

    def __init__(self, batch: Any, written: memoryview) -> None:
        self._batch = batch
        self._written = written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[RecordBatch]:
        """Raises what aiokafka's parsers raise for a batch that cannot be read."""
        try:
            records = RecordBatch(self._batch)
        except (UnicodeDecodeError, CorruptRecordException):
            records = RecordBatch(lenient_records(self._written))
        else:
            if not self._in_order(records):
                records = RecordBatch(lenient_records(self._written))
        if records:
            yield records

    def _in_order(self, records: list[Any]) -> bool:
        # Batches of an old format have neither bound in a header, and are checked by the broker.
        first = getattr(self._batch, "base_offset", None)
        return first is None or offsets_rise(list(map(_offset, records)), first, self._batch.next_offset)


class WholeBatches:
    """What a broker sent of a partition; stands where aiokafka makes its MemoryRecords."""

    def __init__(self, written: bytes) -> None:
        self._written = memoryview(written)
        self._at = 0
        self._fetched = MemoryRecords(written)
        # aiokafka would skip the offset of a first batch that did not come whole, and end the consumer.
        self._cut_short = bool(written) and not self._fetched.has_next()

    def has_next(self) -> bool:
        return self._cut_short or bool(self._fetched.has_next())

    def size_in_bytes(self) -> int:
        return len(self._written)

    def next_batch(self) -> WholeBatch:
        """Raises CorruptRecordException."""
        if self._cut_short:
            raise CorruptRecordException("a batch that ends before its length")
        batch, start = self._fetched.next_batch(), self._at
        self._at += OVERHEAD + cast(int, struct.unpack_from(">i", self._written, start + OVERHEAD - 4)[0])
        return WholeBatch(batch, self._written[start : self._at])

    def beyond(self) -> int | None:
        """The offset after the last batch handed out, by the header of the one that follows; None if none does."""
        if len(self._written) - self._at < OVERHEAD:
            return None
        return cast(int, struct.unpack_from(">q", self._written, self._at)[0])


class BatchRecords(fetcher.PartitionRecords):  # type: ignore[misc]
    """Hands out what was fetched of a partition batch by batch, in aiokafka's own decoded records.

    Which batches count (checksums, aborted transactions, control batches) stays aiokafka's affair. Its public
    ConsumerRecord, and looking at every record on its way, cost more than a quarter of the worker's time and say
    nothing more that is looked at. tests/aggregator/kafka/test_seams.py holds both ways against each other.
    """

    def _consumer_record(self, tp: Any, record: RecordBatch) -> RecordBatch:
        if record[0].offset >= self.next_fetch_offset:
            return record
        # A batch is sent whole, whichever of its records was asked for.
        return RecordBatch(one for one in record if one.offset >= self.next_fetch_offset)

    def beyond(self) -> int:
        """Where reading may go on after the batch that failed."""
        after = self._records.beyond()
        return max(cast(int, self.next_fetch_offset) + 1, after or 0)


class BatchFetchResult(fetcher.FetchResult):  # type: ignore[misc]
    """Hands out whole batches: as many as it takes to reach MAX_RANGE_RECORDS.

    At a batch that cannot be read it stops handing out, and stays: aiokafka fetches nothing more of the partition until
    it is sought or paused. An exception would lose what other partitions had just handed out.
    """

    _partition_records: BatchRecords | None
    unreadable: Unreadable | None = None

    def getall(self, max_records: int | None = None) -> list[Any]:
        taken: list[Any] = []
        if self.unreadable or not self.check_assignment(self._topic_partition) or not self.has_more():
            return taken
        records = cast(BatchRecords, self._partition_records)
        more = False
        try:
            for batch in records:
                taken += batch
                if len(taken) >= MAX_RANGE_RECORDS:
                    more = True
                    break
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 (what damaged bytes make a decompressor raise is anybody's guess)
            more = not taken
            if not taken:
                self.unreadable = Unreadable(records.next_fetch_offset, records.beyond(), type(error).__name__)
        self._update_position()
        if not more:
            # After a failure what came before it is handed out, and the batch is fetched once more.
            self._partition_records = None
        return taken
