"""Reads and decompresses a request's body within the limits of body size and memory."""

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
"""The time in which a whole body must arrive."""
PIECE_BYTES: Final = 65_536
"""Decompressed bytes per step, and so the most that a compression bomb can add to the limit."""
MAX_MEMBERS: Final = 1_000
"""Members of a gzip body. An empty member has twenty bytes but costs far more CPU time than twenty bytes of data."""
GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS
RAW_DEFLATE: Final = -zlib.MAX_WBITS
COMPRESSED_ENCODINGS: Final = frozenset({"gzip", "x-gzip", "deflate"})


class InFlightBytes:
    """The bytes of bodies in this process, from their first byte until Kafka has acknowledged their events.

    A sender holds at most half of what all others leave free, and always one whole body if that is free. So some room
    stays for the next sender, however many bodies others send or stall.
    """

    def __init__(self, limit: int, body_limit: int) -> None:
        """`body_limit` is the size of the largest accepted body."""
        self._limit = limit
        self._body_limit = body_limit
        self._reserved = 0
        self._by_sender: dict[str, int] = {}

    def reserve(self, sender: str, size: int) -> bool:
        held = self._by_sender.get(sender, 0)
        free = self._limit - (self._reserved - held)
        if held + size > min(free, max(free // 2, self._body_limit)):
            return False
        self._change(sender, held + size, size)
        return True

    def release(self, sender: str, size: int) -> None:
        self._change(sender, self._by_sender.get(sender, 0) - size, -size)

    def _change(self, sender: str, held: int, more: int) -> None:
        self._reserved += more
        if held:
            self._by_sender[sender] = held
        else:
            self._by_sender.pop(sender, None)
        INGEST_IN_FLIGHT_BYTES.set(self._reserved)


class BoundedBody:
    """One request's share of its sender's in-flight bytes; released when its `with` block ends."""

    def __init__(self, in_flight: InFlightBytes, sender: str, limit: int) -> None:
        self._in_flight = in_flight
        self._sender = sender
        self._limit = limit
        self._held = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._in_flight.release(self._sender, self._held)
        self._held = 0

    async def read(self, request: web.Request) -> bytes:
        """The whole body, decompressed.

        Raises TooLargeError, BusyError, BodyTimeoutError, BadBodyError, UnsupportedMediaError.
        """
        encoding = request.headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower()
        if encoding not in COMPRESSED_ENCODINGS and encoding != "identity":
            raise UnsupportedMediaError(f"Content-Encoding must be one of {ACCEPTED_ENCODINGS}.")
        if (request.content_length or 0) > self._limit:
            raise self._too_large()
        if encoding == "identity" and request.content.is_eof():
            # Small bodies arrive together with the headers.
            body = request.content.read_nowait()
            self._hold(len(body))
            return body
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                if encoding == "identity":
                    return await self._plain(request)
                return await self._unpacked(request, encoding)
        except TimeoutError as error:
            raise BodyTimeoutError(f"The body did not arrive within {BODY_TIMEOUT_S:g} s.") from error
        except zlib.error as error:
            raise BadBodyError(f"The body is not valid {encoding}, which Content-Encoding declares.") from error
        except (ClientPayloadError, HttpProcessingError, ConnectionError) as error:
            raise BadBodyError("The body did not arrive completely.") from error

    async def _plain(self, request: web.Request) -> bytes:
        pieces = []
        async for piece in request.content.iter_any():
            self._hold(len(piece))
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _unpacked(self, request: web.Request, encoding: str) -> bytes:
        decompressor = _Decompressor(raw=encoding == "deflate")
        body = bytearray()
        async for piece in _pieces(request, decompressor):
            self._hold(len(piece))
            body += piece
        if not decompressor.ended:
            raise BadBodyError("The compressed body is truncated.")
        return bytes(body)

    def _hold(self, size: int) -> None:
        if self._held + size > self._limit:
            raise self._too_large()
        if not self._in_flight.reserve(self._sender, size):
            raise BusyError(
                "Too many events of this sender, or of all, are waiting for Kafka. Send this body again later.",
                wait_s=1,
            )
        self._held += size

    def _too_large(self) -> TooLargeError:
        return TooLargeError(
            f"The body is larger than {self._limit} bytes ({PREFIX}INGEST_MAX_BYTES). Send smaller bodies."
        )


async def _pieces(request: web.Request, decompressor: _Decompressor) -> AsyncIterator[bytes]:
    async for packed in request.content.iter_any():
        for piece in decompressor.pieces(packed):
            yield piece


def is_raw_deflate(head: bytes) -> bool:
    """Whether data with these first two bytes is neither gzip nor zlib (RFC 1950 §2.2): then it can only be RFC 1951.

    A raw block that looks like a zlib header would have padding bits that are not zero, which no encoder writes.
    """
    return head != b"\x1f\x8b" and (head[0] & 0x0F != zlib.DEFLATED or int.from_bytes(head) % 31 != 0)


class _Decompressor:
    """gzip, with several members as `cat` joins them; or zlib, which HTTP calls deflate; or, as many clients send under
    that name, deflate without zlib's header (`raw` allows it)."""

    def __init__(self, *, raw: bool = False) -> None:
        self._member = zlib.decompressobj(GZIP_OR_ZLIB)
        self._members = 1
        self._may_be_raw = raw
        self._head = b""
        self.ended = False

    def pieces(self, packed: bytes) -> Iterator[bytes]:
        """Decompressed pieces of at most PIECE_BYTES. Raises zlib.error, BadBodyError."""
        if self._may_be_raw:
            self._head += packed
            if len(self._head) < 2:
                return
            packed, self._may_be_raw = self._head, False
            if is_raw_deflate(packed[:2]):
                self._member = zlib.decompressobj(RAW_DEFLATE)
        while packed:
            if self.ended:
                self._members += 1
                if self._members > MAX_MEMBERS:
                    raise BadBodyError(f"The compressed body has more than {MAX_MEMBERS} members.")
                self._member, self.ended = zlib.decompressobj(GZIP_OR_ZLIB), False
            piece = self._member.decompress(packed, PIECE_BYTES)
            self.ended = self._member.eof
            packed = self._member.unused_data if self.ended else self._member.unconsumed_tail
            if piece:
                yield piece
