"""Figures over regions are those of one ledger that counted the events of all regions, to the bit of the sketches."""

from __future__ import annotations

import random
from contextlib import closing
from typing import Any

import pytest
import redis

from deploy.demo.servers import Valkey
from schemas.ledger import accuracy
from schemas.ledger.keys import Shard, ShardKeys
from schemas.ledger.scopes import EVERYTHING, Scope
from tests.aggregator import ledgers
from tests.api.regions.conftest import SKETCH, Region, Start
from tests.api.worker import Event, account, count, login, token

SPAN = "from=2026-10-01&to=2026-10-31"
KEPT: dict[str, Any] = {"users_by": ("realm", "client"), "counts_by": ("realm", "client", "node")}
SKETCHED: dict[str, Any] = {**KEPT, "exact_up_to": 0}
"""All users in sketches, so that one ledger has an estimate where two regions have."""


def events(seed: int, users: range) -> list[Event]:
    """A month of logins, failures, tokens and sign-ups in two realms, some of whose users other regions share."""
    chance = random.Random(seed)
    # A client is known to a partition from its first success there: a dozen reach all partitions.
    known = [(realm, client) for realm in ("acme", "globex") for client in ("web", "app") for _ in range(12)]
    found: list[Event] = [
        login("2026-10-01T09:00:00Z", "first", realm=realm, client_id=client, node=f"as{seed}")
        for realm, client in known
    ]
    for number, user in enumerate(users):
        at = f"2026-10-{chance.randrange(1, 29):02}T10:00:00Z"
        where = {"realm": ("acme", "globex")[user % 2], "client_id": ("web", "app")[user % 3 == 0], "node": f"as{seed}"}
        found.append(login(at, f"user-{user}", id=f"{seed}-{number}", **where))
        if number % 5 == 0:
            found.append(login(at, "eve", success=False, reason=("locked", f"odd-{seed}")[number % 2], **where))
            found.append(token(at, "client_credentials", "access_token", **where))
            found.append(account(at, "signup", **where))
    return found


EU, US = events(1, range(300)), events(2, range(200, 500))

QUESTIONS = [
    f"/v1/active-users?{SPAN}&granularity=day",
    f"/v1/active-users?{SPAN}&granularity=week",
    f"/v1/active-users?{SPAN}&granularity=month",
    f"/v1/active-users?{SPAN}&granularity=range",
    "/v1/active-users?from=2026-10-03&to=2026-10-17&granularity=range",
    f"/v1/active-users?{SPAN}&trailing=7",
    f"/v1/active-users?{SPAN}&granularity=month&realm=acme",
    f"/v1/active-users?{SPAN}&granularity=month&client_id=web",
    f"/v1/active-users?{SPAN}&granularity=month&group_by=realm",
    f"/v1/active-users?{SPAN}&granularity=week&group_by=client_id",
    f"/v1/logins?{SPAN}&granularity=month",
    f"/v1/logins?{SPAN}&group_by=realm,reason",
    f"/v1/logins?{SPAN}&granularity=month&group_by=node",
    f"/v1/logins?{SPAN}&granularity=month&client_id=web",
    f"/v1/tokens?{SPAN}&granularity=month&group_by=client_id,grant_type,token_type",
    f"/v1/accounts?{SPAN}&granularity=month&group_by=kind",
    "/v1/overview?date=2026-10-20",
    "/v1/overview?date=2026-10-31&realm=globex",
    "/v1/labels",
    "/v1/m2m?month=2026-10&realm=acme",
]


def without_regions(answer: dict[str, Any]) -> dict[str, Any]:
    """The members that one ledger answers too."""
    return {name: value for name, value in answer.items() if name not in ("regions", "region_users")}


@pytest.fixture
async def both(start: Start, stores: list[Valkey]) -> tuple[Region, Region, Region]:
    """Two peers, and a region without peers whose ledger counted the events of both."""
    eu, us, one = stores
    await count(eu.url, EU, **SKETCHED)
    await count(us.url, US, partitions=3, **SKETCHED)
    await count(one.url, [*EU, *US], partitions=4, **SKETCHED)
    usual: dict[str, Any] = {"region_min_users": 1, "region_timeout_s": 1.5, **SKETCHED}
    regions = await start(("eu", "us", "ap"), **usual)
    return regions["eu"], regions["us"], regions["ap"]


async def test_every_answer_is_that_of_one_ledger(both: tuple[Region, Region, Region]) -> None:
    eu, us, one = both
    for path in QUESTIONS:
        expected = without_regions(await one.ask(path))
        joint = "&" if "?" in path else "?"
        for region in (eu, us):
            answer = await region.whole(f"{path}{joint}region=eu,us")
            current = [{"region": name, "state": "current"} for name in (region.name, *({"eu", "us"} - {region.name}))]
            assert answer["regions"] == current, path
            assert without_regions(answer) == expected, (region.name, path)


@pytest.mark.parametrize("few", [0, 4096])
async def test_a_region_in_a_cluster(start: Start, stores: list[Valkey], cluster: str, few: int) -> None:
    """Sketches of the peer are united with those of several nodes, and those of several nodes are exported."""
    with redis.RedisCluster.from_url(cluster) as server:
        server.flushall()
    kept: dict[str, Any] = {**KEPT, "exact_up_to": few}
    await count(cluster, EU, partitions=3, redis_cluster=True, **kept)
    await count(stores[1].url, US, **kept)
    await count(stores[2].url, [*EU, *US], partitions=4, **kept)
    in_cluster = {"redis_url": cluster, "redis_cluster": True}
    regions = await start(("eu", "us", "ap"), of={"eu": in_cluster}, region_min_users=1, **kept)
    for path in QUESTIONS:
        joint = "&" if "?" in path else "?"
        answers = [await regions[name].whole(f"{path}{joint}region=eu,us") for name in ("eu", "us")]
        assert without_regions(answers[0]) == without_regions(answers[1]), path
        if not few:
            assert without_regions(answers[0]) == without_regions(await regions["ap"].ask(path)), path


async def test_three_regions(start: Start, stores: list[Valkey]) -> None:
    """A union of three, from each of them; and the numbers of each."""
    ap = events(3, range(100, 400))
    for store, counted in zip(stores, (EU, US, ap), strict=True):
        await count(store.url, counted, **SKETCHED)
    regions = [*(await start(("eu", "us", "ap"), region_min_users=1, **SKETCHED)).values()]
    path = f"/v1/active-users?{SPAN}&granularity=month"
    answers = [await region.whole(f"{path}&region=all") for region in regions]
    assert [answer["items"] for answer in answers[1:]] == [answers[0]["items"]] * 2
    (item,) = answers[0]["items"]
    assert abs(item["value"] - 501) <= 6 * item["standard_error"] * item["value"]
    assert {share["region"] for share in answers[0]["regions"]} == {"eu", "us", "ap"}
    logins = f"/v1/logins?{SPAN}&granularity=month"
    alone = [(await region.ask(logins))["items"][0]["succeeded"] for region in regions]
    for region in regions:
        assert (await region.whole(f"{logins}&region=all"))["items"][0]["succeeded"] == sum(alone)
        grouped = (await region.whole(f"{logins}&group_by=region"))["items"]
        names = [of.name for of in regions]
        assert {item["region"]: item["succeeded"] for item in grouped} == dict(zip(names, alone, strict=True))
    two = await regions[0].whole(f"{path}&region=us,ap")
    assert two["items"] == (await regions[1].whole(f"{path}&region=us,ap"))["items"]
    regions[2].between.cut = True
    await regions[0].until("ap", "unreachable")
    answer = await regions[0].ask(f"{logins}&realm=acme&region=all")
    assert [(share["region"], share["state"]) for share in answer["regions"]] == [
        ("eu", "current"),
        ("us", "current"),
        ("ap", "missing"),
    ]
    assert answer["items"] == (await regions[0].whole(f"{logins}&realm=acme&region=eu,us"))["items"]


async def test_united_sketches_are_those_of_one_ledger_to_the_bit(both: tuple[Region, Region, Region]) -> None:
    eu, us, one = both
    with redis.Redis.from_url(one.store.url) as raw, closing(ledgers.client(one.store.url)) as client:
        for period, scope in [
            ("2026-10", EVERYTHING),
            ("2026-10", Scope("realm", ("acme",))),
            ("2026-10-07", EVERYTHING),
            ("2026-10", Scope("client", ("globex", "app"))),
        ]:
            exported = []
            for asked, of in ((eu, "us"), (us, "eu")):
                reader = asked.services.regions.over([of])._peers[0]
                (union,) = await reader.unions([([period], [scope])], sketches=True)
                exported.append(union.sketches)
            for part in range(accuracy.sketches(period, scope)):
                for number, sketches in enumerate(exported):
                    raw.set(f"export-{number}", sketches[part])
                client.pfmerge("united", "export-0", "export-1")
                shards = [
                    ShardKeys("authtally:", Shard(topic, number))
                    for topic in ("auth.logins", "auth.tokens", "auth.accounts")
                    for number in range(4)
                ]
                client.pfmerge("of-one", *(of_shard.users(period, scope, part) for of_shard in shards))
                assert ledgers.registers(client, "united") == ledgers.registers(client, "of-one"), (period, scope, part)
                client.delete("united", "of-one", "export-0", "export-1")


async def test_each_region_by_itself(both: tuple[Region, Region, Region]) -> None:
    eu, us, _ = both
    for path in (
        f"/v1/active-users?{SPAN}&granularity=month",
        f"/v1/active-users?{SPAN}&granularity=month&group_by=realm",
        f"/v1/logins?{SPAN}&group_by=reason",
        f"/v1/logins?{SPAN}&granularity=month&client_id=web",
    ):
        alone = [{"region": of.name} | item for of in (eu, us) for item in (await of.ask(path))["items"]]
        group = path.partition("group_by=")[2]
        grouped = path.replace(f"group_by={group}", f"group_by=region,{group}") if group else f"{path}&group_by=region"
        answer = await eu.whole(f"{grouped}&region=eu,us")
        assert answer["items"] == alone
        assert answer["complete"]
        for of in (eu, us):
            (mine, other) = (await of.ask(path)), (await eu.whole(f"{path}&region={of.name}"))
            assert without_regions(other) == mine, (path, of.name)


async def test_a_grouped_answer_as_csv_names_the_region_in_each_row(both: tuple[Region, Region, Region]) -> None:
    eu = both[0]
    answer = await eu.api.get(f"/v1/logins?{SPAN}&granularity=month&group_by=region&region=eu,us&format=csv", "all")
    header, *rows = answer.text.splitlines()
    assert header == "period,from,to,region,succeeded,failed,exact"
    assert [row.split(",")[3] for row in rows] == ["eu", "us"]


async def test_distinct_users_are_added_and_no_sketch_leaves(start: Start, stores: list[Valkey]) -> None:
    await count(stores[0].url, EU, **SKETCHED)
    await count(stores[1].url, US, user_hash_key="another key of sixteen", **SKETCHED)
    regions = await start(region_users="distinct", region_min_users=1, **SKETCHED)
    eu, us = regions["eu"], regions["us"]
    path = f"/v1/active-users?{SPAN}&granularity=month"
    answer = await eu.whole(f"{path}&region=all")
    assert answer["complete"]
    assert answer["region_users"] == "distinct"
    (own,), (other,) = (await eu.ask(path))["items"], (await us.ask(path))["items"]
    (sum_,) = answer["items"]
    assert sum_["value"] == own["value"] + other["value"]
    variance = sum((each["standard_error"] * each["value"]) ** 2 for each in (own, other))
    assert sum_["standard_error"] == pytest.approx(variance**0.5 / sum_["value"], abs=1e-6)
    assert not any(SKETCH in body for body in us.between.bodies)


async def test_exact_numbers_of_separate_directories_stay_exact(start: Start, stores: list[Valkey]) -> None:
    await count(stores[0].url, EU)
    await count(stores[1].url, US)
    regions = await start(region_users="distinct")
    (item,) = (await regions["eu"].whole(f"/v1/active-users?{SPAN}&granularity=month&region=all"))["items"]
    assert (item["value"], item["exact"], item["standard_error"]) == (602, True, 0.0)


async def test_products_answer_over_regions_if_they_are_to(start: Start, stores: list[Valkey]) -> None:
    await count(stores[0].url, EU)
    await count(stores[1].url, US)
    path = "/jans-auth/restv1/internal/stat?month=202610"
    regions = await start(region_users="distinct", region_products="all", janssen_cache_ttl_s=0)
    eu = regions["eu"]
    assert (await eu.ask(path))["response"]["202610"]["monthly_active_users"] == 602
    assert (await eu.ask(path, "own"))["response"]["202610"]["monthly_active_users"] == 301, "no claim: its own region"
    regions["us"].between.cut = True
    answer = await eu.api.get(path, "all")
    assert answer.status == 503, "the answer cannot say that a region is missing"
    assert answer.json["error"] == "temporarily_unavailable"
    assert (await eu.ask(path, "own"))["response"]["202610"]["monthly_active_users"] == 301
