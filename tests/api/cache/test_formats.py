"""One computation for all formats: every format of a question shows the same figures, in every process."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from deploy.demo.servers import Valkey
from tests.api.conftest import Answer, Api, Clock, Serve
from tests.api.otp import state, write
from tests.api.worker import account, count, login, token
from tests.conftest import wait_until_async

NOW = datetime(2026, 11, 20, 13, tzinfo=UTC)
NOON = "2026-11-20T12:00:00Z"
JANSSEN = "/jans-auth/restv1/internal/stat?month=202611"
GLUU = "/oxauth/restv1/internal/stat?month=202611"
TODAY = "from={day:%Y-%m-%d}&to={day:%Y-%m-%d}"
QUESTIONS = (
    "/jans-auth/restv1/internal/stat?month={day:%Y%m}",
    "/jans-auth/restv1/internal/stat?month={day:%Y%m}&format=jsonmonth",
    "/jans-auth/restv1/internal/stat?month={day:%Y%m}&format=openmetrics",
    "/oxauth/restv1/internal/stat?month={day:%Y%m}",
    "/oxauth/restv1/internal/stat?month={day:%Y%m}&format=openmetrics",
    "/api/v2/stats/active-users",
    "/api/v2/stats/daily?from={day:%Y%m%d}&to={day:%Y%m%d}",
    "/v1/overview",
    f"/v1/active-users?granularity=month&{TODAY}",
    f"/v1/active-users?group_by=realm&format=csv&{TODAY}",
    f"/v1/active-users?trailing=7&{TODAY}",
    f"/v1/logins?group_by=reason&{TODAY}",
    f"/v1/logins?group_by=client_id&format=csv&{TODAY}",
    f"/v1/tokens?group_by=grant_type,token_type&{TODAY}",
    f"/v1/accounts?{TODAY}",
    "/v1/m2m",
    "/v1/labels",
    "/v1/pipeline",
    "/v1/otp-tokens",
    "/v1/metrics",
)
"""Each names only periods of which events are counted: nothing is partial."""


def events(users: range) -> list[Any]:
    found = [login(NOON, f"user{number}", realm="acme", client_id="web") for number in users]
    return [*found, token(NOON, "password", "access_token", "id_token", realm="acme", client_id="web")]


@pytest.fixture
async def api(serve: Serve, redis_url: str, clock: Clock) -> Api:
    clock.now = NOW.timestamp()
    await count(redis_url, events(range(7)))
    return await serve(redis_url=redis_url, cache_ttl_s=60)


def janssen_users(answers: dict[str, Answer]) -> set[int]:
    """The active users of every format."""
    metrics = re.search(r'monthly_active_users\{month="202611"\} (\d+)\.0', answers["openmetrics"].text)
    assert metrics is not None
    (flat,) = answers["jsonmonth"].json
    nested = answers["json"].json["response"]["202611"]
    return {int(metrics[1]), flat["monthly_active_users"], nested["monthly_active_users"]}


@pytest.mark.parametrize("first", ["json", "jsonmonth", "openmetrics"])
async def test_a_format_asked_for_later_shows_what_the_first_one_showed(
    api: Api, redis_url: str, clock: Clock, first: str
) -> None:
    before = await api.get(f"{JANSSEN}&format={first}")
    await count(redis_url, events(range(10)))
    clock.now += 1800
    answers = {form: await api.get(f"{JANSSEN}&format={form}") for form in ("json", "jsonmonth", "openmetrics")}
    assert answers[first].body == before.body
    assert janssen_users(answers) == {7}
    assert {answer.headers["Age"] for answer in answers.values()} == {"1800"}
    assert len({answer.headers["Cache-Control"] for answer in answers.values()}) == 1
    clock.now += 1900
    answers = {form: await api.get(f"{JANSSEN}&format={form}") for form in ("openmetrics", "jsonmonth", "json")}
    assert janssen_users(answers) == {10}


async def test_a_table_shows_what_the_json_showed(api: Api, redis_url: str, clock: Clock) -> None:
    path = "/v1/active-users?granularity=month&from=2026-11-01"
    document = (await api.get(path)).json
    await count(redis_url, events(range(10)))
    clock.now += 30
    table = await api.get(f"{path}&format=csv")
    by_header = await api.get(path, headers={"Accept": "text/csv"})
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert [int(row["value"]) for row in rows] == [item["value"] for item in document["items"]]
    assert by_header.body == table.body
    assert table.headers["Age"] == "30"


async def test_gluus_formats_agree(api: Api, redis_url: str, clock: Clock) -> None:
    text = (await api.get(f"{GLUU}&format=openmetrics")).text
    assert 'monthly_active_users{month="202611",} 7.0' in text
    await count(redis_url, events(range(10)))
    clock.now += 30
    assert (await api.get(GLUU)).json["response"]["202611"]["monthly_active_users"] == 7


async def test_figures_from_the_shared_store_render_alike(serve: Serve, redis_url: str, clock: Clock) -> None:
    """Every surface: the second process computes nothing, and its bytes and tags are those of the first."""
    # Redis ends entries by its own clock, so this test is of today.
    now = datetime.fromtimestamp(clock.now, UTC)
    at = now.isoformat()
    week = [login((now - timedelta(days=back)).isoformat(), "ada", realm="acme") for back in range(7, 0, -1)]
    await count(
        redis_url,
        [
            *week,
            *(login(at, f"user{number}", realm="acme", client_id="web") for number in range(7)),
            login(at, "x", success=False, reason="locked", realm="globex", client_id="typo"),
            token(at, "client_credentials", "access_token", realm="acme", client_id="job"),
            account(at, "signup", realm="acme"),
        ],
    )
    await write(redis_url, [state(at, "T1", "token_init", "acme")])
    paths = [path.format(day=now) for path in QUESTIONS]
    with Valkey() as cache, redis.Redis.from_url(cache.url) as server:
        kept = {"redis_url": redis_url, "cache_redis_url": cache.url, "auth0_rate_limit": 0, "cache_ttl_s": 600}
        first = await serve(**kept)
        answers = {path: await first.get(path) for path in paths}
        assert {path: answer.status for path, answer in answers.items()} == dict.fromkeys(paths, 200)
        # The three formats of Janssen share an entry, and so do the two of Gluu.
        entries = len(paths) - 3
        await wait_until_async(lambda: server.dbsize() == entries, 30, "all entries in the shared store")
        second = await serve(**kept)
        with redis.Redis.from_url(redis_url) as ledger:
            ledger.config_resetstat()
            for path, answer in answers.items():
                again = await second.get(path)
                assert (again.status, again.body) == (200, answer.body), path
                for name in ("ETag", "Content-Type", "Cache-Control"):
                    if not path.startswith("/v1/otp-tokens"):
                        assert again.headers[name] == answer.headers[name], path
            commands = ledger.info("commandstats")
    # The counts of OTP tokens are computed anew each time; nothing else read the ledger.
    assert not {"cmdstat_pfcount", "cmdstat_sunion", "cmdstat_eval_ro", "cmdstat_zmscore"} & commands.keys()


@pytest.mark.parametrize("months", ["202609", "202609 202611"])
async def test_an_answer_without_a_month_ends_after_ten_seconds_with_the_store_away(
    serve: Serve, clock: Clock, months: str
) -> None:
    clock.now = NOW.timestamp()
    with Valkey() as store:
        await count(store.url, events(range(7)))
        api = await serve(redis_url=store.url, cache_grace_s=86_400)
        path = f"/jans-auth/restv1/internal/stat?month={months.replace(' ', '%20')}"
        fresh = await api.get(path)
        assert "202609" not in fresh.json["response"]
        assert fresh.headers["Cache-Control"] == "private, max-age=10"
        whole = await api.get(JANSSEN)
        store.kill()
        clock.now += 9
        assert (await api.get(path)).body == fresh.body
        clock.now += 1
        assert (await api.get(path)).status == 503
        clock.now += 3700
        stale = await api.get(JANSSEN)
        assert (stale.status, stale.body, "Cache-Status" in stale.headers) == (200, whole.body, True)
        assert (await api.get(f"{JANSSEN}&format=jsonmonth")).json[0]["monthly_active_users"] == 7, "in every format"


EMPTY = ("/v1/active-users?granularity=month", "/v1/logins", "/v1/labels", "/v1/m2m", "/v1/overview", "/v1/metrics")


@pytest.mark.parametrize("path", [*EMPTY, "/api/v2/stats/daily", "/api/v2/stats/active-users", GLUU])
async def test_an_empty_answer_has_no_grace_on_any_surface(serve: Serve, clock: Clock, path: str) -> None:
    clock.now = NOW.timestamp()
    with Valkey() as store:
        api = await serve(redis_url=store.url, cache_grace_s=86_400)
        assert (await api.get(path)).status == 200
        store.kill()
        clock.now += 11
        assert (await api.get(path)).status == 503
