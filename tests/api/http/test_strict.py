"""Ambiguous or malformed requests: 400 on every surface, without anything that was sent, and the connection ends."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET
from typing import Any, Final, NamedTuple

import pytest

from tests.api.conftest import Answer, Api, Serve
from tests.api.sources import by_file, listed

CANARY: Final = b"canary-7f3a"
GOOD: Final = b"Authorization: Bearer good\r\n"
BAD: Final = b"Authorization: Bearer bad-" + CANARY + b"\r\n"
FORM: Final = b"Content-Type: application/x-www-form-urlencoded\r\n"


class Case(NamedTuple):
    raw: bytes
    why: str


def request(line: bytes, headers: bytes, body: bytes = b"") -> bytes:
    return line + b"\r\nHost: localhost\r\n" + headers + b"\r\n" + body


PATHS: Final = (
    b"/jans-auth/restv1/internal/stat?month=202611",
    b"/oxauth/restv1/internal/stat?month=202611",
    b"/api/v2/stats/active-users",
    b"/v1/overview",
    b"/v1/live",
    b"/reporting/maximum",
    b"/admin/getsession",
    b"/nope",
)
CASES: Final = [
    *(Case(request(b"GET " + path + b" HTTP/1.1", GOOD + BAD), f"good and bad {path.decode()}") for path in PATHS),
    *(Case(request(b"GET " + path + b" HTTP/1.1", BAD + GOOD), f"bad and good {path.decode()}") for path in PATHS),
    Case(request(b"GET /v1/overview HTTP/1.1", GOOD + GOOD), "the same twice"),
    Case(request(b"GET /v1/overview HTTP/1.1", GOOD + b"AUTHORIZATION: Basic YTpi\r\n"), "in capitals"),
    Case(
        request(b"POST /v1/events HTTP/1.0", GOOD + b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
        "HTTP/1.0 with a coding",
    ),
    Case(
        request(b"GET /v1/overview HTTP/1.0", GOOD + b"Transfer-Encoding: identity\r\n"),
        "HTTP/1.0 with the coding identity",
    ),
    *(
        Case(request(b"GET /v1/overview HTTP/1.1", GOOD + b"X-A: " + CANARY + bytes([code]) + b"\r\n"), f"byte {code}")
        for code in (*range(9), 11, 12, *range(14, 32), 127)
    ),
    Case(request(b"GET /v1/overview HTTP/1.1", b"X-" + CANARY + b"\x01: a\r\n"), "a control byte in a name"),
    Case(request(b"GET /v1/" + CANARY + b"\x01 HTTP/1.1", b""), "a control byte in the path"),
    Case(request(b"GE" + CANARY + b"T\x01 / HTTP/1.1", b""), "a control byte in the method"),
    Case(request(b"GET /v1/overview HTTP/1.1", CANARY + b"\r\n"), "no header"),
    Case(request(b"GET /v1/overview HTTP/9.9", b"X-A: " + CANARY + b"\r\n"), "an unknown version"),
]


async def send(api: Api, raw: bytes) -> bytes:
    """The whole answer, up to the end of the connection."""
    host, _, port = api.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(raw)
        async with asyncio.timeout(20):
            return await reader.read(-1)
    finally:
        writer.close()


@pytest.fixture
def bearers(tmp_path: Path) -> dict[str, Any]:
    scopes = ["jans_stat", "read:stats", "stats:read", "reporting", "events:write"]
    return by_file(tmp_path, listed("good", scopes=scopes))


async def test_they_are_refused_without_an_echo(serve: Serve, redis_url: str, bearers: dict[str, Any]) -> None:
    api = await serve(redis_url=redis_url, **bearers)
    wrong = {}
    for case in CASES:
        answer = await send(api, case.raw)
        head = answer.partition(b"\r\n\r\n")[0]
        refused = b" 400 " in head.split(b"\r\n")[0] and CANARY not in answer
        named = b"Server: authtally" in head and b"nosniff" in head and b"aiohttp" not in answer
        if not (refused and named):
            wrong[case.why] = answer
    assert wrong == {}
    assert (await api.get("/v1/overview", "good")).status == 200


HANGING: Final = (
    (b"Content-Length: 100\r\n", b"month=202611"),
    (b"Transfer-Encoding: chunked\r\n", b"5\r\nmonth\r\n"),
    (b"Transfer-Encoding: chunked\r\n", b"5\r\nmo"),
    (b"Transfer-Encoding: chunked\r\n", b""),
)


def defects(metrics: Answer) -> list[str]:
    """Counts of answers with a status of 500 and above: those of this process, so also of other tests."""
    return [line for line in metrics.text.splitlines() if "requests_total" in line and 'status="5xx"' in line]


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
async def test_a_caller_that_hangs_up_during_a_form_is_no_defect(
    serve: Serve, redis_url: str, bearers: dict[str, Any], reset: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    api = await serve(redis_url=redis_url, **bearers)
    before = defects(await api.get("/metrics"))
    host, _, port = api.url.removeprefix("http://").partition(":")
    for path in (b"/jans-auth/restv1/internal/stat", b"/oxauth/restv1/internal/stat", b"/reporting/maximum"):
        for headers, body in HANGING:
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(request(b"POST " + path + b" HTTP/1.1", GOOD + FORM + headers, body))
            await writer.drain()
            # The request is being served before the connection ends.
            assert (await api.get("/health/live")).status == 200
            if reset:
                writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            else:
                writer.write_eof()
                async with asyncio.timeout(20):
                    assert b" 500 " not in await reader.read(-1)
                writer.close()
    # A request after each of them has been served.
    assert (await api.get("/reporting/maximum", "good")).status == 200
    assert defects(await api.get("/metrics")) == before
    assert "request failed" not in capsys.readouterr().out
