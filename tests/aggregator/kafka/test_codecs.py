"""Compressed batches: read as aiokafka reads them, and refused when they grow too large or never end."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import cramjam
import pytest
from aiokafka import codec
from aiokafka.errors import CorruptRecordException
from aiokafka.record import default_records, legacy_records
from aiokafka.record._crecords import default_records as c_default_records
from aiokafka.record._crecords import legacy_records as c_legacy_records
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from aggregator.kafka import codecs

ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": codec.gzip_encode,
    "snappy": codec.snappy_encode,
    "lz4": codec.lz4_encode,
    "zstd": codec.zstd_encode,
}
KAFKA_CODES = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
PARSERS = (default_records, c_default_records, legacy_records, c_legacy_records)
TEXT = b'{"time":"2026-11-20T10:00:00Z","user_id":"alice"}' * 1000
XERIAL = codec.snappy_encode(b"x")[:16]


@pytest.fixture(autouse=True)
def decoders_as_they_were() -> Iterator[None]:
    before = [(parser, dict(vars(parser))) for parser in PARSERS]
    yield
    for parser, names in before:
        for name in codecs.DECODERS:
            if name in names:
                setattr(parser, name, names[name])


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("text", [b"x", TEXT, TEXT * 40], ids=["a byte", "49 KB", "2 MB"])
def test_what_was_compressed_comes_back(name: str, text: bytes) -> None:
    assert codecs.DECODERS[f"{name}_decode"](memoryview(ENCODERS[name](text))) == text


def test_snappy_without_the_block_format_is_read() -> None:
    assert codecs.snappy_decode(codec.snappy_encode(TEXT, xerial_compatible=False)) == TEXT


@pytest.mark.parametrize("name", ENCODERS)
def test_a_batch_that_grows_too_large_is_refused_and_takes_no_memory(name: str) -> None:
    bomb = ENCODERS[name](bytes(codecs.MOST_BYTES + 1))
    assert codecs.MOST_TIMES * len(bomb) < codecs.MOST_BYTES * 2
    if name == "snappy":
        # It shrinks to a twentieth at most, so only a block that lies about its size can be a bomb.
        bomb = _varint(2**32 - 1) + bytes(cramjam.snappy.compress_raw(b"x"))[1:]
    with pytest.raises(CorruptRecordException, match="grows too large"):
        codecs.DECODERS[f"{name}_decode"](bomb)


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (XERIAL + struct.pack(">i", -4), "a block of -4 bytes: aiokafka reads it forever"),
        (XERIAL + struct.pack(">i", 0), "an empty block"),
        (XERIAL + struct.pack(">i", 2**31 - 1) + b"xx", "a block longer than the batch"),
        (XERIAL + b"\x00\x00", "half a length"),
        (XERIAL + struct.pack(">i", 3) + b"\xff\xff\xff", "a block that is no snappy"),
        (b"\xff\xff\xff\xff\xff\xff", "no snappy at all"),
    ],
)
def test_snappy_that_cannot_be_read_is_refused(payload: bytes, why: str) -> None:
    with pytest.raises(CorruptRecordException):
        codecs.snappy_decode(payload)


@pytest.mark.parametrize("name", ["gzip", "lz4", "zstd"])
@pytest.mark.parametrize(
    "payload", [b"", b"x", b"\x1f\x8b\x08\x00", TEXT], ids=["empty", "a byte", "a beginning", "text"]
)
def test_what_is_not_compressed_is_refused(name: str, payload: bytes) -> None:
    with pytest.raises(CorruptRecordException):
        codecs.DECODERS[f"{name}_decode"](payload)


@pytest.mark.parametrize("name", KAFKA_CODES)
def test_aiokafkas_parser_uses_the_bounded_decoders(name: str) -> None:
    builder: Any = DefaultRecordBatchBuilder(2, KAFKA_CODES[name], 0, -1, -1, -1, 10_000_000)
    builder.append(0, 0, None, TEXT, [])
    batch = bytes(builder.build())
    used = []
    codecs.install()
    installed = getattr(c_default_records, f"{name}_decode")
    assert installed is codecs.DECODERS[f"{name}_decode"]

    def noted(payload: Any) -> bytes:
        used.append(name)
        return installed(payload)

    setattr(c_default_records, f"{name}_decode", noted)
    assert [record.value for record in DefaultRecordBatch(batch)] == [TEXT]
    assert used == [name]


def test_every_decoder_of_every_parser_is_replaced() -> None:
    codecs.install()
    for parser in PARSERS:
        for name in dir(parser):
            if name.endswith("_decode"):
                assert getattr(parser, name) is codecs.DECODERS[name], (parser, name)


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)
