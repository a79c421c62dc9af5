"""Defects of ours: no record stops a worker, what a defect hides is reported, and nothing else is lost."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import pytest

from schemas.ledger import fields
from schemas.ledger.keys import Shard, ShardKeys
from tests.conftest import wait_until
from tests.integration import failing
from tests.integration.conftest import MakeSite
from tests.integration.sites import PREFIX, Broker, Site
from tests.integration.test_bad_records import letters
from tests.integration.workers import WorkerProcess

DEFECTIVE: Final = (sys.executable, str(Path(failing.__file__)))
END_S: Final = 30


def send_unexpected(site: Site, shard: Shard) -> int:
    """Publish a record that the defective worker cannot fold. Returns its offset."""
    site.publisher.send_bad(shard, failing.UNEXPECTED, "unexpected")
    site.publisher.flush()
    offset = site.publisher.ends[shard] - 1
    site.publisher.expected[shard].unexpected.add(offset)
    return offset


def start_defective(site: Site) -> WorkerProcess:
    return site.workers.start(DEFECTIVE).wait_until_ready()


def test_unexpected_records_become_dead_letters_and_all_else_counts(embedded: Broker, make_site: MakeSite) -> None:
    site = make_site(embedded)
    shard = Shard(site.logins, 0)
    site.publisher.publish(700)
    offsets = [send_unexpected(site, shard)]
    site.publisher.publish(700)
    offsets += [send_unexpected(site, shard), send_unexpected(site, shard)]
    site.publisher.publish(100)
    worker = start_defective(site)
    assert site.differences() == []
    with letters(site, 3) as found:
        result = [dict(letter.headers()) for letter in found]
        assert [letter.value() for letter in found] == [failing.UNEXPECTED] * 3
    assert [int(headers["authtally-offset"]) for headers in result] == offsets
    assert {headers["authtally-reason"] for headers in result} == {b"unexpected"}
    lines = worker.lines("unexpected record")
    assert len(lines) == 3
    assert all("ZeroDivisionError" in line and "failing.py" in line for line in lines)
    assert failing.UNEXPECTED.decode() not in worker.log, "neither the value nor the message, which may repeat it"


def test_a_replay_by_a_version_without_the_defect_skips_what_was_unexpected(
    embedded: Broker, make_site: MakeSite
) -> None:
    site = make_site(embedded, partitions=1)
    shard = Shard(site.logins, 0)
    site.publisher.publish(100)
    offset = send_unexpected(site, shard)
    worker = start_defective(site)
    assert site.differences() == []
    worker.stop()
    shard_keys = ShardKeys(PREFIX, shard)
    before = site.client.hgetall(shard_keys.progress)
    site.client.set(shard_keys.position, offset)
    site.workers.start().wait_until_ready()
    site.wait_until_counted()
    after = site.client.hgetall(shard_keys.progress)
    name = fields.dead("unexpected")
    assert int(after[name]) == int(before[name]) + 1, "skipped, and not read as the bad JSON that it is"
    assert fields.dead("not_json") not in after
    assert site.client.smembers(shard_keys.unexpected) == {str(offset)}


def test_beyond_the_allowance_the_partition_stops_and_others_go_on(embedded: Broker, make_site: MakeSite) -> None:
    site = make_site(embedded)
    stopped, shard_keys = Shard(site.logins, 0), ShardKeys(PREFIX, Shard(site.logins, 0))
    site.publisher.publish(100)
    first = start_defective(site)
    site.wait_until_counted()
    first.stop()
    site.client.hset(shard_keys.meta, fields.UNEXPECTED_ALLOWED, 2)
    for _ in range(3):
        send_unexpected(site, stopped)
    site.publisher.publish(100)
    worker = site.workers.start(DEFECTIVE).wait_until_joined()
    error = worker.wait_until_troubled(stopped.tag, "authtally positions allow-unexpected")
    assert "2 unexpected records" in error
    site.wait_until_counted(without={stopped})
    assert worker.running
    site.client.hset(shard_keys.meta, fields.UNEXPECTED_ALLOWED, 3)
    assert site.differences() == []
    wait_until(lambda: worker.readiness()[0], what="ready again")


@pytest.mark.parametrize("record", [failing.OUT_OF_MEMORY, failing.DISK_FAILS])
def test_an_error_of_the_machine_ends_the_worker_and_the_next_one_counts_on(
    embedded: Broker, make_site: MakeSite, record: bytes
) -> None:
    site = make_site(embedded)
    site.publisher.publish(500)
    worker = start_defective(site)
    site.wait_until_counted()
    site.publisher.send_bad(Shard(site.logins, 0), record, "not_json")
    site.publisher.publish(500)
    wait_until(lambda: not worker.running, END_S, "the worker ends")
    assert worker.wait() != 0
    assert worker.lines("range failed")
    site.workers.start().wait_until_ready()
    assert site.differences() == []
