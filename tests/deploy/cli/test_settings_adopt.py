"""A changed setting is refused by the worker until somebody records it."""

from __future__ import annotations

from tests.deploy.conftest import Deployment, login


def test_adopting_records_value_and_position(deployment: Deployment) -> None:
    deployment.produce(login("ada", realm="acme"), login("bob", realm="acme"))
    deployment.count_up_to(2)
    changed = {"AUTHTALLY_MAX_LABELS": "5", "AUTHTALLY_USERS_BY": "realm,node"}

    dry = deployment.run("settings", "adopt", **changed)
    assert dry.exit_code == 0, dry.output
    assert "AUTHTALLY_MAX_LABELS" in dry.output
    assert "Dry run" in dry.output
    meta = deployment.keys(0).meta
    assert deployment.redis.hget(meta, "max_labels") == "1000"

    done = deployment.run("settings", "adopt", "--yes", **changed)
    assert done.exit_code == 0, done.output
    last = deployment.redis.hget(deployment.keys(0).progress, "last_record_ms")
    assert deployment.redis.hmget(meta, "max_labels", "users_by", "since/max_labels", "since/users_by") == [
        "5",
        "node,realm",
        f"2 {last}",
        f"2 {last}",
    ]
    assert deployment.position() == 2

    deployment.produce(login("eve", realm="acme"))
    deployment.count_up_to(3, settings=changed)
    again = deployment.run("settings", "adopt", "--yes", **changed)
    assert "No difference" in again.output


def test_what_can_never_change_is_refused_without_showing_it(deployment: Deployment) -> None:
    deployment.produce(login("ada"))
    deployment.count_up_to(1)
    meta = deployment.redis.hgetall(deployment.keys(0).meta)

    refused = deployment.run(
        *("settings", "adopt", "--yes"),
        AUTHTALLY_USER_HASH_KEY="another key that is long enough",
        AUTHTALLY_MAX_LABELS="5",
    )

    assert refused.exit_code == 1
    assert "AUTHTALLY_USER_HASH_KEY cannot change in a ledger that has counts" in refused.output
    assert meta["user_hash_key"] not in refused.output
    assert deployment.redis.hgetall(deployment.keys(0).meta) == meta
