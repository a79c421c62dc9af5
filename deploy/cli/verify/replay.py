"""Replays a partition's log into a scratch ledger by the worker's code, up to a given position."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, cast

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from aggregator.clocks import StoreClocks
from aggregator.counting import RangeCounter
from aggregator.kafka.ranges import Range
from aggregator.ledger.ledger import Ledger
from aggregator.ledger.store import Client
from aggregator.settings import WorkerSettings
from deploy.cli.operations import PATIENCE_S, Log, consumer, headers_of, kafka_errors_as_usage
from schemas.ledger.keys import Shard

RECORDS: Final = 10_000
"""Records per read."""
UNREADABLE: Final = (KafkaError._BAD_MSG, KafkaError._BAD_COMPRESSION, KafkaError._NOT_IMPLEMENTED)
"""Errors of librdkafka for a batch that it cannot read."""


class ReplayError(Exception):
    """The log cannot be replayed up to the ledger's position; the text gives the reason."""


class KafkaRecord(NamedTuple):
    """The fields of a record that counting uses."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, Any]]


def _record(message: Any) -> KafkaRecord:
    _, timestamp_ms = message.timestamp()
    return KafkaRecord(message.offset(), timestamp_ms, message.key(), message.value(), headers_of(message) or ())


class LogReader:
    """Reads the committed records of partitions. Use it from one thread at a time."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._reader = consumer(settings)

    def seek(self, shard: Shard, offset: int) -> None:
        """Continue with this partition at `offset`."""
        self._reader.assign([TopicPartition(*shard, offset)])

    def first_since(self, shard: Shard, at_ms: int, log: Log) -> int:
        """The first offset with a record at or after `at_ms`; the log's end if there is none. Raises KafkaException."""
        (found,) = self._reader.offsets_for_times([TopicPartition(*shard, at_ms)], timeout=PATIENCE_S)
        if found.error is not None:
            raise KafkaException(found.error)
        return log.end if found.offset < 0 else max(int(found.offset), log.start)

    def read(self, shard: Shard, start: int, end: int) -> tuple[list[KafkaRecord], int]:
        """The next records below `end`, and the offset after them. Raises ReplayError, KafkaException."""
        records: list[KafkaRecord] = []
        silent = 0.0
        while silent < PATIENCE_S:
            messages = self._reader.consume(RECORDS, timeout=0.5)
            silent = 0.0 if messages else silent + 0.5
            for message in messages:
                error, offset = message.error(), message.offset()
                if error is None and offset < end:
                    records.append(_record(message))
                elif error is not None and error.code() != KafkaError._PARTITION_EOF:
                    if error.code() in (KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET):
                        raise ReplayError(f"{shard.tag}: Kafka no longer has offset {start}")
                    if error.code() in UNREADABLE:
                        raise ReplayError(f"{shard.tag}: the batch at offset {offset} cannot be read: {error.str()}")
                    raise KafkaException(error)
                # At the log's end, or at the last record below `end`: the offsets before `end` have no further record.
                if offset >= end or (error is None and offset + 1 == end):
                    return records, end
            if records:
                return records, records[-1].offset + 1
        raise ReplayError(f"{shard.tag}: Kafka returned no record after offset {start} for {PATIENCE_S:g} s")

    def close(self) -> None:
        self._reader.close()


class _Replaying:
    """Replaces the consumer, the assignment and the dead letters of a worker."""

    def is_current(self, _range: Range) -> bool:
        return True

    def applied(self, _range: Range, _end: int) -> None:
        pass

    async def is_same_log(self, _range: Range) -> bool:
        return True

    async def assign(self, _consumer: Any, shards: Sequence[Shard]) -> None:
        raise ReplayError(f"{shards[0].tag}: another process writes to the scratch store")

    async def stop_at_unexpected(self, _consumer: Any, shard: Shard, position: int, *_: int) -> None:
        raise ReplayError(f"{shard.tag}: this version cannot count the record at {position}, but the ledger did")

    async def stop_at_defect(self, _consumer: Any, shard: Shard, defect: Exception) -> None:
        raise ReplayError(f"{shard.tag}: the scratch store refuses a range: {defect}")

    async def send(self, _shard: Shard, _letters: Any, **_: Any) -> bool:
        """Send nothing: the worker has sent the dead letters already."""
        return True


class Replay:
    """Replays one shard at a time. `settings` are those of the scratch ledger."""

    def __init__(self, settings: WorkerSettings, client: Client) -> None:
        self._settings = settings
        self._ledger = Ledger(client, settings)
        self._parts: Any = _Replaying()
        self._log = LogReader(settings)

    async def run(self, shard: Shard, start: int, end: int, read: Callable[[Sequence[KafkaRecord], int], None]) -> None:
        """Count `[start, end)` into a ledger at position `start`. `read` gets the records and the offset after them.

        Raises ReplayError, click.ClickException.
        """
        counting = RangeCounter(self._settings, self._ledger, self._parts, self._parts, StoreClocks(self._ledger))
        try:
            self._log.seek(shard, start)
            while start < end:
                records, until = await asyncio.to_thread(self._log.read, shard, start, end)
                range_ = Range(shard, start, until, cast(list[Any], records), 0, 0.0)
                await counting.count(self._parts, range_)
                start = until
                read(records, start)
        except KafkaException as error:
            raise kafka_errors_as_usage(error, self._settings) from error
        finally:
            counting.forget(shard)

    def close(self) -> None:
        self._log.close()
