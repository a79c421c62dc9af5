"""A worker that crashes or is stopped ends in time even if something hangs, and logs what hung."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import Final

import pytest

from aggregator.__main__ import SHUTDOWN_S
from schemas.ledger.keys import Shard
from schemas.telemetry.exit_deadline import STATUS
from tests.conftest import wait_until
from tests.integration import failing, hanging
from tests.integration.conftest import MakeSite
from tests.integration.sites import Broker, Site
from tests.integration.workers import WorkerProcess

ENDS_S: Final = 10
"""From the crash on."""
STACKS: Final = "Timeout (0:00:"
"""How faulthandler begins."""


def start(make_site: MakeSite, broker: Broker, *kinds: str) -> dict[str, tuple[Site, WorkerProcess]]:
    """A site with one worker for each kind of hang, all counting."""
    found = {}
    for kind in kinds:
        site = make_site(broker, partitions=1)
        site.publisher.publish(500)
        worker = site.workers.start((sys.executable, str(Path(hanging.__file__)), kind), log_level="info")
        found[kind] = site, worker
    for site, worker in found.values():
        worker.wait_until_ready(60)
        site.wait_until_counted()
    return found


def crash(site: Site, worker: WorkerProcess) -> float:
    """When it crashed (time.monotonic)."""
    site.publisher.send(Shard(site.logins, 0), failing.DISK_FAILS)
    site.publisher.flush()
    wait_until(lambda: worker.lines("range failed"), 20, "the range fails")
    return time.monotonic()


def test_a_crash_ends_the_worker_whatever_hangs(embedded: Broker, make_site: MakeSite) -> None:
    found = start(make_site, embedded, *hanging.KINDS)
    crashed_at = {kind: crash(site, worker) for kind, (site, worker) in found.items()}
    took, statuses, stacks = {}, {}, {}
    for kind, (_, worker) in found.items():
        assert not worker.running or not worker.readiness()[0], f"{kind}: ready after its crash"
        statuses[kind] = worker.wait(2 * ENDS_S)
        took[kind] = time.monotonic() - crashed_at[kind]
        stacks[kind] = STACKS in worker.log
    assert statuses == dict.fromkeys(hanging.KINDS, STATUS)
    # Those before in the list were waited for, which took none of the others' time.
    assert max(took.values()) < ENDS_S
    assert stacks == {kind: kind != "nothing" for kind in hanging.KINDS}


def test_readiness_and_liveness_name_the_crash(embedded: Broker, make_site: MakeSite) -> None:
    site, worker = start(make_site, embedded, "awaits forever")["awaits forever"]
    crash(site, worker)
    trouble = worker.wait_until_troubled("crashed", "OSError", timeout_s=2)
    assert failing.DISK_FAILS.decode() not in trouble, "the text may contain data of a record"
    assert worker.alive() is False
    assert worker.metric("authtally_unready", component="crashed") == 1
    # What it waits for is in no thread's stack.
    assert worker.wait(ENDS_S) == STATUS
    assert "in forever" in worker.log


def test_a_worker_whose_position_does_not_move_ends(embedded: Broker, make_site: MakeSite) -> None:
    site = make_site(embedded, partitions=1, stuck_after_s="3")
    command = (sys.executable, str(Path(hanging.__file__)), hanging.NEVER_FOLDS)
    worker = site.workers.start(command).wait_until_ready()
    site.publisher.publish(10, site.logins)
    # By its log: it may end within a second, before anyone asks for its readiness.
    assert worker.wait(60) == STATUS
    assert re.search(rf"StuckError: {site.logins}-0 has been at 0 for \d+ s with 10 records to read", worker.log)
    assert "in forever" in worker.log, "the stacks show where it hangs"


@pytest.mark.apache_kafka
def test_a_commit_under_way_does_not_keep_a_crashed_worker(apache: Broker, make_site: MakeSite) -> None:
    """A crash stops the consumer's thread at once, while the commit on the way out still waits for the store."""
    site, worker = start(make_site, apache, "nothing")["nothing"]
    site.store.pause()
    try:
        crash(site, worker)
        wait_until(lambda: worker.lines("LeaveGroup request succeeded"), ENDS_S, "the thread has stopped")
    finally:
        site.store.resume()
    assert worker.wait(ENDS_S) == STATUS
    assert STACKS not in worker.log


def test_a_shutdown_ends_whatever_hangs(embedded: Broker, make_site: MakeSite) -> None:
    found = start(make_site, embedded, "nothing", "event loop blocked", "consumer's thread")
    for _, worker in found.values():
        worker.terminate()
    statuses = {kind: worker.wait(SHUTDOWN_S + 3) for kind, (_, worker) in found.items()}
    assert statuses == {"nothing": 0, "event loop blocked": STATUS, "consumer's thread": STATUS}
    assert {kind: STACKS in worker.log for kind, (_, worker) in found.items()} == {
        kind: status == STATUS for kind, status in statuses.items()
    }
