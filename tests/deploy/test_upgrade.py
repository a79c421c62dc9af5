"""A ledger of format 1 under this version: figures and ids go on, and what is verified begins at the upgrade."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import Result

from aggregator.settings import FORMAT
from deploy.cli.verify.clock import Judged, Untimed
from deploy.demo.servers import Tansu, create_topics, free_port
from deploy.demo.servers.process import start_child, stop_child, tail
from schemas.ledger import fields
from schemas.ledger.keys import Shard
from schemas.ledger.scopes import EVERYTHING
from tests.aggregator import ledgers
from tests.conftest import wait_until
from tests.deploy import fixtures
from tests.deploy.fixtures import DAMAGED, DAYS, SHARDS, WHOLE, of, records
from tests.deploy.fixtures.format_1 import FAR_AHEAD_MS, PARTITIONS, SETTINGS, produce

LOGINS = [Shard("auth.logins", partition) for partition in (0, 1)]
LAST_DAY = datetime(2026, 11, 26, 1, 50, tzinfo=UTC)
DAY = "2026-11-26"


def login(user: str, partition: int = 0, at_ms: int | None = None, **more: Any) -> dict[str, Any]:
    """A record of the fixture's last day; its ids are as old as those of the next hour may be."""
    event = {"time": LAST_DAY.isoformat(), "user_id": user, "realm": "acme", "client_id": "web"} | more
    timestamp = int(LAST_DAY.timestamp() * 1000) if at_ms is None else at_ms
    return {"topic": "auth.logins", "partition": partition, "timestamp": timestamp, "value": json.dumps(event)}


class Site:
    """The fixture's log on a broker of its own, its snapshot in a store, and this version's worker."""

    def __init__(self, broker: str, redis_url: str, snapshot: Path, folder: Path) -> None:
        self.folder, self.redis_url = folder, redis_url
        self.broker = broker
        self.redis: Any = redis.Redis.from_url(redis_url, decode_responses=True)
        create_topics(broker, PARTITIONS | {"auth.dead-letter": 1})
        self.ends: Counter[str] = Counter()
        self.publish(*records(WHOLE), *(records(DAMAGED) if snapshot == DAMAGED else ()))
        self.start = dict(self.ends)
        fixtures.restore(redis_url, snapshot)

    def publish(self, *records: Mapping[str, Any]) -> None:
        produce(self.broker, [dict(record) for record in records])
        self.ends.update(f"{record['topic']}-{record['partition']}" for record in records)

    @property
    def settings(self) -> dict[str, str]:
        return {"kafka_bootstrap_servers": self.broker, "kafka_idempotence": "off", "redis_url": self.redis_url}

    def run(self, *arguments: object, **settings: str) -> Result:
        return fixtures.run(self.redis_url, *arguments, settings=self.settings | settings)

    def printed(self, *arguments: object, **settings: str) -> dict[str, Any]:
        done = self.run(*arguments, "--json", **settings)
        found: dict[str, Any] = json.loads(done.stdout)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return found | {"status": done.exit_code}

    def worker(self) -> Any:
        given = SETTINGS | self.settings | {"worker_port": str(free_port()), "kafka_group": f"group-{time.time_ns()}"}
        environment = {**os.environ, **{f"AUTHTALLY_{name.upper()}": value for name, value in given.items()}}
        return start_child((sys.executable, "-m", "aggregator"), self.folder / "log", self.folder, environment)

    def positions(self) -> dict[str, int]:
        return {shard.tag: int(self.redis.get(of(shard).position)) for shard in SHARDS}

    def count(self, *more: Mapping[str, Any]) -> None:
        """Publish, and have a worker count all there is."""
        worker = self.worker()
        try:
            self.publish(*more)
            wait_until(lambda: self.positions() == self.ends or worker.poll() is not None, 60, "all is counted")
            assert worker.poll() is None, tail(self.folder / "log")
        finally:
            stop_child(worker, 10)

    def progress(self, name: str, shard: Shard = LOGINS[0]) -> int:
        return int(self.redis.hget(of(shard).progress, name) or 0)

    def logins(self, period: str, shard: Shard = LOGINS[0]) -> int:
        return int(self.redis.hget(of(shard).counts(period, EVERYTHING), fields.LOGIN) or 0)


@pytest.fixture
def own_broker() -> Iterator[str]:
    """The fixture's topics have fixed names."""
    with Tansu() as broker:
        yield broker.address


@pytest.fixture
def site(own_broker: str, redis_url: str, tmp_path: Path) -> Iterator[Site]:
    made = Site(own_broker, redis_url, WHOLE, tmp_path)
    yield made
    made.redis.close()


@pytest.fixture
def damaged(own_broker: str, redis_url: str, tmp_path: Path) -> Iterator[Site]:
    made = Site(own_broker, redis_url, DAMAGED, tmp_path)
    yield made
    made.redis.close()


def agrees(site: Site, month: str) -> bool:
    """Whether a month is what counting it from Kafka in another way finds."""
    found = site.printed("recount", month)
    assert min(figure["recount"] for figure in found["figures"] if figure["name"] in ("active users", "logins")) > 0
    return bool(found["agree"])


def test_figures_and_ids_go_on_after_an_upgrade(site: Site, tmp_path: Path) -> None:
    before = {period: site.logins(period) for period in (DAY, "2026-11", "2026-10")}
    counted = site.progress(fields.COUNTED)
    assert site.redis.hget(of(LOGINS[0]).meta, fields.FORMAT) == "1"
    site.count(
        # Counted by the version before, in this partition and within the window.
        login("user-1", id="login-460"),
        login("somebody new", id="new-1"),
        login("somebody new", id="new-1"),
        login("user-2", success=False, realm="a realm of failures"),
        {"topic": "auth.logins", "partition": 0, "timestamp": FAR_AHEAD_MS, "value": "x"},
        login("user-3", at_ms=FAR_AHEAD_MS, id="untimed"),
    )
    assert site.progress(fields.DUPLICATES) == 2
    assert site.progress(fields.COUNTED) == counted + 3
    assert site.progress(fields.UNTIMED) == 2
    assert {period: site.logins(period) - logins for period, logins in before.items()} == {
        DAY: 2,
        "2026-11": 2,
        "2026-10": 0,
    }
    assert site.progress(fields.LAST_RECORD) < FAR_AHEAD_MS
    assert set(site.redis.zrange(of(LOGINS[0]).index, 0, -1)) >= DAYS | {"2026-10", "2026-11"}
    assert site.redis.sismember(of(LOGINS[0]).labels, fields.label("realm", "a realm of failures"))
    assert agrees(site, "2026-10")
    assert agrees(site, "2026-11")

    meta = site.redis.hgetall(of(LOGINS[0]).meta)
    assert meta[fields.FORMAT] == str(FORMAT) == "2"
    since, _ = fields.split_observation(meta[fields.since(fields.FORMAT)])
    assert since == site.start[LOGINS[0].tag]
    # Of the others nothing was counted since: they wait for their first range.
    assert site.redis.hget(of(LOGINS[1]).meta, fields.FORMAT) == "1"


def test_what_is_verified_begins_at_the_upgrade(site: Site, tmp_path: Path) -> None:
    site.count(*(login(f"user-{number}", partition) for number in range(20) for partition in (0, 1)))
    of_logins = [each for each in site.printed("snapshot", "verify", "--from-start")["shards"] if each["replayed"] == 0]
    assert {each["topic"] for each in of_logins} == set(PARTITIONS)
    since = site.start[LOGINS[0].tag]
    verdicts = {each["verdict"] for each in of_logins if each["topic"] == "auth.logins" and each["partition"] == 0}
    assert verdicts == {
        f"format 2 applies from offset {since} on, and the replay would begin at 0: "
        "verify from a snapshot that was saved after the upgrade"
    }
    assert {each["verdict"] for each in of_logins if each["topic"] != "auth.logins"} == {
        "the ledger has format 1, this version counts by format 2: verify with the version before"
    }

    # This snapshot stands where the first ranges of this version began.
    shards = site.printed("snapshot", "verify", WHOLE)["shards"]
    assert {each["verdict"] for each in shards if each["topic"] == "auth.logins"} == {"agrees"}
    assert {each["replayed"] for each in shards if each["topic"] == "auth.logins"} == {20}

    # Each shard upgraded, and a snapshot since then.
    site.count(*(record for record in records(WHOLE)[-200:] if record["topic"] != "auth.logins"))
    file = tmp_path / "since.snapshot"
    assert site.run("snapshot", "save", file).exit_code == 0
    site.count(*(login(f"later-{number}", partition) for number in range(20) for partition in (0, 1)))
    found = site.printed("snapshot", "verify", file)
    assert (found["status"], found["agree"], found["depends_on_clock"]) == (0, True, False)
    site.redis.hincrby(of(LOGINS[1]).counts(DAY, EVERYTHING), fields.LOGIN, 1)
    assert site.printed("snapshot", "verify", file)["status"] == 1


def test_a_damaged_ledger_counts_on_and_is_repaired(damaged: Site) -> None:
    assert DAYS.isdisjoint(damaged.redis.zrange(of(LOGINS[1]).index, 0, -1))
    (hour,) = damaged.redis.hkeys(of(LOGINS[1]).ids)
    assert int(hour) == FAR_AHEAD_MS // 3_600_000
    damaged.count(*(login("user-1", partition, id=f"again-{partition}") for partition in (0, 1) for _ in range(3)))
    assert [damaged.progress(fields.DUPLICATES, shard) for shard in LOGINS] == [2, 2]
    assert hour not in damaged.redis.hkeys(of(LOGINS[1]).ids)
    # The day of the newest events came back by itself, those before do not.
    assert set(damaged.redis.zrange(of(LOGINS[1]).index, 0, -1)) & DAYS == {DAY}

    done = damaged.printed("positions", "rebuild-index", "--all", "--yes")
    assert done["changed"] is True
    assert all(set(damaged.redis.zrange(of(shard).index, 0, -1)) >= DAYS for shard in LOGINS)
    assert all(damaged.progress(fields.LAST_RECORD, shard) < FAR_AHEAD_MS for shard in LOGINS)
    assert agrees(damaged, "2026-10")
    assert agrees(damaged, "2026-11")


def test_unexpected_records_are_skipped_by_every_replay(site: Site) -> None:
    """The worker itself skips what the set names, as after its position was reset."""
    start = site.start[LOGINS[0].tag]
    site.redis.sadd(of(LOGINS[0]).unexpected, start + 1)
    site.count(*(login(f"user-{number}") for number in range(4)))
    assert site.progress(fields.dead("unexpected")) == 1
    shards = site.printed("snapshot", "verify", WHOLE)["shards"]
    (verdict,) = [each["verdict"] for each in shards if (each["topic"], each["partition"]) == LOGINS[0]]
    assert verdict == "agrees"
    assert agrees(site, "2026-11")


def test_a_clocks_decisions_are_separated_from_differences(site: Site, tmp_path: Path) -> None:
    site.count(login("user-1", 0), login("user-1", 1))
    file = tmp_path / "since.snapshot"
    assert site.run("snapshot", "save", file).exit_code == 0
    worker = site.worker()
    try:
        # Once the worker counts, it does so within a second.
        site.publish(login("user-2"))
        wait_until(lambda: site.positions() == site.ends, 60, "the worker counts")
        possible_at = time.time() + 8
        tomorrow = datetime.fromtimestamp(possible_at, UTC) + timedelta(hours=24)
        site.publish(login("from tomorrow", at_ms=FAR_AHEAD_MS, time=tomorrow.isoformat()))
        wait_until(lambda: site.positions() == site.ends, 8, "it is counted before it is possible")
        assert site.progress(fields.dead("impossible_time")) == 1
    finally:
        stop_child(worker, 10)
    wait_until(lambda: time.time() > possible_at, 20)

    def verified() -> tuple[int, dict[str, Any], set[str]]:
        found = site.printed("snapshot", "verify", file, topics="auth.logins=login")
        first, second = found["shards"]
        assert found["depends_on_clock"] == (found["status"] == 3)
        assert found["agree"] is False
        assert second["verdict"] == "agrees"
        return found["status"], first, {difference["key"] for difference in first["depends_on_clock"]}

    status, shard, keys = verified()
    assert status == 3
    assert (shard["untimed"], shard["impossible_times"]) == (1, 1)
    assert shard["differences"] == []
    assert keys >= {"progress", "index", f"counts:{tomorrow:%Y-%m-%d}:all"}
    assert f"counts:{DAY}:all" not in keys
    lines = site.run("snapshot", "verify", file, topics="auth.logins=login").output
    assert f"agrees; {len(keys)} keys depend on the clock" in lines
    assert "1 records had no usable timestamp" in lines

    site.redis.hincrby(of(LOGINS[0]).counts("2026-10-28", EVERYTHING), fields.LOGIN, 1)
    status, shard, keys_after = verified()
    assert status == 1
    assert [difference["key"] for difference in shard["differences"]] == ["counts:2026-10-28:all"]
    assert keys_after == keys


EXPLAINED = [
    # untimed and impossible: of the base, the ledger, the replay; key; explained; why
    ((0, 0), (0, 0), (0, 0), "progress", False, "no record without a timestamp was replayed"),
    ((3, 1), (3, 2), (3, 1), "progress", False, "those that there are lie before the base"),
    ((0, 0), (2, 0), (2, 0), "progress", False, "every event was judged as it would be now"),
    ((0, 0), (2, 1), (2, 0), "progress", True, "an event was impossible then and is no more"),
    ((0, 0), (2, 1), (2, 0), "counts:2026-12-01:all", True, "of the day of such an event"),
    ((0, 0), (2, 1), (2, 0), "clients:2026-12", True, "of its month"),
    ((0, 0), (2, 1), (2, 0), "ids:495000", True, "its id"),
    ((0, 0), (2, 1), (2, 0), "counts:2026-11-01:all", False, "of a day without such an event"),
    ((0, 0), (2, 1), (2, 0), "clients:2026-11", False, "of a month without one"),
    ((0, 0), (2, 1), (2, 0), "position", False, "positions follow from offsets"),
    ((0, 0), (2, 0), (1, 0), "counts:2026-11-01:all", True, "a timestamp is usable by now, which one is not known"),
    ((0, 0), (1, 0), (2, 0), "progress", False, "time does not take usable timestamps away"),
]


@pytest.mark.parametrize(("base", "ledger", "log", "key", "explained", "why"), EXPLAINED)
def test_only_what_a_clock_can_change_is_explained_by_it(
    base: tuple[int, int], ledger: tuple[int, int], log: tuple[int, int], key: str, explained: bool, why: str
) -> None:
    settings = ledgers.settings("redis://127.0.0.1:1/0")
    untimed = Untimed(settings, of(LOGINS[0]), {"2026-12-01", "2026-12"})
    assert untimed.explains(key, Judged(*base), Judged(*ledger), Judged(*log)) == explained, why


def test_a_worker_refuses_a_newer_format_and_names_the_version(site: Site) -> None:
    site.redis.hset(of(LOGINS[0]).meta, fields.FORMAT, FORMAT + 1)
    worker = site.worker()
    try:
        assert worker.wait(30) == 1
    finally:
        stop_child(worker, 10)
    assert f"the ledger has format {FORMAT + 1}, this version reads formats up to {FORMAT}" in tail(site.folder / "log")
    assert site.positions() == site.start
    file = site.folder / "newer.snapshot"
    assert site.run("snapshot", "save", file).exit_code == 0
    refused = site.run("snapshot", "restore", "--yes", "--replace", "--without-kafka", file)
    assert refused.exit_code == 1
    assert "run a newer version" in refused.output
