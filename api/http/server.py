"""The api's listening address, with a bound on the wait for callers that do not read their answer."""

from __future__ import annotations

import os
import socket
from typing import Final

from aiohttp import web

WRITE_TIMEOUT_S: Final = 30.0
"""The time in which a caller must acknowledge some of the sent bytes. aiohttp would wait forever."""


class BoundedSite(web.TCPSite):
    """An address whose connections the kernel ends after `write_timeout_s` without an acknowledgement."""

    def __init__(self, runner: web.AppRunner, host: str, port: int, write_timeout_s: float = WRITE_TIMEOUT_S) -> None:
        super().__init__(runner, host, port, reuse_address=True)
        self._write_timeout_s = write_timeout_s

    async def start(self) -> None:
        await super().start()
        # Linux only. Accepted connections inherit the option, so it costs nothing per request.
        option = getattr(socket, "TCP_USER_TIMEOUT", None)
        if option is not None:
            for listener in getattr(self._server, "sockets", ()):
                # asyncio exposes its sockets without setsockopt; a duplicate has it.
                with socket.socket(fileno=os.dup(listener.fileno())) as duplicate:
                    duplicate.setsockopt(socket.IPPROTO_TCP, option, int(self._write_timeout_s * 1000))
