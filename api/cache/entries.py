"""A cache entry: packed figures with their times, and the bodies that this process has rendered from them."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec
from multidict import CIMultiDict

from schemas.time.clock import Clock

CHECKSUM_BYTES: Final = 16
OVERHEAD_BYTES: Final = 512
"""Memory of an entry beside its key, figures and bodies."""

_ENCODER: Final = msgspec.msgpack.Encoder()


class Figures(NamedTuple):
    """Computed figures. A `partial` result soon changes: it lacks a period that was asked for, or is incomplete."""

    value: Any
    partial: bool = False


class ResponseBody(NamedTuple):
    """Figures rendered in one format."""

    content: bytes
    content_type: str


class Body:
    """A rendered body with its ETag, and the headers of the current second."""

    __slots__ = ("content", "content_type", "etag", "headers", "headers_second")

    def __init__(self, rendered: ResponseBody) -> None:
        self.content, self.content_type = rendered
        # A strong ETag: equal bytes have equal ETags, in every process and after a restart.
        self.etag = f'"{hashlib.blake2b(self.content, digest_size=12).hexdigest()}"'
        self.headers: CIMultiDict[str] = CIMultiDict()
        self.headers_second: int | None = None
        """The second for which `headers` were built."""


class CacheEntry:
    """Cached figures. `computed_at` and `expires_at` are Unix seconds, `made_at` and `ends_at` are monotonic seconds.

    The figures stay packed: as Python objects they would need about ten times the memory.
    """

    __slots__ = ("bodies", "computed_at", "ends_at", "expires_at", "made_at", "packed", "partial", "stale")

    def __init__(self, packed: bytes, computed_at: float, expires_at: float, clock: Clock, *, partial: bool) -> None:
        self.packed = packed
        self.computed_at = computed_at
        self.expires_at = expires_at
        self.partial = partial
        # Another process's clock may differ, and ours may have been set back, so an age is never negative.
        age_s = max(0.0, clock.now() - computed_at)
        self.made_at = clock.monotonic() - age_s
        self.ends_at = self.made_at + (expires_at - computed_at)
        self.stale = False
        """Expired, and served because no newer figures can be computed."""
        self.bodies: dict[str, Body] = {}
        """By format. They follow from the figures, so they are never shared with other processes."""

    def figures(self, kind: Any) -> Any:
        """The figures as `kind`. Raises msgspec.DecodeError."""
        return _decoder(kind).decode(self.packed)

    def as_stale(self) -> CacheEntry:
        """A copy that is marked stale. It keeps the times of this entry, and shares its bodies."""
        stale = CacheEntry.__new__(CacheEntry)
        for name in self.__slots__:
            setattr(stale, name, getattr(self, name))
        stale.stale = True
        return stale

    @property
    def size(self) -> int:
        return OVERHEAD_BYTES + len(self.packed) + sum(len(body.content) for body in self.bodies.values())


class _Stored(msgspec.Struct, array_like=True):
    """An entry in the shared store."""

    computed_at: float
    expires_at: float
    partial: bool
    packed: bytes


_STORED: Final = msgspec.msgpack.Decoder(_Stored)


def pack_figures(value: Any) -> bytes:
    return _ENCODER.encode(value)


def pack_entry(name: str, entry: CacheEntry) -> bytes:
    """The entry for the shared store, after a checksum that covers the name of its key."""
    stored = _ENCODER.encode(_Stored(entry.computed_at, entry.expires_at, entry.partial, entry.packed))
    return _checksum(name, stored) + stored


def unpack_entry(name: str, value: bytes, clock: Clock) -> CacheEntry:
    """Raises ValueError for a value that is damaged, or was not written under this name."""
    checksum, stored = value[:CHECKSUM_BYTES], value[CHECKSUM_BYTES:]
    if checksum != _checksum(name, stored):
        raise ValueError("the checksum differs")
    found = _STORED.decode(stored)
    return CacheEntry(found.packed, found.computed_at, found.expires_at, clock, partial=found.partial)


def _checksum(name: str, stored: bytes) -> bytes:
    return hashlib.blake2b(stored, digest_size=CHECKSUM_BYTES, key=name.encode()[-64:]).digest()


@lru_cache(maxsize=64)
def _decoder(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(kind)
