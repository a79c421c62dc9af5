"""Records that cannot be counted: dead letters, and a position that moves on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from confluent_kafka import Consumer, Message, TopicPartition

from aggregator.kafka import dead_letters
from schemas.events import REASONS
from schemas.ledger.keys import Shard
from tests.conftest import wait_until
from tests.integration.conftest import MakeSite
from tests.integration.sites import Broker, Site

NOW = datetime.now(UTC)
SOON = (NOW + timedelta(days=3)).isoformat()


def login(**changed: Any) -> bytes:
    return json.dumps({"time": NOW.isoformat(), "user_id": "u", **changed}).encode()


# (value, reason, why it is bad), all on a topic of logins.
BAD: list[tuple[bytes | None, str, str]] = [
    (None, "empty_value", "a tombstone"),
    (b"", "not_json", "nothing at all"),
    (b"nope", "not_json", "no JSON"),
    (login()[:-1], "not_json", "cut short"),
    (login() + login(), "not_json", "two objects"),
    (login(user_id="?").replace(b"?", b"\xff\xfe"), "not_json", "no UTF-8"),
    (login(user_id="\ud800"), "not_json", "half a character"),
    (b"[" * 100_000, "not_an_object", "nested deeper than any stack; the first bytes decide"),
    (b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not_json", "the same, well-formed, in an unknown field"),
    (b"[1, 2]", "not_an_object", "an array"),
    (b"null", "not_an_object", "null"),
    (b'"text"', "not_an_object", "a text"),
    (b"{}", "missing_field", "nothing in it"),
    (login(user_id=""), "missing_field", "a success without a user"),
    (login(user_id=5), "wrong_type", "a number for a user"),
    (login(time="yesterday"), "wrong_type", "no RFC 3339"),
    (login(time=NOW.replace(tzinfo=None).isoformat()), "wrong_type", "a time without offset"),
    (login(success="yes"), "wrong_type", "a text for a truth value"),
    (login(realm={"name": "acme"}), "wrong_type", "an object for a realm"),
    (login(type="token"), "wrong_type", "another event's type"),
    (login(time="1999-12-31T23:59:59Z"), "impossible_time", "before 2000"),
    (login(time="0001-01-01T00:00:00+14:00"), "impossible_time", "before the first day there is"),
    (login(time=SOON), "impossible_time", "in three days"),
    (login(time="9999-12-31T23:59:59-12:00"), "impossible_time", "after the last day there is"),
    (login(realm="r" * 257), "too_long", "a realm of 257 bytes"),
    (login(realm="東" * 86), "too_long", "a realm of 86 characters and 258 bytes"),
    (login(user_id="u" * 900_000), "too_long", "a user of 900 KB"),
]


def test_every_reason_has_a_bad_record_here() -> None:
    # Only adapters find an OTP event on a wrong topic, or no time; test_defects.py has the unexpected ones.
    assert {reason for _, reason, _ in BAD} == set(REASONS) - {"wrong_topic", "no_time", "unexpected"}


@contextmanager
def letters(site: Site, count: int) -> Iterator[list[Message]]:
    """The dead letters, once there are that many."""
    reader = Consumer({"bootstrap.servers": site.broker.address, "group.id": "letters", "log_level": 0})
    reader.assign([TopicPartition(site.dead_letters, 0, 0)])
    found: list[Message] = []

    def read() -> bool:
        found.extend(message for message in reader.consume(100, 0.2) if not message.error())
        return len(found) >= count

    try:
        wait_until(read, 20, f"{count} dead letters")
        yield found
    finally:
        reader.close()


def named(letter: Message) -> dict[str, str]:
    return {name: value.decode() for name, value in letter.headers()}


def test_bad_records_become_dead_letters_with_reason_and_origin_and_the_position_moves_on(
    each_broker: Broker, make_site: MakeSite
) -> None:
    site = make_site(each_broker, partitions=2)
    site.workers.start()
    shard = Shard(site.logins, 1)
    site.publisher.publish(200)
    for number, (value, reason, _) in enumerate(BAD):
        site.publisher.send_bad(shard, value, reason, key=f"bad {number}".encode())
        site.publisher.publish(5)
    assert site.differences() == []
    with letters(site, len(BAD)) as found:
        by_key = {letter.key(): letter for letter in found}
        assert len(found) == len(by_key) == len(BAD)
        for number, (value, reason, why) in enumerate(BAD):
            letter = by_key[f"bad {number}".encode()]
            headers = named(letter)
            assert (headers[dead_letters.REASON], letter.value()) == (reason, value), why
            assert (headers[dead_letters.TOPIC], headers[dead_letters.PARTITION]) == shard_words(shard)
            assert headers["producer"] == "test"
        offsets = [int(named(by_key[f"bad {number}".encode()])[dead_letters.OFFSET]) for number in range(len(BAD))]
    origin = Consumer({"bootstrap.servers": site.broker.address, "group.id": "origin", "log_level": 0})
    try:
        origin.assign([TopicPartition(*shard, 0)])
        log: dict[int, Message] = {}

        def read() -> bool:
            log.update({message.offset(): message for message in origin.consume(500, 0.2)})
            return len(log) >= site.publisher.ends[shard]

        wait_until(read, 20, "the whole partition")
    finally:
        origin.close()
    assert [log[offset].key() for offset in offsets] == [f"bad {number}".encode() for number in range(len(BAD))]


def shard_words(shard: Shard) -> tuple[str, str]:
    return shard.topic, str(shard.partition)


def test_a_dead_letter_that_the_broker_finds_too_large_is_cut_and_marked(apache: Broker, make_site: MakeSite) -> None:
    site = make_site(apache, partitions=1, dead_letter_config={"max.message.bytes": "100000"})
    site.workers.start()
    value = login(user_id="u" * 900_000)
    site.publisher.send_bad(Shard(site.logins, 0), value, "too_long", key=b"k")
    site.publisher.publish(100)
    assert site.differences() == []
    with letters(site, 1) as (letter,):
        assert letter.value() == value[: dead_letters.TRUNCATED_BYTES]
        assert named(letter)[dead_letters.TRUNCATED] == str(len(value))
        assert letter.key() == b"k"


def test_dead_letters_that_the_broker_refuses_as_they_are_hold_up_none_after_them(
    apache: Broker, make_site: MakeSite
) -> None:
    site = make_site(apache, partitions=1, dead_letter_config={"max.message.bytes": "100000"})
    site.workers.start()
    for _ in range(3):
        site.publisher.send_bad(Shard(site.logins, 0), b"nope", "not_json")
        site.publisher.send_bad(Shard(site.logins, 0), login(user_id="u" * 900_000), "too_long")
        site.publisher.publish(100)
        site.wait_until_counted()
    assert site.differences() == []


def test_dead_letters_go_by_their_records_times_where_the_broker_does_not_take_ours(
    apache: Broker, make_site: MakeSite
) -> None:
    """As when the worker's clock is far off. Many at once: they travel in batches, each refused as a whole."""
    site = make_site(apache, dead_letter_config={"message.timestamp.before.max.ms": "0"})
    site.workers.start().wait_until_ready()
    site.publisher.skip_ahead(1_800_000)
    for _ in range(100):
        for shard in site.shards:
            site.publisher.send_bad(shard, b"nope", "not_json")
        site.publisher.flush()
    assert site.differences() == []
    with letters(site, 100 * len(site.shards)) as found:
        assert all(letter.timestamp()[1] == int(named(letter)[dead_letters.TIMESTAMP]) for letter in found)
    # Only what was on its way when the first refusal came.
    assert len(site.workers.started[0].lines("dead letters wait")) <= len(site.shards)
