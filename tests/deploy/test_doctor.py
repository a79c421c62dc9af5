"""`authtally doctor` finds what is wrong with a site, on real servers that are wrong, and nothing where all is well."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import redis
from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourcePatternType,
    ResourceType,
)

from deploy.doctor import age_of, commands_of
from deploy.doctor.findings import CHECKS, span
from deploy.doctor.store import CALLS
from deploy.servers import ApacheKafka, JavaMissingError, Valkey, create_topics, free_port
from deploy.servers.apache_kafka import Listener
from deploy.servers.process import start_child, stop_child
from deploy.servers.topics import admin
from schemas import fields, keys
from schemas.keys import Shard, ShardKeys
from tests.conftest import wait_until
from tests.deploy.conftest import PREFIX, Deployment, login
from tests.deploy.local_issuer import LocalIssuer
from tests.stores import Store

README: Final = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
DAY_MS: Final = 86_400_000


class Found(NamedTuple):
    status: int
    told: dict[str, Any]

    def of(self, check: str, verdict: str | None = None) -> list[dict[str, str]]:
        return [
            finding
            for finding in self.told["findings"]
            if finding["check"] == check and verdict in (None, finding["verdict"])
        ]

    def verdicts(self, check: str) -> set[str]:
        return {finding["verdict"] for finding in self.of(check)}

    def text(self, check: str, verdict: str) -> str:
        """Of the one finding of a check with a verdict."""
        (finding,) = self.of(check, verdict)
        if verdict != "ok":
            assert finding["advice"], finding
        return f"{finding['subject']}: {finding['found']} → {finding['advice']}"


class Patient:
    """A deployment on Apache Kafka, with an OTP topic, a store that persists, and an issuer."""

    def __init__(self, kafka: str, store: Valkey, issuer: LocalIssuer, folder: Path) -> None:
        unique = folder.name
        self.store, self.issuer = store, issuer
        self.deployment = Deployment(kafka, store.url, folder, unique)
        self.otp = f"otp.{unique}"
        create_topics(kafka, {self.otp: 1})
        self.topic, self.dead_letters = self.deployment.topic, self.deployment.dead_letters
        self.deployment.environment |= {
            "AUTHTALLY_TOPICS": f"{self.topic}=login,{self.otp}=otp",
            "AUTHTALLY_KAFKA_IDEMPOTENCE": "on",
            **issuer.settings,
        }

    def examine(self, *arguments: str, **settings: str) -> Found:
        arguments = ("doctor", "--json", *(arguments or ("--backup-age", "2d")))
        done = self.deployment.run(
            *arguments, **{f"AUTHTALLY_{name.upper()}": value for name, value in settings.items()}
        )
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        found = Found(done.exit_code, json.loads(done.stdout))
        assert {finding["check"] for finding in found.told["findings"]} <= CHECKS.keys()
        return found


@pytest.fixture(scope="module")
def issuer() -> Iterator[LocalIssuer]:
    with LocalIssuer() as issuer:
        yield issuer


@pytest.fixture(scope="module")
def persistent() -> Iterator[Valkey]:
    with Valkey(options=("--appendonly", "yes")) as store:
        yield store


@pytest.fixture
def patient(
    apache_kafka: str, persistent: Valkey, issuer: LocalIssuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Patient]:
    monkeypatch.chdir(tmp_path)
    with redis.Redis.from_url(persistent.url) as client:
        client.flushall()
    made = Patient(apache_kafka, persistent, issuer, tmp_path)
    yield made
    made.deployment.redis.close()


def settled(client: Any, what: str, asked: list[Any]) -> None:
    """Ask a broker to change something, and wait until it has."""
    for future in getattr(client, what)(asked).values():
        future.result(10)


def is_described(broker: str) -> bool:
    """Whether a group can be asked about."""
    client = admin(broker)
    try:
        return bool(client.describe_consumer_groups(["any"], request_timeout=2)["any"].result(5))
    except KafkaException:
        return False


def configure(broker: str, topic: str, **config: str) -> None:
    entries = [
        ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
        for name, value in config.items()
    ]
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=entries)
    settled(admin(broker), "incremental_alter_configs", [resource])


def test_a_healthy_site_has_no_problems(patient: Patient) -> None:
    deployment = patient.deployment
    deployment.produce(login("ada"), login("bob"))
    environment = {**os.environ, **deployment.environment}
    worker = start_child(
        (sys.executable, "-m", "aggregator"), deployment.folder / "log", deployment.folder, environment
    )
    try:
        wait_until(lambda: deployment.position() == 2 and deployment.position(1) == 0, 60, "all is counted")
        found = patient.examine()
    finally:
        stop_child(worker, 10)
    assert found.of("kafka.group", "ok")[0]["found"] == "1 worker, up to 2 could share the work"
    assert [finding for finding in found.told["findings"] if finding["verdict"] in ("problem", "unknown")] == []
    # One broker is one copy: no test of ours has three.
    assert {finding["check"] for finding in found.told["findings"] if finding["verdict"] == "warning"} == {
        "kafka.copies"
    }
    assert found.status == 0
    assert found.told["healthy"] is True
    assert found.told["counts"]["ok"] == len(found.told["findings"]) - found.told["counts"]["warning"]
    # Each check has looked.
    assert {finding["check"] for finding in found.told["findings"]} >= CHECKS.keys() - {"clock.records"}


def test_people_read_the_same(patient: Patient) -> None:
    told = patient.deployment.run("doctor", "--backup-age", "2d", AUTHTALLY_DEAD_LETTER_TOPIC="nowhere")
    assert told.exit_code == 1
    lines = told.stdout.splitlines()
    assert [line for line in lines if line in ("settings", "kafka", "redis", "ledger", "access", "clock")]
    at = lines.index("  problem  topic nowhere: Kafka has no such topic, or hides it from our principal")
    assert lines[at + 1].strip() == "→ create it: authtally topics create; or correct AUTHTALLY_DEAD_LETTER_TOPIC"
    assert re.fullmatch(r"\d+ ok,( \d+ unknown,)? \d+ warnings?, 1 problem\.", lines[-1]), told.stdout


TOPIC_FAULTS = [
    # topic, what is wrong with it, check, verdict, words
    pytest.param(
        "dead",
        {"max_message_bytes": "1000"},
        "kafka.dead_letters",
        "problem",
        "wait for ever",
        id="none fits",
    ),
    pytest.param(
        "dead", {"max_message_bytes": "500000"}, "kafka.dead_letters", "warning", "kept cut", id="large ones are cut"
    ),
    pytest.param("input", {"cleanup_policy": "compact"}, "kafka.cleanup", "problem", "equal keys", id="compacted"),
    pytest.param("dead", {"cleanup_policy": "compact,delete"}, "kafka.cleanup", "problem", "equal keys", id="dead too"),
    pytest.param("input", {"retention_ms": "3600000"}, "kafka.retention", "warning", "1 h", id="an hour kept"),
    pytest.param("input", {"retention_ms": "3600000"}, "kafka.backup", "problem", "2 days old", id="an older backup"),
    pytest.param("input", {"min_insync_replicas": "2"}, "kafka.copies", "problem", "nobody can publish", id="too few"),
]


@pytest.mark.parametrize(("which", "config", "check", "verdict", "words"), TOPIC_FAULTS)
def test_a_topic_that_is_configured_wrongly_is_named(
    patient: Patient, which: str, config: dict[str, str], check: str, verdict: str, words: str
) -> None:
    topic = patient.dead_letters if which == "dead" else patient.topic
    configure(patient.deployment.broker, topic, **config)
    found = patient.examine("--service", "worker", "--backup-age", "2d")
    assert words in found.text(check, verdict)
    assert topic in found.text(check, verdict)
    assert found.status == (1 if found.told["counts"]["problem"] else 0)


def test_a_topic_that_is_missing_is_a_problem(patient: Patient) -> None:
    found = patient.examine(topics=f"{patient.topic}=login,nowhere=token")
    assert "nowhere: Kafka has no such topic" in found.text("kafka.topic", "problem")
    assert "AUTHTALLY_TOPICS" in found.text("kafka.topic", "problem")
    assert found.status == 1


def test_an_otp_topic_of_two_partitions_is_a_problem(patient: Patient) -> None:
    found = patient.examine(topics=f"{patient.topic}=otp")
    assert "2 partitions, but otp events are counted in their order" in found.text("kafka.topic", "problem")


def test_a_log_that_was_cut_since_the_backup_is_a_problem(patient: Patient) -> None:
    patient.deployment.produce(login("ada"), login("bob"), login("eve"))
    settled(admin(patient.deployment.broker), "delete_records", [TopicPartition(patient.topic, 0, 2)])
    found = patient.examine()
    assert "partition 0 holds nothing from before the oldest backup" in found.text("kafka.backup", "problem")


def test_without_a_backup_that_is_known_its_age_is_asked_for(patient: Patient) -> None:
    assert "--backup-age" in patient.examine("--service", "worker").text("kafka.backup", "unknown")


def test_the_oldest_file_of_a_folder_is_the_oldest_backup(patient: Patient, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    refused = patient.deployment.run("doctor", "--backups", str(folder))
    assert (refused.exit_code, "holds no file" in refused.output) == (2, True)
    for name, days in (("old.rdb", 9), ("new.rdb", 1)):
        (folder / name).touch()
        os.utime(folder / name, (time.time() - 86_400 * days,) * 2)
    found = patient.examine("--service", "worker", "--backups", str(folder))
    problems = found.of("kafka.backup", "problem")
    assert {finding["subject"] for finding in problems} == {patient.topic, patient.otp}
    assert all("keeps events 7 days, old.rdb is 9 days old" in finding["found"] for finding in problems)


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
    pytest.param(("--replicaof", "127.0.0.1 1"), "redis.replication", "problem", "takes no writes", id="a replica"),
    pytest.param(("--cluster-enabled", "yes"), "redis.layout", "problem", "REDIS_CLUSTER=on", id="a Cluster"),
]


@pytest.mark.parametrize(("options", "check", "verdict", "words"), STORE_FAULTS)
def test_a_store_that_is_configured_wrongly_is_named(
    patient: Patient, options: tuple[str, ...], check: str, verdict: str, words: str
) -> None:
    with Valkey(options=options) as store:
        found = patient.examine("--service", "worker", redis_url=store.url)
    assert words in found.text(check, verdict)


def test_a_cluster_is_told_from_a_single_server(patient: Patient, cluster: str) -> None:
    whole = patient.examine("--service", "worker", redis_url=cluster, redis_cluster="on")
    assert "Cluster of 2 primaries, whole" in {finding["found"] for finding in whole.of("redis.layout", "ok")}
    single = patient.examine("--service", "worker", redis_cluster="on")
    assert single.text("redis.connection", "problem")


def test_a_user_who_may_not_look_is_told_which_right_is_missing(patient: Patient) -> None:
    client: Any = patient.deployment.redis
    client.execute_command("ACL", "SETUSER", "blind", "on", ">pw", f"~{PREFIX}*", "+@all", "-config", "-time")
    try:
        found = patient.examine("--service", "worker", redis_url=patient.store.url.replace("//", "//blind:pw@"))
        assert "+time" in found.text("clock.redis", "unknown")
        assert found.told["counts"]["problem"] == 0
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
        assert found.told["counts"]["problem"] == 0
        with store.watcher() as watcher:
            watcher.execute_command("ACL", "SETUSER", user, "-set")
        assert "lacks +set" in patient.examine("--service", service, **there).text("redis.rights", "problem")


@pytest.mark.parametrize("user", ["worker", "api", "operator"])
def test_every_command_of_the_shipped_users_is_asked_about(user: str) -> None:
    known = {call.partition(" ")[0].lower() for call in CALLS}
    # Of these the client library needs some, and snapshots the rest: they say themselves what they lack.
    unasked = {"client", "cluster", "command", "config", "eval_ro", "hlen", "pexpireat", "pexpiretime", "scan", "srem"}
    assert {command.partition("|")[0] for command in commands_of(user)} - unasked - {"subscribe"} <= known
    assert commands_of(user)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"redis_url": "redis://:wrong@{address}/0"}, "wrong or missing user or password"),
        ({"redis_url": "redis://127.0.0.1:1/0"}, "no connection"),
    ],
    ids=["a wrong password", "nobody there"],
)
def test_a_store_that_does_not_take_us_is_a_problem_and_the_rest_is_looked_at(
    patient: Patient, settings: dict[str, str], words: str
) -> None:
    with Valkey(password="right") as store:
        given = {name: value.format(address=store.address) for name, value in settings.items()}
        found = patient.examine(**given)
    assert words in found.text("redis.connection", "problem")
    assert found.verdicts("kafka.connection") == {"ok"}
    assert found.verdicts("access.keys") == {"ok"}
    assert found.status == 1


def test_a_broker_that_is_gone_is_a_problem_within_the_time_given(patient: Patient) -> None:
    began = time.monotonic()
    found = patient.examine("--timeout", "1", kafka_bootstrap_servers=f"127.0.0.1:{free_port()}")
    assert "AUTHTALLY_KAFKA_BOOTSTRAP_SERVERS" in found.text("kafka.connection", "problem")
    assert found.verdicts("redis.connection") == {"ok"}
    assert time.monotonic() - began < 10


def test_a_ledger_that_was_counted_otherwise_is_told_with_the_ways_on(patient: Patient) -> None:
    patient.deployment.produce(login("ada"))
    patient.deployment.count_up_to(1)
    found = patient.examine(timezone="Europe/Berlin", max_labels="5")
    told = {finding["found"].split(" ")[0]: finding for finding in found.of("ledger.settings", "problem")}
    assert set(told) == {"AUTHTALLY_TIMEZONE", "AUTHTALLY_MAX_LABELS"}
    assert "authtally settings adopt" in told["AUTHTALLY_MAX_LABELS"]["advice"]
    assert "authtally settings adopt" not in told["AUTHTALLY_TIMEZONE"]["advice"]
    assert patient.topic in told["AUTHTALLY_TIMEZONE"]["subject"]


def open_shard(patient: Patient, position: int, topic_id: str = "") -> None:
    shard = Shard(patient.topic, 0)
    client = patient.deployment.redis
    client.sadd(keys.shards(PREFIX), shard.tag)
    client.set(ShardKeys(PREFIX, shard).position, position)
    client.hset(ShardKeys(PREFIX, shard).meta, "topic_id", topic_id)


@pytest.mark.parametrize(
    ("position", "topic_id", "check", "words"),
    [
        (9, "", "ledger.positions", "stands at 9, beyond the log's end 3"),
        (1, "", "ledger.positions", "retention deleted 1 offsets uncounted"),
        (fields.RESTORING, "", "ledger.positions", "is being restored"),
        (3, "another", "ledger.topics", "deleted and made anew"),
    ],
    ids=["beyond the end", "below the start", "being restored", "another topic"],
)
def test_a_position_that_stops_a_partition_is_named(
    patient: Patient, position: int, topic_id: str, check: str, words: str
) -> None:
    patient.deployment.produce(login("ada"), login("bob"), login("eve"))
    settled(admin(patient.deployment.broker), "delete_records", [TopicPartition(patient.topic, 0, 2)])
    open_shard(patient, position, topic_id)
    assert words in patient.examine("--service", "worker").text(check, "problem")


def test_what_has_waited_for_long_is_told_from_what_came_just_now(patient: Patient) -> None:
    producer: Any = Producer({"bootstrap.servers": patient.deployment.broker, "log_level": 0})
    producer.produce(patient.topic, login("ada"), partition=0)
    assert producer.flush(10) == 0
    assert patient.examine("--service", "worker").text("ledger.lag", "ok") == ": 1 records wait → "
    producer.produce(patient.topic, login("bob"), partition=1, timestamp=int(time.time() * 1000) - DAY_MS)
    assert producer.flush(10) == 0
    found = patient.examine("--service", "worker").text("ledger.lag", "warning")
    assert found.startswith(f"{patient.topic}-1: 2 records wait, for more than 5 min")


def test_records_from_the_future_are_told(patient: Patient) -> None:
    producer: Any = Producer({"bootstrap.servers": patient.deployment.broker, "log_level": 0})
    producer.produce(patient.topic, login("ada"), partition=0, timestamp=int(time.time() * 1000) + 1_800_000)
    assert producer.flush(10) == 0
    assert "ahead of this machine's clock" in patient.examine("--service", "worker").text("clock.records", "warning")


def test_anybody_let_in_from_outside_is_a_problem(patient: Patient) -> None:
    assert "anybody" in patient.examine(auth="none", api_host="0.0.0.0").text("access.ways", "problem")
    assert "this machine" in patient.examine(auth="none").text("access.ways", "warning")


@pytest.mark.parametrize(
    ("ahead_s", "verdict"), [(0, "ok"), (-30, "warning"), (600, "problem")], ids=["right", "half a minute", "ten"]
)
def test_the_issuers_clock_is_compared(patient: Patient, ahead_s: float, verdict: str) -> None:
    patient.issuer.ahead_s = ahead_s
    try:
        found = patient.examine("--service", "api")
    finally:
        patient.issuer.ahead_s = 0
    assert found.verdicts("access.clock") == {verdict}
    assert found.status == (1 if verdict == "problem" else 0)


@pytest.mark.parametrize(
    ("settings", "check", "words"),
    [
        ({"auth_jwks_url": "{url}/nowhere"}, "access.keys", "status 404"),
        ({"auth_jwks_url": "http://127.0.0.1:1/keys"}, "access.keys", "no answer"),
        ({"auth_client_secret": "another secret"}, "access.introspection", "status 401"),
        ({"auth_introspection_url": "http://127.0.0.1:1/"}, "access.introspection", "no answer"),
        ({"auth_issuer": "{url}/"}, "access.issuer", "calls itself"),
    ],
)
def test_an_issuer_that_would_not_do_is_a_problem(
    patient: Patient, settings: dict[str, str], check: str, words: str
) -> None:
    given = {name: value.format(url=patient.issuer.url) for name, value in settings.items()}
    assert words in patient.examine("--service", "api", **given).text(check, "problem")


def test_keys_that_verify_nothing_and_tokens_that_anybody_makes_are_problems(patient: Patient) -> None:
    good, patient.issuer.keys = patient.issuer.keys, [{"kty": "oct", "k": "c2VjcmV0", "kid": "shared"}]
    patient.issuer.active = True
    try:
        found = patient.examine("--service", "api")
    finally:
        patient.issuer.keys, patient.issuer.active = good, False
    assert "1 keys, but none that signs" in found.text("access.keys", "problem")
    assert "anybody would be let in" in found.text("access.introspection", "problem")


def test_an_api_that_takes_events_needs_topics_but_no_group(patient: Patient) -> None:
    found = patient.examine("--service", "api", ingest="on")
    assert {finding["subject"] for finding in found.of("kafka.topic", "ok")} == {patient.topic, patient.otp}
    assert found.verdicts("kafka.rights") == {"ok"}
    assert found.of("kafka.group") == []
    without = patient.examine("--service", "api")
    assert without.of("kafka.connection") == []


def test_a_cache_in_the_ledgers_own_database_is_a_problem(patient: Patient) -> None:
    url = patient.store.url
    assert "own database" in patient.examine("--service", "api", cache_redis_url=url).text("redis.cache", "problem")
    other = url.removesuffix("/0") + "/1"
    assert patient.examine("--service", "api", cache_redis_url=other).verdicts("redis.cache") == {"ok"}
    gone = patient.examine("--service", "api", cache_redis_url="redis://127.0.0.1:1/0")
    assert "no connection" in gone.text("redis.cache", "problem")


def test_every_wrong_setting_is_a_finding_and_the_other_service_is_looked_at(patient: Patient) -> None:
    found = patient.examine(max_labels="many", retain_days="-1", timezonne="UTC")
    assert {finding["subject"] for finding in found.of("settings.worker", "problem")} == {
        "AUTHTALLY_MAX_LABELS",
        "AUTHTALLY_RETAIN_DAYS",
        "AUTHTALLY_TIMEZONNE",
    }
    assert found.status == 2
    alone = patient.examine("--service", "api", max_labels="many")
    assert (alone.status, alone.verdicts("settings.api"), alone.verdicts("redis.version")) == (0, {"ok"}, {"ok"})


def test_a_principal_without_rights_is_told_which_are_missing(
    patient: Patient, tmp_path_factory: pytest.TempPathFactory
) -> None:
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required ;"
    try:
        kafka = ApacheKafka(
            heap_mb=256,
            listeners=(
                Listener(
                    "SCRAM",
                    "SASL_PLAINTEXT",
                    {"sasl.enabled.mechanisms": "SCRAM-SHA-256", "scram-sha-256.sasl.jaas.config": scram},
                ),
            ),
            scram={"worker": "secret"},
            properties={
                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "super.users": "User:ANONYMOUS",
            },
        )
    except JavaMissingError as missing:
        pytest.skip(str(missing))
    signed_in = {
        "kafka_security_protocol": "SASL_PLAINTEXT",
        "kafka_sasl_mechanism": "SCRAM-SHA-256",
        "kafka_sasl_username": "worker",
    }
    with kafka:
        create_topics(kafka.address, {patient.topic: 1, patient.otp: 1, patient.dead_letters: 1})
        granted = [
            AclBinding(kind, name, ResourcePatternType.LITERAL, "User:worker", "*", operation, AclPermissionType.ALLOW)
            for kind, name, operation in (
                (ResourceType.TOPIC, patient.topic, AclOperation.READ),
                (ResourceType.TOPIC, patient.dead_letters, AclOperation.DESCRIBE),
                (ResourceType.GROUP, patient.deployment.environment["AUTHTALLY_KAFKA_GROUP"], AclOperation.DESCRIBE),
            )
        ]
        settled(admin(kafka.address), "create_acls", granted)
        # The first question about any group makes the broker create a topic: not ours to wait for.
        wait_until(lambda: is_described(kafka.address), 30, "the coordinator")
        there = {"kafka_bootstrap_servers": kafka.address_of("SCRAM"), **signed_in}
        found = patient.examine("--service", "worker", **there, kafka_sasl_password="secret")
        wrong = patient.examine("--service", "worker", "--timeout", "3", **there, kafka_sasl_password="wrong")
    lacking = {finding["subject"]: finding["found"] for finding in found.of("kafka.rights", "problem")}
    assert lacking == {
        patient.otp: "our principal may not even look at it",
        patient.dead_letters: "our principal lacks the right Write",
        patient.deployment.environment["AUTHTALLY_KAFKA_GROUP"]: "our principal lacks the right Read",
    }
    unread = found.of("kafka.cleanup", "unknown")
    assert {finding["subject"] for finding in unread} == {patient.topic, patient.dead_letters}
    assert all("DescribeConfigs" in finding["advice"] for finding in unread)
    assert "AUTHTALLY_KAFKA_SASL_PASSWORD" in wrong.text("kafka.connection", "problem")


def test_a_broker_that_tells_little_leaves_unknowns(broker: str, persistent: Valkey, tmp_path: Path) -> None:
    deployment = Deployment(broker, persistent.url, tmp_path, tmp_path.name)
    done = deployment.run("doctor", "--service", "worker", "--json")
    deployment.redis.close()
    found = Found(done.exit_code, json.loads(done.stdout))
    assert found.verdicts("kafka.group") == found.verdicts("kafka.cleanup") == {"unknown"}
    assert found.verdicts("kafka.topic") == {"ok"}
    assert found.status == 0


AGES = [("36h", 129_600), ("7d", 604_800), ("90m", 5400), ("45", 45), ("1.5h", 5400), ("2w", 1_209_600)]


@pytest.mark.parametrize(("text", "seconds"), AGES)
def test_ages_are_written_as_people_do(text: str, seconds: float) -> None:
    assert age_of(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "-1d", "1y", "one day", "١d", "9" * 20])
def test_other_ages_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no time"):
        age_of(text)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.6, "1 min"), (3600, "1 h"), (86_400, "1 day"), (180_000, "2 days 2 h"), (3661, "1 h 1 min")],
)
def test_lengths_of_time_are_two_units_at_most(seconds: float, words: str) -> None:
    assert span(seconds) == words


VOLATILE: Final = ((r"cluster \S+", "cluster …"), (r"\b[\d,]+ MB", "… MB"), (r"Valkey [\d.]+", "Valkey …"))


def test_the_readmes_examples_read_as_printed(patient: Patient) -> None:
    names = {patient.topic: "auth.logins", patient.otp: "auth.otp-tokens", patient.dead_letters: "auth.dead-letter"}
    names[patient.deployment.environment["AUTHTALLY_KAFKA_GROUP"]] = "authtally"
    names[f"KEY_PREFIX={PREFIX}"] = "KEY_PREFIX=authtally:"
    for arguments, printed in re.findall(r"^\$ authtally (doctor.*)\n((?:(?!```).*\n)*)```", README, re.MULTILINE):
        told = patient.deployment.run(*arguments.split()).stdout
        for name, plain in names.items():
            told = told.replace(name, plain)
        for pattern, plain in VOLATILE:
            told, printed = re.sub(pattern, plain, told), re.sub(pattern, plain, printed)
        assert told.rstrip().splitlines() == printed.rstrip().splitlines()
        for check, what in CHECKS.items():
            assert f"| `{check}` | {what} |" in README
