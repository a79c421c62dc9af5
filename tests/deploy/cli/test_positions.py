"""What moving a shard would mean is said in numbers, and nothing moves before somebody agrees."""

from __future__ import annotations

import json

import click
import pytest

from aggregator.ledger.ledger import ShardState
from deploy.cli.operations import Log
from deploy.cli.positions import assess, target_of
from schemas.ledger import fields
from schemas.ledger.keys import Shard
from tests.deploy.conftest import Deployment, login

SHARD = Shard("auth.logins", 0)
LOG = Log("id-1", 100, 200)

MOVES = [
    # position, topic id of the ledger, target: counted twice, never, another topic
    pytest.param(150, "id-1", 150, 0, 0, False, id="nowhere"),
    pytest.param(150, "id-1", 100, 50, 0, False, id="back"),
    pytest.param(150, "id-1", 200, 0, 50, False, id="ahead"),
    pytest.param(None, "", 100, 0, 0, False, id="first position, earliest"),
    pytest.param(None, "", 130, 0, 30, False, id="first position, later"),
    pytest.param(50, "id-1", 100, 0, 0, False, id="what retention deleted was lost before"),
    pytest.param(50, "id-1", 120, 0, 20, False, id="behind the log and ahead"),
    pytest.param(900, "id-1", 100, 100, 0, False, id="beyond the end"),
    pytest.param(900, "id-0", 100, 0, 0, True, id="made anew, earliest"),
    pytest.param(900, "id-0", 200, 0, 100, True, id="made anew, latest"),
    pytest.param(150, "", 100, 50, 0, False, id="a broker without topic ids"),
]


@pytest.mark.parametrize(("position", "topic_id", "target", "twice", "never", "other"), MOVES)
def test_a_move_is_weighed(
    position: int | None, topic_id: str, target: int, twice: int, never: int, other: bool
) -> None:
    move = assess(SHARD, ShardState(position, frozenset(), {"topic_id": topic_id}), LOG, target)
    assert (move.twice, move.never, move.other_topic) == (twice, never, other)


@pytest.mark.parametrize(("to", "target"), [("earliest", 100), ("latest", 200), ("100", 100), ("200", 200)])
def test_a_target_is_a_position_of_the_log(to: str, target: int) -> None:
    assert target_of(to, LOG) == target


@pytest.mark.parametrize("to", ["99", "201", "-1", "first", "١٥٠"])
def test_other_targets_are_refused(to: str) -> None:
    with pytest.raises(click.BadParameter):
        target_of(to, LOG)


def test_show_prints_position_lag_and_topic(deployment: Deployment) -> None:
    deployment.produce(login("ada"), login("bob"), login("eve"))
    deployment.count_up_to(3)
    deployment.produce(login("mia"))

    shown = deployment.run("positions", "show")

    assert shown.exit_code == 0, shown.output
    rows = [line.split() for line in shown.output.splitlines()]
    columns = ["topic", "partition", "position", "start", "end", "lag", "topic", "id"]
    assert rows[0] == [*columns, "untimed", "unexpected", "remark"]
    assert rows[1:] == [
        [deployment.topic, "0", "3", "0", "4", "1", "same", "0", "0/100"],
        [deployment.topic, "1", "0", "0", "0", "0", "same", "0", "0/100"],
    ]


def test_more_unexpected_records_are_allowed_by_command(deployment: Deployment) -> None:
    deployment.produce(login("ada"))
    deployment.count_up_to(1)
    shard_keys = deployment.keys(0)
    deployment.redis.sadd(shard_keys.unexpected, *range(100))
    deployment.redis.hset(shard_keys.progress, fields.UNTIMED, 7)
    allow = ("positions", "allow-unexpected", deployment.topic, "0")
    (row, _) = json.loads(deployment.run("positions", "show", "--json").stdout)["shards"]
    assert (row["untimed"], row["unexpected"], row["unexpected_allowed"]) == (7, 100, 100)
    assert row["remark"] == "stops at the next unexpected record"

    too_few = deployment.run(*allow, "100")
    assert too_few.exit_code == 0, too_few.output
    assert "The partition stops at the next unexpected record: allow more than 100." in too_few.output
    done = deployment.run(*allow, "101")
    assert f"{deployment.topic}-0 has 100 unexpected records; allowed: 101 (before: 100)." in done.output
    assert "continues within seconds" in done.output
    assert deployment.redis.hget(shard_keys.meta, fields.UNEXPECTED_ALLOWED) == "101"
    assert deployment.position() == 1
    assert "stops at the next unexpected record" not in deployment.run("positions", "show").output


def test_unexpected_records_are_allowed_of_shards_that_the_ledger_has(deployment: Deployment) -> None:
    refused = deployment.run("positions", "allow-unexpected", deployment.topic, "0", "5")
    assert refused.exit_code == 1
    assert f"has no counts of {deployment.topic}-0" in refused.output
    assert deployment.redis.dbsize() == 0


def test_offsets_of_a_topic_that_is_gone_are_not_passed_over_in_the_one_made_anew(deployment: Deployment) -> None:
    deployment.produce(login("ada"))
    deployment.count_up_to(1)
    shard_keys = deployment.keys(0)
    deployment.redis.sadd(shard_keys.unexpected, 0)
    reset = ("positions", "reset", deployment.topic, "0", "--to", "earliest", "--yes")
    assert deployment.run(*reset).exit_code == 0
    assert deployment.redis.smembers(shard_keys.unexpected) == {"0"}
    deployment.redis.hset(shard_keys.meta, "topic_id", "another")
    done = deployment.run(*reset)
    assert "The topic was deleted and created again" in done.output
    assert not deployment.redis.exists(shard_keys.unexpected)


def test_reset_is_a_dry_run_and_then_moves(deployment: Deployment) -> None:
    deployment.produce(*(login(f"user {number}") for number in range(5)))
    deployment.count_up_to(5)
    reset = ("positions", "reset", deployment.topic, "0", "--to", "2")

    dry = deployment.run(*reset)
    assert dry.exit_code == 0, dry.output
    assert "3 offsets (2 to 4) will be counted twice" in dry.output
    assert "Dry run" in dry.output
    assert deployment.position() == 5

    done = deployment.run(*reset, "--yes")
    assert done.exit_code == 0, done.output
    assert deployment.position() == 2

    deployment.count_up_to(5)
    assert deployment.redis.hget(deployment.keys(0).progress, "consumed") == "8"


def test_reset_of_a_partition_that_is_not_there_says_so(deployment: Deployment) -> None:
    refused = deployment.run("positions", "reset", deployment.topic, "7", "--to", "latest", "--yes")
    assert refused.exit_code == 1
    assert f"Kafka has no partition 7 of {deployment.topic}" in refused.output


def test_first_position_by_reset_registers_the_shard(deployment: Deployment) -> None:
    deployment.produce(login("ada"), login("bob"))
    done = deployment.run("positions", "reset", deployment.topic, "0", "--to", "latest", "--yes")
    assert done.exit_code == 0, done.output
    assert "2 offsets (0 to 1) will not be counted at all" in done.output
    assert deployment.position() == 2
    assert deployment.redis.smembers("t:shards") == {f"{deployment.topic}-0"}


def test_a_store_that_is_gone_is_named(deployment: Deployment) -> None:
    failed = deployment.run("positions", "show", AUTHTALLY_REDIS_URL="redis://127.0.0.1:1/0")
    assert failed.exit_code == 1
    assert "AUTHTALLY_REDIS_URL: no connection" in failed.output


def test_a_broker_that_is_gone_is_named(deployment: Deployment) -> None:
    failed = deployment.run("positions", "show", AUTHTALLY_KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert failed.exit_code == 1
    assert "AUTHTALLY_KAFKA_BOOTSTRAP_SERVERS" in failed.output
