"""Live figures: sent when they change, to callers with access while they have it; they do not delay a stop."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from api.app import SERVICES
from api.dashboard import feeds, live
from api.dialects.own.today import Live as LiveFigures
from api.metrics import LIVE_LISTENERS, REGISTRY
from deploy.demo.servers import Valkey
from deploy.demo.servers.process import tail
from tests.api.conftest import Answer, Api, Clock, Serve
from tests.api.issuer import Issuer, token
from tests.api.sources import by_file, by_introspection, by_jwt, listed
from tests.api.worker import account, count, login
from tests.api.worker import token as issued
from tests.conftest import POLL_S, wait_until, wait_until_async
from tests.integration.api_process import ApiProcess

LIVE = "/v1/live"
NOW = "2026-11-20T12:00:00Z"
FAST = {"live_interval_s": 0.1}
SEEN = [
    login(NOW, "ada", realm="acme", client_id="web"),
    login(NOW, "bob", realm="acme", client_id="web"),
    login(NOW, "eve", realm="globex", client_id="web"),
    login(NOW, "eve", success=False, reason="locked", realm="globex", client_id="web"),
    issued(NOW, "password", "access_token", "id_token", realm="acme", client_id="web"),
    account(NOW, "signup", realm="acme"),
    login("2026-11-19T12:00:00Z", "yesterday", realm="acme"),
    {"type": "login", "raw": b"{", "at_ms": 1},
]
READER = {"scopes": ["stats:read"]}


class Listener:
    """One open stream, read by event."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def block(self) -> bytes:
        """One event or comment; empty when the stream has ended."""
        async with asyncio.timeout(10):
            try:
                return await self.response.content.readuntil(b"\n\n")
            except asyncio.IncompleteReadError as ended:
                return ended.partial

    async def event(self) -> tuple[str, Any]:
        block = (await self.block()).decode()
        name, data = block.splitlines()[:2]
        return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))

    async def figures(self) -> Any:
        name, data = await self.event()
        assert name == "figures"
        return data


@pytest.fixture
def clock(clock: Clock) -> Clock:
    clock.now = datetime.fromisoformat(NOW).timestamp()
    return clock


@asynccontextmanager
async def listening(api: Api, principal: str | None = None) -> AsyncIterator[Listener]:
    headers = {} if principal is None else {"Authorization": f"Bearer {principal}"}
    # A connection of its own, as a browser has, which ends with the block.
    async with aiohttp.ClientSession() as session, session.get(api.url + LIVE, headers=headers) as response:
        assert response.status == 200, await response.text()
        yield Listener(response)


@asynccontextmanager
async def passing_time(clock: Clock) -> AsyncIterator[None]:
    """Let the test's clock run fifty times as fast as the real one."""

    async def tick() -> None:
        while True:
            clock.now += 50 * POLL_S
            await asyncio.sleep(POLL_S)

    ticking = asyncio.create_task(tick())
    yield
    ticking.cancel()


async def test_it_sends_todays_figures_with_their_names(serve: Serve, redis_url: str, clock: Clock) -> None:
    await count(redis_url, SEEN)
    api = await serve(redis_url=redis_url, **FAST)
    async with listening(api) as listener:
        headers = listener.response.headers
        assert headers["Content-Type"] == "text/event-stream"
        assert (headers["Cache-Control"], headers["X-Accel-Buffering"]) == ("no-store", "no")
        assert headers["X-Request-Id"]
        assert await listener.figures() == {
            "date": "2026-11-20",
            "timezone": "UTC",
            "active_users": {"value": 3, "exact": True, "standard_error": 0.0},
            "logins": 3,
            "failed_logins": 1,
            "signups": 1,
            "tokens": 2,
            "as_of": {"newest_event": "2026-11-20T12:00:00.000Z", "lag": None},
            "dead_letters": 1,
        }


async def test_it_sends_the_same_as_the_overview(serve: Serve, redis_url: str, clock: Clock) -> None:
    await count(redis_url, SEEN)
    api = await serve(redis_url=redis_url, **FAST)
    overview = (await api.get("/v1/overview")).json
    async with listening(api) as listener:
        figures = await listener.figures()
    assert figures.keys() == set(LiveFigures.__struct_encode_fields__)
    assert figures["active_users"] == {name: overview["dau"][name] for name in figures["active_users"]}
    for measure in ("logins", "failed_logins", "signups", "tokens"):
        assert figures[measure] == overview["activity"]["day"][measure]["value"]
    assert figures["as_of"] == overview["as_of"]


async def test_a_change_is_sent_and_nothing_else_is(
    serve: Serve, redis_url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await count(redis_url, SEEN)
    monkeypatch.setattr(live, "HEARTBEAT_S", 0.3)
    monkeypatch.setattr(live, "CHECK_INTERVAL_S", 0.05)
    api = await serve(redis_url=redis_url, **FAST)
    async with listening(api) as listener:
        assert (await listener.figures())["active_users"]["value"] == 3
        for _ in range(3):
            clock.now += 10
            assert await listener.block() == b":\n\n", "only comments, which keep the connection open"
        await count(redis_url, [login(NOW, "fay")])
        clock.now += 10
        blocks = [await listener.block()]
        while blocks[-1] == b":\n\n":
            blocks.append(await listener.block())
        assert json.loads(blocks[-1].splitlines()[1].removeprefix(b"data: "))["active_users"]["value"] == 4


async def test_midnight_begins_a_new_day(serve: Serve, redis_url: str, clock: Clock) -> None:
    await count(redis_url, SEEN)
    api = await serve(redis_url=redis_url, timezone="Europe/Berlin", **FAST)
    async with listening(api) as listener:
        assert (await listener.figures())["date"] == "2026-11-20"
        clock.now = datetime.fromisoformat("2026-11-20T23:00:00Z").timestamp()
        figures = await listener.figures()
        assert (figures["date"], figures["active_users"]["value"]) == ("2026-11-21", 0)


async def test_an_empty_installation_is_followed_too(serve: Serve, redis_url: str, clock: Clock) -> None:
    async with listening(await serve(redis_url=redis_url, **FAST)) as listener:
        figures = await listener.figures()
        assert (figures["active_users"]["value"], figures["as_of"]) == (0, {"newest_event": None, "lag": None})


async def test_all_listeners_of_the_same_realms_share_what_is_read(
    serve: Serve, redis_url: str, clock: Clock, tmp_path: Path
) -> None:
    await count(redis_url, SEEN)
    few = {"realms": ["acme"], **READER}
    bearers = by_file(tmp_path, listed("all", **READER), listed("acme", **few), listed("acme too", **few))
    api = await serve(redis_url=redis_url, **bearers, **FAST)
    before = computed()
    async with listening(api, "all") as everything, listening(api, "acme") as one:
        async with listening(api, "acme") as other:
            result = [await listener.figures() for listener in (everything, one, other)]
            assert [figures["active_users"]["value"] for figures in result] == [3, 2, 2]
            assert [figures["failed_logins"] for figures in result] == [1, 0, 0]
            assert [figures["dead_letters"] for figures in result] == [1, None, None]
            assert computed() - before == 2
            assert LIVE_LISTENERS._value.get() == 3
        await wait_until_async(lambda: LIVE_LISTENERS._value.get() == 2, what="the one that left is noticed")
    await wait_until_async(lambda: LIVE_LISTENERS._value.get() == 0, what="all have left")


def computed() -> float:
    return REGISTRY.get_sample_value("authtally_api_cache_answers_total", {"source": "miss"}) or 0.0


@pytest.mark.parametrize(
    ("bearer", "query", "status", "why"),
    [
        (None, "", 401, "no token"),
        ("guessed", "", 401, "an unknown token"),
        ("scopeless", "", 403, "a token for something else"),
        ("reader", "?realm=acme", 400, "it has no filters"),
        ("reader", "?" + "a" * 4097, 400, "too long"),
    ],
)
async def test_a_bad_token_or_question_is_refused_before_a_stream_begins(
    serve: Serve, redis_url: str, tmp_path: Path, bearer: str | None, query: str, status: int, why: str
) -> None:
    bearers = by_file(tmp_path, listed("scopeless"), listed("reader", **READER))
    answer = await (await serve(redis_url=redis_url, **bearers)).get(LIVE + query, bearer)
    assert (answer.status, answer.headers["Content-Type"]) == (status, "application/problem+json"), why
    assert answer.json["status"] == status
    assert ("WWW-Authenticate" in answer.headers) == (status == 401)


async def test_realms_that_are_not_counted_apart_are_refused(serve: Serve, redis_url: str, tmp_path: Path) -> None:
    bearers = by_file(tmp_path, listed("acme", realms=["acme"], **READER))
    answer = await (await serve(redis_url=redis_url, users_by=(), **bearers)).get(LIVE, "acme")
    assert answer.status == 403
    assert "USERS_BY" in answer.json["detail"]


async def test_a_head_is_no_listener(serve: Serve, redis_url: str) -> None:
    api = await serve(redis_url=redis_url, live_listeners=1)
    async with aiohttp.ClientSession() as session:
        for _ in range(2):
            async with session.head(api.url + LIVE) as response:
                assert (response.status, response.content_type) == (200, "text/event-stream")


async def test_beyond_the_most_listeners_there_is_no_place(serve: Serve, redis_url: str, clock: Clock) -> None:
    api = await serve(redis_url=redis_url, live_listeners=1, **FAST)
    async with listening(api) as listener:
        await listener.figures()
        crowded = await api.get(LIVE)
        assert (crowded.status, crowded.headers["Retry-After"]) == (503, "5")
    await wait_until_async(lambda: LIVE_LISTENERS._value.get() == 0)
    async with listening(api) as listener:
        await listener.figures()


async def test_beyond_the_most_sets_of_realms_there_is_no_place(
    serve: Serve, redis_url: str, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "MAX_FEEDS", 1)
    bearers = by_file(
        tmp_path, listed("acme", realms=["acme"], **READER), listed("globex", realms=["globex"], **READER)
    )
    api = await serve(redis_url=redis_url, **bearers, **FAST)
    async with listening(api, "acme") as one, listening(api, "acme") as other:
        await one.figures()
        await other.figures()
        assert (await api.get(LIVE, "globex")).status == 503


async def test_a_stream_ends_when_its_token_does(serve: Serve, redis_url: str, clock: Clock, issuer: Issuer) -> None:
    clock.now = time.time()
    api = await serve(redis_url=redis_url, **by_jwt(issuer), **FAST)
    principal = token(scope="stats:read", exp=int(clock.now) + 30)
    async with listening(api, principal) as listener:
        await listener.figures()
        clock.now += 31
        assert await listener.block() == b"", "an orderly end, so that the page asks again and gets the reason"
    assert (await api.get(LIVE, principal)).status == 401


async def test_a_stream_ends_a_minute_after_its_token_was_withdrawn(
    serve: Serve, redis_url: str, clock: Clock, issuer: Issuer
) -> None:
    issuer.active["opaque"] = {"active": True, "sub": "ada", "scope": "stats:read"}
    api = await serve(redis_url=redis_url, **by_introspection(issuer), **FAST)
    async with listening(api, "opaque") as listener:
        await listener.figures()
        clock.now += 61
        await wait_until_async(lambda: issuer.introspections == 2, what="the token is checked again")
        issuer.active.clear()
        async with passing_time(clock):
            assert await listener.block() == b""


async def test_a_stream_ends_when_its_bearer_gets_other_realms(
    serve: Serve, redis_url: str, clock: Clock, issuer: Issuer
) -> None:
    issuer.active["opaque"] = {"active": True, "sub": "ada", "scope": "stats:read"}
    api = await serve(redis_url=redis_url, **by_introspection(issuer), **FAST)
    async with listening(api, "opaque") as listener:
        await listener.figures()
        issuer.active["opaque"] |= {"realms": ["acme"]}
        clock.now += 61
        assert await listener.block() == b""
    async with listening(api, "opaque") as listener:
        assert (await listener.figures())["dead_letters"] is None


async def test_a_ledger_that_goes_is_reported_and_comes_back(serve: Serve, clock: Clock) -> None:
    with Valkey() as store:
        await count(store.url, SEEN)
        api = await serve(redis_url=store.url, **FAST)
        async with listening(api) as listener:
            first = await listener.figures()
            await asyncio.to_thread(store.stop)
            clock.now += 10
            assert await listener.event() == ("unavailable", {})
            await asyncio.to_thread(store.start)
            await count(store.url, SEEN)
            async with passing_time(clock):
                assert await listener.figures() == first


async def test_open_streams_do_not_delay_a_stop(serve: Serve, redis_url: str, clock: Clock) -> None:
    api = await serve(redis_url=redis_url, **FAST)
    async with listening(api) as one, listening(api) as other:
        for listener in (one, other):
            await listener.figures()
        began = time.monotonic()
        await api.app.shutdown()
        for listener in (one, other):
            assert await listener.block() == b""
        assert time.monotonic() - began < 5
    refused: Answer = await api.get(LIVE)
    assert refused.status == 503


def test_a_stop_of_the_process_ends_streams_in_order(redis_url: str) -> None:
    with ApiProcess(redis_url=redis_url, auth="none") as api:
        with urllib.request.urlopen(f"http://{api.address}{LIVE}", timeout=10) as stream:
            assert stream.readline() == b"event: figures\n"
            began = time.monotonic()
            api.stop()
            assert time.monotonic() - began < api.stop_timeout_s / 2
            assert stream.read().startswith(b"data: {")
        assert "Traceback" not in tail(api.log, 1000)


async def test_who_does_not_read_holds_no_place_and_delays_no_stop(
    serve: Serve, redis_url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "WRITE_TIMEOUT_S", 0.2)
    # More than the buffers between client and server hold.
    monkeypatch.setattr(feeds, "sse_event", lambda name, data: b"event: figures\ndata: " + b" " * 8_000_000 + b"\n\n")
    api = await serve(redis_url=redis_url, **FAST)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(api.url.rpartition(":")[2]), limit=1024)
    writer.write(f"GET {LIVE} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    await wait_until_async(lambda: LIVE_LISTENERS._value.get() == 0, what="the deaf one is let go")
    writer.close()
    assert SERVICES in api.app


def test_listeners_are_counted() -> None:
    wait_until(lambda: REGISTRY.get_sample_value("authtally_api_live_listeners") == 0)


async def test_one_subject_cannot_take_the_places_of_others(serve: Serve, redis_url: str, tmp_path: Path) -> None:
    bearers = by_file(
        tmp_path,
        listed("one", **READER),
        listed("other", **READER),
        listed("one-acme", **READER | {"subject": "one", "realms": ["acme"]}),
    )
    api = await serve(redis_url=redis_url, live_listeners=6, live_listeners_per_subject=3, **FAST, **bearers)
    async with AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(listening(api, "one"))
        refused = await api.get(LIVE, "one")
        assert (refused.status, refused.headers["Retry-After"]) == (429, "5")
        for token in ("other", "one-acme"):
            await stack.enter_async_context(listening(api, token))
        async with listening(api, "other"):
            assert (await api.get(LIVE, "other")).status == 503, "all places are taken"
    # Places are free again when streams end.
    await wait_until_async(lambda: REGISTRY.get_sample_value("authtally_api_live_listeners") == 0, 10)
    async with listening(api, "one") as listener:
        await listener.event()


async def test_without_tokens_an_address_is_a_subject(serve: Serve, redis_url: str) -> None:
    api = await serve(redis_url=redis_url, live_listeners_per_subject=2, **FAST)
    async with listening(api), listening(api):
        assert (await api.get(LIVE)).status == 429
        connector = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
        async with aiohttp.ClientSession(connector=connector) as session, session.get(api.url + LIVE) as answer:
            assert answer.status == 200
