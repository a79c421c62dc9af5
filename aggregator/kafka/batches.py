"""Whole batches from aiokafka, which would otherwise process each record on its own.

| here | in place of aiokafka's | content |
|---|---|---|
| WholeBatches | MemoryRecords | the bytes that a fetch returned for a partition, as WholeBatch |
| WholeBatch | a batch of it | yields one RecordBatch |
| RecordBatch | a record | the list of the batch's records |
| PartitionBatches | PartitionRecords | the decoded batches of a partition |
| BatchFetchResult | FetchResult | hands out batches up to the size of a range |
"""

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
"""Whole batches of a partition are handed out together until they have this many records."""
OVERHEAD: Final = struct.calcsize(">qi")
"""Bytes of base offset and length, the first fields of a batch."""

_offset = attrgetter("offset")


class Unreadable(NamedTuple):
    """A batch that cannot be parsed."""

    offset: int
    """The position that cannot be read."""
    beyond: int
    """The first offset after the batch, if its header is right; at least `offset` + 1."""
    error: str
    """The type of the error; its text may contain bytes of the batch."""


class RecordBatch(list[Any]):
    """The records of one batch; aiokafka treats it as one record."""

    @property
    def offset(self) -> int:
        return cast(int, self[-1].offset)


class WholeBatch:
    """A fetched batch that yields all its records at once; all else is delegated to aiokafka's batch."""

    def __init__(self, batch: Any, written: memoryview) -> None:
        self._batch = batch
        self._written = written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[RecordBatch]:
        """Raises the errors of aiokafka's parsers for a batch that cannot be read."""
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
        # Batches of an old format have no bounds in a header; the broker checks them.
        first = getattr(self._batch, "base_offset", None)
        return first is None or offsets_rise(list(map(_offset, records)), first, self._batch.next_offset)


class WholeBatches:
    """The bytes that a broker sent for a partition; replaces aiokafka's MemoryRecords."""

    def __init__(self, written: bytes) -> None:
        self._written = memoryview(written)
        self._at = 0
        self._fetched = MemoryRecords(written)
        # If the first batch is incomplete, aiokafka would skip an offset and stop the consumer.
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
        """The offset after the last batch handed out, from the next batch's header; None if none was fetched."""
        if len(self._written) - self._at < OVERHEAD:
            return None
        return cast(int, struct.unpack_from(">q", self._written, self._at)[0])


class PartitionBatches(fetcher.PartitionRecords):  # type: ignore[misc]
    """Hands out a partition's fetched records batch by batch, as aiokafka's internal decoded records.

    aiokafka still decides which batches count (checksums, aborted transactions, control batches). Its public
    ConsumerRecord and its work per record cost more than a quarter of the worker's time, and add no field that the
    worker reads. tests/aggregator/kafka/test_seams.py compares both.
    """

    def _consumer_record(self, tp: Any, record: RecordBatch) -> RecordBatch:
        if record[0].offset >= self.next_fetch_offset:
            return record
        # A broker sends a whole batch, even if the fetch begins in the middle of it.
        return RecordBatch(one for one in record if one.offset >= self.next_fetch_offset)

    def beyond(self) -> int:
        """The offset at which reading may continue after the batch that failed."""
        after = self._records.beyond()
        return max(cast(int, self.next_fetch_offset) + 1, after or 0)


class BatchFetchResult(fetcher.FetchResult):  # type: ignore[misc]
    """Hands out whole batches until MAX_RANGE_RECORDS is reached.

    At an unreadable batch it hands out nothing more and stays in place: aiokafka fetches nothing of the partition until
    a seek or pause. An exception would lose the records that other partitions have just handed out.
    """

    _partition_records: PartitionBatches | None
    unreadable: Unreadable | None = None

    def getall(self, max_records: int | None = None) -> list[Any]:
        taken: list[Any] = []
        if self.unreadable or not self.check_assignment(self._topic_partition) or not self.has_more():
            return taken
        records = cast(PartitionBatches, self._partition_records)
        more = False
        try:
            for batch in records:
                taken += batch
                if len(taken) >= MAX_RANGE_RECORDS:
                    more = True
                    break
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 (damaged bytes make decompressors raise any error)
            more = not taken
            if not taken:
                self.unreadable = Unreadable(records.next_fetch_offset, records.beyond(), type(error).__name__)
        self._update_position()
        if not more:
            # After a failure the batches before it are handed out, and the failed one is fetched again.
            self._partition_records = None
        return taken
