"""Record batches as bytes, and a producer that sends them as they are: no client of a user's checks them first."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

from schemas.ledger.keys import Shard

_LENGTH, _CRC, _ATTRIBUTES, _RECORD_COUNT, _RECORDS, _FIRST_DELTA = 8, 17, 21, 57, 61, 65
"""Where these fields of a batch's header begin (Kafka's protocol, record batch of magic 2)."""

Headers = Sequence[tuple[str, bytes | None]]


class Written(NamedTuple):
    """One record of a batch."""

    value: bytes | None
    key: bytes | None = None
    headers: Headers = ()
    timestamp_ms: int = 1_790_000_000_000


def batch(*records: Written, codec: int = 0, base_offset: int = 0) -> bytes:
    """A batch as a producer writes it."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=codec,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1 << 20,
    )
    for offset, record in enumerate(records):
        builder.append(offset, record.timestamp_ms, record.key, record.value, list(record.headers))
    written = bytearray(builder.build())
    # No checksum covers the base offset: brokers fill it in.
    written[:8] = base_offset.to_bytes(8, "big")
    return bytes(written)


def with_crc(written: bytes) -> bytes:
    """The batch with the checksum that its bytes have now."""
    patched = bytearray(written)
    struct.pack_into(">I", patched, _CRC, calc_crc32c(bytes(patched[_ATTRIBUTES:])))
    return bytes(patched)


def replaced(written: bytes, old: bytes, new: bytes) -> bytes:
    """The batch with other bytes of the same length in the place of some, and the right checksum."""
    assert len(old) == len(new), "lengths are written in front of what they count"
    assert old in written
    return with_crc(written.replace(old, new))


def with_codec(written: bytes, codec: int) -> bytes:
    """The batch with a codec named in its attributes that its records are not compressed with."""
    patched = bytearray(written)
    patched[_ATTRIBUTES + 1] = patched[_ATTRIBUTES + 1] & ~0x07 | codec
    return with_crc(bytes(patched))


def compressed(written: bytes, codec: int, encode: Callable[[bytes], bytes]) -> bytes:
    """The batch, which must not be compressed, with its records compressed by `encode`."""
    body = encode(written[_RECORDS:])
    patched = bytearray(written[:_RECORDS] + body)
    struct.pack_into(">i", patched, _LENGTH, len(patched) - _LENGTH - 4)
    return with_codec(bytes(patched), codec)


def with_count(written: bytes, count: int) -> bytes:
    """The batch with another number of records in its header."""
    patched = bytearray(written)
    struct.pack_into(">i", patched, _RECORD_COUNT, count)
    return with_crc(bytes(patched))


def with_offset_delta(written: bytes, delta: int) -> bytes:
    """The batch with another offset delta, of one byte, in its first record; that must be one of 64 bytes or more."""
    patched = bytearray(written)
    assert patched[_FIRST_DELTA] == 0, "the first record's"
    patched[_FIRST_DELTA] = delta << 1 if delta >= 0 else (-delta << 1) - 1
    return with_crc(bytes(patched))


def with_wrong_crc(written: bytes) -> bytes:
    """The batch with a bit of its last byte turned, under the old checksum."""
    return written[:-1] + bytes([written[-1] ^ 1])


class _Raw:
    """Stands where aiokafka's accumulator expects a batch builder."""

    def __init__(self, written: bytes) -> None:
        self._written = written

    def record_count(self) -> int:
        return 1

    def size(self) -> int:
        return len(self._written)

    def closed(self) -> bool:
        return True

    def close(self) -> None:
        """It is."""

    def _build(self) -> bytearray:
        return bytearray(self._written)


def produce(bootstrap: str, shard: Shard, *batches: bytes) -> list[int]:
    """Send each batch by itself. Returns their first offsets; raises KafkaError when the broker refuses one."""

    async def send() -> list[int]:
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=False)
        await producer.start()
        try:
            return [await _sent(producer, shard, written) for written in batches]
        finally:
            await producer.stop()

    return asyncio.run(send())


async def _sent(producer: Any, shard: Shard, written: bytes) -> int:
    future = await producer.send_batch(_Raw(written), shard.topic, partition=shard.partition)
    return int((await future).offset)
