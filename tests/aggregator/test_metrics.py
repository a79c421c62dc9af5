"""The metrics of a new worker, and those that disappear with a shard."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from asyncio import to_thread
from typing import get_args

import pytest
from prometheus_client import REGISTRY

from aggregator import metrics
from aggregator.assignment import Assignment
from aggregator.clocks import StoreClocks
from aggregator.counting import RangeCounter
from aggregator.fold.range_delta import RangeDelta
from aggregator.health import COMPONENTS, Health
from aggregator.kafka.dead_letters import DeadLetters
from aggregator.ledger.ledger import Ledger
from aggregator.ledger.store import connect
from aggregator.metrics import RefusalReason
from deploy.demo.servers import free_port
from schemas.events import REASONS
from schemas.ledger.keys import Shard
from tests.aggregator import ledgers


def test_every_counter_of_a_topic_begins_at_zero() -> None:
    metrics.init(["fresh"])
    shown = {
        (sample.name, *(value for name, value in sample.labels.items() if name != "topic")): sample.value
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.labels.get("topic") == "fresh"
    }
    expected = {("authtally_events_total", result) for result in ("counted", "duplicates", "ignored", "dead")}
    expected |= {("authtally_dead_letters_total", reason) for reason in REASONS}
    expected |= {("authtally_refused_scripts_total", reason) for reason in get_args(RefusalReason)}
    plain = ("authtally_lost_offsets_total", "authtally_untimed_records_total", "authtally_dedupe_excess_ids_total")
    assert shown == dict.fromkeys([*expected, *((name,) for name in plain)], 0)


@pytest.mark.parametrize(
    ("start", "stands", "reason", "why"),
    [
        (10, 20, "ahead", "another worker has counted on"),
        (10, 5, "behind", "Redis lost its last writes"),
        (10, 0, "behind", "all but the shard itself"),
        (10, None, "empty", "Redis lost everything"),
    ],
)
def test_a_refusal_logs_the_position_of_the_ledger(
    start: int, stands: int | None, reason: RefusalReason, why: str
) -> None:
    assert metrics.refusal_reason(start, stands) == reason, why


def test_a_shard_that_has_left_has_no_metrics() -> None:
    shard = Shard("left", 3)
    for gauge in (metrics.LAG, metrics.POSITION, metrics.LAST_EVENT):
        gauge.labels(*shard).set(7)
    metrics.remove_shard(shard)
    metrics.remove_shard(shard)
    assert REGISTRY.get_sample_value("authtally_lag_events", {"topic": "left", "partition": "3"}) is None


async def test_an_unready_component_is_shown_by_name() -> None:
    port = free_port()
    problems: dict[str, list[str]] = {"redis": ["no connection"], "stopped": ["one", "two"]}
    health = Health("127.0.0.1", port, lambda: problems)
    await health.start()

    def ask(accept: str) -> tuple[str, str]:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.headers["Content-Type"], str(answer.read().decode())

    def result() -> str:
        return ask("*/*")[1]

    try:
        page = await to_thread(result)
        for where in COMPONENTS:
            assert f'authtally_unready{{component="{where}"}} {float(where in ("redis", "stopped"))}\n' in page
        for accept, media in (
            (
                "application/openmetrics-text;version=1.0.0;q=0.6,*/*;q=0.2",
                "application/openmetrics-text; version=1.0.0",
            ),
            ("text/plain;version=not-a-number", "text/plain; version=0.0.4"),
        ):
            content_type, _ = await to_thread(ask, accept)
            assert content_type.startswith(media)
        for method, path, status, allow in (("GET", "/nothing", 404, None), ("POST", "/metrics", 405, "GET,HEAD")):
            request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
            with pytest.raises(urllib.error.HTTPError) as refused:
                await to_thread(urllib.request.urlopen, request, timeout=5)
            with refused.value as answer:
                assert (answer.code, answer.headers["Allow"]) == (status, allow)
                assert answer.headers["Content-Type"].startswith("application/problem+json")
                assert json.loads(answer.read())["status"] == status
        problems.clear()
        assert 'authtally_unready{component="redis"} 0.0\n' in await to_thread(result)
    finally:
        await health.stop()


async def test_the_lag_of_a_replay_is_that_of_the_records_being_read() -> None:
    settings = ledgers.settings("redis://127.0.0.1:1")
    client = connect(settings)
    ledger = Ledger(client, settings)
    assignment, letters = Assignment(ledger, settings), DeadLetters(settings, {})
    counter = RangeCounter(settings, ledger, letters, assignment, StoreClocks(ledger))
    shard = Shard("auth.logins", 0)
    for newest_ms in (2_000, 1_000):
        delta = RangeDelta(1)
        delta.note_timestamps([newest_ms], frozenset())
        counter._record_metrics(shard, delta)
    assert counter.last_record_ms[shard] == 1_000, "a week that is read again is a week old"
    await client.aclose()
