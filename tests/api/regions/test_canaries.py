"""Ids of one region are nowhere in the other: not in its store, its cache, its logs, nor in what crosses the border."""

from __future__ import annotations

import struct
from typing import Any

import pytest
import redis

from deploy.demo.servers import Valkey
from tests.api.otp import state, write
from tests.api.regions.conftest import Start
from tests.api.worker import count, login

QUESTIONS = [
    "/v1/active-users?from=2026-10-01&to=2026-10-31&granularity=month",
    "/v1/active-users?from=2026-10-01&to=2026-10-07&trailing=3",
    "/v1/active-users?from=2026-10-01&to=2026-10-31&granularity=month&group_by=region,realm",
    "/v1/logins?from=2026-10-01&to=2026-10-31&group_by=reason",
    "/v1/overview?date=2026-10-07",
    "/v1/lifecycle?from=2026-10-01&to=2026-11-20",
    "/v1/retention?from=2026-09-01&to=2026-11-20&cohort=new",
    "/v1/labels",
    "/v1/m2m?month=2026-10",
    "/v1/pipeline",
]


def contents(store: Valkey) -> bytes:
    """Everything that a store holds in its first two databases: keys, members and values."""
    found: list[bytes] = []
    for database in (0, 1):
        with redis.Redis.from_url(store.url.removesuffix("/0") + f"/{database}") as client:
            readers: dict[bytes, Any] = {
                b"set": client.smembers,
                b"hash": lambda key: [each for item in client.hgetall(key).items() for each in item],
                b"zset": lambda key: client.zrange(key, 0, -1),
                b"string": lambda key: [client.get(key)],
                b"list": lambda key: client.lrange(key, 0, -1),
                b"stream": lambda key: [repr(client.xrange(key)).encode()],
            }
            for key in client.scan_iter("*"):
                found += [key, *readers[client.type(key)](key)]
    return b"\n".join(found)


def digests(store: Valkey) -> set[bytes]:
    """The members of the small sets: the digests of single users."""
    with redis.Redis.from_url(store.url) as client:
        return {member for key in client.scan_iter("*small:*") for member in client.smembers(key)}


async def test_canaries_stay_in_their_region(
    start: Start, stores: list[Valkey], capfd: pytest.CaptureFixture[str]
) -> None:
    for name, store in zip(("eu", "us"), stores, strict=False):
        users = [f"canary-{name}-{number}" for number in range(80)]
        await count(
            store.url,
            [
                login(f"2026-10-0{1 + number % 7}T10:00:00Z", user, realm=f"realm-{name}", id=f"event-{user}")
                for number, user in enumerate(users)
            ],
        )
        await write(store.url, [state("2026-10-03T10:00:00Z", f"canary-{name}-serial", "token_init", "acme")])
    before = {name: digests(store) for name, store in zip(("eu", "us"), stores, strict=False)}
    caches = {
        name: {"cache_redis_url": store.url.removesuffix("/0") + "/1", "cache_ttl_s": 60}
        for name, store in zip(("eu", "us"), stores, strict=False)
    }
    regions = await start(of=caches, region_min_users=5)
    for region in regions.values():
        for path in QUESTIONS:
            answer = await region.ask(f"{path}{'&' if '?' in path else '?'}region=all")
            assert "canary" not in repr(answer), path
        for path in ("/v1/region", "/v1/region/ids"):
            assert b"canary" not in (await region.api.get(path, "peer")).body
    # A peer that goes away: its figures are kept, and its outage is logged.
    regions["us"].between.cut = True
    for path in QUESTIONS:
        assert (
            await regions["eu"].api.get(f"{path}{'&' if '?' in path else '?'}region=all&format=csv", "all")
        ).status == 200
    crossed = {name: b"\n".join(region.between.bodies) for name, region in regions.items()}
    assert all(crossed.values())
    kept = repr(regions["eu"].services.regions._kept._kept.items()).encode()
    printed = "".join(capfd.readouterr()).encode()
    for name, other in (("eu", "us"), ("us", "eu")):
        store = stores[("eu", "us").index(other)]
        held = contents(store)
        assert len(held) > 10_000
        for where, text in (("store and cache", held), ("border", crossed[name]), ("kept", kept), ("log", printed)):
            assert f"canary-{name}".encode() not in text, (name, where)
            for digest in before[name]:
                packed = struct.pack(">q", int(digest)), struct.pack("<q", int(digest))
                assert not any(form in text for form in (digest, *packed)), (name, where)
        assert digests(store) == before[other], "no user of the one was written to the other's ledger"
