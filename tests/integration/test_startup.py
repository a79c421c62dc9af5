"""What a worker says and does when something is wrong before it reads a record."""

from __future__ import annotations

import json
import sys

import pytest

from deploy.demo.servers import Tansu, Valkey, create_topics
from deploy.demo.servers.process import HOST, free_port
from tests.integration.conftest import MakeSite
from tests.integration.sites import Broker
from tests.integration.workers import WorkerProcess

# Each contradicts what the ledger was counted with.
CONTRADICTIONS = {
    "timezone": "Europe/Berlin",
    "user_hash_key": "some other key, long enough",
    "user_scope": "realm",
    "user_id_normalize": "nfc",
    "active_on": "login",
    "users_by": "realm,client",
    "counts_by": "realm",
    "labels_on": "success",
    "max_labels": "7",
    "exact_up_to": "7",
    "retain_days": "30",
    "retain_months": "12",
    "dedupe_window_s": "60",
    "dedupe_max_ids": "7",
}


def refusal(worker: WorkerProcess) -> str:
    """The one line in which a worker says why it cannot work, after it has ended for that."""
    assert worker.wait(120) == 1, worker.log
    assert "Traceback" not in worker.log
    (line,) = worker.lines("cannot work")
    return line


def test_a_wrong_redis_password_ends_the_worker_with_a_line_that_names_the_setting(
    embedded: Broker, make_site: MakeSite
) -> None:
    with Valkey(password="right") as store:
        site = make_site(embedded, store=store)
        without = store.url.replace(":right@", "")
        wrong = store.url.replace("right", "wrong")
        refused = [site.workers.start(redis_url=url) for url in (wrong, without)]
        for worker in refused:
            assert "AUTHTALLY_REDIS_URL: wrong or missing user or password" in refusal(worker)
            assert len(worker.lines("AUTHTALLY_REDIS_URL")) == 1
        assert ":wrong@" not in refused[0].log


def test_a_store_that_evicts_is_refused(embedded: Broker, make_site: MakeSite) -> None:
    with Valkey(options=("--maxmemory-policy", "allkeys-lru")) as store:
        site = make_site(embedded, store=store)
        line = refusal(site.workers.start())
        assert "AUTHTALLY_REDIS_URL" in line
        assert "allkeys-lru" in line
        assert store.running
        assert site.client.dbsize() == 0


def test_every_setting_that_contradicts_the_ledger_is_refused_by_name(embedded: Broker, make_site: MakeSite) -> None:
    site = make_site(embedded, partitions=1)
    site.publisher.publish(10)
    first = site.workers.start()
    assert site.differences() == []
    first.stop()
    swapped = {"topics": f"{site.logins}=token,{site.tokens}=login"}
    refused = {name: site.workers.start(**{name: value}) for name, value in (CONTRADICTIONS | swapped).items()}
    for name, worker in refused.items():
        line = refusal(worker)
        assert f"AUTHTALLY_{name.upper()}" in line
        assert "AUTHTALLY_KEY_PREFIX" in line
    assert "some other key" not in refused["user_hash_key"].log
    assert site.differences() == []


def test_a_worker_waits_for_redis_then_kafka_then_the_topics_and_then_counts(
    embedded: Broker, make_site: MakeSite
) -> None:
    kafka, store = Tansu(), Valkey()
    try:
        site = make_site(embedded)
        late = {"kafka_bootstrap_servers": kafka.address, "redis_url": store.url}
        worker = site.workers.start(**late, topics="late.logins=login", dead_letter_topic="late.dead")
        assert "no connection" in worker.wait_until_troubled("AUTHTALLY_REDIS_URL")
        store.start()
        worker.wait_until_troubled("AUTHTALLY_KAFKA_BOOTSTRAP_SERVERS", kafka.address)
        kafka.start()
        worker.wait_until_troubled("AUTHTALLY_TOPICS", "late.logins")
        create_topics(kafka.address, {"late.logins": 1})
        worker.wait_until_troubled("AUTHTALLY_DEAD_LETTER_TOPIC", "late.dead")
        create_topics(kafka.address, {"late.dead": 1})
        worker.wait_until_ready()
        assert worker.readiness() == (True, [])
    finally:
        kafka.close()
        store.close()


def test_sigterm_ends_a_worker_that_waits_for_redis(embedded: Broker, make_site: MakeSite) -> None:
    site = make_site(embedded)
    worker = site.workers.start(redis_url=f"redis://{HOST}:{free_port()}")
    worker.wait_until_troubled("AUTHTALLY_REDIS_URL")
    worker.terminate()
    assert worker.wait(timeout_s=10) == 0
    assert "Traceback" not in worker.log


def test_json_logs_are_json_to_the_last_line(embedded: Broker, make_site: MakeSite) -> None:
    site = make_site(embedded)
    worker = site.workers.start(log_format="json").wait_until_ready()
    worker.terminate()
    assert worker.wait(timeout_s=30) == 0
    lines = [json.loads(line) for line in worker.log.splitlines()]
    assert any("Signal received" in line["event"] for line in lines)
    for line in lines:
        assert not line["event"].startswith("[^"), line
        assert "\x1b" not in str(line), line


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"user_hash_key": ""}, ["AUTHTALLY_USER_HASH_KEY"]),
        ({"timezone": "Mars/Olympus", "max_labels": "0"}, ["AUTHTALLY_TIMEZONE", "AUTHTALLY_MAX_LABELS"]),
    ],
)
def test_all_wrong_settings_are_named_at_once_and_end_the_worker_with_2(
    embedded: Broker, make_site: MakeSite, settings: dict[str, str], named: list[str]
) -> None:
    worker = make_site(embedded).workers.start(**settings)
    assert worker.wait(20) == 2
    assert [line.partition(":")[0] for line in worker.log.splitlines()] == named


def test_fausts_own_command_line_starts_the_worker(embedded: Broker, make_site: MakeSite) -> None:
    site = make_site(embedded)
    command = (sys.executable, "-m", "faust", "-A", "aggregator.app", "worker", "--without-web")
    worker = site.workers.start(command).wait_until_ready()
    site.publisher.publish(1000)
    assert site.differences() == []
    worker.stop()
