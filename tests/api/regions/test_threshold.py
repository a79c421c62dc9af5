"""Users below REGION_MIN_USERS leave a region as a number only, and no export has the digest of a user."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis

from deploy.demo.servers import Valkey
from schemas.ledger import keys
from schemas.ledger.keys import SMALL_PARTS, Shard, ShardKeys
from schemas.ledger.scopes import EVERYTHING
from tests.api.conftest import Answer
from tests.api.regions.conftest import MIN_USERS, SKETCH, Region, Start
from tests.api.worker import Event, count, login

PATH = "/v1/active-users?from=2026-10-01&to=2026-10-31&granularity=month"


def logins(users: range, day: int = 1, realm: str = "acme") -> list[Event]:
    return [login(f"2026-10-{day:02}T10:00:00Z", f"user-{user}", realm=realm) for user in users]


async def export(region: Region, request: dict[str, Any], token: str = "peer") -> Answer:
    body = json.dumps(request)
    async with region.api._session.post(
        region.api.url + "/v1/region/export", data=body, headers={"Authorization": f"Bearer {token}"}
    ) as response:
        return Answer(response, await response.read())


def members(store: Valkey) -> set[bytes]:
    """All digests of users in the small sets of a store."""
    found: set[bytes] = set()
    with redis.Redis.from_url(store.url) as client:
        for key in client.scan_iter("authtally:*small:*"):
            found |= set(client.smembers(key))
    return found


async def test_a_region_with_few_users_is_a_number_and_marked(start: Start, stores: list[Valkey]) -> None:
    await count(stores[0].url, logins(range(200)))
    await count(stores[1].url, logins(range(190, 190 + MIN_USERS - 1)))
    regions = await start()
    eu, us = regions["eu"], regions["us"]
    answer = await eu.whole(f"{PATH}&region=all")
    (item,) = answer["items"]
    assert item["value"] == 200 + MIN_USERS - 1, "users who are active in both count twice"
    assert (item["exact"], item["standard_error"]) == (False, None), "an upper bound has no standard error"
    assert answer["regions"][1] == {"region": "us", "state": "current", "not_united": True}
    assert answer["complete"]
    # The other way round eu has enough users for sketches, and us unites them with its own few.
    answer = await us.whole(f"{PATH}&region=all")
    assert "not_united" not in answer["regions"][1]
    assert abs(answer["items"][0]["value"] - (190 + MIN_USERS - 1)) <= 3
    assert not any(SKETCH in body for body in us.between.bodies)
    assert any(SKETCH in body for body in eu.between.bodies)


@pytest.mark.parametrize("users", [MIN_USERS - 1, MIN_USERS])
async def test_no_export_has_the_digest_of_a_user(start: Start, stores: list[Valkey], users: int) -> None:
    await count(stores[0].url, logins(range(users)))
    await count(stores[1].url, logins(range(10)))
    eu = (await start())["eu"]
    digests = members(stores[0])
    assert len(digests) == users
    everything = {
        "status": True,
        "labels": True,
        "unions": [{"periods": ["2026-10"], "scopes": [scope]} for scope in ("all", "realm/acme")],
        "rolling": {"days": ["2026-10-01", "2026-10-02"], "length": 2, "scopes": ["all"]},
        "counts": {"periods": ["2026-10"], "scopes": ["all", "realm/acme", "client/acme/web"]},
        "times": ["2026-10-01"],
        "lifecycle": {"base": ["2026-08"], "periods": [["2026-09"], ["2026-10"]], "scopes": ["all"]},
        "retention": {"base": None, "periods": [["2026-09"], ["2026-10"]], "max_age": 1, "scopes": ["all"]},
    }
    answer = await export(eu, everything)
    assert answer.status == 200
    assert [union["count"] for union in answer.json["unions"]] == [users, users]
    assert [bool(union["sketches"]) for union in answer.json["unions"]] == [users >= MIN_USERS] * 2
    for digest in digests:
        assert digest not in answer.body
        assert int(digest).to_bytes(8, "big", signed=True).hex().encode() not in answer.body


async def test_a_small_scope_or_day_cannot_be_subtracted_from_a_union(start: Start, stores: list[Valkey]) -> None:
    """Sketches of a large and a small realm together would show the small one's registers."""
    await count(
        stores[0].url, [*logins(range(100)), *logins(range(1000, 1003), realm="tiny"), *logins(range(5), day=2)]
    )
    await count(stores[1].url, logins(range(10)))
    eu = (await start())["eu"]

    async def union(periods: list[str], *scopes: str) -> dict[str, Any]:
        answer = await export(eu, {"unions": [{"periods": periods, "scopes": [*scopes]}]})
        found: dict[str, Any] = answer.json["unions"][0]
        return found

    alone = await union(["2026-10"], "realm/acme")
    both = await union(["2026-10"], "realm/acme", "realm/tiny")
    assert (alone["count"], alone["united"]) == (100, 100)
    assert (both["count"], both["united"]) == (103, 100)
    assert both["sketches"] == alone["sketches"]
    days = await union(["2026-10-01", "2026-10-02"], "realm/acme")
    day = await union(["2026-10-01"], "realm/acme")
    assert (days["count"], days["united"]) == (100, 100)
    assert days["sketches"] == day["sketches"]


async def test_what_is_not_united_is_added(start: Start, stores: list[Valkey]) -> None:
    """Of a week whose days have enough users but one, only that one's further users are a number."""
    await count(stores[0].url, logins(range(60)))
    await count(stores[1].url, [*logins(range(60)), *logins(range(500, 507), day=2)])
    eu = (await start())["eu"]
    answer = await eu.whole("/v1/active-users?from=2026-10-01&to=2026-10-03&granularity=range&region=all")
    (item,) = answer["items"]
    assert abs(item["value"] - 67) <= 2
    assert answer["regions"][1]["not_united"]
    rolling = await eu.whole("/v1/active-users?from=2026-10-02&to=2026-10-03&trailing=2&region=all")
    assert abs(rolling["items"][0]["value"] - 67) <= 2
    assert rolling["items"][1]["value"] == 7


async def test_the_exported_sketch_is_that_of_the_members(start: Start, stores: list[Valkey]) -> None:
    await count(stores[0].url, logins(range(200)))
    await count(stores[1].url, logins(range(200)))
    eu = (await start())["eu"]
    (union,) = await eu.services.regions.over(["us"])._peers[0].unions([(["2026-10"], [EVERYTHING])], sketches=True)
    shards = [ShardKeys("authtally:", Shard("auth.logins", number)) for number in range(2)]
    with redis.Redis.from_url(stores[1].url) as client:
        for part, sketch in enumerate(union.sketches):
            names = [shard.small_set("2026-10", EVERYTHING, part) for shard in shards]
            assert len(union.sketches) == SMALL_PARTS
            client.pfadd("expected", *client.sunion(names))
            client.set("exported", sketch)
            assert client.pfcount("expected") == client.pfcount("exported") == client.pfcount("expected", "exported")
            client.delete("expected", "exported")


async def test_a_version_saves_sending_the_sketches_again(start: Start, stores: list[Valkey]) -> None:
    await count(stores[0].url, logins(range(200)))
    await count(stores[1].url, logins(range(200)))
    regions = await start()
    eu, us = regions["eu"], regions["us"]
    first = await eu.whole(f"{PATH}&region=all")
    us.between.bodies.clear()
    assert (await eu.whole(f"{PATH}&region=all"))["items"] == first["items"]
    assert us.between.bodies
    assert not any(SKETCH in body for body in us.between.bodies)
    await count(stores[1].url, logins(range(300, 400)))
    assert (await eu.whole(f"{PATH}&region=all"))["items"][0]["value"] > first["items"][0]["value"]
    assert any(SKETCH in body for body in us.between.bodies)


async def test_labels_and_scopes_of_one_region_only(start: Start, stores: list[Valkey]) -> None:
    await count(stores[0].url, logins(range(60)))
    await count(stores[1].url, logins(range(60), realm="globex"))
    eu = (await start())["eu"]
    labels = await eu.whole("/v1/labels?dimension=realm&region=all")
    assert [item["realm"] for item in labels["items"]] == ["acme", "globex"]
    answer = await eu.whole(f"{PATH}&region=all&group_by=realm")
    assert [(item["realm"], item["value"]) for item in answer["items"]] == [("acme", 60), ("globex", 60)]
    assert (await eu.whole(f"{PATH}&region=all&realm=globex"))["items"][0]["value"] == 60
    assert (await eu.ask(f"{PATH}&realm=globex"))["items"][0]["value"] == 0


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        ({"unions": [{"periods": ["2026-13"], "scopes": ["all"]}]}, "no month"),
        ({"unions": [{"periods": ["2026-02-30"], "scopes": ["all"]}]}, "no day"),
        ({"unions": [{"periods": ["2026-10"], "scopes": ["everything"]}]}, "no scope"),
        ({"unions": [{"periods": ["2026-10"], "scopes": ["realm/a/b"]}]}, "not a realm"),
        ({"unions": [{"periods": ["2026-10"], "scopes": ["realm/%41cme"]}]}, "another spelling of a scope"),
        ({"unions": [{"periods": ["2026-10"] * 500, "scopes": ["all"] * 31}]}, "too much"),
        ({"unions": [{"periods": ["2026-10"], "scopes": ["all"]}] * 65}, "too many unions"),
        ({"counts": {"periods": ["2026-10"] * 500, "scopes": ["all"] * 101}}, "too many counters"),
        ({"rolling": {"days": ["2026-10-01"], "length": 2, "scopes": ["all"]}}, "no window"),
        ({"members": True}, "no such request"),
        ([], "not an object"),
    ],
)
async def test_a_wrong_request_is_400(start: Start, stores: list[Valkey], request_: Any, why: str) -> None:
    await count(stores[0].url, logins(range(2)))
    eu = (await start(("eu",), peers_file=None))["eu"]
    answer = await export(eu, request_)
    assert answer.status == 400, (why, answer.body)


async def test_without_region_nothing_is_exported(start: Start, stores: list[Valkey]) -> None:
    await count(stores[0].url, logins(range(2)))
    eu = (await start(("eu",), region="", peers_file=None, region_users=None))["eu"]
    for path in ("/v1/region", "/v1/region/ids"):
        assert (await eu.api.get(path, "peer")).status == 404
    assert (await export(eu, {})).status == 404
    answer = await eu.api.get(f"{PATH}&region=all", "all")
    assert answer.status == 400
    assert "REGION is not set" in answer.json["detail"]
    assert (await eu.ask("/v1/regions")) == {"region": None, "region_users": None, "items": []}


async def test_the_hash_key_is_in_no_export(start: Start, stores: list[Valkey]) -> None:
    await count(stores[0].url, logins(range(2)), user_hash_key="canary key of 16 characters")
    eu = (await start(("eu",), peers_file=None))["eu"]
    with redis.Redis.from_url(stores[0].url) as client:
        stored = client.hget(ShardKeys("authtally:", Shard("auth.logins", 0)).meta, "user_hash_key")
        assert client.get(keys.ledger_id("authtally:"))
    assert stored
    bodies = [(await eu.api.get(path, "peer")).body for path in ("/v1/region", "/v1/region/ids")]
    bodies.append((await export(eu, {"status": True, "labels": True})).body)
    for body in bodies:
        assert b"canary" not in body
        assert stored not in body, "the stored fingerprint stays, too: exports have one of it"
    assert len(json.loads(bodies[0])["settings"]["hash_key"][0]) == 32
