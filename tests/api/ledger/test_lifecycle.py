"""Lifecycle and retention through the whole path: the worker's own fold and script, the api, and an oracle of sets."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from api.ledger.client import Client, Command, open_ledger
from api.ledger.lifecycle import lifecycle_rows
from api.ledger.statistics import Statistics
from api.metrics import MERGED_PERIODS
from api.settings.settings import ApiSettings
from schemas.ledger import keys
from schemas.ledger.keys import Shard, ShardKeys
from schemas.ledger.periods import Week
from schemas.ledger.scopes import EVERYTHING
from schemas.settings import read
from tests.api.conftest import Api, Clock, Serve
from tests.api.ledger.lifecycle_oracle import FIGURES, Site, deviation, expected_rows, instant, site
from tests.api.ledger_writer import PREFIX
from tests.api.own_sample import NOON
from tests.api.sources import by_file, listed
from tests.api.worker import count, login
from tests.integration.sites import DUMP_KEYS, RESTORE_KEYS

FIRST, LAST = date(2026, 5, 1), date(2026, 11, 20)
MONTHS = [f"2026-{month:02}" for month in range(5, 12)]
WEEKS = [Week.of(FIRST + timedelta(days=7 * number)).text for number in range(4, 30)]
FAR = 5.0
"""Standard errors that no figure of these fixed sites differs by; the coverage itself is measured by simulation."""
KEPT: dict[str, Any] = {"users_by": ("realm", "client")}


@pytest.fixture
def clock(clock: Clock) -> Clock:
    clock.now = instant("2026-11-20")
    return clock


async def ask(api: Api, path: str, token: str | None = None) -> Any:
    """The answer. On a machine under load the first question may miss its deadline: its merged periods stay."""
    for _ in range(20):
        answer = await api.get(path, token)
        if answer.status != 503:
            break
    assert answer.status == 200, answer.text
    return answer.json


async def compare(api: Api, oracle: Site, *, exact: bool | None = None, query: str = "") -> None:
    """All figures of months and weeks against the oracle."""
    for granularity, names in (("month", MONTHS), ("week", WEEKS)):
        users = oracle.users(granularity)
        start = "2026-05-01" if granularity == "month" else Week.of(FIRST + timedelta(days=28)).span.first
        path = f"granularity={granularity}&from={start}{query}"
        lifecycle = await ask(api, f"/v1/lifecycle?{path}")
        before = sorted(name for name in users if name < names[0])[-1:]
        expected = expected_rows(users, before + names)
        compared = 0
        for item in lifecycle["items"]:
            for name in FIGURES if "unknown" not in item else ("active",):
                assert deviation(item[name], expected[item["period"]][name]) < FAR, (item["period"], name, item[name])
                assert exact is None or item[name]["exact"] == exact or not item[name]["value"], (item, name)
                compared += 1
        assert compared >= 5 * (len(names) - 1)
        for cohort in ("active", "new"):
            retention = await ask(api, f"/v1/retention?{path}&cohort={cohort}&ages=5")
            check_cohorts(retention["items"], users, cohort)


def check_cohorts(items: list[dict[str, Any]], users: Mapping[str, frozenset[str]], cohort: str) -> None:
    for item in items:
        if "unknown" in item:
            continue
        members = users.get(item["period"], frozenset())
        if cohort == "new":
            members -= frozenset[str]().union(*(active for name, active in users.items() if name < item["period"]))
        assert deviation(item["users"], len(members)) < FAR, item["period"]
        for cell in item["ages"]:
            stayed = len(members & users.get(cell["period"], frozenset()))
            assert deviation(cell["retained"], stayed) < FAR, (item["period"], cell)
            if cell["rate"]["value"] is not None:
                assert deviation(cell["rate"], stayed / len(members)) < FAR, (item["period"], cell)


@pytest.mark.parametrize(
    ("users", "partitions", "counted", "read", "exact", "why"),
    [
        (10, 1, 4096, 4096, True, "a handful"),
        (400, 3, 4096, 4096, True, "few, in several shards"),
        (400, 3, 4, 4096, None, "few that the ledger has as sketches"),
        (900, 2, 4096, 300, None, "months of few after a history of many"),
        (2500, 2, 60, 4096, None, "small days, large months"),
    ],
)
async def test_figures_are_those_of_sets(
    serve: Serve,
    redis_url: str,
    clock: Clock,
    users: int,
    partitions: int,
    counted: int,
    read: int,
    exact: Any,
    why: str,
) -> None:
    oracle = site(users, FIRST, LAST, seed=users)
    await count(redis_url, oracle.events, partitions=partitions, exact_up_to=counted)
    await compare(await serve(redis_url=redis_url, exact_up_to=read), oracle, exact=exact)


@pytest.mark.parametrize("few", [4, 4096])
async def test_a_cluster_answers_the_same(serve: Serve, redis_url: str, cluster: str, clock: Clock, few: int) -> None:
    oracle = site(300, FIRST, LAST, seed=5)
    with redis.RedisCluster.from_url(cluster) as server:
        server.flushall()
    found = []
    for url, clustered in ((redis_url, False), (cluster, True)):
        await count(url, oracle.events, redis_cluster=clustered, exact_up_to=few)
        api = await serve(redis_url=url, redis_cluster=clustered, exact_up_to=few)
        paths = ("/v1/lifecycle", "/v1/lifecycle?granularity=week", "/v1/retention", "/v1/retention?cohort=new")
        answers = [await ask(api, path) for path in paths]
        found.append([answer["items"] for answer in answers])
    assert found[0] == found[1]


async def test_late_events_and_rollbacks_change_closed_periods(serve: Serve, redis_url: str, clock: Clock) -> None:
    """Closed periods are merged once; a rollback takes back what was merged."""
    oracle = site(500, FIRST, LAST, seed=9)
    half = len(oracle.events) // 2
    early = _without(oracle, half)
    await count(redis_url, oracle.events[:half], exact_up_to=50)
    api = await serve(redis_url=redis_url, exact_up_to=50)
    with redis.Redis.from_url(redis_url) as server:
        server.set(keys.ledger_id(PREFIX), "id")
        merged = MERGED_PERIODS.labels("hit")
        used = merged._value.get()
        for _ in range(2):
            await compare(api, early)
            clock.now += 60
            taken: Any = server.eval(DUMP_KEYS, 0, "*")
            await count(redis_url, oracle.events[half:], exact_up_to=50)
            clock.now += 60
            await compare(api, oracle)
            server.eval(RESTORE_KEYS, 0, "*", *taken)
            clock.now += 60
        assert merged._value.get() > used


def _without(oracle: Site, kept: int) -> Site:
    days: dict[date, set[str]] = {}
    for event in oracle.events[:kept]:
        days.setdefault(date.fromisoformat(event["time"][:10]), set()).add(event["user_id"])
    return Site(oracle.events[:kept], {day: frozenset(users) for day, users in days.items()})


async def test_months_are_compared_with_all_months_before(serve: Serve, redis_url: str, clock: Clock) -> None:
    users = {"2026-08": "abc", "2026-09": "abd", "2026-10": "bde", "2026-11": "ce"}
    await count(redis_url, [login(f"{month}-05{NOON}", user) for month, names in users.items() for user in names])
    api = await serve(redis_url=redis_url)
    answer = await ask(api, "/v1/lifecycle?from=2026-08-01")
    assert {item["period"]: tuple(item[figure]["value"] for figure in FIGURES) for item in answer["items"]} == {
        "2026-08": (3, None, None, None, None),
        "2026-09": (3, 1, 2, 0, 1),
        "2026-10": (3, 1, 2, 0, 1),
        "2026-11": (2, 0, 1, 1, 2),
    }
    assert [item["ended"] for item in answer["items"]] == [True, True, True, False]
    assert [item.get("unknown") for item in answer["items"]] == ["history", None, None, None]
    assert answer["history"] == {"since": "2026-08-05", "reason": "first_counted", "imported": []}
    later = await ask(api, "/v1/lifecycle?from=2026-10-01&to=2026-10-31")
    assert later["items"] == answer["items"][2:3], "the window does not change what was before"
    retention = await ask(api, "/v1/retention?from=2026-08-01")
    assert [[cell["rate"]["value"] for cell in item["ages"]] for item in retention["items"]] == [
        [0.666667, 0.333333, 0.333333],
        [0.666667, 0.0],
        [0.333333],
        [],
    ]


async def test_csv_has_a_row_per_period_and_a_row_per_cell(serve: Serve, redis_url: str, clock: Clock) -> None:
    await count(redis_url, [login(f"2026-{month}-05{NOON}", user) for month in ("09", "10") for user in "ab"])
    api = await serve(redis_url=redis_url)
    rows = list(csv.DictReader(io.StringIO((await api.get("/v1/lifecycle?from=2026-09-01&format=csv")).text)))
    assert [row["period"] for row in rows] == ["2026-09", "2026-10", "2026-11"]
    assert rows[0]["unknown"] == "history"
    assert (rows[1]["returning_value"], rows[1]["returning_exact"], rows[1]["new_fewer_than"]) == ("2", "true", "")
    assert list(rows[0])[-2:] == ["imported", "unknown"]
    rows = list(csv.DictReader(io.StringIO((await api.get("/v1/retention?from=2026-09-01&format=csv")).text)))
    assert [(row["period"], row["age"], row["age_period"]) for row in rows] == [
        ("2026-09", "1", "2026-10"),
        ("2026-09", "2", "2026-11"),
        ("2026-10", "1", "2026-11"),
        ("2026-11", "", ""),
    ]
    assert rows[0]["rate_value"] == "1.0"


async def test_everybody_sees_their_realms_only(serve: Serve, redis_url: str, clock: Clock, tmp_path: Path) -> None:
    events = [
        login(f"2026-{month}-05{NOON}", user, realm=realm, client_id="web")
        for realm, by_month in {"acme": ("ab", "bc", "ac"), "globex": ("x", "xy", "xyz")}.items()
        for month, users in zip(("09", "10", "11"), by_month, strict=True)
        for user in users
    ]
    await count(redis_url, events, **KEPT)
    scopes = ["stats:read"]
    principals = [listed("all", scopes=scopes), listed("acme", scopes=scopes, realms=["acme"])]
    both = listed("both", scopes=scopes, realms=["acme", "globex"])
    api = await serve(redis_url=redis_url, **KEPT, **by_file(tmp_path, *principals, both))
    seen = {"all": (5, 1, 3, 1, 1), "acme": (2, 0, 1, 1, 1), "both": (5, 1, 3, 1, 1)}
    for principal, row in seen.items():
        answer = await ask(api, "/v1/lifecycle", principal)
        assert tuple(answer["items"][-1][figure]["value"] for figure in FIGURES) == row, principal
    for filtered in ("realm=acme", "realm=acme&client_id=web"):
        answer = await ask(api, f"/v1/lifecycle?{filtered}", "all")
        assert tuple(answer["items"][-1][figure]["value"] for figure in FIGURES) == seen["acme"]
        assert answer["filters"]["realm"] == "acme"
    hidden = await ask(api, "/v1/lifecycle?realm=globex", "acme")
    assert {item["active"]["value"] for item in hidden["items"]} == {0}


@pytest.mark.parametrize(
    ("query", "parameter", "words"),
    [
        ("/v1/lifecycle?client_id=web", "client_id", "USERS_BY"),
        ("/v1/retention?client_id=web&realm=a", "client_id", "USERS_BY"),
        ("/v1/lifecycle?granularity=day", "granularity", "week, month"),
        ("/v1/lifecycle?granularity=week&from=2025-01-01", "from", "400"),
        ("/v1/lifecycle?from=2010-01-01", "from", "10 years"),
        ("/v1/lifecycle?node=as1", "node", "not a parameter"),
        ("/v1/retention?ages=0", "ages", "1 to 60"),
        ("/v1/retention?from=2020-01-01&ages=60", "ages", "fewer periods"),
        ("/v1/retention?cohort=old", "cohort", "active, new"),
    ],
)
async def test_questions_that_cannot_be_answered(
    serve: Serve, redis_url: str, clock: Clock, query: str, parameter: str, words: str
) -> None:
    await count(redis_url, [login(f"2026-11-05{NOON}", "ada", realm="a", client_id="web")])
    answer = await (await serve(redis_url=redis_url)).get(query)
    assert (answer.status, answer.json["parameter"]) == (400, parameter)
    assert words in answer.json["detail"]


@pytest.mark.parametrize("granularity", ["week", "month"])
@pytest.mark.parametrize("path", ["/v1/lifecycle?", "/v1/retention?cohort=new&"])
async def test_days_that_have_not_begun_read_nothing(
    serve: Serve, redis_url: str, clock: Clock, path: str, granularity: str
) -> None:
    await count(redis_url, [login(f"2026-11-05{NOON}", "ada")])
    api = await serve(redis_url=redis_url)
    answer = await api.get(f"{path}granularity={granularity}&from=2999-12-01&to=2999-12-31")
    assert (answer.status, answer.json["items"]) == (200, [])
    assert (await api.get("/v1/lifecycle")).status == 200, "no other question is refused for it"


async def test_weeks_need_the_days_back_to_the_first_of_a_month(serve: Serve, redis_url: str, clock: Clock) -> None:
    events = [login(f"{day}{NOON}", "ada") for day in ("2026-09-01", "2026-10-05", "2026-11-10")]
    await count(redis_url, events, retain_days=40)
    api = await serve(redis_url=redis_url)
    refused = await api.get("/v1/lifecycle?granularity=week&from=2026-10-20")
    assert (refused.status, refused.json["parameter"]) == (400, "from")
    assert "2026-10-01" in refused.json["detail"]
    assert "RETAIN_DAYS" in refused.json["detail"]
    answer = await ask(api, "/v1/lifecycle?granularity=week&from=2026-11-09")
    assert [item["reactivated"]["value"] for item in answer["items"]] == [1, 0]
    assert (await ask(api, "/v1/retention?granularity=week&from=2026-10-20"))["items"], "it needs nothing before"


@pytest.mark.parametrize(
    ("meta", "filtered", "since", "reason"),
    [
        ({}, "", "2026-06-10", "first_counted"),
        ({"retain_months": "3"}, "", "2026-08-01", "retain_months"),
        ({"since/active_on": "1 {2026-09-07}"}, "", "2026-09-07", "active_on"),
        ({"since/users_by": "1 {2026-09-07}"}, "", "2026-06-10", "first_counted"),
        ({"since/users_by": "1 {2026-09-07}"}, "&realm=a", "2026-09-07", "users_by"),
        ({"since/active_on": "1 {2026-01-07}"}, "", "2026-06-10", "first_counted"),
        ({"since/active_on": "1 never"}, "", None, "active_on"),
    ],
)
async def test_no_user_is_new_before_users_are_known(
    serve: Serve, redis_url: str, clock: Clock, meta: dict[str, str], filtered: str, since: str, reason: str
) -> None:
    months = ("06-10", "07-01", "08-01", "09-01", "10-01", "11-01")
    await count(redis_url, [login(f"2026-{day}{NOON}", "ada", realm="a") for day in months], partitions=1)
    with redis.Redis.from_url(redis_url) as server:
        shard_keys = ShardKeys(PREFIX, Shard("auth.logins", 0))
        for name, text in meta.items():
            server.hset(
                shard_keys.meta, name, text.replace("{2026-09-07}", _ms("2026-09-07")).replace("{2026-01-07}", "1")
            )
    answer = await ask(await serve(redis_url=redis_url), f"/v1/lifecycle?from=2026-08-01{filtered}")
    assert (answer["history"]["since"], answer["history"]["reason"]) == (since, reason)
    for item in answer["items"]:
        known = since is not None and item["from"] > since
        assert (item["new"]["value"] is not None) == known, item
        assert ("unknown" not in item) == known
        assert item["active"]["value"] == 1


def _ms(day: str) -> str:
    return str(int(datetime.fromisoformat(f"{day}{NOON}").timestamp() * 1000))


async def test_an_imported_month_takes_no_part(serve: Serve, redis_url: str, clock: Clock) -> None:
    months = ("07", "08", "10", "11")
    await count(redis_url, [login(f"2026-{month}-03{NOON}", user) for month in months for user in ("ada", month)])
    with redis.Redis.from_url(redis_url) as server:
        server.hset(keys.imported(PREFIX), mapping={"2026-09/active": 77, "2026-09/source": "old"})
    api = await serve(redis_url=redis_url)
    answer = await ask(api, "/v1/lifecycle?from=2026-08-01")
    assert answer["history"]["imported"] == ["2026-09"]
    imported, following, last = answer["items"][1:]
    assert (imported["active"]["value"], imported["active"]["standard_error"], imported["imported"]) == (
        77,
        None,
        "old",
    )
    assert [imported[name]["value"] for name in FIGURES[1:]] == [None] * 4
    assert [following[name]["value"] for name in FIGURES] == [2, 1, None, None, None]
    assert (imported["unknown"], following["unknown"]) == ("imported", "imported")
    assert [last[name]["value"] for name in FIGURES] == [2, 1, 1, 0, 1]
    retention = await ask(api, "/v1/retention?from=2026-08-01")
    assert [cell.get("unknown") for cell in retention["items"][0]["ages"]] == ["imported", None, None]
    assert retention["items"][1]["users"]["value"] == 77
    assert {cell["rate"]["value"] for cell in retention["items"][1]["ages"]} == {None}


async def test_nothing_is_left_behind(serve: Serve, redis_url: str, clock: Clock) -> None:
    oracle = site(300, FIRST, LAST, seed=1)
    await count(redis_url, oracle.events, exact_up_to=4)
    api = await serve(redis_url=redis_url, exact_up_to=4)
    with redis.Redis.from_url(redis_url) as server:
        before = set(server.scan_iter())
        for path in ("/v1/lifecycle", "/v1/retention?cohort=new", "/v1/retention?granularity=week"):
            assert (await ask(api, path))["items"]
            assert set(server.scan_iter()) == before


async def test_an_empty_ledger_knows_nothing(serve: Serve, redis_url: str, clock: Clock) -> None:
    api = await serve(redis_url=redis_url)
    answer = await ask(api, "/v1/lifecycle")
    assert answer["history"] == {"since": None, "reason": None, "imported": []}
    assert len(answer["items"]) == 12
    assert {item["unknown"] for item in answer["items"]} == {"history"}
    future = await ask(api, "/v1/lifecycle?from=2027-01-01&to=2027-02-01")
    assert future["items"] == []


class FallingBack:
    """A client whose store loses the last writes to temporary sketches before it counts them."""

    def __init__(self, client: Client, server: Any) -> None:
        self._client = client
        self._server = server

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        if any(command[0] == "PFCOUNT" for command in commands):
            base = min(self._server.scan_iter(f"{PREFIX}temporary:*:0.*"))
            self._server.delete(base)
            self._server.pfadd(base)
        return await self._client.run(commands)

    async def ping(self) -> None:
        await self._client.ping()

    async def close(self) -> None:
        await self._client.close()


async def test_a_store_that_falls_back_ends_the_question(redis_url: str) -> None:
    """Its base has fewer users than the period that was added to it."""
    days = [f"2026-11-{day:02}" for day in range(1, 5)]
    await count(redis_url, [login(f"{day}{NOON}", f"u{user}") for day in days for user in range(50)], exact_up_to=4)
    settings = read(ApiSettings, auth=("none",), redis_url=redis_url)
    client = open_ledger(settings)
    with redis.Redis.from_url(redis_url) as server:
        statistics = Statistics(FallingBack(client, server), settings)
        held = await statistics.find_periods(days)
        base, *periods = (held.distinct_query([day], [EVERYTHING]) for day in days)
        with pytest.raises(TimeoutError):
            await lifecycle_rows(statistics.distinct, 4, [base], periods)
    await client.close()
