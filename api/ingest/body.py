"""A request's body, unpacked, and never more of it than there is room for."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Final, Self

from aiohttp import ClientPayloadError, hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from api.ingest.errors import (
    ACCEPTED_ENCODINGS,
    BadBodyError,
    BodyTimeoutError,
    BusyError,
    TooLargeError,
    UnsupportedMediaError,
)
from api.metrics import INGEST_IN_FLIGHT_BYTES
from schemas.settings import PREFIX

BODY_TIMEOUT_S: Final = 15.0
"""For a whole body to arrive."""
PIECE_BYTES: Final = 65_536
"""Of what a packed body unpacks to, at a time: however small it was, no more than this lies beside the limit."""
MAX_MEMBERS: Final = 1_000
"""Of a gzip body: empty ones take twenty bytes each, and far more time than that."""
GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS
COMPRESSED_ENCODINGS: Final = frozenset({"gzip", "x-gzip", "deflate"})


class InFlightBytes:
    """Bytes of bodies that this process holds at the same time, from their first byte until Kafka has their events."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._reserved = 0

    def reserve(self, size: int) -> bool:
        if self._reserved + size > self._limit:
            return False
        self._reserved += size
        INGEST_IN_FLIGHT_BYTES.set(self._reserved)
        return True

    def release(self, size: int) -> None:
        self._reserved -= size
        INGEST_IN_FLIGHT_BYTES.set(self._reserved)


class BoundedBody:
    """One request's share of the room; given back when its `with` block ends."""

    def __init__(self, in_flight: InFlightBytes, limit: int) -> None:
        self._in_flight = in_flight
        self._limit = limit
        self._held = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._in_flight.release(self._held)
        self._held = 0

    async def read(self, request: web.Request) -> bytes:
        """All of it, unpacked.

        Raises TooLargeError, BusyError, BodyTimeoutError, BadBodyError, UnsupportedMediaError.
        """
        encoding = request.headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower()
        if encoding not in COMPRESSED_ENCODINGS and encoding != "identity":
            raise UnsupportedMediaError(f"Content-Encoding must be one of {ACCEPTED_ENCODINGS}.")
        if (request.content_length or 0) > self._limit:
            raise self._too_large()
        if encoding == "identity" and request.content.is_eof():
            # Small ones come with their head.
            body = request.content.read_nowait()
            self._hold(len(body))
            return body
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                if encoding == "identity":
                    return await self._plain(request)
                return await self._unpacked(request)
        except TimeoutError as error:
            raise BodyTimeoutError(f"The body did not arrive within {BODY_TIMEOUT_S:g} s.") from error
        except zlib.error as error:
            raise BadBodyError(f"The body is not {encoding}, as Content-Encoding says it is.") from error
        except (ClientPayloadError, HttpProcessingError, ConnectionError) as error:
            raise BadBodyError("The body did not arrive whole.") from error

    async def _plain(self, request: web.Request) -> bytes:
        pieces = []
        async for piece in request.content.iter_any():
            self._hold(len(piece))
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _unpacked(self, request: web.Request) -> bytes:
        decompressor = _Decompressor()
        body = bytearray()
        async for piece in _pieces(request, decompressor):
            self._hold(len(piece))
            body += piece
        if not decompressor.ended:
            raise BadBodyError("The packed body ends too early.")
        return bytes(body)

    def _hold(self, size: int) -> None:
        if self._held + size > self._limit:
            raise self._too_large()
        if not self._in_flight.reserve(size):
            raise BusyError("Too many events are on their way to Kafka. Send this body again later.", wait_s=1)
        self._held += size

    def _too_large(self) -> TooLargeError:
        return TooLargeError(
            f"The body is larger than {self._limit} bytes ({PREFIX}INGEST_MAX_BYTES). Send smaller ones."
        )


async def _pieces(request: web.Request, decompressor: _Decompressor) -> AsyncIterator[bytes]:
    async for packed in request.content.iter_any():
        for piece in decompressor.pieces(packed):
            yield piece


class _Decompressor:
    """gzip, one member after another as `cat` joins them; or zlib, which HTTP calls deflate."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(GZIP_OR_ZLIB)
        self._members = 1
        self.ended = False

    def pieces(self, packed: bytes) -> Iterator[bytes]:
        """At most PIECE_BYTES each. Raises zlib.error, BadBodyError."""
        while packed:
            if self.ended:
                self._members += 1
                if self._members > MAX_MEMBERS:
                    raise BadBodyError(f"The packed body has more than {MAX_MEMBERS} members.")
                self._member, self.ended = zlib.decompressobj(GZIP_OR_ZLIB), False
            piece = self._member.decompress(packed, PIECE_BYTES)
            self.ended = self._member.eof
            packed = self._member.unused_data if self.ended else self._member.unconsumed_tail
            if piece:
                yield piece
