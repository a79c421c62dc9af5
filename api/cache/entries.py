"""A cache entry: packed figures with their times, and the bodies that this process has rendered from them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple, Protocol, runtime_checkable

import msgspec
from multidict import CIMultiDict

from api.turns import pause
from schemas.time.clock import Clock

CHECKSUM_BYTES: Final = 16
OVERHEAD_BYTES: Final = 512
"""Memory of an entry beside its key, figures and bodies."""

_ENCODER: Final = msgspec.msgpack.Encoder()


class Figures(NamedTuple):
    """Computed figures. A `partial` result soon changes: it lacks a period that was asked for, or is incomplete."""

    value: Any
    partial: bool = False


@runtime_checkable
class Pieced(Protocol):
    """Figures with many rows: a NamedTuple whose `pieces` are packed, rendered and sent one by one."""

    @property
    def pieces(self) -> Sequence[bytes]: ...

    def _replace(self, *, pieces: Sequence[bytes]) -> Any: ...


class ResponseBody(NamedTuple):
    """Figures rendered in one format. An iterator renders a piece at each step."""

    content: bytes | Iterator[bytes]
    content_type: str


class Body:
    """A rendered body with its ETag, and the headers of the current second."""

    __slots__ = ("content_type", "etag", "headers", "headers_second", "pieces", "size")

    def __init__(self, pieces: Sequence[bytes], content_type: str, etag: str) -> None:
        self.pieces = pieces
        self.size = sum(map(len, pieces))
        self.content_type = content_type
        self.etag = etag
        self.headers: CIMultiDict[str] = CIMultiDict()
        self.headers_second: int | None = None
        """The second for which `headers` were built."""

    @classmethod
    async def of(cls, rendered: ResponseBody) -> Body:
        """The body, rendered and hashed in turns: joined and hashed at once, 8 MB would take 20 ms."""
        content = (rendered.content,) if isinstance(rendered.content, bytes) else rendered.content
        # A strong ETag: equal bytes have equal ETags, in every process and after a restart.
        digest, pieces = hashlib.blake2b(digest_size=12), []
        for piece in content:
            if piece:
                digest.update(piece)
                pieces.append(piece)
            await pause()
        return cls(pieces, rendered.content_type, f'"{digest.hexdigest()}"')


class PackedFigures(NamedTuple):
    """Figures as MessagePack, and their pieces beside them: copied together, 6 MB would take 10 ms."""

    figures: bytes
    pieces: Sequence[bytes] = ()


class CacheEntry:
    """Cached figures. `computed_at` and `expires_at` are Unix seconds, `made_at` and `ends_at` are monotonic seconds.

    The figures stay packed: as Python objects they would need about ten times the memory.
    """

    __slots__ = ("bodies", "computed_at", "ends_at", "expires_at", "made_at", "packed", "partial", "pieces", "stale")

    def __init__(
        self, packed: PackedFigures, computed_at: float, expires_at: float, clock: Clock, *, partial: bool
    ) -> None:
        self.packed, self.pieces = packed
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
        found = _decoder(kind).decode(self.packed)
        return found._replace(pieces=self.pieces) if self.pieces else found

    def as_stale(self) -> CacheEntry:
        """A copy that is marked stale. It keeps the times of this entry, and shares its bodies."""
        stale = CacheEntry.__new__(CacheEntry)
        for name in self.__slots__:
            setattr(stale, name, getattr(self, name))
        stale.stale = True
        return stale

    @property
    def size(self) -> int:
        packed = len(self.packed) + sum(map(len, self.pieces))
        return OVERHEAD_BYTES + packed + sum(body.size for body in self.bodies.values())


class _Stored(msgspec.Struct, array_like=True):
    """An entry in the shared store."""

    computed_at: float
    expires_at: float
    partial: bool
    packed: bytes
    pieces: Sequence[bytes]


_STORED: Final = msgspec.msgpack.Decoder(_Stored)


def pack_figures(value: Any) -> PackedFigures:
    if isinstance(value, Pieced) and value.pieces:
        return PackedFigures(_ENCODER.encode(value._replace(pieces=())), value.pieces)
    return PackedFigures(_ENCODER.encode(value))


def pack_entry(name: str, entry: CacheEntry) -> bytes:
    """The entry for the shared store, after a checksum that covers the name of its key."""
    stored = _ENCODER.encode(_Stored(entry.computed_at, entry.expires_at, entry.partial, entry.packed, entry.pieces))
    return _checksum(name, stored) + stored


def unpack_entry(name: str, value: bytes, clock: Clock) -> CacheEntry:
    """Raises ValueError for a value that is damaged, or was not written under this name."""
    checksum, stored = value[:CHECKSUM_BYTES], value[CHECKSUM_BYTES:]
    if checksum != _checksum(name, stored):
        raise ValueError("the checksum differs")
    found = _STORED.decode(stored)
    packed = PackedFigures(found.packed, found.pieces)
    return CacheEntry(packed, found.computed_at, found.expires_at, clock, partial=found.partial)


def _checksum(name: str, stored: bytes) -> bytes:
    return hashlib.blake2b(stored, digest_size=CHECKSUM_BYTES, key=name.encode()[-64:]).digest()


@lru_cache(maxsize=64)
def _decoder(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(kind)
