"""The long fault runs, by `make chaos`: minutes each, every counter equal at the end."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest

from schemas.ledger.keys import Shard
from tests.conftest import wait_until
from tests.integration import plain_faust
from tests.integration.conftest import MakeSite
from tests.integration.faults import empty, restart_from_snapshot, roll_back
from tests.integration.sites import Broker, Site
from tests.integration.test_bad_records import letters
from tests.integration.test_control_arms import (
    plainly_counted,
    program,
    wait_until_it_believes_to_be_done,
    wait_until_it_counts_on,
)
from tests.integration.workers import WorkerProcess

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1200)]

ROLLBACKS = 36
KILLS = 12
MIXED_FAULTS = 24


def test_36_rollbacks_while_ranges_are_queued_lose_no_event_and_leak_no_memory(
    each_broker: Broker, make_site: MakeSite
) -> None:
    site = make_site(each_broker, exact_up_to="500")
    workers = [site.workers.start(), site.workers.start()]
    for worker in workers:
        worker.wait_until_ready()
    sizes = []
    with site.publisher.flow(events_per_s=4000):
        site.wait_until_moved()
        for shard in itertools.islice(itertools.cycle(site.shards), ROLLBACKS):
            refused = site.refusals()
            roll_back(site, shard)
            assert site.refusals() > refused
            sizes.append([worker.rss_bytes for worker in workers])
    assert site.differences(120) == []
    for warm, last in zip(sizes[ROLLBACKS // 2], sizes[-1], strict=True):
        assert last <= 1.1 * warm


def test_12_kills_among_two_workers_of_one_group_change_no_counter(apache: Broker, make_site: MakeSite) -> None:
    site = make_site(apache, exact_up_to="500")
    workers = [site.workers.start(), site.workers.start()]
    for worker in workers:
        worker.wait_until_ready()
    with site.publisher.flow():
        for kill in range(KILLS):
            site.wait_until_moved()
            workers[kill % 2].kill()
            workers[kill % 2] = site.workers.start()
        site.wait_until_moved()
    assert site.differences(120) == []


class Mixed:
    """Two workers and whatever may happen to them, one fault at a time."""

    def __init__(self, site: Site, seed: int) -> None:
        self.site = site
        self.chance = random.Random(seed)
        self.workers = [site.workers.start().wait_until_ready() for _ in range(2)]
        self.faults: list[Callable[[], None]] = [
            self.kill,
            self.restart,
            self.stop_past_the_session,
            self.hang_the_store,
            lambda: roll_back(site, self.chance.choice(site.shards)),
            lambda: empty(site),
            lambda: restart_from_snapshot(site),
            self.send_bad,
        ]

    def kill(self) -> None:
        number = self.chance.randrange(2)
        self.workers[number].kill()
        self.workers[number] = self.site.workers.start()

    def restart(self) -> None:
        number = self.chance.randrange(2)
        # The fault before may have started it only now: until it has begun, SIGTERM ends it as it ends any program.
        wait_until(lambda: self.workers[number].lines("Starting"), 30, "the worker has begun")
        self.workers[number].stop()
        self.workers[number] = self.site.workers.start()

    def stop_past_the_session(self) -> None:
        worker: WorkerProcess = self.chance.choice(self.workers)
        worker.pause()
        try:
            self.site.wait_until_moved()
        finally:
            worker.resume()

    def hang_the_store(self) -> None:
        self.site.store.pause()
        try:
            # Past the socket timeout of 5 s: a worker cannot know if the last scripts run when it continues.
            before = self.site.publisher.published
            wait_until(lambda: self.site.publisher.published > before + 14_000, 60, "the flow continues")
        finally:
            self.site.store.resume()

    def send_bad(self) -> None:
        """A record that cannot be counted; into the flow, so by the thread that publishes."""
        self.site.publisher.bad_next.append("not_json")


@pytest.mark.parametrize("seed", [1, 2])
def test_24_faults_of_every_kind_change_no_counter(apache: Broker, make_site: MakeSite, seed: int) -> None:
    site = make_site(apache, exact_up_to="500")
    mixed = Mixed(site, seed)
    schedule = mixed.faults * (MIXED_FAULTS // len(mixed.faults))
    mixed.chance.shuffle(schedule)
    with site.publisher.flow():
        for error in schedule:
            site.wait_until_moved()
            error()
        site.wait_until_moved()
    assert site.differences(180) == []
    with letters(site, MIXED_FAULTS // len(mixed.faults)) as found:
        assert {letter.value() for letter in found} == {b"nope"}


def test_a_workers_memory_stays_flat_once_warm(apache: Broker, make_site: MakeSite) -> None:
    site = make_site(apache, exact_up_to="500")
    # The worker remembers users and ids, up to bounds that a short run does not reach: few users are soon all known.
    site.publisher.users, site.publisher.named = 100, 0
    worker = site.workers.start().wait_until_ready()
    sizes = []
    for _ in range(25):
        for _ in range(10):
            site.publisher.publish(5000)
        site.wait_until_counted()
        sizes.append(worker.rss_bytes)
    assert site.differences() == []
    # 750,000 events after 500,000, which fill buffers and caches. What was in hand at the worst moment stays with the
    # process, 20 MB more or less; numbers kept by offset, as Faust keeps them for topics with acks, would be 48 bytes
    # an event. `make bench` watches 20 million events.
    assert sizes[-1] - sizes[9] < 32 * 750_000, str([size // 2**20 for size in sizes])


def test_dead_letters_wait_for_their_topic_and_none_is_lost(apache: Broker, make_site: MakeSite) -> None:
    site = make_site(apache, partitions=1)
    worker = site.workers.start().wait_until_ready()
    site.remove_topic(site.dead_letters)
    site.publisher.send_bad(Shard(site.logins, 0), b"nope", "not_json", key=b"k")
    site.publisher.publish(100)
    # The producer itself waits 40 s for a topic to come up.
    worker.wait_until_troubled("AUTHTALLY_DEAD_LETTER_TOPIC", timeout_s=90)
    site.create_topic(site.dead_letters, 1)
    assert site.differences(90) == []
    with letters(site, 1) as found:
        assert {letter.value() for letter in found} == {b"nope"}


def test_plain_faust_is_wrong_after_the_same_kills_and_rollbacks(apache: Broker, make_site: MakeSite) -> None:
    site = make_site(apache)
    site.publisher.named = 0  # it knows no repeats
    workers = [site.workers.start(program(plain_faust)) for _ in range(2)]
    with site.publisher.flow():
        for error in range(6):
            wait_until_it_counts_on(site)
            older = site.raw.dump(plain_faust.COUNTS)
            wait_until_it_counts_on(site)
            if error % 2:
                site.behind_queued_ranges("RESTORE", plain_faust.COUNTS, 0, older, "REPLACE")
            else:
                workers[error % 4 // 2].kill()
                workers[error % 4 // 2] = site.workers.start(program(plain_faust))
        wait_until_it_counts_on(site)
    wait_until_it_believes_to_be_done(site)
    differences = site.publisher.totals()
    differences.subtract(plainly_counted(site))
    assert any(differences.values())


def test_plain_faust_counts_twice_what_a_killed_worker_had_not_committed(apache: Broker, make_site: MakeSite) -> None:
    site = make_site(apache)
    worker = site.workers.start(program(plain_faust))
    with site.publisher.flow():
        wait_until_it_counts_on(site)
        wait_until_it_counts_on(site)
        worker.kill()
        site.workers.start(program(plain_faust))
        wait_until_it_counts_on(site)
    wait_until_it_believes_to_be_done(site)
    assert plainly_counted(site).total() > site.publisher.totals().total()
