"""An answer that is found before routing is the one that routing gives, to every request that it is given to."""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

import pytest

from tests.api.conftest import Api, Serve
from tests.api.ledger_writer import LedgerWriter

JANSSEN: Final = "/jans-auth/restv1/internal/stat?month=202611"
OWN: Final = "/v1/active-users?granularity=month&from=2026-11-01&to=2026-11-30"
PATHS: Final = (JANSSEN, OWN, "/v1/metrics")
MADE_UP: Final = {b"date", b"age", b"x-request-id", b"cache-control"}
"""Headers that differ from answer to answer."""


class Case(NamedTuple):
    method: str
    headers: bytes
    has_id: bool
    """Whether the response has a request id of its own, which only the routed ones have."""
    why: str


CASES: Final = (
    Case("GET", b"", False, "as before"),
    Case("GET", b"X-Other: 1\r\n", False, "a header on which nothing depends"),
    Case("GET", b"X-Request-Id: caller-7\r\n", False, "the caller's request id is repeated"),
    Case("GET", b"X-Request-Id: two words\r\n", False, "no request id"),
    Case("GET", b'If-None-Match: "other"\r\n', False, "another ETag"),
    Case("GET", b"If-None-Match: *\r\n", False, "any ETag: 304"),
    Case("GET", b"Accept: text/csv\r\n", True, "another format on /v1"),
    Case("GET", b"Accept: application/json;q=0.1, text/csv\r\n", True, "weights"),
    Case("GET", b"Accept: */*\r\nAccept: text/csv\r\n", True, "several lines of Accept"),
    Case("GET", b"Expect: 100-continue\r\n", True, "an interim response first"),
    Case("GET", b"Expect: a-miracle\r\n", False, "an unknown expectation: 417"),
    Case("HEAD", b"", True, "headers alone"),
    Case("POST", b"Content-Length: 0\r\n", True, "another method on the same path"),
    Case("OPTIONS", b"", True, "another method on the same path"),
    Case("GET", b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n", False, "two credentials: refused before"),
    Case("GET", b"Sec-Fetch-Site: cross-site\r\n", False, "another web site: refused before"),
)


@pytest.fixture(autouse=True)
def counted(ledger: LedgerWriter) -> None:
    ledger.few_users("2026-11", range(5))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.why)
async def test_it_is_what_routing_gives(serve: Serve, redis_url: str, path: str, case: Case) -> None:
    routed_by, ready_by = [await serve(redis_url=redis_url) for _ in range(2)]
    for _ in range(2):
        last = await sent(ready_by, Case("GET", b"", False, ""), path)
    assert b"x-request-id" not in last[1], "found before routing"
    routed, ready = await sent(routed_by, case, path), await sent(ready_by, case, path)
    assert len(ready[1]) > 2
    assert kept(ready) == kept(routed)
    if b"X-Request-Id" not in case.headers:
        assert (b"x-request-id" in ready[1]) is case.has_id


async def test_several_lines_of_accept_are_no_request_of_the_first_line(serve: Serve, redis_url: str) -> None:
    api = await serve(redis_url=redis_url)
    several = Case("GET", b"Accept: application/json;q=0.1\r\nAccept: text/csv\r\n", False, "")
    one = several._replace(headers=b"Accept: application/json;q=0.1\r\n")
    for case, kind in ((several, b"text/csv"), (one, b"application/json")) * 3:
        assert kind in (await sent(api, case, OWN))[1][b"content-type"]


async def test_a_page_of_another_origin_may_read_it(serve: Serve, redis_url: str) -> None:
    api = await serve(redis_url=redis_url, cors_origins=("https://boards.example.com",))
    case = Case("GET", b"Origin: https://boards.example.com\r\n", False, "")
    first, second = [(await sent(api, case, OWN))[1] for _ in range(2)]
    assert b"x-request-id" not in second, "without the boundary"
    for headers in (first, second):
        assert headers[b"access-control-allow-origin"] == b"https://boards.example.com"
        assert headers[b"vary"] == b"Accept, Authorization, Origin"


async def sent(api: Api, case: Case, path: str) -> tuple[bytes, dict[bytes, bytes], bytes]:
    """Status line, headers by lower-case name, and the rest, of the final response."""
    host, port = api.runner.addresses[0]
    reader, writer = await asyncio.open_connection(host, port)
    line = f"{case.method} {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n".encode()
    writer.write(line + case.headers + b"\r\n")
    whole = await reader.read()
    writer.close()
    whole = whole.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    head, _, body = whole.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    fields = [line.split(b": ", 1) for line in lines]
    assert len({name.lower() for name, _ in fields}) == len(fields), "each header once"
    return status, {name.lower(): value for name, value in fields}, body


def kept(answer: tuple[bytes, dict[bytes, bytes], bytes]) -> tuple[bytes, dict[bytes, bytes], bytes]:
    status, headers, body = answer
    sent_id = {b"x-request-id"} if headers.get(b"x-request-id") == b"caller-7" else set()
    return status, {name: headers[name] for name in headers.keys() - MADE_UP | sent_id}, body
