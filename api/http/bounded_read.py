"""Bounded reading of a request or response body."""

from __future__ import annotations

from aiohttp import StreamReader


class TooLongError(ValueError):
    pass


async def read_at_most(stream: StreamReader, limit: int) -> bytes:
    """The whole body. Raises TooLongError as soon as it exceeds `limit` bytes."""
    body = bytearray()
    async for chunk in stream.iter_any():
        body += chunk
        if len(body) > limit:
            raise TooLongError(f"longer than {limit} bytes")
    return bytes(body)
