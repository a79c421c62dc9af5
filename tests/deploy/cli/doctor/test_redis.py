"""What is wrong with the ledger's store, its users and the shared cache."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.cli.doctor import commands_of
from deploy.cli.doctor.store import CALLS
from deploy.demo.servers import Valkey
from tests.deploy.cli.doctor.conftest import Patient
from tests.deploy.conftest import PREFIX
from tests.stores import Store

STORE_FAULTS = [
    # options of the server, check, verdict, words
    pytest.param(("--maxmemory-policy", "allkeys-lru"), "redis.eviction", "problem", "allkeys-lru", id="evicts"),
    pytest.param((), "redis.persistence", "problem", "nothing is written to disk", id="keeps nothing"),
    pytest.param(("--save", "3600 1"), "redis.persistence", "ok", "RDB file only", id="an RDB file now and then"),
    pytest.param(("--save", "3600 1"), "kafka.backup", "ok", "the last RDB file", id="which Kafka reaches back to"),
    pytest.param(("--maxmemory", "100kb"), "redis.memory", "problem", "nothing can be counted", id="full"),
    pytest.param(
        ("--min-replicas-to-write", "1"), "redis.replication", "problem", "writes are refused", id="too few replicas"
    ),
    pytest.param(("--replicaof", "127.0.0.1 1"), "redis.replication", "problem", "accepts no writes", id="a replica"),
    pytest.param(("--cluster-enabled", "yes"), "redis.layout", "problem", "REDIS_CLUSTER=on", id="a Cluster"),
]


@pytest.mark.parametrize(("options", "check", "verdict", "words"), STORE_FAULTS)
def test_a_store_that_is_configured_wrongly_is_named(
    patient: Patient, options: tuple[str, ...], check: str, verdict: str, words: str
) -> None:
    with Valkey(options=options) as store:
        found = patient.examine("--service", "worker", redis_url=store.url)
    assert words in found.text(check, verdict)


def test_a_cluster_is_distinguished_from_a_single_server(patient: Patient, cluster: str) -> None:
    whole = patient.examine("--service", "worker", redis_url=cluster, redis_cluster="on")
    assert "Cluster of 2 primaries, complete" in {finding["found"] for finding in whole.of("redis.layout", "ok")}
    single = patient.examine("--service", "worker", redis_cluster="on")
    assert single.text("redis.connection", "problem")


def test_a_user_without_a_right_gets_it_named(patient: Patient) -> None:
    client: Any = patient.deployment.redis
    client.execute_command("ACL", "SETUSER", "blind", "on", ">pw", f"~{PREFIX}*", "+@all", "-config", "-time")
    try:
        found = patient.examine("--service", "worker", redis_url=patient.store.url.replace("//", "//blind:pw@"))
        assert "+time" in found.text("clock.redis", "unknown")
        # A worker judges events by it.
        assert "lacks +time" in found.text("redis.rights", "problem")
        assert found.printed["counts"]["problem"] == 1
        client.execute_command("ACL", "SETUSER", "blind", "-info")
        found = patient.examine("--service", "worker", redis_url=patient.store.url.replace("//", "//blind:pw@"))
        assert "+info" in found.text("redis.version", "unknown")
    finally:
        client.execute_command("ACL", "DELUSER", "blind")


def test_a_command_that_the_worker_needs_and_may_not_give_is_named(patient: Patient) -> None:
    client: Any = patient.deployment.redis
    rule = ("on", ">pw", f"~{PREFIX}*", "+@all", "-pfadd", "-zremrangebyscore", "-acl")
    client.execute_command("ACL", "SETUSER", "limited", *rule)
    try:
        url = patient.store.url.replace("//", "//limited:pw@")
        found = patient.examine("--service", "worker", redis_url=url)
        assert "lacks +pfadd +zremrangebyscore" in found.text("redis.rights", "problem")
        client.execute_command("ACL", "SETUSER", "limited", "-eval")
        found = patient.examine("--service", "worker", redis_url=url)
        assert "+eval" in found.text("redis.rights", "unknown")
    finally:
        client.execute_command("ACL", "DELUSER", "limited")


@pytest.mark.parametrize(("user", "service"), [("worker", "worker"), ("api", "api"), ("operator", "worker")])
def test_the_shipped_users_have_the_rights_that_they_need(patient: Patient, user: str, service: str) -> None:
    with Store(("--appendonly", "yes")) as store:
        there = {"redis_url": store.url_of(user), "key_prefix": "authtally:"}
        found = patient.examine("--service", service, "--backup-age", "1d", **there)
        assert found.verdicts("redis.rights") == {"ok"}
        assert found.printed["counts"]["problem"] == 0
        with store.watcher() as watcher:
            watcher.execute_command("ACL", "SETUSER", user, "-set")
        assert "lacks +set" in patient.examine("--service", service, **there).text("redis.rights", "problem")


@pytest.mark.parametrize("user", ["worker", "api", "operator"])
def test_every_command_of_the_shipped_users_is_asked_about(user: str) -> None:
    known = {call.partition(" ")[0].lower() for call in CALLS}
    # Of these the client library needs some, and snapshots the rest: they say themselves what they lack.
    unasked = {"client", "cluster", "command", "config", "eval_ro", "hlen", "pexpireat", "pexpiretime", "scan", "srem"}
    unasked |= {"hscan", "sscan", "zscan"}
    assert {command.partition("|")[0] for command in commands_of(user)} - unasked - {"subscribe"} <= known
    assert commands_of(user)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"redis_url": "redis://:wrong@{address}/0"}, "wrong or missing user or password"),
        ({"redis_url": "redis://127.0.0.1:1/0"}, "no connection"),
    ],
    ids=["a wrong password", "no server"],
)
def test_a_store_that_does_not_take_us_is_a_problem_and_the_rest_is_checked(
    patient: Patient, settings: dict[str, str], words: str
) -> None:
    with Valkey(password="right") as store:
        given = {name: value.format(address=store.address) for name, value in settings.items()}
        found = patient.examine(**given)
    assert words in found.text("redis.connection", "problem")
    assert found.verdicts("kafka.connection") == {"ok"}
    assert found.verdicts("access.keys") == {"ok"}
    assert found.status == 1


def test_a_cache_in_the_ledgers_own_database_is_a_problem(patient: Patient) -> None:
    url = patient.store.url
    assert "own database" in patient.examine("--service", "api", cache_redis_url=url).text("redis.cache", "problem")
    other = url.removesuffix("/0") + "/1"
    assert patient.examine("--service", "api", cache_redis_url=other).verdicts("redis.cache") == {"ok"}
    gone = patient.examine("--service", "api", cache_redis_url="redis://127.0.0.1:1/0")
    assert "no connection" in gone.text("redis.cache", "problem")
