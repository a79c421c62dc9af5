"""Where a partition is read from, as a table of what the ledger and Kafka hold."""

from __future__ import annotations

import pytest

from aggregator.assignment import (
    SkipLost,
    StartAt,
    StartNew,
    StopReading,
    decide_start,
    order_violation,
    settings_conflict,
)
from aggregator.kafka.ranges import LogBounds
from aggregator.ledger.ledger import ShardState
from aggregator.settings import NEVER_ADOPTED
from schemas.ledger import fields
from schemas.ledger.keys import Shard
from tests.aggregator import ledgers

SHARD = Shard("auth.logins", 3)
META = {"topic_id": "one"}


@pytest.mark.parametrize(
    ("position", "meta", "topic_id", "bounds", "expected", "why"),
    [
        (None, {}, "one", (0, 10), StartNew(0), "nothing counted yet"),
        (None, {}, "one", (7, 10), StartNew(7), "retention was faster than the first worker"),
        (5, META, "one", (0, 10), StartAt(5), "in the log"),
        (10, META, "one", (0, 10), StartAt(10), "all read"),
        (0, META, "one", (0, 0), StartAt(0), "an empty log"),
        (5, META, "one", (5, 10), StartAt(5), "at the log's start"),
        (5, META, "one", (8, 10), SkipLost(5, 8), "records deleted under the position"),
        (5, META, "one", (10, 10), SkipLost(5, 10), "all records deleted"),
        (5, META, "", (0, 10), StartAt(5), "a broker without topic ids"),
        (5, {}, "one", (0, 10), StartAt(5), "a ledger opened where there were none"),
        (11, META, "one", (0, 10), StartAt(11), "the end was read a moment ago: the fetch decides"),
    ],
)
def test_where_reading_continues(
    position: int | None, meta: dict[str, str], topic_id: str, bounds: tuple[int, int], expected: object, why: str
) -> None:
    assert decide_start(SHARD, ShardState(position, frozenset(), meta), topic_id, LogBounds(*bounds)) == expected, why


@pytest.mark.parametrize(
    ("position", "topic_id", "bounds", "said"),
    [
        (11, "one", (0, 10), "beyond the log's end 10"),
        (5, "two", (0, 10), "deleted and created again"),
        (5, "two", (0, 3), "deleted and created again"),
    ],
)
def test_what_only_an_operator_can_resolve_names_the_command(
    position: int, topic_id: str, bounds: tuple[int, int], said: str
) -> None:
    decision = decide_start(
        SHARD, ShardState(position, frozenset(), META), topic_id, LogBounds(*bounds, out_of_range=True)
    )
    assert isinstance(decision, StopReading)
    assert said in decision.reason
    assert "authtally positions reset auth.logins 3 --to earliest" in decision.reason


def test_a_shard_that_is_being_restored_is_not_read() -> None:
    decision = decide_start(SHARD, ShardState(fields.RESTORING, frozenset(), META), "one", LogBounds(0, 10))
    assert isinstance(decision, StopReading)
    assert "auth.logins-3 is being restored" in decision.reason
    assert "authtally snapshot restore --yes" in decision.reason


@pytest.mark.parametrize("binding", ["otp", "otp-count", "linotp-report"])
def test_a_second_partition_is_refused_where_order_counts_and_the_first_is_not(binding: str) -> None:
    assert order_violation(Shard("auth.otp-tokens", 0), binding) is None
    decision = order_violation(Shard("auth.otp-tokens", 1), binding)
    assert decision is not None
    for said in ("auth.otp-tokens-1 is not read", "must have one partition", "partition 0 continues"):
        assert said in decision.reason


@pytest.mark.parametrize("binding", ["login", "native", "keycloak"])
def test_other_topics_may_have_any_number_of_partitions(binding: str) -> None:
    assert order_violation(Shard("auth.logins", 31), binding) is None


HELD = ledgers.settings("redis://nowhere").counted_with("auth.logins")


def test_equal_settings_do_not_differ() -> None:
    assert settings_conflict(HELD, HELD) is None


@pytest.mark.parametrize("name", sorted(set(HELD) - {"format"}))
def test_each_setting_that_changes_counts_is_named_with_the_ways_on(name: str) -> None:
    result = settings_conflict(HELD | {name: "of another ledger"}, HELD)
    assert result is not None
    assert f"AUTHTALLY_{name.upper()} is" in result
    assert "AUTHTALLY_KEY_PREFIX" in result
    assert ("authtally settings adopt" in result) == (name not in NEVER_ADOPTED)


def test_a_shard_from_before_a_setting_was_counted_with_its_default() -> None:
    older = {name: value for name, value in HELD.items() if name != "user_id_normalize"}
    assert settings_conflict(older, HELD) is None
    assert "USER_ID_NORMALIZE" in (settings_conflict(older, HELD | {"user_id_normalize": "nfc"}) or "")
    assert settings_conflict({}, HELD | {"user_id_normalize": "nfc"}) is None, "a new shard"


def test_the_fingerprint_of_the_hash_key_is_not_printed() -> None:
    result = settings_conflict(HELD | {"user_hash_key": "0011223344556677"}, HELD)
    assert result is not None
    assert "0011223344556677" not in result
    assert HELD["user_hash_key"] not in result


def test_a_newer_ledger_is_refused_and_an_older_one_is_not() -> None:
    result = settings_conflict(HELD | {"format": "99"}, HELD)
    assert result is not None
    assert "newer version" in result
    assert settings_conflict(HELD | {"format": "0"}, HELD) is None
