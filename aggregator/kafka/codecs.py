"""Kafka's compression codecs, with a limit on the decompressed size.

aiokafka has no limit: a batch of 1 MB may grow to gigabytes, and a negative length in snappy's block format makes it
loop forever. The decoders here raise CorruptRecordException instead.
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
"""By the name of each codec in a topic's `compression.type`: whether it is installed."""

MOST_BYTES: Final = 64 * 1024 * 1024
MOST_TIMES: Final = 32
"""A batch may grow to MOST_BYTES or MOST_TIMES its size, if that is more; log lines of events grow 5 to 30 times."""
_XERIAL_HEADER_BYTES: Final = 16


def missing() -> list[str]:
    """The codecs whose batches the worker cannot read."""
    return [name for name, installed in CODECS.items() if not installed()]


def bound(compressed: int) -> int:
    """The maximum decompressed size of `compressed` bytes."""
    return max(MOST_BYTES, MOST_TIMES * compressed)


def _into_buffer(decompress_into: Callable[[Any, Any], int]) -> Callable[[Any], bytes]:
    def decode(payload: Any) -> bytes:
        # Unwritten pages of the buffer use no memory.
        out = bytearray(bound(len(payload)))
        try:
            size = decompress_into(payload, out)
        except cramjam.DecompressionError as error:
            raise CorruptRecordException("a batch that does not decompress, or grows too large") from error
        return bytes(memoryview(out)[:size])

    return decode


def snappy_decode(payload: Any) -> bytes:
    """Decode one raw snappy block, or the xerial format: blocks with their lengths. Raises CorruptRecordException."""
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
    """Replace the decoders of aiokafka's parsers, in C and in Python."""
    for parser in (default_records, c_default_records, legacy_records, c_legacy_records):
        for name, decode in DECODERS.items():
            if hasattr(parser, name):
                setattr(parser, name, decode)
