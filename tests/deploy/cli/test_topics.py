"""Topics are made as the worker wants them, and never changed."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from click.testing import CliRunner, Result
from confluent_kafka.admin import ConfigResource, ResourceType

from deploy.cli.main import main
from deploy.demo.servers import create_topics, free_port
from deploy.demo.servers.topics import admin


class Named:
    """Topics of one test's own, on a broker that has others too."""

    def __init__(self, broker: str, unique: str) -> None:
        self.broker, self.logins, self.otp, self.dead = broker, f"l.{unique}", f"o.{unique}", f"d.{unique}"

    def run(self, *arguments: str) -> Result:
        environment = {
            "AUTHTALLY_KAFKA_BOOTSTRAP_SERVERS": self.broker,
            "AUTHTALLY_TOPICS": f"{self.logins}=login,{self.otp}=otp",
            "AUTHTALLY_DEAD_LETTER_TOPIC": self.dead,
        }
        return CliRunner().invoke(main, ["topics", "create", *arguments], env=environment)

    def results(self, *arguments: str) -> dict[str, tuple[int, str]]:
        result = json.loads(self.run(*arguments, "--json").stdout)["topics"]
        return {each["topic"]: (each["partitions"], each["result"]) for each in result}

    def partitions(self) -> dict[str, int]:
        there = admin(self.broker).list_topics(timeout=10).topics
        return {name: len(there[name].partitions) for name in (self.logins, self.otp, self.dead) if name in there}

    def config(self, topic: str) -> dict[str, str]:
        client = admin(self.broker)
        (future,) = client.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]).values()
        entries: dict[str, Any] = future.result(10)
        return {name: entry.value for name, entry in entries.items()}


@pytest.fixture
def named(broker: str) -> Named:
    return Named(broker, uuid.uuid4().hex[:8])


def test_missing_topics_are_made_and_a_second_call_changes_nothing(named: Named) -> None:
    made = {named.logins: (3, "made"), named.otp: (1, "made"), named.dead: (1, "made")}
    assert named.results("--partitions", "3") == made
    assert named.partitions() == {topic: partitions for topic, (partitions, _) in made.items()}
    assert named.results("--partitions", "9") == {topic: (made[topic][0], "there") for topic in made}
    assert named.partitions()[named.logins] == 3


def test_a_rehearsal_makes_nothing(named: Named) -> None:
    assert named.results("--dry-run") == {
        named.logins: (6, "would be made"),
        named.otp: (1, "would be made"),
        named.dead: (1, "would be made"),
    }
    assert named.partitions() == {}


def test_an_inventory_in_two_partitions_is_unfit(named: Named) -> None:
    create_topics(named.broker, {named.otp: 2})
    refused = named.run()
    assert refused.exit_code == 1
    assert "with one partition" in refused.stdout
    assert named.partitions() == {named.logins: 6, named.otp: 2, named.dead: 1}


def test_a_broker_that_is_away_is_named() -> None:
    refused = Named(f"127.0.0.1:{free_port()}", "x").run()
    assert refused.exit_code == 1
    assert "AUTHTALLY_KAFKA_BOOTSTRAP_SERVERS" in refused.stderr


@pytest.mark.apache_kafka
def test_dead_letters_have_room_and_nothing_is_deleted_by_size(apache_kafka: str) -> None:
    named = Named(apache_kafka, uuid.uuid4().hex[:8])
    assert named.run("--keep-days", "14", "--replicas", "1").exit_code == 0
    logins, dead = named.config(named.logins), named.config(named.dead)
    assert (logins["retention.ms"], logins["retention.bytes"]) == (str(14 * 86_400_000), "-1")
    assert (logins["cleanup.policy"], dead["cleanup.policy"]) == ("delete", "delete")
    assert int(dead["max.message.bytes"]) > int(logins["max.message.bytes"])
    assert int(dead["retention.ms"]) > int(logins["retention.ms"])


@pytest.mark.apache_kafka
def test_more_copies_than_brokers_is_refused(apache_kafka: str) -> None:
    refused = Named(apache_kafka, uuid.uuid4().hex[:8]).run("--replicas", "3")
    assert refused.exit_code == 1
    assert "replication factor" in refused.stderr.lower()
