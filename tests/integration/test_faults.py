"""Workers and stores that die, stop, or lose what they had: every counter equals what was published, always."""

from __future__ import annotations

import itertools

import pytest

from schemas.ledger import keys
from schemas.ledger.keys import ShardKeys
from tests.conftest import wait_until
from tests.integration.conftest import MakeSite
from tests.integration.faults import empty, restart_from_snapshot, roll_back
from tests.integration.sites import PREFIX, RESTORE_KEYS, Broker

KILLS = 5
ROLLBACKS = 8


def test_five_kills_of_workers_in_mid_stream_change_no_counter(apache: Broker, make_site: MakeSite) -> None:
    site = make_site(apache)
    with site.publisher.flow():
        for kill in range(KILLS + 1):
            # A dead member keeps its share of a group for its session of 10 s; with another group's name no one waits
            # for that. The group has no say in what is counted: positions are the ledger's.
            worker = site.workers.start(kafka_group=f"{site.logins}.{kill}").wait_until_ready()
            site.wait_until_moved()
            if kill < KILLS:
                worker.kill()
    assert site.differences() == []


def test_workers_of_two_groups_on_one_ledger_count_each_event_once(embedded: Broker, make_site: MakeSite) -> None:
    site = make_site(embedded)
    both = [site.workers.start(kafka_group=f"{site.logins}.{name}") for name in "ab"]
    for worker in both:
        worker.wait_until_ready()
    with site.publisher.flow():
        site.wait_until_moved()
        # Each finds shards moved on by the other, time and again.
        wait_until(lambda: site.refusals() >= 20, 60, "each refused now and then")
    assert site.differences() == []
    assert all(worker.running for worker in both)


def test_shards_rolled_back_while_ranges_are_queued_lose_no_event(each_broker: Broker, make_site: MakeSite) -> None:
    site = make_site(each_broker, exact_up_to="200")
    worker = site.workers.start().wait_until_ready()
    with site.publisher.flow():
        site.wait_until_moved()
        for shard in itertools.islice(itertools.cycle(site.shards), ROLLBACKS):
            refused = site.refusals()
            roll_back(site, shard)
            assert site.refusals() > refused
    assert site.differences() == []
    assert worker.metric("authtally_events_total") > site.publisher.published


def test_an_emptied_store_is_counted_anew_from_the_log(each_broker: Broker, make_site: MakeSite) -> None:
    site = make_site(each_broker)
    worker = site.workers.start().wait_until_ready()
    with site.publisher.flow():
        site.wait_until_moved()
        for _ in range(2):
            refused = site.refusals()
            empty(site)
            assert site.refusals() > refused
    assert site.differences() == []
    assert worker.running
    assert site.client.scard(keys.shards(PREFIX)) == len(site.shards)


@pytest.mark.parametrize("fault", ["rolled back", "emptied"])
def test_what_the_store_loses_while_nothing_arrives_is_soon_counted_anew(
    embedded: Broker, make_site: MakeSite, fault: str
) -> None:
    site = make_site(embedded)
    worker = site.workers.start().wait_until_ready()
    site.publisher.publish(300)
    assert site.differences() == []
    older = {shard: site.dump_shard(shard) for shard in site.shards}
    site.publisher.publish(3_000)
    assert site.differences() == []
    # The worker has seen the shards where they are now.
    committed = site.committed
    wait_until(lambda: committed() == site.positions(), 20, "positions are committed")
    if fault == "emptied":
        site.client.flushall()
    else:
        for shard, dump in older.items():
            site.raw.eval(RESTORE_KEYS, 0, f"{ShardKeys(PREFIX, shard).base}*", *dump)
    assert site.positions() != site.log_ends()
    # Two looks, 3 s each; long before the worker would give up on itself, at 120 s.
    assert site.differences(30) == []
    assert worker.running


def test_a_store_restarted_from_an_older_snapshot_ends_equal(embedded: Broker, make_site: MakeSite) -> None:
    site = make_site(embedded)
    worker = site.workers.start().wait_until_ready()
    with site.publisher.flow():
        for _ in range(3):
            site.wait_until_moved()
            refused = site.refusals()
            restart_from_snapshot(site)
            assert site.refusals() > refused
        worker.wait_until_ready()
    assert site.differences() == []


def test_a_worker_without_its_store_is_unready_and_alive_and_continues(embedded: Broker, make_site: MakeSite) -> None:
    site = make_site(embedded)
    worker = site.workers.start().wait_until_ready()
    with site.publisher.flow():
        site.wait_until_moved()
        site.client.save()
        site.store.kill()
        assert "AUTHTALLY_REDIS_URL" in worker.wait_until_troubled("no connection")
        assert worker.alive()
        site.store.start()
        worker.wait_until_ready()
        site.wait_until_moved()
    assert site.differences() == []


def test_a_store_that_hangs_past_the_socket_timeout_ends_equal(embedded: Broker, make_site: MakeSite) -> None:
    site = make_site(embedded)
    worker = site.workers.start().wait_until_ready()
    with site.publisher.flow():
        site.wait_until_moved()
        site.store.pause()
        try:
            # Its last script may or may not run once it continues; the worker sends it again and cannot know.
            assert "AUTHTALLY_REDIS_URL" in worker.wait_until_troubled("no connection")
        finally:
            site.store.resume()
        site.wait_until_moved()
        worker.wait_until_ready()
    assert site.differences() == []


def test_a_worker_stopped_past_its_session_and_woken_changes_no_counter(apache: Broker, make_site: MakeSite) -> None:
    site = make_site(apache)
    zombie, heir = site.workers.start(), site.workers.start()
    zombie.wait_until_ready()
    heir.wait_until_ready()
    with site.publisher.flow():
        site.wait_until_moved()
        zombie.pause()
        # Past the ranges that the heir had, the zombie's too: the group has given them away.
        site.wait_until_moved()
        zombie.resume()
        site.wait_until_moved()
        zombie.wait_until_ready()
    assert site.differences() == []
    assert heir.running


def test_sigterm_in_mid_stream_ends_a_worker_within_seconds_with_0(apache: Broker, make_site: MakeSite) -> None:
    site = make_site(apache)
    worker = site.workers.start().wait_until_ready()
    with site.publisher.flow():
        site.wait_until_moved()
        worker.terminate()
        assert worker.wait(timeout_s=8) == 0
        # It has left the group, so no one waits for its session to end.
        site.workers.start().wait_until_ready(timeout_s=8)
        site.wait_until_moved()
    assert site.differences() == []
    assert "Traceback" not in worker.log


def test_a_registry_that_fell_back_to_before_a_shard_knows_it_again(embedded: Broker, make_site: MakeSite) -> None:
    """In Cluster it lies on another node than most shards, so it can lose what they keep."""
    site = make_site(embedded)
    site.workers.start().wait_until_ready()
    with site.publisher.flow():
        site.wait_until_moved()
        site.client.delete(keys.shards(PREFIX))
        wait_until(lambda: site.client.scard(keys.shards(PREFIX)) == len(site.shards), 20, "all are registered")
    assert site.differences() == []
