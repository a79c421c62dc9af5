"""The compression codecs of Kafka that this installation can read, each with a bound on what comes out.

aiokafka decompresses whatever a batch holds. A batch of 1 MB may grow to gigabytes, or, in snappy's block format, name
a block of negative length, which aiokafka reads for ever. The decoders here raise CorruptRecordException instead.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any, Final

import cramjam
from aiokafka import codec
from aiokafka.errors import CorruptRecordException
from aiokafka.record import default_records, legacy_records
from aiokafka.record._crecords import default_records as c_default_records
from aiokafka.record._crecords import legacy_records as c_legacy_records

CODECS: Final[Mapping[str, Callable[[], bool]]] = {
    "gzip": codec.has_gzip,
    "snappy": codec.has_snappy,
    "lz4": codec.has_lz4,
    "zstd": codec.has_zstd,
}
"""Every codec that a producer may choose, by its name in a topic's `compression.type`, and whether it is installed."""

MOST_BYTES: Final = 64 * 1024 * 1024
MOST_TIMES: Final = 32
"""A batch may grow to the larger of MOST_BYTES and so many times its size; log lines of events grow 5 to 30 times."""
_XERIAL_HEADER_BYTES: Final = 16


def missing() -> list[str]:
    """The codecs whose batches the worker cannot read."""
    return [name for name, installed in CODECS.items() if not installed()]


def bound(compressed: int) -> int:
    """The most bytes that so many compressed ones may grow to."""
    return max(MOST_BYTES, MOST_TIMES * compressed)


def _into_buffer(decompress_into: Callable[[Any, Any], int]) -> Callable[[Any], bytes]:
    def decode(payload: Any) -> bytes:
        # Pages of the buffer that nothing is written to cost nothing.
        out = bytearray(bound(len(payload)))
        try:
            size = decompress_into(payload, out)
        except cramjam.DecompressionError as error:
            raise CorruptRecordException("a batch that does not decompress, or grows too large") from error
        return bytes(memoryview(out)[:size])

    return decode


def snappy_decode(payload: Any) -> bytes:
    """One raw snappy block, or the xerial format: blocks that each follow their length."""
    view = memoryview(payload)
    blocks = [view]
    if codec._detect_xerial_stream(view):
        blocks, at = [], _XERIAL_HEADER_BYTES
        while at < len(view):
            if len(view) - at < 4:
                raise CorruptRecordException("a snappy block without its length")
            (size,) = struct.unpack_from(">i", view, at)
            if not 0 < size <= len(view) - at - 4:
                raise CorruptRecordException("a snappy block of an impossible length")
            blocks.append(view[at + 4 : at + 4 + size])
            at += 4 + size
    try:
        if sum(map(cramjam.snappy.decompress_raw_len, blocks)) > bound(len(view)):
            raise CorruptRecordException("a batch that grows too large")
        return b"".join(bytes(cramjam.snappy.decompress_raw(block)) for block in blocks)
    except cramjam.DecompressionError as error:
        raise CorruptRecordException("a batch that does not decompress") from error


DECODERS: Final[Mapping[str, Callable[[Any], bytes]]] = {
    "gzip_decode": _into_buffer(cramjam.gzip.decompress_into),
    "snappy_decode": snappy_decode,
    "lz4_decode": _into_buffer(cramjam.lz4.decompress_into),
    "zstd_decode": _into_buffer(cramjam.zstd.decompress_into),
}


def install() -> None:
    """Have aiokafka's parsers, in C and in Python, use these decoders."""
    for parser in (default_records, c_default_records, legacy_records, c_legacy_records):
        for name, decode in DECODERS.items():
            if hasattr(parser, name):
                setattr(parser, name, decode)
