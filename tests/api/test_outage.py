"""What callers get when Redis is gone, frozen, or refuses: an answer that says it is old, or 503 within two seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
import redis

from api.ledger.cooldown import RETRY_S
from deploy.demo.servers import Valkey
from schemas.ledger.scopes import EVERYTHING
from tests.api.conftest import Clock, Serve
from tests.api.ledger_writer import open_ledger

JANSSEN = "/jans-auth/restv1/internal/stat?month=202611"
GLUU = "/oxauth/restv1/internal/stat?month=202611"


@pytest.fixture
def store() -> Iterator[Valkey]:
    """A Valkey of the test's own, to be killed."""
    with Valkey() as server:
        open_ledger(server.url).few_users("2026-11", range(5))
        yield server


@pytest.mark.parametrize("end", ["kill", "pause"])
async def test_a_dead_redis_gives_old_answers_and_then_503(serve: Serve, store: Valkey, clock: Clock, end: str) -> None:
    api = await serve(redis_url=store.url, cache_grace_s=1000, janssen_cache_ttl_s=60)
    fresh = await api.get(JANSSEN)
    assert "Cache-Status" not in fresh.headers
    getattr(store, end)()

    clock.now += 100
    started = time.monotonic()
    # The whole answer even to a caller that has it: of a 304, its cache would keep the mark.
    stale = await api.get(JANSSEN, headers={"If-None-Match": fresh.headers["ETag"]})
    assert time.monotonic() - started < 2
    assert (stale.status, stale.body) == (200, fresh.body)
    assert stale.headers["Age"] == "100"
    assert stale.headers["Cache-Control"] == "no-store"
    assert stale.headers["Cache-Status"].startswith("authtally; hit; ttl=-")

    clock.now += 1000
    for path in (JANSSEN, GLUU):
        clock.now += 2
        started = time.monotonic()
        gone = await api.get(path)
        assert time.monotonic() - started < 2
        assert (gone.status, gone.json["error"]) == (503, "temporarily_unavailable")
        assert gone.headers["Retry-After"] == "1"
    if end == "pause":
        store.resume()


async def test_answers_come_back_with_redis(serve: Serve, store: Valkey, clock: Clock) -> None:
    api = await serve(redis_url=store.url)
    store.kill()
    assert (await api.get(JANSSEN)).status == 503
    assert (await api.get("/health/ready")).status == 503
    store.restart()
    open_ledger(store.url).few_users("2026-11", range(7))
    async with asyncio.timeout(10):
        # Each is answered at once, since the ledger is not asked for a second.
        while (answer := await api.get(JANSSEN)).status == 503:
            clock.now += RETRY_S
    assert answer.json["response"]["202611"]["monthly_active_users"] == 7
    assert (await api.get("/health/ready")).status == 200


async def test_the_api_starts_without_redis_and_says_so(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    api = await serve(redis_url="redis://127.0.0.1:1/0")
    assert (await api.get(JANSSEN)).status == 503
    assert (await api.get("/health/live")).status == 200
    assert (await api.get("/health/ready")).status == 503
    assert "AUTHTALLY_REDIS_URL" in capsys.readouterr().out


async def test_an_unexpected_error_shows_no_traceback(
    serve: Serve, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = open_ledger(redis_url).hold("2026-11")
    with redis.Redis.from_url(redis_url) as server:
        server.hset(names.counts("2026-11", EVERYTHING), b"\xff no field of ours", 1)
    api = await serve(redis_url=redis_url)
    answer = await api.get(JANSSEN, headers={"X-Request-Id": "caller-7"})
    assert (answer.status, answer.json["error"]) == (500, "server_error")
    assert "Traceback" not in answer.text
    assert "UnicodeDecodeError" not in answer.text
    assert answer.headers["X-Request-Id"] == "caller-7"
    logged = capsys.readouterr().out
    assert "UnicodeDecodeError" in logged
    assert "caller-7" in logged
