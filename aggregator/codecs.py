"""The compression codecs of Kafka that this installation can read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from aiokafka import codec

CODECS: Final[Mapping[str, Callable[[], bool]]] = {
    "gzip": codec.has_gzip,
    "snappy": codec.has_snappy,
    "lz4": codec.has_lz4,
    "zstd": codec.has_zstd,
}
"""Every codec that a producer may choose, by its name in a topic's `compression.type`, and whether it is installed."""


def missing() -> list[str]:
    """The codecs whose batches the worker cannot read."""
    return [name for name, installed in CODECS.items() if not installed()]
