"""A defect of ours must end the worker, not go unnoticed; and whoever comes after it loses nothing."""

from __future__ import annotations

import sys
from pathlib import Path

from schemas.keys import Shard
from tests.conftest import wait_until
from tests.integration import failing
from tests.integration.conftest import MakeSite
from tests.integration.sites import Broker

END_S = 30


def test_a_range_that_fails_unforeseen_ends_the_worker_and_is_counted_by_the_next(
    embedded: Broker, make_site: MakeSite
) -> None:
    site = make_site(embedded)
    site.publisher.publish(500)
    worker = site.workers.start((sys.executable, str(Path(failing.__file__)))).wait_until_ready()
    site.wait_until_counted()
    site.publisher.send_bad(Shard(site.logins, 0), failing.FATAL, "not_json")
    site.publisher.publish(500)
    wait_until(lambda: not worker.running, END_S, "the worker ends")
    assert worker.wait() != 0
    assert worker.lines("range failed")
    assert "ZeroDivisionError" in worker.log
    site.workers.start().wait_until_ready()
    assert site.differences() == []
