"""Where the api listens, and how long it waits for whoever does not take an answer."""

from __future__ import annotations

import os
import socket
from typing import Final

from aiohttp import web

WRITE_TIMEOUT_S: Final = 30.0
"""In which a caller must take something of what it is sent. aiohttp would wait for ever."""


class BoundedSite(web.TCPSite):
    """An address.

    The system ends a connection of which nothing was taken for `write_timeout_s`, or which no longer answers.
    """

    def __init__(self, runner: web.AppRunner, host: str, port: int, write_timeout_s: float = WRITE_TIMEOUT_S) -> None:
        super().__init__(runner, host, port, reuse_address=True)
        self._write_timeout_s = write_timeout_s

    async def start(self) -> None:
        await super().start()
        # Only Linux has it; there accepted connections inherit it, so that it costs no request anything.
        option = getattr(socket, "TCP_USER_TIMEOUT", None)
        if option is not None:
            for listener in getattr(self._server, "sockets", ()):
                # The event loop shows its sockets, but lets nobody set anything.
                with socket.socket(fileno=os.dup(listener.fileno())) as duplicate:
                    duplicate.setsockopt(socket.IPPROTO_TCP, option, int(self._write_timeout_s * 1000))
