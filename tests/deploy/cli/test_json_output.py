"""What operators' commands answer with `--json`: one document each, and nothing is done without `--yes`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.deploy.conftest import Deployment, login


def answer(deployment: Deployment, *arguments: str, **settings: str) -> Any:
    done = deployment.run(*arguments, "--json", **settings)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture
def counted(deployment: Deployment) -> Deployment:
    """Two logins and two dead letters of partition 0; one more login waits."""
    deployment.produce(login("ada"), b"not json", b"[]", login("bob"))
    deployment.count_up_to(4)
    deployment.produce(login("mia"))
    return deployment


def test_positions_are_printed_with_numbers(counted: Deployment) -> None:
    assert answer(counted, "positions", "show")["shards"] == [
        {
            "topic": counted.topic,
            "partition": partition,
            "position": position,
            "start": 0,
            "end": end,
            "lag": lag,
            "topic_id": "same",
            "untimed": 0,
            "unexpected": 0,
            "unexpected_allowed": 100,
            "remark": "",
        }
        for partition, position, end, lag in ((0, 4, 5, 1), (1, 0, 0, 0))
    ]


def test_a_move_is_printed_and_made_only_with_yes(counted: Deployment) -> None:
    reset = ("positions", "reset", counted.topic, "0", "--to", "1")
    result = {
        "topic": counted.topic,
        "partition": 0,
        "from": 4,
        "to": 1,
        "other_topic": False,
        "counted_twice": 3,
        "not_counted": 0,
    }
    assert answer(counted, *reset) == result | {"moved": False}
    assert counted.position() == 4
    assert answer(counted, *reset, "--yes") == result | {"moved": True}
    assert counted.position() == 1


def test_dead_letters_are_printed_without_values_and_sent_only_with_yes(counted: Deployment) -> None:
    listed = answer(counted, "dead-letters", "list")
    assert listed["letters"] == [
        {"reason": reason, "topic": counted.topic, "records": 1, "resent": 0}
        for reason in ("not_an_object", "not_json")
    ]
    assert [(sample["reason"], sample["offset"]) for sample in listed["samples"]] == [
        ("not_an_object", 2),
        ("not_json", 1),
    ]
    assert (listed["copies"], listed["foreign"]) == (0, 0)
    waiting = {"to_resend": {"not_an_object": 1, "not_json": 1}, "cut": 0, "came_back": 0, "unbound": 0}
    assert answer(counted, "dead-letters", "resend") == waiting | {"resent": 0}
    assert answer(counted, "dead-letters", "resend", "--yes") == waiting | {"resent": 2}
    assert answer(counted, "dead-letters", "resend", "--yes") == {
        "to_resend": {},
        "cut": 0,
        "came_back": 0,
        "unbound": 0,
        "resent": 0,
    }


def test_adopted_settings_are_printed_and_recorded_only_with_yes(counted: Deployment) -> None:
    changed = {"AUTHTALLY_MAX_LABELS": "5"}
    adopt = ("settings", "adopt")
    changes = [
        {
            "setting": "AUTHTALLY_MAX_LABELS",
            "counted_with": "1000",
            "now": "5",
            "topic": counted.topic,
            "partition": partition,
            "from_position": position,
        }
        for partition, position in ((0, 4), (1, 0))
    ]
    assert answer(counted, *adopt, **changed) == {"changes": changes, "recorded": False}
    assert counted.redis.hget(counted.keys(0).meta, "max_labels") == "1000"
    assert answer(counted, *adopt, "--yes", **changed) == {"changes": changes, "recorded": True}
    assert answer(counted, *adopt, **changed) == {"changes": [], "recorded": False}


def test_an_older_format_is_no_setting_to_adopt(counted: Deployment) -> None:
    counted.redis.hset(counted.keys(0).meta, "format", "0")
    assert answer(counted, "settings", "adopt") == {"changes": [], "recorded": False}
    counted.redis.hset(counted.keys(0).meta, "format", "99")
    refused = counted.run("settings", "adopt", "--yes")
    assert refused.exit_code == 1
    assert "the ledger has format 99, this version reads" in refused.output


def test_a_refusal_is_printed_as_json_with_the_exit_status(counted: Deployment) -> None:
    refused = counted.run("settings", "adopt", "--yes", "--json", AUTHTALLY_TIMEZONE="Europe/Berlin")
    assert refused.exit_code == 1
    result = json.loads(refused.stdout)
    assert "AUTHTALLY_TIMEZONE cannot change in a ledger that has counts" in result["error"]
    assert result["exit_status"] == 1
