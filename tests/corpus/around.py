"""What may be around a value: key, headers, timestamp, codec; each with its why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Final, NamedTuple

Headers = Sequence[tuple[str, bytes | None]]
"""Bytes of a name that are not UTF-8 are surrogates, as `surrogateescape` makes them."""

HOUR_MS: Final = 3_600_000


class Key(NamedTuple):
    key: bytes | None
    why: str


class Named(NamedTuple):
    headers: Headers
    why: str


class Stamp(NamedTuple):
    why: str
    usable: bool
    """Whether the event may be judged by it."""
    ms: int = 0
    clocks: Fraction = Fraction(0)
    """How often the clock's milliseconds are added to `ms`."""


KEYS: Final[Mapping[str, Key]] = {
    "none": Key(None, "a producer without keys; with a tombstone nothing at all is left"),
    "empty": Key(b"", "a key of no bytes is not a missing one"),
    "text": Key(b"user-1", "the usual one"),
    "bytes": Key(bytes(range(256)), "Avro or a hash: no UTF-8"),
    "long": Key(b"k" * 10_000, "a whole document as the key"),
}
HEADERS: Final[Mapping[str, Named]] = {
    "none": Named((), "the usual ones"),
    "null value": Named((("trace", None), ("", None)), "Kafka allows a header without a value"),
    "empty name": Named((("", b"x"), ("", b"")), "Kafka allows a name of no characters"),
    "bytes": Named((("traceparent", b"\xff\xfe\0"), ("é\0", b"x")), "values are bytes, names any text"),
    "name of bytes": Named((("\udcff\udcfe\udcfd\udcfc", b"x"),), "a broker never reads names"),
    "many": Named(tuple((f"h{number}", b"x" * 100) for number in range(200)), "a header for each hop"),
    "CloudEvents nulls": Named(
        (("ce_specversion", None), ("ce_id", b""), ("ce_time", None), ("CE_type", b""), ("content-type", None)),
        "an attribute without a value is absent",
    ),
    "forged": Named(
        (
            ("authtally-reason", b"not_json"),
            ("authtally-topic", b"auth.logins"),
            ("authtally-partition", b"x"),
            ("authtally-offset", None),
            ("authtally-resent", b"auth.logins/0/0/0"),
        ),
        "the headers of our own dead letters, sent by somebody else",
    ),
}
TIMESTAMPS: Final[Mapping[str, Stamp]] = {
    "now": Stamp("the usual one", True, clocks=Fraction(1)),
    "ahead": Stamp("within the 24 h that are allowed", True, ms=23 * HOUR_MS, clocks=Fraction(1)),
    "2000": Stamp("the first usable millisecond", True, ms=946_684_800_000),
    "none": Stamp("-1: no timestamp, as old clients write it", False, ms=-1),
    "zero": Stamp("a field never set", False),
    "seconds": Stamp("another unit", False, clocks=Fraction(1, 1000)),
    "microseconds": Stamp("another unit", False, clocks=Fraction(1000)),
    "nanoseconds": Stamp("another unit", False, clocks=Fraction(1_000_000)),
    "1999": Stamp("the last millisecond that is not usable", False, ms=946_684_799_999),
    "two days": Stamp("beyond the 24 h that are allowed", False, ms=48 * HOUR_MS, clocks=Fraction(1)),
    "2100": Stamp("a broken clock; all days once disappeared by it", False, ms=4_102_444_800_000),
    "9999": Stamp("the last year of a date", False, ms=253_402_300_799_999),
    "2^62": Stamp("beyond any date", False, ms=2**62),
    "largest": Stamp("Java's Long.MAX_VALUE", False, ms=2**63 - 1),
    "smallest": Stamp("Java's Long.MIN_VALUE", False, ms=-(2**63)),
}
CODECS: Final = {
    "none": "nothing compressed",
    "gzip": "read with the standard library",
    "snappy": "needs a library",
    "lz4": "needs a library, with Kafka's framing",
    "zstd": "needs a library",
}


def timestamp_ms(stamp: Stamp, clock_ms: int) -> int:
    return stamp.ms + int(clock_ms * stamp.clocks)
