"""Lifecycle and retention over regions: equal to one ledger with the events of both, or sums of each region's own."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import pytest
import redis

from deploy.demo.servers import Valkey
from tests.api.conftest import Clock
from tests.api.ledger.lifecycle_oracle import FIGURES, Site, deviation, expected_rows, instant, site
from tests.api.regions.conftest import SKETCH, Region, Start
from tests.api.regions.test_threshold import export
from tests.api.regions.test_united import without_regions
from tests.api.worker import count

FIRST, LAST = date(2026, 5, 1), date(2026, 11, 20)
SPAN = "from=2026-07-01&to=2026-11-20"
KEPT: dict[str, Any] = {"users_by": ("realm", "client")}
SKETCHED: dict[str, Any] = {**KEPT, "exact_up_to": 0}
QUESTIONS = [
    f"/v1/lifecycle?{SPAN}",
    f"/v1/lifecycle?{SPAN}&granularity=week",
    f"/v1/lifecycle?{SPAN}&realm=realm-1",
    f"/v1/lifecycle?{SPAN}&client_id=web",
    "/v1/lifecycle",
    f"/v1/retention?{SPAN}&ages=4",
    f"/v1/retention?{SPAN}&cohort=new",
    f"/v1/retention?{SPAN}&granularity=week&cohort=new&ages=3&realm=realm-0",
]


@pytest.fixture
def clock(clock: Clock) -> Clock:
    clock.now = instant("2026-11-20")
    return clock


def moved(of: Site, start: int) -> Site:
    """The same site with other users from a number on: those below it are users of the first site too."""

    def named(user: str) -> str:
        number = int(user.removeprefix("user-"))
        return user if number < start else f"user-{number + 10_000}"

    events = [{**event, "user_id": named(event["user_id"])} for event in of.events]
    return Site(events, {day: frozenset(map(named, users)) for day, users in of.days.items()})


EU, US = site(400, FIRST, LAST, seed=1), moved(site(300, FIRST, LAST, seed=2), 150)


async def three(start: Start, stores: list[Valkey], **given: Any) -> tuple[Region, Region, Region]:
    """Two peers, and a region without peers whose ledger counted the events of both."""
    ledger = {name: value for name, value in given.items() if not name.startswith("region_")}
    await count(stores[0].url, EU.events, **ledger)
    await count(stores[1].url, US.events, partitions=3, **ledger)
    await count(stores[2].url, [*EU.events, *US.events], partitions=4, **ledger)
    regions = await start(("eu", "us", "ap"), **given)
    return regions["eu"], regions["us"], regions["ap"]


def together() -> Mapping[str, frozenset[str]]:
    days = {day: EU.days.get(day, frozenset()) | US.days.get(day, frozenset()) for day in {*EU.days, *US.days}}
    return Site((), days).users("month")


async def test_a_region_in_a_cluster(start: Start, stores: list[Valkey], clock: Clock, cluster: str) -> None:
    with redis.RedisCluster.from_url(cluster) as server:
        server.flushall()
    await count(cluster, EU.events, partitions=3, redis_cluster=True, **SKETCHED)
    await count(stores[1].url, US.events, **SKETCHED)
    await count(stores[2].url, [*EU.events, *US.events], **SKETCHED)
    in_cluster = {"redis_url": cluster, "redis_cluster": True}
    regions = await start(("eu", "us", "ap"), of={"eu": in_cluster}, region_min_users=1, **SKETCHED)
    for path in QUESTIONS[::3]:
        expected = without_regions(await regions["ap"].ask(path))
        for name in ("eu", "us"):
            answer = await regions[name].whole(f"{path}&region=eu,us")
            assert without_regions(answer) == expected, (name, path)


async def test_answers_are_those_of_one_ledger(start: Start, stores: list[Valkey], clock: Clock) -> None:
    eu, us, one = await three(start, stores, region_min_users=1, **SKETCHED)
    for path in QUESTIONS:
        expected = without_regions(await one.ask(path))
        for region in (eu, us):
            answer = await region.whole(f"{path}{'&' if '?' in path else '?'}region=eu,us")
            assert [share["state"] for share in answer["regions"]] == ["current"] * 2
            assert not any("not_united" in share for share in answer["regions"])
            assert answer["region_users"] == "shared"
            assert without_regions(answer) == expected, (region.name, path)


async def test_figures_are_those_of_sets(start: Start, stores: list[Valkey], clock: Clock) -> None:
    """From small sets of the own region and sketches of the other."""
    eu, _, _ = await three(start, stores, region_min_users=1, **KEPT)
    answer = await eu.whole(f"/v1/lifecycle?{SPAN}&region=eu,us")
    months = [f"2026-{month:02}" for month in range(6, 12)]
    expected = expected_rows(together(), months)
    assert [item["period"] for item in answer["items"]] == months[1:]
    for item in answer["items"]:
        for name in FIGURES:
            assert deviation(item[name], expected[item["period"]][name]) < 5, (item["period"], name, item[name])


async def test_one_region_alone_answers_with_its_own_figures(start: Start, stores: list[Valkey], clock: Clock) -> None:
    eu, us, _ = await three(start, stores, **KEPT)
    for path in QUESTIONS:
        joint = "&" if "?" in path else "?"
        mine, other = await us.ask(path), await eu.whole(f"{path}{joint}region=us")
        assert without_regions(other) == mine, path
    assert not any(SKETCH in body for body in us.between.bodies), "numbers are enough"


async def test_separate_directories_are_added(start: Start, stores: list[Valkey], clock: Clock) -> None:
    eu, us, _ = await three(start, stores, region_users="distinct", **KEPT)
    path = f"/v1/lifecycle?{SPAN}"
    answer = await eu.whole(f"{path}&region=eu,us")
    assert answer["complete"]
    alone = [(await region.ask(path))["items"] for region in (eu, us)]
    for item, *each in zip(answer["items"], *alone, strict=True):
        for name in FIGURES:
            assert item[name] == {
                "value": sum(of[name]["value"] for of in each),
                "exact": True,
                "standard_error": 0.0,
                "fewer_than": None,
            }, (item["period"], name)
    path = f"/v1/retention?{SPAN}&cohort=new&ages=2"
    answer = await eu.whole(f"{path}&region=eu,us")
    alone = [(await region.ask(path))["items"] for region in (eu, us)]
    for item, *each in zip(answer["items"], *alone, strict=True):
        assert item["users"]["value"] == sum(of["users"]["value"] for of in each)
        for age, *ages in zip(item["ages"], *(of["ages"] for of in each), strict=True):
            assert age["retained"]["value"] == sum(of["retained"]["value"] for of in ages)
            if item["users"]["value"]:
                assert age["rate"]["value"] == pytest.approx(
                    age["retained"]["value"] / item["users"]["value"], abs=1e-6
                )
    assert not any(SKETCH in body for body in us.between.bodies)


async def test_a_region_below_the_threshold_adds_figures_of_its_own(
    start: Start, stores: list[Valkey], clock: Clock
) -> None:
    """Some of its months have enough users, and some have not: it takes part as a whole, without its sketches."""
    month = min(len(users) for users in US.users("month").values())
    eu, us, _ = await three(start, stores, of={"us": {"region_min_users": month + 1}}, region_min_users=1, **KEPT)
    path = f"/v1/lifecycle?{SPAN}"
    answer = await eu.whole(f"{path}&region=eu,us")
    assert [share.get("not_united", False) for share in answer["regions"]] == [False, True]
    alone = [(await region.ask(path))["items"] for region in (eu, us)]
    for item, *each in zip(answer["items"], *alone, strict=True):
        for name in FIGURES:
            assert item[name]["value"] == sum(of[name]["value"] for of in each), (item["period"], name)
            assert (item[name]["exact"], item[name]["standard_error"]) == (False, None), "some may count twice"
    retention = await eu.whole(f"/v1/retention?{SPAN}&region=eu,us")
    assert {cell["rate"]["standard_error"] for item in retention["items"] for cell in item["ages"]} == {None}
    assert retention["regions"][1]["not_united"]
    # The other way round all of eu's months are in sketches.
    assert not any("not_united" in share for share in (await us.whole(f"{path}&region=eu,us"))["regions"])


async def test_a_dead_region_takes_no_part(start: Start, stores: list[Valkey], clock: Clock) -> None:
    """Half of its periods would make its users new; what it sent before stands in as a whole."""
    eu, us, _ = await three(start, stores, region_min_users=1, **SKETCHED)
    path = f"/v1/lifecycle?{SPAN}"
    before = await eu.whole(f"{path}&region=eu,us")
    us.between.cut = True
    await eu.until("us", "unreachable")
    answer = await eu.ask(f"{path}&region=eu,us")
    assert answer["regions"][1]["state"] == "stand_in"
    assert not answer["complete"]
    assert answer["items"] == before["items"]
    other = "/v1/lifecycle?from=2026-09-01&to=2026-11-20"
    answer = await eu.ask(f"{other}&region=eu,us")
    assert answer["regions"][1]["state"] == "missing"
    assert answer["items"] == (await eu.ask(other))["items"], "its known months alone would be wrong"


async def test_the_own_region_may_be_left_out(start: Start, stores: list[Valkey], clock: Clock) -> None:
    eu, us, one = await three(start, stores, region_min_users=1, **SKETCHED)
    path = f"/v1/lifecycle?{SPAN}"
    found = await one.api.get(f"{path}&region=eu,us", "all")
    assert found.status == 200
    assert found.json["items"] == (await one.ask(path))["items"]
    assert (await eu.whole(f"{path}&region=us"))["items"] == (await us.ask(path))["items"]


@pytest.mark.parametrize("users", ["shared", "distinct"])
async def test_each_region_by_itself(start: Start, stores: list[Valkey], clock: Clock, users: str) -> None:
    eu, us, _ = await three(start, stores, region_users=users, region_min_users=1, **SKETCHED)
    for path in QUESTIONS:
        joint = "&" if "?" in path else "?"
        alone = {of.name: await of.ask(path) for of in (eu, us)}
        answer = await eu.whole(f"{path}{joint}group_by=region&region=eu,us")
        rows = [{"region": name} | item for name, of in alone.items() for item in of["items"]]
        assert answer["items"] == rows, path
        assert answer["histories"] == {name: of["history"] for name, of in alone.items()}
        assert answer["complete"]
        same = ("definition", "granularity", "filters", "from", "to")
        assert [answer[name] for name in same] == [alone["eu"][name] for name in same]
    assert not any(SKETCH in body for body in us.between.bodies), "numbers are enough"
    text = (await eu.api.get(f"/v1/lifecycle?{SPAN}&group_by=region&region=eu,us&format=csv", "all")).text
    header, *rows = text.splitlines()
    assert header.startswith("period,from,to,region,ended,active_value,active_exact,")
    assert [row.split(",")[3] for row in rows] == ["eu"] * 5 + ["us"] * 5
    text = (await eu.api.get(f"/v1/retention?{SPAN}&ages=1&group_by=region&region=us,eu&format=csv", "all")).text
    header, *rows = text.splitlines()
    assert header.startswith("period,from,to,region,ended,users_value,")
    assert [row.split(",")[3] for row in rows] == ["eu"] * 5 + ["us"] * 5
    assert "region" not in (await eu.api.get(f"/v1/retention?{SPAN}&format=csv", "all")).text


async def test_each_region_has_the_history_of_its_own_ledger(start: Start, stores: list[Valkey], clock: Clock) -> None:
    late = [event for event in US.events if event["time"] >= "2026-09-10"]
    await count(stores[0].url, EU.events, **SKETCHED)
    await count(stores[1].url, late, **SKETCHED)
    eu = (await start(region_min_users=1, **SKETCHED))["eu"]
    answer = await eu.whole(f"/v1/lifecycle?{SPAN}&group_by=region")
    assert {name: of["since"] for name, of in answer["histories"].items()} == {"eu": "2026-05-01", "us": "2026-09-10"}
    assert answer["history"] == answer["histories"]["us"], "the shortest"
    for query in ("group_by=region", "region=all"):
        assert (await eu.whole(f"/v1/active-users?{SPAN}&{query}"))["counted_from"] == "2026-09-10", "not whole before"
    assert (await eu.ask(f"/v1/active-users?{SPAN}"))["counted_from"] == "2026-05-01"
    unknown = [(item["region"], item["period"]) for item in answer["items"] if item.get("unknown") == "history"]
    assert unknown == [("us", "2026-07"), ("us", "2026-08"), ("us", "2026-09")]


async def test_a_dead_region_is_marked_beside_the_others(start: Start, stores: list[Valkey], clock: Clock) -> None:
    """As in /v1/active-users by region: its last export stands in for its rows; without one its rows have no users."""
    eu, us, _ = await three(start, stores, region_min_users=1, **SKETCHED)
    for question in ("lifecycle", "retention"):
        path = f"/v1/{question}?{SPAN}&group_by=region&region=eu,us"
        before = await eu.whole(path)
        us.between.cut = True
        await eu.until("us", "unreachable")
        answer = await eu.ask(path)
        assert answer["regions"][1]["state"] == "stand_in"
        assert (answer["complete"], answer["items"]) == (False, before["items"])
        other = f"/v1/{question}?from=2026-09-01&to=2026-11-20"
        answer = await eu.ask(f"{other}&group_by=region&region=eu,us")
        assert answer["regions"][1]["state"] == "missing"
        figure = "active" if question == "lifecycle" else "users"
        values = [(item["region"], item[figure]["value"]) for item in answer["items"]]
        own = [("eu", item[figure]["value"]) for item in (await eu.ask(other))["items"]]
        assert values == [*own, *[("us", 0)] * 3]
        us.between.cut = False
        await eu.until("us", "current")


LIES: list[tuple[str, dict[str, Any], str]] = [
    ("lifecycle", {"before": 10**9}, "fewer users with a period than without it"),
    ("lifecycle", {"after": -1}, "a negative number"),
    ("lifecycle", {"pair": {"parts": 16, "previous": 9, "current": 0, "together": 8}}, "a part larger than the whole"),
    ("lifecycle", {"pair": {"parts": 0, "previous": 1, "current": 1, "together": 3}}, "more than both"),
    ("lifecycle", {"active": {"parts": 7, "users": 1}}, "no union has seven sketches"),
    ("lifecycle", {"extra": 1}, "another layout"),
    ("retention", {"users": {"parts": 0, "base": 2, "first": 1, "later": 2, "together": 2, "nobody_later": True}}, ""),
    ("retention", {"ages": []}, "ages are missing"),
]


@pytest.mark.parametrize(("member", "change", "why"), LIES)
async def test_a_lying_region_takes_no_part(
    start: Start, stores: list[Valkey], clock: Clock, member: str, change: dict[str, Any], why: str
) -> None:
    eu, us, _ = await three(start, stores, region_users="distinct", **KEPT)
    path = f"/v1/{member}?{SPAN}"

    def lie(document: dict[str, Any]) -> None:
        if document.get(member):
            document[member][0] |= change

    us.between.change = lie
    answer = await eu.ask(f"{path}&region=eu,us")
    assert answer["regions"][1]["state"] == "missing", why
    assert answer["regions"][1]["reason"] == "invalid", why
    assert answer["items"] == (await eu.ask(path))["items"]


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        ({"lifecycle": {"base": [], "periods": [], "scopes": ["all"]}}, "no period"),
        ({"lifecycle": {"base": ["2026-02-30"], "periods": [["2026-10"]], "scopes": ["all"]}}, "no day"),
        ({"lifecycle": {"base": [], "periods": [["2026-10"]] * 201, "scopes": ["all"]}}, "too many rows"),
        ({"lifecycle": {"base": [], "periods": [["2026-10"]], "scopes": ["everything"]}}, "no scope"),
        ({"lifecycle": {"base": ["2026-09"] * 500, "periods": [["2026-10"]], "scopes": ["all"] * 31}}, "too much"),
        ({"retention": {"base": [], "periods": [["2026-10"]], "max_age": 61, "scopes": ["all"]}}, "too old"),
        ({"retention": {"base": [], "periods": [["2026-10"]] * 100, "max_age": 60, "scopes": ["all"]}}, "cells"),
    ],
)
async def test_a_wrong_request_is_400(start: Start, stores: list[Valkey], request_: Any, why: str) -> None:
    eu = (await start(("eu",), peers_file=None))["eu"]
    answer = await export(eu, request_)
    assert answer.status == 400, (why, answer.body)


async def test_history_begins_with_the_first_event_of_any_region(
    start: Start, stores: list[Valkey], clock: Clock
) -> None:
    late = [event for event in EU.events if event["time"] >= "2026-09-10"]
    await count(stores[0].url, late, **SKETCHED)
    await count(stores[1].url, US.events, **SKETCHED)
    await count(stores[2].url, [*late, *US.events], **SKETCHED)
    regions = await start(("eu", "us", "ap"), region_min_users=1, **SKETCHED)
    path = f"/v1/lifecycle?{SPAN}&granularity=week"
    expected = await regions["ap"].ask(path)
    assert expected["history"]["since"] == "2026-05-01"
    answer = await regions["eu"].whole(f"{path}&region=eu,us")
    assert (answer["history"], answer["items"]) == (expected["history"], expected["items"])
