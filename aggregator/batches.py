"""How aiokafka is made to hand out fetched batches in one piece, where it would look at each record on its way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, cast

from aiokafka.consumer import fetcher

MAX_RANGE_RECORDS: Final = 16_384
"""Records of a partition handed out at once: batches are added until there are so many."""


class Several(list[Any]):
    """The records of one batch, standing where aiokafka expects one record."""

    @property
    def offset(self) -> int:
        return cast(int, self[-1].offset)


class Batch:
    """A fetched batch that is read in one piece. Whatever else aiokafka asks of it, the batch itself answers."""

    def __init__(self, batch: Any) -> None:
        self._batch = batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Several]:
        records = Several(self._batch)
        if records:
            yield records


class Batches:
    """What a broker sent of a partition."""

    def __init__(self, fetched: Any) -> None:
        self._fetched = fetched
        self.has_next = fetched.has_next

    def next_batch(self) -> Batch:
        return Batch(self._fetched.next_batch())


class Records(fetcher.PartitionRecords):  # type: ignore[misc]
    """Hands out what was fetched of a partition batch by batch, in aiokafka's own decoded records.

    Which batches count (checksums, aborted transactions, control batches) stays aiokafka's affair. Its public
    ConsumerRecord, and looking at every record on its way, cost more than a quarter of the worker's time and say
    nothing more that is looked at. tests/aggregator/test_seams.py holds both ways against each other.
    """

    def __init__(self, tp: Any, fetched: Any, *more: Any) -> None:
        super().__init__(tp, Batches(fetched), *more)

    def _consumer_record(self, tp: Any, record: Several) -> Several:
        if record[0].offset >= self.next_fetch_offset:
            return record
        # A batch is sent whole, whichever of its records was asked for.
        return Several(one for one in record if one.offset >= self.next_fetch_offset)


class Fetched(fetcher.FetchResult):  # type: ignore[misc]
    """Hands out whole batches: as many as it takes to reach MAX_RANGE_RECORDS."""

    _partition_records: Records | None

    def getall(self, max_records: int | None = None) -> list[Any]:
        taken: list[Any] = []
        if not self.check_assignment(self._topic_partition) or not self.has_more():
            return taken
        more = False
        for batch in self._partition_records or ():
            taken += batch
            if len(taken) >= MAX_RANGE_RECORDS:
                more = True
                break
        self._update_position()
        if not more:
            self._partition_records = None
        return taken
