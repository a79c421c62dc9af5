"""Where the api listens, and how long it waits for whoever does not take an answer."""

from __future__ import annotations

import os
import socket
from typing import Final

from aiohttp import web

TAKE_S: Final = 30.0
"""In which a caller must take something of what it is sent. aiohttp would wait for ever."""


class Site(web.TCPSite):
    """An address. The system ends a connection of which nothing was taken for `take_s`, or which no longer answers."""

    def __init__(self, runner: web.AppRunner, host: str, port: int, take_s: float = TAKE_S) -> None:
        super().__init__(runner, host, port, reuse_address=True)
        self._take_s = take_s

    async def start(self) -> None:
        await super().start()
        # Only Linux has it; there accepted connections inherit it, so that it costs no request anything.
        option = getattr(socket, "TCP_USER_TIMEOUT", None)
        if option is not None:
            for listening in getattr(self._server, "sockets", ()):
                # The event loop shows its sockets, but lets nobody set anything.
                with socket.socket(fileno=os.dup(listening.fileno())) as same:
                    same.setsockopt(socket.IPPROTO_TCP, option, int(self._take_s * 1000))
