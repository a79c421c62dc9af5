"""Requests that are none, or two: each is refused or understood in one way only, and the connection closed after."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tests.attacks import rules
from tests.attacks.deployment import TOKEN, Target
from tests.attacks.wire import ClosedError, Connection

pytestmark = pytest.mark.usefixtures("no_faults")

HOST = b"Host: localhost\r\n"
BEARER = f"Authorization: Bearer {TOKEN}\r\n".encode()
LIVE = b"GET /health/live HTTP/1.1\r\n"
SMUGGLED = b"GET /v1/overview HTTP/1.1\r\n" + HOST + BEARER + b"\r\n"


class Case(NamedTuple):
    raw: bytes
    status: int
    why: str


def post(headers: bytes, body: bytes = b"", path: bytes = b"/reporting/maximum") -> bytes:
    return b"POST " + path + b" HTTP/1.1\r\n" + HOST + BEARER + headers + b"\r\n" + body


def get(target: bytes, headers: bytes = b"", version: bytes = b"HTTP/1.1") -> bytes:
    return b"GET " + target + b" " + version + b"\r\n" + HOST + headers + b"\r\n"


CHUNKED = b"Transfer-Encoding: chunked\r\n"
# A server that understands the length otherwise would read the rest as a request of its own.
SMUGGLING = [
    Case(post(b"Content-Length: 5\r\n" + CHUNKED, b"0\r\n\r\n" + SMUGGLED), 400, "both lengths"),
    Case(post(CHUNKED + b"Content-Length: 5\r\n", b"0\r\n\r\n" + SMUGGLED), 400, "both lengths, the other way round"),
    Case(post(b"Content-Length: 0\r\nContent-Length: 44\r\n", SMUGGLED), 400, "two lengths"),
    Case(post(b"Content-Length: 4\r\nContent-Length: 4\r\n", b"abcd" + SMUGGLED), 400, "the same length twice"),
    Case(post(b"Content-Length: 4, 4\r\n", b"abcd" + SMUGGLED), 400, "a list of lengths"),
    Case(post(b"Content-Length: +4\r\n", b"abcd" + SMUGGLED), 400, "a length with a sign"),
    Case(post(b"Content-Length: -1\r\n", SMUGGLED), 400, "a negative length"),
    Case(post(b"Content-Length: 0x4\r\n", b"abcd" + SMUGGLED), 400, "a hexadecimal length"),
    Case(post(b"Content-Length: 4 4\r\n", b"abcd" + SMUGGLED), 400, "a length in two words"),
    Case(post(b"Content-Length: \r\n", SMUGGLED), 400, "no length after its name"),
    Case(post(b"Content-Length : 4\r\n", b"abcd" + SMUGGLED), 400, "a space before the colon"),
    Case(post(b"Content-Length: 99999999999999999999999\r\n", SMUGGLED), 400, "a length beyond 64 bits"),
    Case(post(b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n" + SMUGGLED), 400, "the same of the encoding"),
    Case(post(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n" + SMUGGLED), 400, "an unknown encoding"),
    Case(post(b"Transfer-Encoding: \x0bchunked\r\n", b"0\r\n\r\n" + SMUGGLED), 400, "space that is none"),
    Case(post(b"Transfer-Encoding: chunked, identity\r\n", b"0\r\n\r\n" + SMUGGLED), 400, "chunked, but not last"),
    Case(post(CHUNKED * 2, b"0\r\n\r\n" + SMUGGLED), 400, "chunked twice"),
    Case(post(CHUNKED, b"0x1\r\na\r\n0\r\n\r\n" + SMUGGLED), 400, "a chunk's size with a prefix"),
    Case(post(CHUNKED, b"-1\r\na\r\n0\r\n\r\n" + SMUGGLED), 400, "a negative chunk"),
    Case(post(CHUNKED, b"zz\r\na\r\n0\r\n\r\n" + SMUGGLED), 400, "a chunk's size that is no number"),
    Case(post(CHUNKED, b"f" * 18 + b"\r\na\r\n0\r\n\r\n" + SMUGGLED), 400, "a chunk beyond 64 bits"),
    Case(post(CHUNKED, b"1\r\nabc\r\n0\r\n\r\n" + SMUGGLED), 400, "a chunk longer than it says"),
    Case(post(CHUNKED, b"1\na\n0\n\n" + SMUGGLED), 400, "line feeds alone in chunks"),
    Case(LIVE + HOST + b"X-A: b\rX-B: c\r\n\r\n" + SMUGGLED, 400, "a carriage return alone"),
    Case(LIVE + HOST + b"X-A: b\r\n c\r\n\r\n" + SMUGGLED, 400, "a folded header"),
    Case(LIVE + b" " + HOST + b"\r\n" + SMUGGLED, 400, "a first header that is indented"),
    Case(b"GET /health/live HTTP/1.1\nHost: x\n\n" + SMUGGLED, 400, "line feeds alone"),
]
MALFORMED = [
    Case(LIVE + HOST + b"X-A: b\x00c\r\n\r\n", 400, "a NUL in a header"),
    Case(LIVE + HOST + b"nothing\r\n\r\n", 400, "a header without a colon"),
    Case(LIVE + HOST + b"X A: b\r\n\r\n", 400, "a name of two words"),
    Case(LIVE + HOST + b": b\r\n\r\n", 400, "no name"),
    Case(LIVE + b"\r\n", 400, "no Host"),
    Case(LIVE + HOST * 2 + b"\r\n", 400, "two of them"),
    Case(get(b"http://a:b@evil.example:99999/health/live"), 400, "a port that is none"),
    Case(get(b"http://[::1/health/live"), 400, "an address that does not end"),
    Case(get(b"file:///etc/passwd"), 400, "another scheme"),
    Case(get(b"*"), 400, "everything"),
    Case(get(b"health/live"), 400, "no slash"),
    Case(get(b"/health/live x"), 400, "a target of two words"),
    Case(get(b"/health/live", version=b"HTTP/1.2"), 400, "a version that is none"),
    Case(get(b"/health/live", version=b"http/1.1"), 400, "a version in lower case"),
    Case(b"get /health/live HTTP/1.1\r\n" + HOST + b"\r\n", 400, "a method in lower case"),
    Case(b"A" * 20_000 + b" / HTTP/1.1\r\n" + HOST + b"\r\n", 400, "a method without end"),
    Case(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "HTTP/2"),
    Case(bytes.fromhex("16030100c8010000c40303") + b"x" * 200, 400, "TLS"),
    Case(get(b"/health/live?" + b"a" * 20_000), 400, "a target over 16 KB"),
    Case(get(b"/health/live", b"X-A: " + b"a" * 20_000 + b"\r\n"), 400, "a header over 16 KB"),
    Case(get(b"/health/live", b"X" * 20_000 + b": a\r\n"), 400, "a name over 16 KB"),
    Case(get(b"/health/live", b"".join(b"X-%d: a\r\n" % n for n in range(500))), 400, "too many headers"),
    Case(post(CHUNKED, b"0\r\n" + b"X-A: b\r\n" * 500 + b"\r\n"), 400, "too many trailers"),
    Case(post(CHUNKED, b"0\r\nX: " + b"b" * 100_000 + b"\r\n\r\n"), 400, "a trailer over 16 KB"),
]
UNDERSTOOD = [
    Case(get(b"http://evil.example/health/live"), 200, "another host in the target: only the path counts"),
    Case(get(b"//evil.example/health/live"), 404, "two slashes are a path"),
    Case(b"CONNECT evil.example:443 HTTP/1.1\r\n" + HOST + b"\r\n", 404, "no proxy"),
    Case(b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", 404, "about the server"),
    Case(b"TRACE /health/live HTTP/1.1\r\n" + HOST + BEARER + b"\r\n", 405, "no echo"),
    Case(get(b"/v1/overview", BEARER + b"X-HTTP-Method-Override: DELETE\r\n"), 200, "the method is the method"),
    Case(get(b"/v1/overview", BEARER + b"X-Original-URL: /metrics\r\n"), 200, "the path is the path"),
    Case(get(b"/v1/pipeline", b"X-Forwarded-For: 127.0.0.1\r\n"), 401, "being near opens nothing"),
    Case(get(b"/v1/overview", b"Connection: Upgrade\r\nUpgrade: websocket\r\n"), 401, "no other protocol"),
    Case(get(b"/health/live", b"Connection: Upgrade\r\nUpgrade: h2c\r\n"), 200, "nor HTTP/2 in plain"),
    Case(get(b"/health/live", b"Expect: \xed\xa0\x80\r\n"), 417, "an expectation that is no text"),
    Case(get(b"/nowhere", b"Expect: \xff\r\n"), 417, "the same of a path that is not there"),
    Case(b"PUT /v1/overview HTTP/1.1\r\n" + HOST + b"Expect: \xff\r\n\r\n", 417, "or with another method"),
    Case(get(b"/health/live", b"Expect: 200-ok\r\n"), 417, "one that no server meets"),
    Case(get(b"/health/live", b"Expect: 100-Continue\r\n"), 200, "one that is met"),
    Case(get(b"/dashboard/0123456789abcdef/../../../../etc/passwd"), 404, "out of the folder"),
    Case(get(b"/dashboard/0123456789abcdef/..%2f..%2f..%2fapp.toml"), 404, "the same, encoded"),
    Case(get(b"/dashboard/0123456789abcdef/%2e%2e%5c%2e%2e%5capp.toml"), 404, "the same with the other slash"),
    Case(get(b"/dashboard/0123456789abcdef/main.js%00.html"), 404, "a name that ends early"),
    Case(get(b"/dashboard/0123456789abcdef/%252e%252e%252fapp.toml"), 404, "encoded twice"),
    Case(get(b"/v1%2foverview", BEARER), 404, "an encoded slash is none"),
    Case(get(b"/v1/overview?" + b"&".join(b"a%d=b" % n for n in range(400)), BEARER), 400, "too many parameters"),
    Case(get(b"/v1/overview?" + b"&" * 8_000, BEARER), 400, "a query over 4 KB"),
    Case(get(b"/reporting/maximum", BEARER + b"Cookie: " + b"; ".join([b"a=b"] * 3_000) + b"\r\n"), 200, "cookies"),
    Case(post(b"Content-Length: 9223372036854775807\r\n", b"abcd"), 200, "a form of 8 EB, refused unread"),
]


@pytest.mark.parametrize("case", SMUGGLING + MALFORMED, ids=lambda case: case.why)
def test_what_could_be_read_in_two_ways_is_not_read_at_all(plain_target: Target, case: Case) -> None:
    with Connection(plain_target.address) as connection:
        reply = connection.ask(case.raw)
        assert reply.status == case.status
        rules.keep(reply, "")
        assert connection.rest() == b"", "nothing else is answered, and it is closed"
    assert alive(plain_target)


@pytest.mark.parametrize("case", UNDERSTOOD, ids=lambda case: case.why)
def test_what_is_odd_has_one_meaning(plain_target: Target, case: Case) -> None:
    with Connection(plain_target.address) as connection:
        reply = connection.ask(case.raw)
        assert reply.status == case.status
        rules.keep(reply, "")
    assert alive(plain_target)


def test_no_redirect_follows_the_host_header(plain_target: Target) -> None:
    for path in (b"/", b"/v1/overview", b"/dashboard", b"/reporting/show", b"/openapi.json"):
        with Connection(plain_target.address) as connection:
            reply = connection.ask(b"GET " + path + b" HTTP/1.1\r\nHost: evil.example\r\n\r\n")
            assert b"evil.example" not in reply.body
            assert not any("evil.example" in value for value in reply.headers.values())


def test_a_thousand_requests_at_once_are_answered_in_order(plain_target: Target) -> None:
    with Connection(plain_target.address) as connection:
        connection.socket.sendall(get(b"/health/live") * 1_000)
        assert all(connection.reply().status == 200 for _ in range(1_000))


def alive(target: Target) -> bool:
    with Connection(target.address) as connection:
        try:
            return connection.ask(get(b"/health/live")).status == 200
        except ClosedError:
            return False
