"""Requests as they should not be, for every surface. All chance is the caller's, so that it can be had again."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from random import Random
from typing import Any, Final, NamedTuple
from urllib.parse import quote_from_bytes

from tests.attacks.deployment import LIMITED, TOKEN, WEBHOOK


class Sent(NamedTuple):
    """One request, and the route that it was made for."""

    path: str
    method: bytes
    raw: bytes


class Surface(NamedTuple):
    """Paths, the parameters that they know, and values that those take."""

    paths: Sequence[str]
    parameters: Sequence[str] = ()
    values: Sequence[str] = ()
    posts: bool = False


MONTHS: Final = ("202611", "202610 202611", "202613", "000001", "999912", "2026-11", "202611 " * 40)
DAYS: Final = ("20261101", "20261120", "20230231", "2026-11-01", "2026-11-20", "0001-01-01", "9999-12-31", "-1", "1e9")
NAMES: Final = ("acme", "web", "as1", "globex", "__other__", "*", ",", "acme,acme", 'a"c\\me\n=1', "ümläut\r\nX-A: b")

SURFACES: Final = {
    "janssen": Surface(
        ("/jans-auth/restv1/internal/stat", "/jans-auth/sys/health-check"),
        ("month", "start-month", "end-month", "start_month", "end_month", "format"),
        (*MONTHS, "openmetrics", "json", "OPENMETRICS"),
        posts=True,
    ),
    "gluu": Surface(
        ("/oxauth/restv1/internal/stat", "/oxauth/sys/health-check"),
        ("month", "format", "start-month"),
        (*MONTHS, "openmetrics"),
        posts=True,
    ),
    "auth0": Surface(("/api/v2/stats/active-users", "/api/v2/stats/daily"), ("from", "to"), DAYS),
    "own": Surface(
        (
            "/v1/active-users",
            "/v1/overview",
            "/v1/labels",
            "/v1/logins",
            "/v1/tokens",
            "/v1/accounts",
            "/v1/m2m",
            "/v1/pipeline",
            "/v1/otp-tokens",
            "/v1/metrics",
        ),
        (
            *("from", "to", "granularity", "realm", "client_id", "node", "group_by", "format", "limit", "offset"),
            *("month", "months", "dimension", "prefix", "cursor", "kind", "grant_type", "reason", "status", "day"),
        ),
        (*DAYS, *NAMES, "2026-11", "month", "day", "week", "realm", "client_id", "csv", "json", "0", "1", "10000000"),
    ),
    "live": Surface(("/v1/live",), ("from", "realm"), NAMES),
    "reporting": Surface(
        ("/reporting/show", "/reporting/period", "/reporting/maximum", "/admin/getsession", "/admin/dropsession"),
        ("date", "from", "to", "realms", "status", "page", "pagesize", "sortby", "sortdir", "outform", "session"),
        (*DAYS, *NAMES, "total", "active", "csv", "json", "0", "1", "event", "realm", "desc", "99999999999999999999"),
        posts=True,
    ),
    "deletes": Surface(
        ("/reporting/delete_all", "/reporting/delete_before"),
        ("date", "realms", "status", "session"),
        (*DAYS, *NAMES, "total", "*"),
        posts=True,
    ),
    "ingest": Surface(("/v1/events", "/v1/ingest/keycloak", "/v1/ingest/auth0", "/v1/ingest/fusionauth"), posts=True),
    "open": Surface(
        (
            "/",
            "/health/live",
            "/health/ready",
            "/metrics",
            "/openapi.json",
            "/dashboard/config.json",
            "/dashboard/0123456789abcdef/main.js",
            "/dashboard/0123456789abcdef/style.css",
        ),
    ),
}

# As bytes on the wire; what a target or a header cannot hold, the server has to refuse.
NASTY: Final = (
    *(b"\r\nX-Injected: 1", b"%0d%0aX-Injected:%201", b"\x00", b"%00", b"\xff\xfe", b"%ff", b"%", b"%zz", b"%c0%ae"),
    *(b"../../etc/passwd", b"..%2f..%2fLICENSE", b"%2e%2e/", b"//evil.example/", b"\\..\\", b"%252e%252e%252f"),
    *("\u2028".encode(), "\u202e".encode(), "\U0001f600".encode(), b"\xed\xa0\x80", b"%E2%80%A8", b"\x1b[2J"),
    *(b"<script>", b"{{7*7}}", b"${jndi:ldap://x}", b"' OR 1=1 --", b"$(id)", b"a" * 3000, b"9" * 400, b"-", b""),
    *(b";", b"&", b"=", b"&&=&", b"?", b"#", b"+", b"[]", b"{}", b"nan", b"inf", b"1e308", b"0x10", "١٢".encode()),
)
METHODS: Final = (b"GET", b"GET", b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"BREW")
HOSTS: Final = (b"localhost", b"localhost", b"localhost", b"evil.example", b"", b"[::1]:80", b"a@b", b"a\xff")
HEADERS: Final = (
    *(b"X-Request-Id", b"traceparent", b"Accept", b"Accept-Encoding", b"If-None-Match", b"Cookie", b"Range", b"Origin"),
    *(b"X-Forwarded-For", b"X-Forwarded-Host", b"X-HTTP-Method-Override", b"Content-Type", b"Content-Encoding"),
    *(b"Referer", b"User-Agent", b"Accept-Language", b"Upgrade", b"Expect", b"TE", b"Forwarded", b"ce-specversion"),
    *(b"ce-id", b"ce-type", b"ce-time", b"X-Webhook-Secret", b"If-Modified-Since", b"X-Original-URL", b"X-Injected"),
)
HEADER_VALUES: Final = (
    *(b"text/csv", b"*/*;q=nan", b"text/csv;q=1e999", b"application/json", b"gzip", b"gzip;q=0", b"br", b"deflate"),
    *(b"admin_session=" + b"0" * 64, b"admin_session=%0d%0a", b"a=b; a=c", b'W/"x", *', b"*", b"bytes=0-1"),
    *(b"application/x-www-form-urlencoded", b"application/x-ndjson", b"application/cloudevents+json", b"100-continue"),
    *(b"websocket", b"DELETE", b"1.0", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01", b"caller-7", b"\xe4\xf6\xfc"),
    *(b"application/json; charset=utf-7", b"application/json; charset=\xff", b"multipart/form-data; boundary=x"),
)
GZIP: Final = b"\x1f\x8b"
EVENT: Final[dict[str, Any]] = {
    "type": "login",
    "time": "2026-11-20T10:00:00Z",
    "user_id": "ada",
    "realm": "acme",
    "client_id": "web",
    "id": "e-1",
}

LEAVES: Final[Sequence[Any]] = (
    *(None, True, False, 0, -1, 10**20, 1.5, -1e308, "", "a", "\x00", "\ud800", "x" * 2000, "\u2028", "ada", "login"),
    *(
        "2026-11-20T10:00:00Z",
        "2026-11-20T10:00:00",
        "9999-12-31T23:59:59Z",
        "0000-00-00",
        1_795_168_800,
        "access_token",
    ),
)
FIELDS: Final = (
    *(*EVENT, "success", "counted", "grant_type", "tokens", "kind", "node", "reason", "serial", "realms", "active"),
    *("specversion", "data", "details", "date", "event", "createInstant", "realmId", "userId", "log_id", "\x00", ""),
)


def nasty(chance: Random) -> bytes:
    return chance.choice(NASTY) if chance.random() < 0.8 else chance.randbytes(chance.randrange(12))


def tree(chance: Random, depth: int = 3) -> Any:
    kind = chance.randrange(6) if depth else 5
    if kind == 0:
        return [tree(chance, depth - 1) for _ in range(chance.randrange(4))]
    if kind == 1:
        return {chance.choice(FIELDS): tree(chance, depth - 1) for _ in range(chance.randrange(4))}
    return chance.choice(LEAVES)


def event(chance: Random) -> dict[str, Any]:
    """One that may have something wrong in it."""
    return EVENT | {chance.choice(FIELDS): tree(chance) for _ in range(chance.randrange(4))}


def delivery(chance: Random) -> bytes:
    """What an ingest route is sent: nearly JSON, packed or not, or not even that."""
    kind = chance.choice(("tree", "event", "events", "lines", "binary", "cut", "packed", "deep"))
    if kind == "binary":
        return chance.randbytes(chance.randrange(200))
    if kind == "deep":
        return chance.choice((b"[", b'{"a":')) * 20_000
    events = [event(chance) for _ in range(chance.randrange(4))]
    result = tree(chance) if kind == "tree" else events if kind == "events" else event(chance)
    body = b"\n".join(json.dumps(each).encode() for each in events) if kind == "lines" else json.dumps(result).encode()
    if kind == "cut":
        body = body[: chance.randrange(len(body))]
    return gzip.compress(body) if kind == "packed" else body


def query(chance: Random, surface: Surface) -> bytes:
    """Parameters that the surface knows and others, with values that it takes and others."""
    pairs = []
    for _ in range(chance.randrange(5)):
        known = surface.parameters and chance.random() < 0.95
        name = chance.choice(surface.parameters).encode() if known else nasty(chance)
        if surface.values and chance.random() < 0.7:
            value = quote_from_bytes(chance.choice(surface.values).encode()).encode()
        else:
            value = nasty(chance)
        pairs.append(name + b"=" + value)
    return b"&".join(pairs)


def authorization(chance: Random) -> bytes | None:
    if chance.random() < 0.7:
        return b"Bearer " + chance.choice((TOKEN, TOKEN, TOKEN, LIMITED)).encode()
    bad = (None, b"Bearer", b"Basic YTpi", b"Bearer " + b"x" * 9000, WEBHOOK.encode(), b"Bearer " + nasty(chance))
    return chance.choice(bad)


def request(chance: Random, surface: Surface) -> Sent:
    path = chance.choice(surface.paths)
    method = b"POST" if surface.posts and chance.random() < 0.4 else chance.choice(METHODS)
    target, body = path.encode(), b""
    if chance.random() < 0.08:
        target += nasty(chance)
    headers = [b"Host: " + chance.choice(HOSTS)]
    asked = query(chance, surface)
    ingest = path.startswith(("/v1/events", "/v1/ingest"))
    if method == b"POST" and not ingest:
        body = asked
        headers.append(b"Content-Type: application/x-www-form-urlencoded")
    elif asked:
        target += b"?" + asked
    if ingest:
        body = delivery(chance)
        headers.append(b"Content-Type: application/json")
        if body.startswith(GZIP):
            headers.append(b"Content-Encoding: gzip")
    token = authorization(chance)
    if token is not None:
        headers.append(b"Authorization: " + token)
    for _ in range(chance.randrange(4)):
        value = chance.choice(HEADER_VALUES) if chance.random() < 0.5 else nasty(chance)
        headers.append(chance.choice(HEADERS) + b": " + value)
    if body or method == b"POST":
        headers.append(b"Content-Length: %d" % len(body))
    return Sent(path, method, method + b" " + target + b" HTTP/1.1\r\n" + b"\r\n".join(headers) + b"\r\n\r\n" + body)
