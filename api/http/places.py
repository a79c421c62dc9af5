"""Places for answers that need much memory or time: few at the same time, fewer of them for one caller."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
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


def tenant_of(realms: Collection[str] | None) -> str:
    """The caller, for places that all callers with access to the same realms share. `realms` None is all realms."""
    return "*" if realms is None else repr(sorted(realms))


class Places:
    """At most `total` answers at the same time, and `of_one` for one caller. Others wait, in no fixed order."""

    def __init__(self, total: int, of_one: int, wait_s: float | None = WAIT_S) -> None:
        """`wait_s` None: the caller has a deadline of its own."""
        self._free = total
        self._of_one = of_one
        self._wait_s = wait_s
        self._taken = Counter[str]()
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def take(self, caller: str, gone: Callable[[], bool] = lambda: False) -> AsyncIterator[None]:
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
