"""Places for answers that need much memory: few at the same time, fewer of them for one caller."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from api.http.errors import UnavailableError

WAIT_S: Final = 5.0
"""The time for which a caller waits for a place."""


class CallerGoneError(UnavailableError):
    """The caller closed the connection, so that no one reads the answer."""

    def __init__(self) -> None:
        super().__init__("The connection was closed.")


def is_gone(request: web.Request) -> bool:
    """Whether the caller closed the connection. aiohttp does not cancel the handler then."""
    return request.transport is None or request.transport.is_closing()


class Places:
    """At most `total` answers at the same time, and `of_one` for one caller. Others wait, in no fixed order."""

    def __init__(self, total: int, of_one: int, wait_s: float = WAIT_S) -> None:
        self._free = total
        self._of_one = of_one
        self._wait_s = wait_s
        self._taken = Counter[str]()
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def take(self, caller: str, gone: Callable[[], bool]) -> AsyncIterator[None]:
        """Hold a place. Raises UnavailableError if none became free in time, CallerGoneError if `gone()` by then."""
        async with self._changed:
            try:
                async with asyncio.timeout(self._wait_s):
                    await self._changed.wait_for(lambda: gone() or self._is_free(caller))
            except TimeoutError as error:
                raise UnavailableError("Too many large reports are being computed.", wait_s=self._wait_s) from error
            if gone():
                raise CallerGoneError
            self._free -= 1
            self._taken[caller] += 1
        try:
            yield
        finally:
            async with self._changed:
                self._free += 1
                self._taken[caller] -= 1
                self._taken += Counter[str]()
                self._changed.notify_all()

    def _is_free(self, caller: str) -> bool:
        return self._free > 0 and self._taken[caller] < self._of_one
