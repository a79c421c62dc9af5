"""Idle and unfinished connections: they cost little, are closed by the server, and block no other client."""

from __future__ import annotations

import asyncio
import resource
import socket
from contextlib import ExitStack

import pytest
from aiohttp import web

from api.app import build_app, build_runner
from api.settings.settings import ApiSettings
from schemas.settings import read
from tests.integration.api_process import ApiProcess

IDLE = 10_000
HALF_A_HEAD = b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Slow: "
MOST_BYTES_EACH = 32_768


@pytest.fixture
def many_files() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < IDLE + 1_000:
        pytest.skip(f"this system allows {most} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@pytest.mark.usefixtures("many_files")
def test_ten_thousand_idle_connections_block_no_other(redis_url: str) -> None:
    with ApiProcess(redis_url=redis_url, auth="none") as api, ExitStack() as stack:
        before = api.rss_bytes
        for number in range(IDLE):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", api.port), 10))
            if number % 2:
                connection.sendall(HALF_A_HEAD)
        assert api.get("/jans-auth/restv1/internal/stat?month=202611").status == 200
        assert api.rss_bytes - before < IDLE * MOST_BYTES_EACH


@pytest.mark.parametrize("sent", [b"", HALF_A_HEAD], ids=["nothing", "half a head"])
async def test_a_connection_without_a_whole_head_is_closed(redis_url: str, sent: bytes) -> None:
    runner = build_runner(build_app(read(ApiSettings, redis_url=redis_url, auth=("none",))), idle_s=0.3)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        reader, writer = await asyncio.open_connection(*runner.addresses[0][:2])
        async with asyncio.timeout(10):
            if sent:
                writer.write(sent)
                trickle = asyncio.create_task(_trickle(writer))
            assert await reader.read() == b""
            if sent:
                trickle.cancel()
        writer.close()
    finally:
        await runner.cleanup()


async def _trickle(writer: asyncio.StreamWriter) -> None:
    """A byte now and then, so that the connection never looks dead."""
    while not writer.is_closing():
        writer.write(b"x")
        await asyncio.sleep(0.05)
