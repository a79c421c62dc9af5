"""Bounds of memory and of the event loop's turns, in a real api process over a ledger with wide answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
import redis

from api.http.errors import UnavailableError
from api.http.places import CallerGoneError, Places
from api.inventory.rows import TableLine
from api.inventory.selection import RUN, Selection
from api.ledger.cooldown import RETRY_S, TIMEOUTS
from deploy.demo.servers import Valkey
from tests.api.conftest import Clock, Serve
from tests.api.ledger_writer import open_ledger
from tests.qualification.bench.load import CALLBACK_GOAL_MS, MeasuredApi, WideQuestion, ask
from tests.qualification.bench.wide_ledger import Size, fill

MIB = 2**20
SIZE = Size(user_days=122, users_a_day=4_000, clients=40, client_days=400, realms=20, rows=90_000)
TODAY = datetime.now(UTC).date()
SORTED = "/reporting/show?status=total&sortby=count"
JANSSEN = "/jans-auth/restv1/internal/stat?month=2026{:02}"


@pytest.fixture(scope="module")
def store() -> Iterator[Valkey]:
    with Valkey() as server, redis.Redis.from_url(server.url) as client:
        fill(client, SIZE, TODAY)
        yield server


@pytest.fixture
def api(store: Valkey) -> Iterator[MeasuredApi]:
    kept: dict[str, Any] = {"users_by": "realm,client", "counts_by": "realm,client"}
    with MeasuredApi(redis_url=store.url, auth="none", **kept) as process:
        process.restart_measurement()
        yield process


@pytest.mark.parametrize(
    ("question", "callers", "most_mib", "why"),
    [
        (WideQuestion("", "/v1/active-users?trailing=90&limit={n}"), 3, 300, "30 windows of 90 days of 4,000 users"),
        (WideQuestion("", "/v1/logins?from={year}&group_by=client_id&limit=4{n}"), 3, 300, "16,000 counters"),
        (WideQuestion("", "/v1/logins?from={year}&group_by=client_id", (("Accept", "text/csv"),)), 1, 300, "as CSV"),
        (WideQuestion("", "/v1/lifecycle?granularity=week&from={weeks}"), 1, 300, "51 weeks, each after all before"),
        (WideQuestion("", "/v1/retention?granularity=week&from={weeks}&ages=1{n}"), 3, 300, "600 pairs of weeks"),
        (WideQuestion("", SORTED), 60, 250, "60 callers sort 90,000 rows"),
        (WideQuestion("", "/reporting/show?status=*&date={month}"), 4, 300, "streams of all statuses"),
    ],
)
async def test_wide_questions_are_bounded(
    api: MeasuredApi, question: WideQuestion, callers: int, most_mib: int, why: str
) -> None:
    year, month = TODAY.fromordinal(TODAY.toordinal() - 399), TODAY.fromordinal(TODAY.toordinal() - 20)
    # Weeks need the days back to the first of the month before them.
    weeks = TODAY.fromordinal(TODAY.toordinal() - 350)
    path = question.path.replace("{year}", str(year)).replace("{month}", str(month)).replace("{weeks}", str(weeks))
    statuses, size = await ask(f"http://{api.address}", question._replace(path=path), callers)
    assert set(statuses) <= {"200", "503"}, why
    assert statuses["200"] or path.startswith("/v1/"), "whose deadline may be too short for a machine under load"
    assert size > 100, why
    costs = api.costs()
    assert costs["callback_ms"] <= CALLBACK_GOAL_MS, why
    assert costs["peak_bytes"] <= most_mib * MIB, why


async def test_a_caller_that_hangs_up_frees_its_place(api: MeasuredApi) -> None:
    url = f"http://{api.address}"
    for _ in range(20):
        _, writer = await asyncio.open_connection(*api.address.split(":"))
        writer.write(f"GET {SORTED} HTTP/1.1\r\nHost: {api.address}\r\n\r\n".encode())
        await writer.drain()
        writer.close()
    async with aiohttp.ClientSession() as session, session.get(url + SORTED + "&page=1&pagesize=5") as answer:
        assert answer.status == 200
        assert (await answer.json())["result"]["value"]["resultset"]["report_rows"] == SIZE.rows


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("size", [1, 7, RUN, 3 * RUN])
def test_a_selection_is_a_stable_sort(size: int, descending: bool) -> None:
    lines = [TableLine(number, number, "", 0, "", "total", number * 7919 % 101) for number in range(3 * RUN + 5)]
    selection = Selection(lambda line: line.tokens, size, descending=descending)
    for line in lines:
        selection.add(line)
    expected = sorted(lines, key=lambda line: line.tokens, reverse=descending)[:size]
    assert list(selection.ordered()) == expected


async def test_places_are_shared_between_callers() -> None:
    places = Places(3, 2, wait_s=0.05)
    async with AsyncExitStack() as held:
        await held.enter_async_context(places.take("a", lambda: False))
        inner = await held.enter_async_context(AsyncExitStack())
        await inner.enter_async_context(places.take("a", lambda: False))
        with pytest.raises(UnavailableError):
            await held.enter_async_context(places.take("a", lambda: False))
        await held.enter_async_context(places.take("b", lambda: False))
        with pytest.raises(CallerGoneError):
            await held.enter_async_context(places.take("c", lambda: True))
        await inner.aclose()
        await held.enter_async_context(places.take("a", lambda: False))


async def test_one_slow_reply_fails_alone(serve: Serve, clock: Clock) -> None:
    with Valkey() as store:
        ledger = open_ledger(store.url)
        ledger.few_users("2026-10", range(5))
        api = await serve(redis_url=store.url)
        store.pause()
        assert (await api.get(JANSSEN.format(9))).status == 503
        store.resume()
        assert (await api.get(JANSSEN.format(10))).status == 200, "only what timed out fails"
        store.pause()
        for month in range(1, 1 + TIMEOUTS):
            assert (await api.get(JANSSEN.format(month))).status == 503
        store.resume()
        assert (await api.get(JANSSEN.format(8))).status == 503, "timeouts in a row start the pause"
        clock.now += RETRY_S
        assert (await api.get(JANSSEN.format(8))).status == 200
