"""Redis behind Sentinel: a primary that dies with its last writes, and one that must give up its place."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from deploy.demo.servers import ServerProcess
from deploy.demo.servers.process import HOST
from schemas.ledger.scopes import EVERYTHING
from tests.certificates import Authority
from tests.conftest import wait_until
from tests.integration.api_process import ApiProcess
from tests.integration.conftest import MakeSite
from tests.integration.sites import Broker, Site
from tests.stores import PASSWORD, USERS, Store

FILES: Final = USERS.parent
NAME: Final = "ledger"
SENTINELS: Final = 3
DOWN_MS: Final = 1000
SENTINEL_PASSWORD: Final = "of-the-sentinels"
FOLLOWS_S: Final = 30.0
"""From a primary's death to the next range counted: Sentinel's silence, its vote, and our pauses between tries."""
REJOINS_S: Final = 90.0
"""From an old primary's start to its replication: Sentinel asks for roles every 10 s, then waits 8 s more."""


class Sentinel(ServerProcess):
    """One of three that watch the primary, by TLS, with a password."""

    name = "sentinel"

    def __init__(self, binary: Path, primary: Store) -> None:
        super().__init__()
        self._binary, self._primary = binary, primary

    def prepare(self) -> None:
        path, authority = self.folder / "sentinel.conf", self._primary.authority
        if path.exists() or authority is None:
            return
        shown = authority.sign(f"sentinel-{self.port}")
        shipped = (FILES / "sentinel.conf").read_text()
        for name, value in (
            ("PASSWORD-OF-SENTINELS", SENTINEL_PASSWORD),
            ("PASSWORD-OF-SENTINEL", PASSWORD),
            ("ADDRESS-OF-PRIMARY 6379", f"{HOST} {self._primary.port}"),
            ("port 26379", f"port 0\ntls-port {self.port}"),
            ("milliseconds ledger 5000", f"milliseconds ledger {DOWN_MS}"),
            ("timeout ledger 30000", "timeout ledger 5000"),
        ):
            assert name in shipped, name
            shipped = shipped.replace(name, value)
        path.write_text(
            f"bind {HOST}\ntls-replication yes\ntls-auth-clients no\ntls-ca-cert-file {authority.file}\n"
            f"tls-cert-file {shown.certificate}\ntls-key-file {shown.key}\n{shipped}"
        )

    def command(self) -> Sequence[str | Path]:
        return (self._binary, self.folder / "sentinel.conf", "--sentinel")

    def connect(self) -> Any:
        assert self._primary.authority is not None
        once, authority = Retry(NoBackoff(), 0), str(self._primary.authority.file)
        return redis.Redis(
            host=HOST, port=self.port, password=SENTINEL_PASSWORD, ssl=True, ssl_ca_certs=authority, retry=once
        )

    def answers(self) -> bool:
        with self.connect() as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False


class Watched(NamedTuple):
    primary: Store
    replica: Store
    sentinels: list[Sentinel]

    @property
    def settings(self) -> dict[str, str]:
        """The ACL lines of a follower; the user is `USER` in the URL."""
        listed = ",".join(sentinel.address for sentinel in self.sentinels)
        return {
            "redis_url": f"rediss://USER:{PASSWORD}@{listed}/0",
            "redis_sentinel": NAME,
            "redis_sentinel_password": SENTINEL_PASSWORD,
            **self.primary.settings,
        }

    def as_user(self, user: str) -> dict[str, str]:
        return {name: value.replace("USER", user) for name, value in self.settings.items()}


@pytest.fixture
def watched(redis_7_binary: Path, tmp_path: Path) -> Iterator[Watched]:
    """A primary with a replica, both with the shipped users and TLS only."""
    authority = Authority(tmp_path)
    options = ("--masteruser", "replica", "--masterauth", PASSWORD, "--repl-diskless-sync-delay", "0")
    with ExitStack() as stack:
        primary = stack.enter_context(Store(options, redis_7_binary, authority))
        more = ("--replicaof", HOST, str(primary.port))
        replica = stack.enter_context(Store((*options, *more), redis_7_binary, authority))
        wait_until(lambda: in_step(replica), what="the replica follows")
        sentinels = [stack.enter_context(Sentinel(redis_7_binary, primary)) for _ in range(SENTINELS)]
        wait_until(lambda: all(map(_knows_all, sentinels)), 30, "sentinels know each other and the replica")
        yield Watched(primary, replica, sentinels)


def _knows_all(sentinel: Sentinel) -> bool:
    with sentinel.connect() as client:
        seen = client.sentinel_master(NAME)
        return bool(seen["num-other-sentinels"] == SENTINELS - 1 and seen["num-slaves"] == 1)


def role(store: Store) -> str:
    """`master` or `slave`; nothing while it closes all connections, as it does when its role changes."""
    with store.watcher() as client:
        try:
            return str(client.role()[0])
        except redis.ConnectionError:
            return ""


def in_step(store: Store) -> bool:
    with store.watcher() as client:
        try:
            return bool(client.info("replication").get("master_link_status") == "up")
        except redis.ConnectionError:
            return False


def answered_users(api: ApiProcess, month: str) -> int | None:
    """None while the api has no answer."""
    answer = api.get(f"/jans-auth/restv1/internal/stat?month={month}")
    return answer.json["response"].get(month, {}).get("monthly_active_users") if answer.status == 200 else None


def _wait_until_answered(api: ApiProcess, month: str, users: int) -> None:
    wait_until(lambda: answered_users(api, month) == users, 10, f"{users} users of {month}")


def agree(site: Site, api: ApiProcess) -> None:
    """The ledger holds what was published, and the api answers so for every month."""
    assert site.differences() == []
    users: dict[str, set[str]] = {}
    for expected in site.publisher.expected.values():
        for (period, scope), active in expected.users.items():
            if scope == EVERYTHING and len(period) == 7:
                users.setdefault(period.replace("-", ""), set()).update(active)
    assert users
    for month, active in users.items():
        _wait_until_answered(api, month, len(active))


def test_worker_and_api_follow_a_failover_that_loses_writes_and_one_that_does_not(
    embedded: Broker, make_site: MakeSite, watched: Watched
) -> None:
    primary, replica = watched.primary, watched.replica
    # The replica is read throughout: it becomes the primary, and a replica again.
    site = make_site(embedded, partitions=2, store=replica)
    site.workers.settings |= watched.as_user("worker")
    worker = site.workers.start().wait_until_ready()
    with ApiProcess(auth="none", janssen_cache_ttl_s="1", **watched.as_user("api")) as api:
        with site.publisher.flow():
            site.wait_until_moved()
            # The replica falls behind: it is cut off and cannot sign in any more.
            with replica.watcher() as behind, primary.watcher() as ahead:
                behind.config_set("masterauth", "wrong")
                ahead.client_kill_filter(_type="replica")
                known = site.positions()

                def counted(shard: Any) -> float:
                    return worker.metric("authtally_position_offset", topic=shard.topic, partition=str(shard.partition))

                wait_until(lambda: all(counted(shard) > at for shard, at in known.items()), 20, "more is counted")
                primary.kill()
                died = time.monotonic()
                behind.config_set("masterauth", PASSWORD)
            refused = site.refusals()
            wait_until(lambda: role(replica) == "master", FOLLOWS_S, "the replica leads")
            site.wait_until_moved(FOLLOWS_S)
            assert time.monotonic() - died < FOLLOWS_S
            assert site.refusals() > refused
            worker.wait_until_ready()
        agree(site, api)

        primary.start()
        wait_until(lambda: in_step(primary), REJOINS_S, "the old primary follows")
        with site.publisher.flow():
            site.wait_until_moved()
            with watched.sentinels[0].connect() as sentinel:
                sentinel.execute_command("SENTINEL FAILOVER", NAME)
            wait_until(lambda: role(primary) == "master", FOLLOWS_S, "it leads again")
            site.wait_until_moved(FOLLOWS_S)
        agree(site, api)
    assert PASSWORD not in worker.log
    assert SENTINEL_PASSWORD not in worker.log
