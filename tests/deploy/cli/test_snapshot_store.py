"""Snapshots between stores: every key with its value and lifetime, from one kind of store to another."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from click.testing import CliRunner, Result

from deploy.cli.main import main
from deploy.cli.snapshot.lease import InTheWayError, Lease, alone
from deploy.cli.snapshot.restoring import begin
from deploy.demo.servers import Valkey
from schemas.ledger import fields, keys
from schemas.ledger.keys import Shard, ShardKeys
from schemas.ledger.scopes import EVERYTHING
from tests.aggregator import inventories, ledgers
from tests.aggregator.counting import Counting
from tests.aggregator.inventories import Inventories, state
from tests.aggregator.logs import LogRecord, record
from tests.api.ledger.test_client import Sentinel
from tests.conftest import wait_until

PREFIX = "authtally:"
LOGINS = Shard("auth.logins", 3)
OTP = inventories.SHARD
KEY = "sixteen characters"


def log(first: int = 0, end: int = 3_000) -> list[LogRecord]:
    """Logins of two months: of everybody many, of some realms few."""
    return [
        record(
            offset,
            {
                "time": f"2026-{10 + offset % 2}-{1 + offset % 5:02}T10:00:00Z",
                "user_id": f"user {offset % 900}",
                "realm": f"realm {offset % 7 if offset % 3 else 0}",
                "client_id": "web",
                "id": f"event {offset}",
            },
        )
        for offset in range(first, end)
    ]


def inventory() -> list[LogRecord]:
    return inventories.log(
        [
            state(
                f"2026-11-{1 + number % 20:02}T10:00:{number % 60:02}Z",
                f"OTP{number % 70}",
                "init",
                "acme",
                user_id="u",
            )
            for number in range(700)
        ]
    )


def fill(url: str, **given: Any) -> None:
    """Two shards, of which one has users in sketches and in small sets; and what belongs to no shard."""

    async def count() -> None:
        async with Counting(url, LOGINS, exact_up_to=400, **given) as counting:
            await counting.open()
            await counting.count(log(), 0, 3_000)
            await counting.client.hset(
                keys.imported(PREFIX), mapping={"2025-03/active": "5", "2025-03/source": "elsewhere"}
            )
            await counting.client.rpush(keys.recordings(PREFIX), "first", "second")
            await counting.client.sadd(ShardKeys(PREFIX, LOGINS).unexpected, 7, 2_000)
        async with Inventories(url, OTP, exact_up_to=400, **given) as stock:
            await stock.open()
            await stock.count(inventory(), 0, 700)

    asyncio.run(count())


def contents(*urls: str) -> dict[str, object]:
    """All keys of all servers, without what a restore leaves: a mark in meta, and entries of the audit log."""
    found: dict[str, object] = {}
    for url in urls:
        with ledgers.client(url) as client:
            found |= ledgers.contents(client)
    found = {key: held for key, held in found.items() if not key.endswith(keys.audit(":"))}
    for key, held in found.items():
        if key.endswith(":meta"):
            assert isinstance(held, tuple)
            held[0].pop(fields.RESTORED, None)
    return found


def environment(url: str, **settings: str) -> dict[str, str]:
    given = {"redis_url": url, "user_hash_key": KEY, "exact_up_to": "400"} | settings
    return {f"AUTHTALLY_{name.upper()}": value for name, value in given.items()}


def run(url: str, *arguments: object, **settings: str) -> Result:
    return CliRunner().invoke(main, ["snapshot", *map(str, arguments)], env=environment(url, **settings))


def restore(url: str, file: Path, *arguments: str, **settings: str) -> Result:
    permission = () if "--dry-run" in arguments else ("--yes",)
    return run(url, "restore", "--without-kafka", *permission, file, *arguments, **settings)


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A filled store, which no test changes, and its snapshot."""
    file = tmp_path_factory.mktemp("origin") / "ledger.snapshot"
    with Valkey() as store:
        fill(store.url)
        done = run(store.url, "save", file)
        assert done.exit_code == 0, done.output
        assert "Saved 2 shards" in done.output
        yield store.url, file


@pytest.fixture
def file(origin: tuple[str, Path]) -> Path:
    return origin[1]


def test_every_key_comes_back_with_value_and_lifetime(origin: tuple[str, Path], redis_url: str) -> None:
    url, file = origin
    done = restore(redis_url, file, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["restored"] == ["auth.logins-3", "auth.otp-tokens-0"]
    held = contents(redis_url)
    assert held == contents(url)
    assert len(held) > 400
    assert any(expires != -1 for _, expires in held.values())  # type: ignore[misc,has-type]


def test_a_cluster_takes_what_one_server_held_and_the_reverse(
    origin: tuple[str, Path], cluster: str, redis_url: str, tmp_path: Path
) -> None:
    url, file = origin
    done = restore(cluster, file, redis_cluster="on")
    assert done.exit_code == 0, done.output
    with redis.Redis.from_url(cluster) as client:
        nodes = [f"redis://{address}" for address in client.cluster("nodes")]
    assert len(nodes) == 2
    held = [contents(node) for node in nodes]
    assert all(held)
    assert held[0] | held[1] == contents(url)

    back = tmp_path / "back.snapshot"
    assert run(cluster, "save", back, redis_cluster="on").exit_code == 0
    assert restore(redis_url, back).exit_code == 0
    assert contents(redis_url) == contents(url)


def test_a_store_behind_sentinel_gives_and_takes(origin: tuple[str, Path], tmp_path: Path) -> None:
    url, file = origin
    with Valkey(password="secret") as master, Sentinel(master) as sentinel:
        where = f"redis://:secret@{sentinel.address}/0"
        done = restore(where, file, redis_sentinel="ledger")
        assert done.exit_code == 0, done.output
        assert contents(master.url) == contents(url)
        again = tmp_path / "again.snapshot"
        assert run(where, "save", again, redis_sentinel="ledger").exit_code == 0
        assert run(where, "show", again).exit_code == 0


def test_another_key_prefix_takes_it_too(origin: tuple[str, Path], redis_url: str) -> None:
    url, file = origin
    assert restore(redis_url, file, key_prefix="other*:").exit_code == 0
    assert contents(redis_url) == {key.replace(PREFIX, "other*:", 1): held for key, held in contents(url).items()}


def test_a_dry_run_writes_nothing(file: Path, redis_url: str) -> None:
    done = restore(redis_url, file, "--dry-run")
    assert done.exit_code == 0
    assert "Dry run: 2 shards would be restored." in done.output
    assert contents(redis_url) == {}


def test_without_yes_nothing_is_restored(file: Path, redis_url: str) -> None:
    done = run(redis_url, "restore", "--without-kafka", file)
    assert done.exit_code == 0
    assert "2 shards to restore." in done.output
    assert "Repeat with --yes to make the change." in done.output
    as_json = json.loads(run(redis_url, "restore", "--without-kafka", "--json", file).stdout)
    assert (len(as_json["to_restore"]), as_json["restored"]) == (2, [])
    both = run(redis_url, "restore", "--dry-run", "--yes", file)
    assert both.exit_code == 2
    assert "either --dry-run or --yes" in both.output
    assert contents(redis_url) == {}


def test_show_checks_the_file_and_asks_no_server(file: Path) -> None:
    done = CliRunner().invoke(main, ["snapshot", "show", str(file), "--json"])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert [(each["topic"], each["partition"], each["position"]) for each in result["shards"]] == [
        (*LOGINS, 3000),
        (*OTP, 700),
    ]
    assert result["whole"] is True
    assert result["settings"]["AUTHTALLY_USER_HASH_KEY"] == "********"
    assert KEY.encode() not in file.read_bytes()


def test_a_damaged_file_writes_nothing(file: Path, redis_url: str, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.snapshot"
    whole = file.read_bytes()
    damaged.write_bytes(whole[: len(whole) // 2] + b"?" + whole[len(whole) // 2 + 1 :])
    refused = restore(redis_url, damaged)
    assert refused.exit_code == 1
    assert "wrong checksum" in refused.output
    assert contents(redis_url) == {}


def test_a_shard_that_is_counted_already_gives_way_only_to_replace(origin: tuple[str, Path], redis_url: str) -> None:
    url, file = origin
    fill(redis_url)
    with redis.Redis.from_url(redis_url) as client:
        client.hincrby(keys.imported(PREFIX), "2025-03/active", 1)
        client.set(ShardKeys(PREFIX, LOGINS).record_times("2020-01-01"), "stale")
    before = contents(redis_url)
    refused = restore(redis_url, file)
    assert refused.exit_code == 1
    for said in (
        "auth.logins-3: the store has it already, up to position 3000",
        "authtally:imported: the store has another",
        "nothing was restored. Restore into an empty store (stop the workers before",
        "--replace.",
    ):
        assert said in refused.output
    assert contents(redis_url) == before

    assert restore(redis_url, file, "--replace").exit_code == 0
    assert contents(redis_url) == contents(url)


async def test_replace_closes_a_shard_that_a_worker_moved_since_the_plan(redis_url: str) -> None:
    shard_keys = ShardKeys(PREFIX, LOGINS)
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await client.set(shard_keys.position, 3_001)
        with pytest.raises(InTheWayError, match="moved meanwhile"):
            await begin(client, shard_keys, 3_000)
        assert await client.get(shard_keys.position) == b"3001"
        await begin(client, shard_keys, 3_000, replace=True)
        assert await client.get(shard_keys.position) == str(fields.RESTORING).encode()


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"timezone": "Asia/Tokyo"}, "AUTHTALLY_TIMEZONE is 'Asia/Tokyo' but the ledger was counted with 'UTC'"),
        ({"user_hash_key": "another key, long enough"}, "AUTHTALLY_USER_HASH_KEY is not the key"),
        ({"max_labels": "5"}, "AUTHTALLY_MAX_LABELS is '5'"),
    ],
)
def test_other_settings_are_refused_by_name(file: Path, redis_url: str, settings: dict[str, str], why: str) -> None:
    refused = restore(redis_url, file, **settings)
    assert refused.exit_code == 1
    assert why in refused.output
    assert contents(redis_url) == {}


def test_a_restored_shard_is_passed_by_when_the_command_is_repeated(file: Path, redis_url: str) -> None:
    assert restore(redis_url, file).exit_code == 0
    shard_keys = ShardKeys(PREFIX, LOGINS)
    with redis.Redis.from_url(redis_url) as client:
        client.set(shard_keys.position, 3001)
        again = restore(redis_url, file, "--json")
        assert again.exit_code == 0, again.output
        assert json.loads(again.stdout)["already_restored"] == ["auth.logins-3", "auth.otp-tokens-0"]
        assert client.get(shard_keys.position) == b"3001"


def test_a_restore_that_is_killed_is_finished_by_the_same_command(origin: tuple[str, Path], redis_url: str) -> None:
    """Killed at its first, tenth, … write: whatever is there then, workers are kept out of it."""
    url, file = origin
    shard_keys = ShardKeys(PREFIX, LOGINS)
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        for writes in (1, 10, 100, 400):
            client.flushall()
            process = started(redis_url, "restore", "--yes", "--without-kafka", str(file))
            wait_until(lambda: client.dbsize() >= writes or process.poll() is not None, 30)  # noqa: B023
            process.send_signal(signal.SIGKILL)
            process.wait()
            position = client.get(shard_keys.position)
            assert position in (None, "3000", str(fields.RESTORING))
            if position == str(fields.RESTORING):
                assert not client.sismember(keys.shards(PREFIX), LOGINS.tag)
            if writes > 1:
                # Once it is waited for.
                client.delete(keys.restoring(PREFIX))
            assert restore(redis_url, file).exit_code == 0
            assert contents(redis_url) == contents(url)


def test_one_restore_waits_for_no_other_that_is_running(file: Path, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        client.set(keys.restoring(PREFIX), "somebody else's", px=60_000)
        refused = restore(redis_url, file)
        assert refused.exit_code == 1
        assert "another restore is running" in refused.output
        assert client.keys() == [keys.restoring(PREFIX)]


async def test_a_restore_that_stood_still_writes_no_more(redis_url: str) -> None:
    async def write(lease: Lease) -> None:
        while True:
            lease.check()
            await asyncio.sleep(0.1)

    async with redis.asyncio.Redis.from_url(redis_url, decode_responses=True) as client:
        async with alone(client, PREFIX) as lease:
            lease.check()
            await client.set(keys.restoring(PREFIX), "somebody else's")
            with pytest.raises(InTheWayError, match="was suspended"):
                await asyncio.wait_for(write(lease), 30)
        assert await client.get(keys.restoring(PREFIX)) == "somebody else's"
        await client.delete(keys.restoring(PREFIX))


def test_a_save_that_is_killed_leaves_the_file_before_it(origin: tuple[str, Path], tmp_path: Path) -> None:
    url, _ = origin
    path = tmp_path / "ledger.snapshot"
    path.write_bytes(b"the one before")
    aside = tmp_path / "ledger.snapshot.part"
    process = started(url, "save", "--overwrite", str(path))
    wait_until(lambda: aside.exists() or process.poll() is not None, 30)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if process.returncode == -signal.SIGKILL:
        assert path.read_bytes() == b"the one before"
    assert run(url, "save", "--overwrite", path).exit_code == 0
    assert run(url, "show", path).exit_code == 0
    assert not aside.exists()


def test_an_existing_file_is_not_written_over_unasked(origin: tuple[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "ledger.snapshot"
    path.write_bytes(b"dear")
    refused = run(origin[0], "save", path)
    assert refused.exit_code == 1
    assert "exists; --overwrite replaces it" in refused.output
    assert path.read_bytes() == b"dear"


def test_a_folder_keeps_the_newest(origin: tuple[str, Path], tmp_path: Path) -> None:
    for day in ("20200101T000000Z", "20210101T000000Z"):
        (tmp_path / f"authtally-{day}.snapshot").touch()
    (tmp_path / "mine.txt").touch()
    done = run(origin[0], "save", "--keep", "2", tmp_path)
    assert done.exit_code == 0, done.output
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left[0] == "authtally-20210101T000000Z.snapshot"
    assert left[2] == "mine.txt"
    assert len(left) == 3
    assert run(origin[0], "save", "--keep", "2", tmp_path / "mine.txt").exit_code == 2


def test_a_shard_that_is_half_restored_is_not_saved(redis_url: str, tmp_path: Path) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.sadd(keys.shards(PREFIX), LOGINS.tag)
        client.set(ShardKeys(PREFIX, LOGINS).position, fields.RESTORING)
    refused = run(redis_url, "save", tmp_path / "ledger.snapshot")
    assert refused.exit_code == 1
    assert "auth.logins-3 is only partly restored" in refused.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("large", [False, True])
def test_a_shard_is_copied_as_of_one_position_while_ranges_pour_in(redis_url: str, tmp_path: Path, large: bool) -> None:
    """Counters say how many events a copy holds; all of it must be of the position that it says."""
    shard_keys = ShardKeys(PREFIX, LOGINS)
    writer = subprocess.Popen((sys.executable, "-m", "tests.deploy.load", redis_url, str(int(large))))
    try:
        with redis.Redis.from_url(redis_url, decode_responses=True) as client:
            wait_until(lambda: int(client.get(shard_keys.position) or 0) > 200, 30)
            for number in range(5):
                before = int(client.get(shard_keys.position))
                path = tmp_path / f"{number}.snapshot"
                assert run(redis_url, "save", path).exit_code == 0
                with Valkey() as other:
                    assert restore(other.url, path, dedupe_max_ids="10000000").exit_code == 0
                    with redis.Redis.from_url(other.url, decode_responses=True) as copy:
                        position = int(copy.get(shard_keys.position))
                        assert position >= before
                        assert copy.hget(shard_keys.progress, fields.CONSUMED) == str(position)
                        for day in range(1, 29):
                            counts = copy.hgetall(shard_keys.counts(f"2026-11-{day:02}", EVERYTHING))
                            assert int(counts[fields.LOGIN]) == len(range(day - 1, position, 28))
                        if large:
                            assert copy.strlen(shard_keys.ids_of(500_000)) == 8 * position
    finally:
        writer.kill()
        writer.wait()


def started(url: str, *arguments: str) -> subprocess.Popen[bytes]:
    """A command as a process of its own, to be killed."""
    return subprocess.Popen(
        (sys.executable, "-m", "deploy.cli.main", "snapshot", *arguments),
        env={**os.environ, **environment(url)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
