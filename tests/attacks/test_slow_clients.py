"""Clients that send slowly, or take nothing of what they asked for: each is let go in time, and none fills memory."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import ExitStack

import pytest

from api import endpoint
from api.app import build_app, build_runner
from api.dashboard.assets import CHARTS
from api.http.server import BoundedSite
from api.settings.settings import ApiSettings
from schemas.settings import read
from tests.attacks.deployment import TOKEN, Target
from tests.attacks.wire import ClosedError, Connection
from tests.conftest import wait_until, wait_until_async
from tests.integration.api_process import ApiProcess

HOST = b"Host: localhost\r\n"
ASKED = b"GET /dashboard/0123456789abcdef/%s HTTP/1.1\r\n" % CHARTS.encode() + HOST + b"\r\n"
READERS = 200
MOST_BYTES_EACH = 300_000
"""Handed to its connection as a whole, the file would take 5 MB."""


def unread(address: tuple[str, int]) -> socket.socket:
    """A connection that has room for next to nothing."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(20)
    connection.connect(address)
    return connection


def test_files_that_are_not_read_do_not_fill_memory(redis_url: str) -> None:
    with ApiProcess(redis_url=redis_url, auth="none") as api, ExitStack() as stack:
        api.get(ASKED.split()[1].decode())
        before = api.rss_bytes
        for _ in range(READERS):
            stack.enter_context(connection := unread(("127.0.0.1", api.port))).sendall(ASKED)
            connection.recv(1)
        assert api.rss_bytes - before < READERS * MOST_BYTES_EACH
        assert api.get("/health/live").status == 200


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux lets go of them by itself")
async def test_a_client_that_reads_nothing_is_disconnected(redis_url: str) -> None:
    runner = build_runner(build_app(read(ApiSettings, redis_url=redis_url, auth=("none",))))
    await runner.setup()
    try:
        await BoundedSite(runner, "127.0.0.1", 0, write_timeout_s=0.5).start()
        assert runner.server is not None
        with await asyncio.to_thread(unread, runner.addresses[0][:2]) as connection:
            connection.sendall(ASKED)
            server = runner.server
            await wait_until_async(lambda: server.connections, 20, "a connection")
            await wait_until_async(lambda: not server.connections, 20, "let go")
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    "path", ["/reporting/maximum", "/jans-auth/restv1/internal/stat", "/oxauth/restv1/internal/stat"]
)
def test_a_form_that_trickles_in_is_given_up(plain_target: Target, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "FORM_TIMEOUT_S", 0.3)
    head = f"POST {path} HTTP/1.1\r\nContent-Type: {endpoint.FORM}\r\nAuthorization: Bearer {TOKEN}\r\n".encode()
    with Connection(plain_target.address) as connection:
        connection.socket.sendall(head + HOST + b"Content-Length: 4000\r\n\r\na")
        began = time.monotonic()
        assert connection.reply().status in (200, 400)
        assert time.monotonic() - began < 5


def test_a_body_that_is_not_read_holds_its_connection_for_seconds_only(plain_target: Target) -> None:
    def trickled() -> bool:
        try:
            connection.socket.sendall(b"x")
        except ConnectionError:
            return True
        return False

    with Connection(plain_target.address) as connection:
        connection.socket.sendall(b"GET /health/live HTTP/1.1\r\n" + HOST + b"Content-Length: 1000000\r\n\r\n")
        assert connection.reply().status == 200
        wait_until(trickled, 30, "the server closes")
        with pytest.raises(ClosedError):
            connection.reply()
