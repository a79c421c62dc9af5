"""Redis behind Sentinel, and what an operator writes to say so."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis

from api.app import build_app
from api.ledger.client import AUTH_ERRORS, UNREACHABLE, open_ledger, open_url
from api.settings.settings import ApiSettings
from deploy.demo.servers import ServerProcess, Valkey
from deploy.demo.servers.process import HOST, accepts, free_port
from deploy.demo.servers.valkey import bundled_binary
from schemas.connections.sentinel_url import parse_sentinel_url
from tests.api.conftest import Serve
from tests.api.ledger_writer import open_ledger as written_ledger
from tests.moving import MovingAddress


def settings(**given: Any) -> ApiSettings:
    return ApiSettings(**{"auth": ("none",)} | given)


class Sentinel(ServerProcess):
    """Watches one master."""

    name = "sentinel"

    def __init__(self, master: Valkey) -> None:
        super().__init__(None, None)
        self._master = master

    def prepare(self) -> None:
        (self.folder / "sentinel.conf").write_text(
            f"bind {HOST}\nport {self.port}\n"
            f"sentinel monitor ledger {HOST} {self._master.port} 1\n"
            f"sentinel auth-pass ledger {self._master.password}\n"
        )

    def command(self) -> Sequence[str | Path]:
        return (bundled_binary(), self.folder / "sentinel.conf", "--sentinel")

    def answers(self) -> bool:
        return accepts(self.port)


@pytest.fixture(scope="module")
def master() -> Iterator[Valkey]:
    with Valkey(password="p@ss/word") as server:
        yield server


@pytest.fixture(scope="module")
def sentinel(master: Valkey) -> Iterator[Sentinel]:
    with Sentinel(master) as server:
        yield server


def url(sentinel: Sentinel, password: str = "p%40ss%2Fword") -> str:
    # The first address is dead: the next one is asked.
    return f"redis://:{password}@127.0.0.1:1,127.0.0.1:{sentinel.port}/0"


async def test_the_ledger_is_read_behind_sentinel(serve: Serve, master: Valkey, sentinel: Sentinel) -> None:
    written_ledger(master.url.replace("p@ss/word", "p%40ss%2Fword")).few_users("2026-11", range(5))
    api = await serve(redis_url=url(sentinel), redis_sentinel="ledger")
    answer = await api.get("/jans-auth/restv1/internal/stat?month=202611")
    assert answer.json["response"]["202611"]["monthly_active_users"] == 5


async def test_a_wrong_password_behind_sentinel_is_refused(sentinel: Sentinel) -> None:
    client = open_ledger(settings(redis_url=url(sentinel, "wrong"), redis_sentinel="ledger"))
    with pytest.raises(AUTH_ERRORS):
        await client.ping()
    await client.close()


@pytest.mark.parametrize("kind", [{"redis_sentinel": "ledger"}, {"redis_cluster": True}, {}])
async def test_an_absent_server_is_noticed_within_two_seconds(kind: dict[str, object]) -> None:
    client = open_ledger(settings(redis_url="redis://127.0.0.1:1", **kind))
    started = time.monotonic()
    with pytest.raises(UNREACHABLE):
        await client.ping()
    with pytest.raises(UNREACHABLE):
        await client.run([("GET", "x")])
    assert time.monotonic() - started < 2
    await client.close()


@pytest.mark.parametrize(
    ("written", "addresses"),
    [
        ("redis://one:1,two:2/0", [("one", 1), ("two", 2)]),
        ("redis://:secret@one:1, two/0", [("one", 1), ("two", 26379)]),
        ("rediss://user:a,b@[::1]:5", [("::1", 5)]),
    ],
)
def test_sentinels_are_listed_in_the_url(written: str, addresses: list[tuple[str, int]]) -> None:
    assert list(parse_sentinel_url(written).sentinels) == addresses


async def test_building_an_application_opens_nothing() -> None:
    app = build_app(settings(redis_url="redis://nowhere.invalid:1"))
    assert "/jans-auth/restv1/internal/stat" in {resource.canonical for resource in app.router.resources()}


async def test_the_api_leaves_a_replica_that_lost_its_primary() -> None:
    """With the same question, not with the next one."""
    with Valkey() as old, Valkey() as new, MovingAddress(old.port) as address:
        for server, value in ((old, b"old"), (new, b"new")):
            with redis.Redis.from_url(server.url) as of:
                of.set("key", value)
        client = open_url(address.url)
        try:
            assert await client.run([("GET", "key")]) == [b"old"]
            with redis.Redis.from_url(old.url) as of:
                of.config_set("replica-serve-stale-data", "no")
                of.replicaof(HOST, free_port())
            address.target = new.port
            assert await client.run([("GET", "key")]) == [b"new"]
        finally:
            await client.close()
