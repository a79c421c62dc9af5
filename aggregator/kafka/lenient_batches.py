"""Batches that brokers accept and aiokafka rejects: header names that are not UTF-8, offsets that do not rise."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final, NamedTuple

from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchPy

# The version in C reads past the end of the buffer.
from aiokafka.record.util import decode_varint_py as varint

MAGIC_AT: Final = 16


class LenientRecord(NamedTuple):
    """One record, with the fields of aiokafka's that the worker reads."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    renamed: bool = False
    """Whether a header's name was not UTF-8: its bytes are now backslash escapes."""


class _LenientBatch(_DefaultRecordBatchPy):  # type: ignore[misc]
    """aiokafka's parser in Python, except for header names."""

    _pos: int

    def _read_msg(self, *_: Any) -> LenientRecord:
        length, at = varint(self._buffer, self._pos)
        end = at + length
        if not at < end <= len(self._buffer):
            raise CorruptRecordException("a record that is longer than its batch")
        ts_delta, at = varint(self._buffer, at + 1)
        offset_delta, at = varint(self._buffer, at)
        key, at = self._bytes(at, end)
        value, at = self._bytes(at, end)
        count, at = varint(self._buffer, at)
        headers: list[tuple[str, bytes | None]] = []
        renamed = False
        for _number in range(count):
            written, at = self._bytes(at, end)
            if written is None:
                raise CorruptRecordException("a header without a name")
            name = written.decode(errors="backslashreplace")
            renamed = renamed or name.encode() != written
            header, at = self._bytes(at, end)
            headers.append((name, header))
        if count < 0 or at != end:
            raise CorruptRecordException("a record of another length than it says")
        self._pos = end
        by_broker = self.timestamp_type == self.LOG_APPEND_TIME
        timestamp = self.max_timestamp if by_broker else self.first_timestamp + ts_delta
        offset = self.base_offset + offset_delta
        return LenientRecord(offset, timestamp, self.timestamp_type, key, value, headers, renamed)

    def _bytes(self, at: int, end: int) -> tuple[bytes | None, int]:
        length, at = varint(self._buffer, at)
        if length < 0:
            return None, at
        if at + length > end:
            raise CorruptRecordException("a field that is longer than its record")
        return bytes(self._buffer[at : at + length]), at + length


def lenient_records(written: memoryview) -> list[LenientRecord]:
    """The records of a batch; the same as aiokafka's if aiokafka can read it.

    Offsets that do not rise are replaced by consecutive ones from the batch's first, if its header counts as many
    records as offsets. Raises the errors of aiokafka's parser.
    """
    if len(written) <= MAGIC_AT or written[MAGIC_AT] < 2:
        raise CorruptRecordException("a batch of an old format")
    batch = _LenientBatch(written)
    records: list[LenientRecord] = list(batch)
    if offsets_rise([record.offset for record in records], batch.base_offset, batch.next_offset):
        return records
    if len(records) != batch.last_offset_delta + 1:
        raise CorruptRecordException("offsets that do not rise")
    return [record._replace(offset=offset) for offset, record in enumerate(records, batch.base_offset)]


def offsets_rise(offsets: list[int], first: int, end: int) -> bool:
    """Whether the offsets of a batch's records rise, inside the range `[first, end)` of its header.

    Brokers check neither in an uncompressed batch.
    """
    if not offsets:
        return True
    if offsets[0] < first or offsets[-1] >= end:
        return False
    # The usual case, no gaps, is compared without a Python instruction per record.
    if offsets[-1] - offsets[0] == len(offsets) - 1:
        return offsets == list(range(offsets[0], offsets[-1] + 1))
    return all(one < other for one, other in pairwise(offsets))
