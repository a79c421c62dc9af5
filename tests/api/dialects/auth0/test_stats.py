"""`/api/v2/stats`: the answers and refusals of Auth0's documentation."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
import redis

from deploy.demo.servers import Valkey
from schemas.ledger.scopes import Scope
from tests.api.conftest import Api, Clock, Serve
from tests.api.dialects.auth0.conftest import ACTIVE, DAILY, READ, ROWS, TOKENS, counted
from tests.api.ledger_writer import LedgerWriter, open_ledger
from tests.api.sources import by_file, listed


def retained(url: str, days: str) -> None:
    with redis.Redis.from_url(url) as server:
        shard_keys = LedgerWriter(server).hold("2026-11")
        server.hset(shard_keys.meta, "retain_days", days)


# active-users


async def test_active_users_is_a_bare_number_of_the_last_30_days(api: Api, ledger: LedgerWriter) -> None:
    ledger.few_users("2026-11-20", range(10))
    ledger.few_users("2026-11-01", range(5, 15), TOKENS)
    ledger.few_users("2026-10-22", range(20, 22))
    ledger.few_users("2026-10-21", range(30, 90))
    ledger.few_users("2026-11-21", range(90, 99))
    answer = await api.get(ACTIVE, "good")
    assert (answer.status, answer.body) == (200, b"17")
    assert answer.headers["Content-Type"].startswith("application/json")


async def test_active_users_of_many_days_are_their_union(api: Api, ledger: LedgerWriter) -> None:
    users = [(number * 0x9E3779B97F4A7C15) % 2**64 - 2**63 for number in range(9_000)]
    ledger.many_users("2026-11-19", users[:8_000])
    ledger.many_users("2026-11-20", users[1_000:])
    assert int((await api.get(ACTIVE, "good")).text) == pytest.approx(9_000, rel=0.02)


@pytest.mark.parametrize(
    ("zone", "hours", "active", "why"),
    [
        ("UTC", 0, "6", "22 October to 20 November"),
        ("UTC", 10.5, "5", "from midnight on 23 October to 21 November"),
        ("Pacific/Auckland", 0, "7", "who signs in on the 21st, 02:30 there, is not missing; the 22nd still counts"),
        ("Pacific/Auckland", 10.5, "5", "the client's day has begun"),
        ("America/Los_Angeles", 0, "6", "05:30 there"),
        ("America/Los_Angeles", 10.5, "5", "16:00 of the day before there, but the client's day has begun"),
    ],
)
async def test_the_window_is_that_of_a_client_in_utc(
    serve: Serve, redis_url: str, ledger: LedgerWriter, clock: Clock, zone: str, hours: float, active: str, why: str
) -> None:
    ledger.few_users("2026-10-22", range(2))
    ledger.few_users("2026-11-20", range(10, 14))
    ledger.few_users("2026-11-21", range(20, 21))
    api = await serve(redis_url=redis_url, timezone=zone)
    clock.now += hours * 3600
    assert (await api.get(ACTIVE)).text == active, why


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Auckland", "America/Los_Angeles"])
async def test_the_days_of_daily_are_those_of_a_client_in_utc(
    serve: Serve, redis_url: str, clock: Clock, zone: str
) -> None:
    api = await serve(redis_url=redis_url, timezone=zone, auth0_zero_fill=True)
    for hours, first, last in ((0, "2026-10-22", "2026-11-20"), (10.5, "2026-10-23", "2026-11-21")):
        clock.now += hours * 3600
        days = [row["date"] for row in (await api.get(DAILY)).json]
        assert (days[0], days[-1], len(days)) == (f"{first}T00:00:00.000Z", f"{last}T00:00:00.000Z", 30)


async def test_no_user_is_zero(api: Api) -> None:
    assert (await api.get(ACTIVE, "good")).body == b"0"


async def test_a_bearer_of_realms_sees_their_union(api: Api, ledger: LedgerWriter) -> None:
    ledger.few_users("2026-11-20", range(100))
    ledger.few_users("2026-11-20", range(3), scope=Scope("realm", ("acme",)))
    ledger.few_users("2026-11-19", range(2, 7), scope=Scope("realm", ("globex",)))
    seen = {name: (await api.get(ACTIVE, name)).text for name in ("good", "acme", "both", "nothing")}
    assert seen == {"good": "100", "acme": "3", "both": "7", "nothing": "0"}


# daily


@pytest.mark.usefixtures("november")
@pytest.mark.parametrize(
    ("query", "days", "why"),
    [
        ("", ["2026-11-17", "2026-11-19"], "the last 30 days"),
        ("?from=20261117&to=20261119", ["2026-11-17", "2026-11-19"], "both ends are included"),
        ("?from=20261118&to=20261118", [], "a day without data is left out"),
        ("?from=20261118", ["2026-11-19"], "from a day until today"),
        ("?to=20261118", ["2026-11-17"], "the 30 days until a day"),
        ("?to=20261216", ["2026-11-17", "2026-11-19"], "which may lie ahead"),
        ("?to=20261217", ["2026-11-19"], "and are 30"),
        ("?from=20251016&to=20261119", ["2026-11-17", "2026-11-19"], "400 days are not too many"),
        ("?from=20240229&to=20240301", [], "a leap day is a day"),
    ],
)
async def test_daily_has_the_days_of_its_window(api: Api, query: str, days: list[str], why: str) -> None:
    answer = await api.get(DAILY + query, "good")
    assert (answer.status, answer.json) == (200, [ROWS[day] for day in days]), why


@pytest.mark.usefixtures("november")
async def test_days_without_data_are_zeros_when_configured_so(serve: Serve, redis_url: str) -> None:
    api = await serve(redis_url=redis_url, auth0_zero_fill=True)
    answer = await api.get(f"{DAILY}?from=20261117&to=20261119")
    start = "2026-11-18T00:00:00.000Z"
    empty = {"logins": 0, "signups": 0, "leaked_passwords": 0, "date": start, "updated_at": start, "created_at": start}
    assert answer.json == [ROWS["2026-11-17"], empty, ROWS["2026-11-19"]]
    assert len((await api.get(DAILY)).json) == 30


async def test_a_day_of_a_limited_bearer_is_made_of_its_realms(api: Api, redis_url: str, november: None) -> None:
    counted(redis_url, "2026-11-19", {"login": 2, "signup": 1}, scope=Scope("realm", ("acme",)))
    counted(redis_url, "2026-11-19", {"login": 1}, TOKENS, Scope("realm", ("globex",)))
    rows = {name: (await api.get(DAILY, name)).json for name in ("acme", "both", "nothing")}
    result = {name: [(row["date"][:10], row["logins"], row["signups"]) for row in rows[name]] for name in rows}
    assert result == {"acme": [("2026-11-19", 2, 1)], "both": [("2026-11-19", 3, 1)], "nothing": []}
    (row,) = rows["acme"]
    assert row["updated_at"] == row["created_at"] == row["date"], "when others logged in is not theirs to know"


QUERY_STRING: Final = "Invalid request query string."


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("from=20261120&to=20261119", "'from' date cannot be greater than 'to' date."),
        ("from=20261121", "'from' date cannot be greater than 'to' date."),
        ("from=20230231", f"{QUERY_STRING} 'from'"),
        ("to=20230229", f"{QUERY_STRING} 'to'"),
        ("from=2026-11-20", f"{QUERY_STRING} 'from'"),
        ("from=", f"{QUERY_STRING} 'from'"),
        ("from=19991231", f"{QUERY_STRING} 'from'"),
        ("to=20261301", f"{QUERY_STRING} 'to'"),
        ("to=%EF%BC%92%EF%BC%90261120", f"{QUERY_STRING} 'to'"),
        ("from=20261120%0A", f"{QUERY_STRING} 'from'"),
        ("from=20251015&to=20261119", "'from' and 'to' cannot span more than 400 days."),
        ("from=20000101&to=29991231", "'from' and 'to' cannot span more than 400 days."),
        ("form=20261120", f"{QUERY_STRING} Unknown parameter 'form'."),
    ],
)
async def test_bad_questions_are_named(api: Api, query: str, message: str) -> None:
    answer = await api.get(f"{DAILY}?{query}", "good")
    assert answer.status == 400
    assert answer.json["message"].startswith(message)
    assert answer.json | {"message": ""} == {
        "statusCode": 400,
        "error": "Bad Request",
        "message": "",
        "errorCode": "invalid_query_string",
    }


@pytest.mark.parametrize(
    ("days", "active", "daily"),
    [("400", 200, 200), ("forever", 200, 200), ("29", 200, 200), ("28", 400, 400), ("0", 400, 400)],
)
async def test_days_that_are_not_kept_are_no_zeros(
    api: Api, redis_url: str, days: str, active: int, daily: int
) -> None:
    retained(redis_url, days)
    answers = [await api.get(path, "good") for path in (ACTIVE, DAILY)]
    assert [answer.status for answer in answers] == [active, daily]
    assert all("RETAIN_DAYS" in answer.json["message"] for answer in answers if answer.status == 400)


@pytest.mark.parametrize("zero_fill", [False, True])
@pytest.mark.parametrize(
    ("first", "last", "status"),
    [("20261110", "20261120", 200), ("20261109", "20261120", 400), ("20261001", "20261005", 400)],
)
async def test_days_past_retention_are_refused_by_name(
    serve: Serve, redis_url: str, clock: Clock, zero_fill: bool, first: str, last: str, status: int
) -> None:
    clock.now = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()
    retained(redis_url, "10")
    api = await serve(redis_url=redis_url, auth0_zero_fill=zero_fill)
    answer = await api.get(f"{DAILY}?from={first}&to={last}")
    assert answer.status == status
    if status == 400:
        assert answer.json == {
            "statusCode": 400,
            "error": "Bad Request",
            "message": "Days before 2026-11-10 are no longer kept: RETAIN_DAYS is 10 here, and the first day asked for "
            f"is {first[:4]}-{first[4:6]}-{first[6:]}.",
            "errorCode": "invalid_query_string",
        }


# who may ask

BAD_HEADER: Final = {
    "statusCode": 400,
    "error": "Bad Request",
    "message": "Bad HTTP authentication header format",
    "errorCode": "Bearer",
}


BAD_TOKEN: Final = {
    "statusCode": 401,
    "error": "Unauthorized",
    "message": "Invalid token",
    "attributes": {"error": "Invalid token"},
}


NO_SCOPE: Final = {
    "statusCode": 403,
    "error": "Forbidden",
    "message": "Insufficient scope, expected any of: read:stats",
    "errorCode": "insufficient_scope",
}


@pytest.mark.parametrize("path", [ACTIVE, DAILY])
@pytest.mark.parametrize(
    ("authorization", "refusal"),
    [
        (None, BAD_TOKEN),
        ("Bearer unknown", BAD_TOKEN),
        (f"Bearer {'x' * 9000}", BAD_TOKEN),
        ("Bearer other", NO_SCOPE),
        ("", BAD_HEADER),
        ("Bearer", BAD_HEADER),
        ("Basic Z29vZA==", BAD_HEADER),
        ("good", BAD_HEADER),
        ("Bearer good good", BAD_HEADER),
    ],
)
async def test_refusals_name_what_is_missing(
    api: Api, path: str, authorization: str | None, refusal: dict[str, Any]
) -> None:
    answer = await api.get(path, headers={} if authorization is None else {"Authorization": authorization})
    assert (answer.status, answer.json) == (refusal["statusCode"], refusal)
    assert ("WWW-Authenticate" in answer.headers) == (answer.status == 401)
    assert int(answer.headers["x-ratelimit-remaining"]) == 49


async def test_a_bearer_of_realms_is_refused_where_realms_are_not_kept(
    serve: Serve, redis_url: str, tmp_path: Path
) -> None:
    tokens = by_file(tmp_path, listed("acme", scopes=READ, realms=["acme"]))
    api = await serve(redis_url=redis_url, users_by=("client",), **tokens)
    answer = await api.get(DAILY, "acme")
    assert (answer.status, answer.json["error"]) == (403, "Forbidden")
    assert "USERS_BY" in answer.json["message"]


async def test_a_dead_ledger_is_unavailable_in_auth0s_shape(serve: Serve) -> None:
    api = await serve(redis_url="redis://127.0.0.1:1/0")
    answer = await api.get(ACTIVE)
    assert (answer.status, answer.json["error"], answer.json["statusCode"]) == (503, "Service Unavailable", 503)
    assert answer.headers["Retry-After"] == "1"


async def test_an_old_answer_serves_while_the_ledger_is_gone(serve: Serve, clock: Clock) -> None:
    with Valkey() as store:
        open_ledger(store.url).few_users("2026-11-20", range(4))
        api = await serve(redis_url=store.url)
        await api.get(ACTIVE)
        store.kill()
        clock.now += 100
        answer = await api.get(ACTIVE)
    assert (answer.status, answer.text, answer.headers["Age"]) == (200, "4", "100")
    assert answer.headers["Cache-Status"].startswith("authtally; hit; ttl=-")
