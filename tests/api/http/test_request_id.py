"""A request's id: taken from the caller or made, returned in the answer, and on every line that the request leaves."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import structlog

from api.http.request_id import request_id_of
from deploy.demo.servers import Valkey
from schemas.ledger.keys import shards
from schemas.telemetry import logs
from tests.api.conftest import Serve
from tests.api.issuer import Issuer, token
from tests.api.sources import by_file, by_introspection, by_jwt, listed
from tests.integration.api_process import ApiProcess

JANSSEN = "/jans-auth/restv1/internal/stat?month=202611"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("headers", "named", "why"),
    [
        ({"X-Request-Id": "caller-7"}, "caller-7", "the caller's own"),
        ({"X-Request-Id": "a" * 64}, "a" * 64, "as long as it may be"),
        ({"X-Request-Id": "018f3c9e-7a4b-7c3d:1.2_x"}, "018f3c9e-7a4b-7c3d:1.2_x", "every character it may have"),
        ({"traceparent": TRACEPARENT}, TRACE, "the trace that it belongs to"),
        ({"X-Request-Id": "caller-7", "traceparent": TRACEPARENT}, "caller-7", "its own before the trace's"),
        ({"X-Request-Id": "two words", "traceparent": TRACEPARENT}, TRACE, "the trace where its own is none"),
        ({"traceparent": f"01-{TRACE}-00f067aa0ba902b7-01-more"}, TRACE, "of a later version"),
    ],
)
def test_a_well_formed_id_is_taken(headers: dict[str, str], named: str, why: str) -> None:
    assert request_id_of(headers) == named, why


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Request-Id": ""},
        {"X-Request-Id": "a" * 65},
        {"X-Request-Id": "two words"},
        {"X-Request-Id": 'x", "admin": "yes'},
        {"X-Request-Id": "\x1b[31mred"},
        {"X-Request-Id": "naïve"},
        {"traceparent": TRACEPARENT.replace(TRACE, "0" * 32)},
        {"traceparent": TRACEPARENT.replace("00f067aa0ba902b7", "0" * 16)},
        {"traceparent": TRACEPARENT.upper()},
        {"traceparent": f"ff-{TRACE}-00f067aa0ba902b7-01"},
        {"traceparent": TRACE},
        {"traceparent": TRACEPARENT + "x" * 10_000},
    ],
)
def test_any_other_is_replaced_by_one_made_here(headers: dict[str, str]) -> None:
    made = request_id_of(headers)
    assert len(made) == 16
    assert made != request_id_of(headers)


@pytest.mark.parametrize(
    "path",
    [
        JANSSEN,
        "/oxauth/restv1/internal/stat?month=202611",
        "/api/v2/stats/active-users",
        "/reporting/show",
        "/v1/overview",
        "/v1/metrics",
        "/v1/logins?from=nonsense",
    ],
)
async def test_every_surface_returns_the_id(serve: Serve, redis_url: str, path: str) -> None:
    api = await serve(redis_url=redis_url)
    assert len((await api.get(path)).headers["X-Request-Id"]) == 16
    # The second answer may lie ready.
    for _ in range(2):
        assert (await api.get(path, headers={"X-Request-Id": "caller-7"})).headers["X-Request-Id"] == "caller-7"


async def test_a_cached_answer_returns_only_an_id_that_was_given(serve: Serve, redis_url: str) -> None:
    api = await serve(redis_url=redis_url)
    first = await api.get(JANSSEN, headers={"X-Request-Id": "caller-7"})
    ready = await api.get(JANSSEN)
    assert (ready.body, "X-Request-Id" in ready.headers) == (first.body, False), "one caller's id is not another's"
    unchanged = await api.get(JANSSEN, headers={"X-Request-Id": "caller-8", "If-None-Match": first.headers["ETag"]})
    assert (unchanged.status, unchanged.headers["X-Request-Id"]) == (304, "caller-8")


@pytest.fixture
def log_stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What is logged as operators set it up; what was set before comes back."""
    root, kept = logging.getLogger(), (logging.getLogger().handlers[:], logging.getLogger().level)
    configured = structlog.get_config()
    text = io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", text)
        logs.configure("debug", "json")
    yield text
    root.handlers[:], root.level = kept
    structlog.configure(**configured)


def lines(log_stream: io.StringIO, event: str) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, log_stream.getvalue().splitlines()) if line["event"] == event]


async def test_every_line_of_a_request_carries_its_id_and_no_other_does(serve: Serve, log_stream: io.StringIO) -> None:
    with Valkey() as store:
        api = await serve(redis_url=store.url)
    assert (await api.get(JANSSEN, headers={"X-Request-Id": "caller-7"})).status == 503
    (line,) = lines(log_stream, "ledger unreachable")
    assert line["request_id"] == "caller-7"
    structlog.get_logger("of somebody else").info("between requests")
    (between,) = lines(log_stream, "between requests")
    assert "request_id" not in between


async def test_a_traceback_has_no_variables(
    serve: Serve, redis_url: str, log_stream: io.StringIO, tmp_path: Path
) -> None:
    with redis.Redis.from_url(redis_url) as server:
        server.sadd(shards("authtally:"), "no shard")
    api = await serve(redis_url=redis_url, **by_file(tmp_path, listed("hush-hush")))
    assert (await api.get(JANSSEN, "hush-hush", {"X-Request-Id": "caller-7"})).status == 500
    (line,) = lines(log_stream, "request failed")
    assert line["request_id"] == "caller-7"
    assert any(frame["name"] == "serve" for frame in line["exception"][0]["frames"])
    # The token stands among the variables of several of its frames.
    assert "hush-hush" not in json.dumps(line)


async def test_no_line_holds_a_token(
    serve: Serve, redis_url: str, log_stream: io.StringIO, tmp_path: Path, issuer: Issuer
) -> None:
    tokens = {"opaque-token-of-ada", token(sub="user-ada"), "listed-token-of-ada"}
    for sources in (by_jwt(issuer), by_introspection(issuer), by_file(tmp_path, listed("listed-token-of-ada"))):
        api = await serve(redis_url=redis_url, **sources)
        for issuer.down in (False, True):
            for one in tokens:
                await api.get(JANSSEN, one)
                await api.get(f"/reporting/show?session={one}")
                await api.get(f"/v1/overview?token={one}", one)
        issuer.down = False
    text = log_stream.getvalue()
    assert text
    assert [one for one in (*tokens, "user-ada") if one in text] == []


def test_a_process_logs_json_with_nothing_but_objects(redis_url: str) -> None:
    with ApiProcess(redis_url=redis_url, auth="none", log_format="json", log_level="debug") as api:
        api.get("/nowhere")
        api.get(JANSSEN)
        api.stop()
        lines = api.log.read_text(encoding="utf-8").splitlines()
    assert lines
    for line in lines:
        assert {"event", "level", "logger", "timestamp"} <= json.loads(line).keys()
