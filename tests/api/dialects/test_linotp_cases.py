"""LinOTP's own seventeen test cases of reporting, as the events that such requests would have published.

What LinOTP decides before there is an event (whether a request was authorised, how many tokens one request changes) is
not ours: cases 6, 14 and 17 are rebuilt from the events on, and in case 2 one event stands for the one request.
"""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import Api, Clock, Serve
from tests.api.otp import COUNTS, Event, given, policy, rows, state, value, write, written
from tests.api.sources import by_file, listed

DEF, MIX, OTHER, NONE = "mydefrealm", "mymixrealm", "myotherrealm", "/:no realm:/"
BOTH = f"{DEF},{MIX}"


class Tokens:
    """Events of tokens, one second after the other."""

    def __init__(self, start: str = "2026-11-20T10:00:00") -> None:
        self.at = datetime.fromisoformat(start).replace(tzinfo=UTC)
        self.serial = count(1)
        self.events: list[Event] = []

    def change(self, serial: str, event: str, *realms: str, user: str | None = None, **rest: Any) -> None:
        holder = {} if user is None else {"user_id": user}
        self.events.append(state(self.at.isoformat(), serial, event, *realms, **holder, **rest))
        self.at += timedelta(seconds=1)

    def init(self, *realms: str, user: str | None = None, active: bool = True) -> str:
        serial = f"{next(self.serial):04}"
        self.change(serial, "token_init", *realms, user=user)
        if not active:
            self.change(serial, "token_disable", *realms, user=user, active=False)
        return serial


@pytest.fixture
def tokens() -> Tokens:
    return Tokens()


@pytest.fixture(autouse=True)
def now(clock: Clock) -> None:
    clock.now = datetime.fromisoformat("2026-11-20T13:00:00Z").timestamp()


async def serve_with(serve: Serve, redis_url: str, folder: Path, *policies: str, **settings: Any) -> Api:
    return await serve(redis_url=redis_url, reporting_policy_file=written(folder, *policies), **settings)


async def test_1_init_token_makes_one_row(serve: Serve, redis_url: str, tmp_path: Path, tokens: Tokens) -> None:
    tokens.init(MIX, user="hans")
    await write(redis_url, tokens.events)
    api = await serve_with(serve, redis_url, tmp_path, policy("reporting", "token_total", BOTH))
    assert len(await rows(api)) == 1


async def test_2_reporting_status_active(serve: Serve, redis_url: str, tmp_path: Path, tokens: Tokens) -> None:
    tokens.init(MIX, user="hans")
    second = tokens.init(DEF, user="hans")
    tokens.init(MIX, user="hans", active=False)
    tokens.init(DEF, user="hans")
    tokens.init(MIX, user="lorca")
    tokens.init(OTHER)
    await write(redis_url, tokens.events)
    recorded = policy("reporting", "token_total, token_status=active", BOTH)
    api = await serve_with(serve, redis_url, tmp_path, recorded)
    assert len(await rows(api)) == 12
    tokens.events.clear()
    tokens.change(second, "token_disable", DEF, user="hans", active=False)
    await write(redis_url, tokens.events)
    assert len(await rows(api, "status=active")) == 7


async def test_3_multi_actions_in_reporting_policy(
    serve: Serve, redis_url: str, tmp_path: Path, tokens: Tokens
) -> None:
    tokens.init(MIX, user="hans")
    await write(redis_url, tokens.events)
    action = "token_total,token_status=active,token_status=inactive"
    api = await serve_with(serve, redis_url, tmp_path, policy("reporting", action, BOTH))
    assert {row["parameter"]: row["count"] for row in await rows(api)} == {"total": 1, "active": 1, "inactive": 0}


THREE_DAYS = [
    given("2026-11-18T12:00:00Z", DEF, "active", 1),
    given("2026-11-19T12:00:00Z", DEF, "active", 2),
    given("2026-11-20T12:00:00Z", DEF, "active", 3),
]


async def test_4_del_before(serve: Serve, redis_url: str) -> None:
    await write(redis_url, THREE_DAYS, COUNTS)
    api = await serve(redis_url=redis_url)
    answer = await api.post("/reporting/delete_before", "date=2026-11-19&realms=*&status=active")
    assert value(answer) == 1
    assert [row["count"] for row in await rows(api)] == [2, 3]


async def test_5_delete_all_reports(serve: Serve, redis_url: str) -> None:
    await write(redis_url, THREE_DAYS[1:], COUNTS)
    api = await serve(redis_url=redis_url)
    # LinOTP's own test misspells the parameter, which is none then.
    assert value(await api.post("/reporting/delete_all", "realm=*&status=active")) == 2
    assert await rows(api) == []


async def test_6_an_enrolment_in_selfservice_makes_one_row(
    serve: Serve, redis_url: str, tmp_path: Path, tokens: Tokens
) -> None:
    tokens.init(DEF, user="passthru_user1")
    await write(redis_url, tokens.events)
    selfservice = policy("selfservice", "enrollHMAC", DEF)
    api = await serve_with(serve, redis_url, tmp_path, policy("reporting", "token_total", BOTH), selfservice)
    assert len(await rows(api)) == 1


FIVE = "total,active,inactive,assigned,unassigned"


def period_of(*days: str) -> list[Event]:
    """The tokens of case 7, a second after midnight of their days."""
    result = Tokens()
    made: list[tuple[str, tuple[str, ...], str | None, bool]] = [
        (days[0], (MIX,), "max1", False),
        (days[1], (DEF,), "hans", True),
        (days[2], (DEF,), "hans", False),
        (days[3], (DEF,), None, False),
        (days[4], (DEF,), "lorca", True),
        (days[5], (OTHER,), None, True),
        (days[6], (MIX,), "hans", False),
    ]
    for day, realms, user, active in made:
        result.at = datetime.fromisoformat(f"{day}T00:00:01+00:00")
        result.init(*realms, user=user, active=active)
    return result.events


NULLS = dict.fromkeys(FIVE.split(","))


@pytest.mark.parametrize(
    ("query", "of_def", "of_mix", "why"),
    [
        ("from=1970-03-01&to=2019-08-04", NULLS, NULLS, "0.a: nothing happened yet"),
        ("from=2019-08-04&to=2019-09-04", NULLS, (1, 1, 1, 1, 0), "0.b: made active, then disabled"),
        ("", (4, 2, 2, 3, 1), (2, 1, 2, 2, 0), "A: all time"),
        ("from=2020-02-20", (4, 2, 2, 3, 1), (2, 1, 2, 2, 0), "B: no end"),
        ("to=2020-03-01", (4, 2, 2, 3, 1), (1, 1, 1, 1, 0), "C: the end is excluded"),
        ("from=2020-02-20&to=2020-02-22", (1, 1, 0, 1, 0), (1, 0, 1, 1, 0), "D: the last row before"),
    ],
)
async def test_7_reporting_period(
    serve: Serve, redis_url: str, tmp_path: Path, clock: Clock, query: str, of_def: Any, of_mix: Any, why: str
) -> None:
    days = ("2019-08-04", "2020-02-20", "2020-02-22", "2020-02-24", "2020-02-26", "2020-02-28", "2020-03-01")
    await write(redis_url, period_of(*days))
    clock.now = datetime.fromisoformat("2020-03-01T00:00:01Z").timestamp()
    action = "token_total, " + ", ".join(f"token_status={status}" for status in FIVE.split(",")[1:])
    api = await serve_with(serve, redis_url, tmp_path, policy("reporting", action, BOTH))
    found = value(await api.get(f"/reporting/period?realms=mydefrealm,%20mymixrealm&status={FIVE}&{query}"))
    result = {realm["name"]: realm["maxtokencount"] for realm in found["realms"]}
    expected = {DEF: of_def, MIX: of_mix}
    for realm, counts in expected.items():
        counts = counts if isinstance(counts, dict) else dict(zip(FIVE.split(","), counts, strict=True))
        assert result[realm] == counts, f"{why}: {realm}"
    if "1970" in query:
        assert found["period"] == {"from": "1970-03-01T00:00:00", "to": "2019-08-04T00:00:00"}


async def test_8_reporting_maximum_is_not_what_is_left(
    serve: Serve, redis_url: str, tmp_path: Path, tokens: Tokens
) -> None:
    of_hans = [tokens.init(DEF, user="hans"), tokens.init(DEF, user="hans")]
    tokens.init(MIX, user="hans", active=False)
    of_hans.append(tokens.init(DEF, user="hans"))
    tokens.init(DEF, user="lorca")
    tokens.init(OTHER)
    for serial in of_hans:
        tokens.change(serial, "token_remove", active=False, assigned=False, deleted=True)
    await write(redis_url, tokens.events)
    recorded = policy("reporting", "token_total, token_status=active", BOTH)
    api = await serve_with(serve, redis_url, tmp_path, recorded)
    found = value(await api.get("/reporting/maximum?realms=mydefrealm,%20mymixrealm"))
    assert found == {DEF: {"total": 4}, MIX: {"total": 1}}
    assert (await rows(api, f"realms={DEF}&status=total"))[-1]["count"] == 1


async def test_9_reporting_access_policy(serve: Serve, redis_url: str, tmp_path: Path) -> None:
    access = policy("reporting.access", "maximum", user="Hans")
    sources = by_file(tmp_path, listed("admin", scopes=["reporting"]), listed("Hans", scopes=["reporting"]))
    api = await serve_with(serve, redis_url, tmp_path, access, **sources)
    answer = await api.get("/reporting/maximum", "admin")
    assert (answer.status, answer.json["result"]["status"]) == (200, False)
    assert answer.json["result"]["error"]["code"] == 410
    assert value(await api.get("/reporting/maximum", "Hans")) == {}


def seven(tokens: Tokens) -> list[Event]:
    tokens.init(DEF, user="hans")
    tokens.init(DEF, user="hans")
    tokens.init(MIX, user="hans", active=False)
    tokens.init(DEF, user="hans")
    tokens.init(DEF, user="lorca")
    tokens.init(OTHER)
    tokens.init()
    return tokens.events


@pytest.mark.parametrize("shape", ["documented", "source"])
async def test_10_reporting_show_no_realms(
    serve: Serve, redis_url: str, tmp_path: Path, tokens: Tokens, shape: str
) -> None:
    await write(redis_url, seven(tokens))
    policies = policy("reporting", "token_total"), policy("reporting.access", "show")
    api = await serve_with(serve, redis_url, tmp_path, *policies, linotp_shape=shape)
    answer = (await api.get("/reporting/show")).json
    result = answer["result"]["value"]
    pages, data = (result["resultset"], result["data"]) if shape == "documented" else (answer["detail"], result)
    assert pages["report_rows"] == 8
    assert NONE in {row["realm"] for row in data}


async def test_11_reporting_show(serve: Serve, redis_url: str, tmp_path: Path, tokens: Tokens) -> None:
    await write(redis_url, seven(tokens))
    policies = policy("reporting", "token_total"), policy("reporting.access", "show", f"{MIX}, {OTHER}")
    api = await serve_with(serve, redis_url, tmp_path, *policies, linotp_shape="source")
    answer = (await api.get("/reporting/show")).json
    assert answer["detail"]["report_rows"] == 4
    assert answer["result"]["value"][2]["count"] == 1
    assert {row["realm"] for row in answer["result"]["value"]} == {MIX, OTHER, NONE}
    text = (await api.get("/reporting/show?outform=csv")).text
    assert '"token_init", "myotherrealm", "total", "", 1, ' in text


async def test_12_reporting_show_paging(serve: Serve, redis_url: str, tmp_path: Path, tokens: Tokens) -> None:
    for _ in range(25):
        tokens.init(DEF, user="lorca")
        tokens.init(MIX, user="hans")
    await write(redis_url, tokens.events)
    policies = policy("reporting", "token_total"), policy("reporting.access", "show")
    api = await serve_with(serve, redis_url, tmp_path, *policies)
    found = value(await api.get("/reporting/show?page=3&pagesize=12"))
    assert found["resultset"] == {"page": 3, "pages": 5, "pagesize": 12, "report_rows": 50}
    assert (found["data"][2]["count"], found["data"][10]["count"]) == (14, 18)
    text = (await api.get("/reporting/show?page=3&pagesize=12&outform=csv")).text
    assert len(text.splitlines()) == 13
    stamp = found["data"][10]["timestamp"]
    assert f'"{stamp}", "token_init", "mydefrealm", "total", "", 18, "", "", "", ' in text
    assert len(list(csv.reader(io.StringIO(text), skipinitialspace=True))) == 13


async def test_13_token_user_license(serve: Serve, redis_url: str, tmp_path: Path) -> None:
    tokens = Tokens("2018-11-17T00:00:00")
    for day in (17, 18):
        tokens.at = datetime(2018, 11, day, tzinfo=UTC)
        for user in ("hans", "rollo", "susi", "horst"):
            tokens.init("myDefRealm", user=user)
    await write(redis_url, tokens.events)
    policies = policy("reporting", "token_user_total,"), policy("reporting.access", "show")
    api = await serve_with(serve, redis_url, tmp_path, *policies)
    first = await rows(api, "status=total%20users&realms=mydefrealm&date=2018-11-17")
    assert max(row["count"] for row in first) == 4
    assert max(row["count"] for row in await rows(api)) == 4
    for status, realms in (("total+users", DEF), ("*", DEF), ("*", "*"), ("*", "MYDEFREALM")):
        second = await rows(api, f"status={status}&realms={realms}&date=2018-11-18")
        assert [row["count"] for row in second] == [4, 4, 4, 4]


async def test_14_tokens_and_users_are_recorded_together(
    serve: Serve, redis_url: str, tmp_path: Path, tokens: Tokens
) -> None:
    tokens.init()
    await write(redis_url, tokens.events)
    more = {"client": "*", "time": "* * * * * *;", "active": "True", "user": "*"}
    api = await serve_with(serve, redis_url, tmp_path, policy("reporting", "token_total, token_user_total, ", **more))
    assert [(row["parameter"], row["count"]) for row in await rows(api)] == [("total", 1), ("total users", 0)]


async def test_15_delete_before_in_realms_that_are_allowed(serve: Serve, redis_url: str, tmp_path: Path) -> None:
    await write(redis_url, THREE_DAYS, COUNTS)
    access = policy("reporting.access", "*", MIX, user="admin")
    sources = by_file(tmp_path, listed("admin", scopes=["reporting"]), listed("all", scopes=["reporting"]))
    api = await serve_with(serve, redis_url, tmp_path, access, **sources)
    path = "/reporting/delete_before?date=2026-11-20&realms=*&status=active"
    assert value(await api.get(path, "admin")) == 0
    await write(redis_url, [given("2026-11-18T12:00:00Z", MIX, "active", 1)], COUNTS)
    assert value(await api.get(path, "admin")) == 1
    open_api = await serve(redis_url=redis_url)
    assert [row["realm"] for row in await rows(open_api)] == [DEF] * 3


async def test_16_active_reporting_policies(serve: Serve, redis_url: str, tmp_path: Path, clock: Clock) -> None:
    sources = by_file(tmp_path, listed("admin", scopes=["reporting"]))
    api = await serve_with(serve, redis_url, tmp_path, **sources)

    async def code(*policies: str) -> int | None:
        written(tmp_path, *policies)
        clock.now += 2
        result = (await api.get("/reporting/maximum", "admin")).json["result"]
        return None if result["status"] else int(result["error"]["code"])

    others = policy("reporting.access", "maximum", user="somebody")
    assert await code() is None, "none: anyone may"
    assert await code(others) == 410, "one: only whom it names"
    assert await code(others.replace("scope", "active = False\nscope")) is None, "an inactive one is none"
    assert await code(others, policy("admin", "*", user="nobody")) == 410, "another scope changes nothing"
    assert await code(others, policy("reporting.access", "*", name="mine", user="admin")) is None
    assert await code(policy("admin", "*", user="nobody")) is None
    assert await code(policy("reporting.access", "show", user="admin")) == 410, "another action"


async def test_17_each_change_makes_a_row_per_status(
    serve: Serve, redis_url: str, tmp_path: Path, tokens: Tokens, clock: Clock
) -> None:
    serial = tokens.init(DEF, user="hans")
    tokens.change(serial, "token_disable", DEF, user="hans", active=False)
    tokens.change(serial, "token_enable", DEF, user="hans")
    await write(redis_url, tokens.events)
    action = "token_total, " + ", ".join(f"token_status={status}" for status in FIVE.split(",")[1:])
    api = await serve_with(serve, redis_url, tmp_path, policy("reporting", action, DEF))
    found = await rows(api)
    for event in ("token_disable", "token_enable"):
        assert len([row for row in found if row["event"] == event]) == 5
    written(tmp_path, policy("admin", "*"))
    clock.now += 2
    assert len(await rows(api)) == 15
    tokens.events.clear()
    tokens.at += timedelta(hours=4)
    tokens.change(serial, "token_disable", DEF, user="hans", active=False)
    await write(redis_url, tokens.events)
    assert len(await rows(api)) == 15, "without a policy nothing is recorded"
