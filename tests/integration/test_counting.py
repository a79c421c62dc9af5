"""Workers against real servers, with nothing going wrong."""

from __future__ import annotations

from tests.integration.conftest import MakeSite
from tests.integration.sites import Broker


def test_two_workers_share_the_partitions_and_every_counter_equals(each_broker: Broker, make_site: MakeSite) -> None:
    site = make_site(each_broker, partitions=4, exact_up_to="200")
    site.publisher.publish(5000)
    one, two = site.workers.start(), site.workers.start()
    one.wait_until_ready()
    two.wait_until_ready()
    with site.publisher.flow():
        site.wait_until_moved()
        site.wait_until_moved()
    assert site.differences() == []
    assert one.metric("authtally_events_total", result="counted") > 0
    assert two.metric("authtally_events_total", result="counted") > 0
