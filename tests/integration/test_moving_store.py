"""REDIS_URL names an address that moves to another server, while the old one stays up and answers."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Thread
from typing import Any

import pytest
import redis

from aggregator.ledger.ledger import Ledger
from aggregator.ledger.store import connect
from api.ledger.client import MAX_AGE_S
from deploy.demo.servers import Valkey, free_port
from deploy.demo.servers.process import HOST
from schemas.ledger.keys import Shard, ShardKeys
from tests.aggregator import ledgers
from tests.conftest import wait_until, wait_until_async
from tests.integration.api_process import ApiProcess
from tests.integration.conftest import MakeSite
from tests.integration.sites import PREFIX, Broker
from tests.moving import MovingAddress

COUNTS_S = 5
"""From the move, or from when the new server can answer, to the next count."""


def client(server: Valkey) -> Any:
    return redis.Redis.from_url(server.url, decode_responses=True)


def follow(replica: Valkey, primary: Valkey) -> None:
    """Returns once it has all."""
    with client(replica) as connection:
        connection.replicaof(HOST, primary.port)
        wait_until(lambda: connection.info("replication")["master_link_status"] == "up", 20, "in sync")


def demote(old: Valkey, new: Valkey) -> None:
    with client(new) as new_connection, client(old) as of_old:
        new_connection.replicaof("NO", "ONE")
        of_old.replicaof(HOST, new.port)


@pytest.fixture
def stores() -> Iterator[tuple[Valkey, Valkey]]:
    with Valkey() as one, Valkey() as other:
        yield one, other


@pytest.fixture
def address(stores: tuple[Valkey, Valkey]) -> Iterator[MovingAddress]:
    with MovingAddress(stores[0].port) as address:
        yield address


def counted(store: Valkey) -> int:
    """The sum of all positions; 0 while the server does not answer."""
    with client(store) as connection:
        try:
            tags = connection.smembers(f"{PREFIX}shards")
            return sum(int(connection.get(ShardKeys(PREFIX, Shard.parse(tag)).position) or 0) for tag in tags)
        except redis.RedisError:
            return 0


def move(address: MovingAddress, store: Valkey) -> float:
    """Seconds until the next count on `store`."""
    before, began = counted(store), time.monotonic()
    address.target = store.port
    wait_until(lambda: counted(store) > before, 20, "counting continues")
    return time.monotonic() - began


def test_a_worker_follows_to_a_new_primary(
    embedded: Broker, make_site: MakeSite, stores: tuple[Valkey, Valkey], address: MovingAddress
) -> None:
    old, new = stores
    site = make_site(embedded, store=old)
    site.workers.start(redis_url=address.url).wait_until_ready()
    with site.publisher.flow():
        site.wait_until_moved()
        follow(new, old)
        demote(old, new)
        assert move(address, new) < COUNTS_S
    site.client = client(new)
    assert site.differences() == []


def test_a_worker_that_counts_nothing_notices_too(
    embedded: Broker, make_site: MakeSite, stores: tuple[Valkey, Valkey], address: MovingAddress
) -> None:
    old, new = stores
    site = make_site(embedded, store=old)
    site.publisher.publish(500)
    worker = site.workers.start(redis_url=address.url).wait_until_ready()
    site.wait_until_counted()
    follow(new, old)
    demote(old, new)
    with client(new) as connection:
        assert callers(connection) == []
        address.target = new.port
        wait_until(lambda: callers(connection), 20, "it has come to the new primary")
    worker.wait_until_ready()
    site.client = client(new)
    site.publisher.publish(500)
    assert site.differences() == []


def callers(connection: Any) -> list[Any]:
    """Connections of a service, which are neither a replica's nor ours."""
    return [
        each for each in connection.client_list() if each["flags"] == "N" and each["cmd"] not in ("client|list", "info")
    ]


@contextmanager
def loading(source: Valkey) -> Iterator[Valkey]:
    """A server with the same data that takes seconds to load it."""
    with client(source) as connection:
        # Some unread ones: each takes a millisecond.
        connection.mset({f"filler:{number}": number for number in range(4000)})
        connection.save()
    options = ("--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024")
    server = Valkey(options=options)
    shutil.copy(source.folder / "dump.rdb", server.folder / "dump.rdb")
    starting = Thread(target=server.start)
    starting.start()
    try:
        yield server
    finally:
        starting.join()
        server.close()


def test_a_worker_waits_for_a_server_that_loads(
    embedded: Broker, make_site: MakeSite, stores: tuple[Valkey, Valkey], address: MovingAddress
) -> None:
    old, _ = stores
    site = make_site(embedded, store=old)
    worker = site.workers.start(redis_url=address.url).wait_until_ready()
    with site.publisher.flow(), ExitStack() as stack:
        site.wait_until_moved()
        new = stack.enter_context(loading(old))
        with client(old) as connection:
            # So that nothing else can take the counts.
            connection.replicaof(HOST, free_port())
        address.target = new.port
        worker.wait_until_troubled("AUTHTALLY_REDIS_URL", "still loading its data")
        wait_until(lambda: new.running and new.answers(), 30, "it has loaded")
        before, began = counted(new), time.monotonic()
        wait_until(lambda: counted(new) > before, 20, "counting continues")
        assert time.monotonic() - began < COUNTS_S


async def test_the_worker_leaves_a_server_that_loads(stores: tuple[Valkey, Valkey]) -> None:
    """The address moves on to a server that has loaded, while the first one still loads."""
    old, new = stores
    shard = Shard("auth.logins", 0)
    for server, position in ((old, 1), (new, 2)):
        with client(server) as of:
            of.set(ShardKeys(PREFIX, shard).position, position)
    with loading(old) as slow, MovingAddress(slow.port) as address:
        errors: list[str] = []
        settings = ledgers.settings(address.url)
        opened: Any = connect(settings)
        ledger = Ledger(opened, settings, on_error=lambda error: errors.append(error or ""))
        reading = asyncio.create_task(ledger.read_state(shard))
        await wait_until_async(lambda: any("still loading its data" in error for error in errors), 20)
        address.target = new.port
        try:
            state = await asyncio.wait_for(reading, COUNTS_S)
            assert state.position == 2
        finally:
            reading.cancel()
            await opened.aclose()


def test_a_worker_leaves_a_replica_that_lost_its_primary(
    embedded: Broker, make_site: MakeSite, stores: tuple[Valkey, Valkey], address: MovingAddress
) -> None:
    old, new = stores
    site = make_site(embedded, store=old)
    worker = site.workers.start(redis_url=address.url).wait_until_ready()
    with site.publisher.flow():
        site.wait_until_moved()
        follow(new, old)
        with client(old) as connection, client(new) as new_connection:
            new_connection.replicaof("NO", "ONE")
            connection.config_set("replica-serve-stale-data", "no")
            connection.replicaof(HOST, free_port())
        worker.wait_until_troubled("AUTHTALLY_REDIS_URL", "replica")
        assert move(address, new) < COUNTS_S


@pytest.fixture
def api(address: MovingAddress) -> Iterator[ApiProcess]:
    with ApiProcess(redis_url=address.url, auth="none", cache_ttl_s="0") as api:
        yield api


def test_an_api_does_not_go_on_reading_an_old_primary(
    stores: tuple[Valkey, Valkey], address: MovingAddress, api: ApiProcess
) -> None:
    old, new = stores

    def months() -> dict[str, Any]:
        return dict(api.get("/v1/overview").json)

    assert months()
    with client(old) as connection:
        # It answers reads as before, and no primary updates it.
        connection.replicaof(HOST, free_port())
    address.target = new.port
    with client(old) as connection:
        wait_until(
            lambda: api.get("/v1/overview").status == 200 and callers(connection) == [],
            MAX_AGE_S + 3,
            "the old primary is left",
        )
    with client(new) as connection:
        assert callers(connection) != []
