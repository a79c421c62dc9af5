"""Dead letters are listed without what they hold, and go back exactly once."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from deploy.cli import dead_letters
from deploy.demo.servers import create_topics
from deploy.demo.servers.topics import admin
from schemas.ledger.keys import Shard
from tests.deploy.conftest import Deployment, login
from tests.integration.raw_batches import Written, batch, produce, replaced

BAD = (b"not json, from mallory", b"[]", b'{"user_id":"mallory"}', b"not json either")


def records(bootstrap: str, topic: str, start: int = 0) -> list[tuple[bytes, bytes, dict[str, bytes]]]:
    """Key, value and headers of what partition 0 holds from an offset on."""
    found = messages(bootstrap, topic, start)
    return [(message.key(), message.value(), dict(message.headers() or ())) for message in found]


def messages(bootstrap: str, topic: str, start: int = 0) -> list[Any]:
    """What partition 0 holds from an offset on."""
    reader = Consumer({"bootstrap.servers": bootstrap, "group.id": "reader", "enable.partition.eof": True})
    reader.assign([TopicPartition(topic, 0, start)])
    found = []
    try:
        while (message := reader.poll(10)) is not None and message.error() is None:
            found.append(message)
    finally:
        reader.close()
    return found


def test_list_counts_by_reason_and_shows_no_value(deployment: Deployment) -> None:
    deployment.produce(login("ada"), *BAD)
    deployment.count_up_to(5)

    listed = deployment.run("dead-letters", "list")

    assert listed.exit_code == 0, listed.output
    assert "mallory" not in listed.output
    rows = [line.split() for line in listed.output.splitlines()]
    assert ["not_json", deployment.topic, "2", "0"] in rows
    assert ["not_an_object", deployment.topic, "1", "0"] in rows
    assert ["missing_field", deployment.topic, "1", "0"] in rows


def test_resend_sends_each_once_and_remembers(deployment: Deployment) -> None:
    deployment.produce(login("ada"), *BAD)
    deployment.count_up_to(5)

    dry = deployment.run("dead-letters", "resend")
    assert dry.exit_code == 0, dry.output
    assert "Dry run" in dry.output
    assert len(records(deployment.broker, deployment.topic)) == 5

    some = deployment.run("dead-letters", "resend", "--reason", "not_json", "--yes")
    assert some.exit_code == 0, some.output
    assert "Resent 2." in some.output
    sent = records(deployment.broker, deployment.topic, 5)
    assert [(key, value) for key, value, _ in sent] == [(b"key", BAD[0]), (b"key", BAD[3])]
    assert sent[0][2] == {
        "traceparent": b"00-1",
        "authtally-resent": f"{deployment.topic}/0/1/0".encode(),
    }

    rest = deployment.run("dead-letters", "resend", "--yes")
    assert "Resent 2." in rest.output
    assert len(records(deployment.broker, deployment.topic)) == 9

    for arguments in ((), ("--reason", "not_json")):
        again = deployment.run("dead-letters", "resend", "--yes", *arguments)
        assert again.exit_code == 0, again.output
        assert "Nothing to resend." in again.output
    assert len(records(deployment.broker, deployment.topic)) == 9


# (key, value, headers, why)
ODD: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]], str]] = [
    (None, None, [], "null key and value"),
    (None, None, [("a", None), ("", b""), ("a", b"2")], "null and empty headers, one name twice"),
    (b"", b"", [], "empty key and value"),
    (b"k" * 300_000, b"?", [], "a huge key"),
    (b"k", b"?" * 1_030_000, [], "a value beyond librdkafka's own limit, and within that of a letter"),
    (b"k", b"?", [(f"h{n}", b"v") for n in range(1000)], "a thousand headers"),
]


def test_nulls_and_large_records_are_listed_and_resent_as_they_were(deployment: Deployment) -> None:
    shard = Shard(deployment.topic, 0)
    produce(deployment.broker, shard, *(batch(Written(value, key, named)) for key, value, named, _ in ODD))
    deployment.count_up_to(len(ODD))

    listed = deployment.run("dead-letters", "list")
    assert listed.exit_code == 0, listed.output
    assert ["empty_value", deployment.topic, "2", "0"] in [line.split() for line in listed.output.splitlines()]

    resent = deployment.run("dead-letters", "resend", "--yes")
    assert resent.exit_code == 0, resent.output
    assert f"Resent {len(ODD)}." in resent.output
    sent = messages(deployment.broker, deployment.topic, len(ODD))
    assert len(sent) == len(ODD)
    by_origin = {dict(message.headers())["authtally-resent"]: message for message in sent}
    for offset, (key, value, named, why) in enumerate(ODD):
        origin = f"{deployment.topic}/0/{offset}/0".encode()
        message = by_origin[origin]
        # Outside the assertion, which would explain a difference by comparing a megabyte line by line.
        same = (message.key(), message.value(), message.headers()) == (
            key,
            value,
            [*named, ("authtally-resent", origin)],
        )
        assert same, why


def test_header_names_that_are_not_utf_8_go_back_escaped_and_marked(deployment: Deployment) -> None:
    written = replaced(batch(Written(b"?", b"k", [("head", b"v")])), b"head", b"h\xffad")
    produce(deployment.broker, Shard(deployment.topic, 0), written)
    # Somebody else's, among the letters.
    produce(deployment.broker, Shard(deployment.dead_letters, 0), written)
    deployment.count_up_to(1)

    assert "1 messages carry none of our headers" in deployment.run("dead-letters", "list").output
    assert "Resent 1." in deployment.run("dead-letters", "resend", "--yes").output
    (message,) = messages(deployment.broker, deployment.topic, 1)
    assert message.headers() == [
        ("h\\xffad", b"v"),
        ("authtally-renamed-headers", b"yes"),
        ("authtally-resent", f"{deployment.topic}/0/0/0".encode()),
    ]


def test_a_returning_letter_is_not_sent_forever(deployment: Deployment) -> None:
    deployment.produce(BAD[0])
    deployment.count_up_to(1)
    assert "Resent 1." in deployment.run("dead-letters", "resend", "--yes").output
    deployment.count_up_to(2)
    assert len(records(deployment.broker, deployment.dead_letters)) == 2

    again = deployment.run("dead-letters", "resend", "--yes")

    assert "1 were resent once and came back" in again.output
    assert "Nothing to resend." in again.output
    assert len(records(deployment.broker, deployment.topic)) == 2


def test_copies_of_a_letter_are_sent_once(deployment: Deployment) -> None:
    deployment.produce(*BAD)
    deployment.count_up_to(4)
    # As after a crash between sending and counting: the worker sends the same letters again.
    for key in deployment.redis.scan_iter(f"t:{{{deployment.topic}-0}}:*"):
        deployment.redis.delete(key)
    deployment.count_up_to(4)
    assert len(records(deployment.broker, deployment.dead_letters)) == 8

    assert "4 more are copies" in deployment.run("dead-letters", "list").output
    assert "Resent 4." in deployment.run("dead-letters", "resend", "--yes").output
    assert len(records(deployment.broker, deployment.topic)) == 8


def test_a_crash_before_remembering_sends_the_batch_again(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.produce(*BAD)
    deployment.count_up_to(4)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(dead_letters.resending, "_write_resent", crash)
        assert deployment.run("dead-letters", "resend", "--yes").exit_code == 130

    assert "Resent 4." in deployment.run("dead-letters", "resend", "--yes").output
    assert len(records(deployment.broker, deployment.topic)) == 12


def test_foreign_messages_are_left_alone(deployment: Deployment) -> None:
    producer = Producer({"bootstrap.servers": deployment.broker})
    producer.produce(deployment.dead_letters, b"who wrote this?")
    assert producer.flush(10) == 0
    assert "1 messages carry none of our headers" in deployment.run("dead-letters", "list").output
    assert "Nothing to resend." in deployment.run("dead-letters", "resend", "--yes").output


@pytest.mark.apache_kafka
def test_a_dead_letter_topic_made_anew_begins_unsent(apache_kafka: str, deployment: Deployment) -> None:
    deployment.environment["AUTHTALLY_KAFKA_BOOTSTRAP_SERVERS"] = deployment.broker = apache_kafka
    topics = {deployment.topic: 2, deployment.dead_letters: 1}
    create_topics(apache_kafka, topics)
    deployment.produce(BAD[0])
    deployment.count_up_to(1)
    assert "Resent 1." in deployment.run("dead-letters", "resend", "--yes").output
    client = admin(apache_kafka)
    for future in client.delete_topics([deployment.dead_letters]).values():
        future.result(10)
    create_topics(apache_kafka, {deployment.dead_letters: 1})
    deployment.produce(BAD[1])
    deployment.count_up_to(3)
    # The letter of the first record is gone, so nothing proves that the second one is its return: it is resent once.
    assert "Resent 2." in deployment.run("dead-letters", "resend", "--yes").output
    deployment.count_up_to(5)
    again = deployment.run("dead-letters", "resend", "--yes").output
    assert "2 were resent once and came back" in again
    assert "Nothing to resend." in again


def test_a_letter_is_sent_to_no_topic_that_is_not_bound(deployment: Deployment) -> None:
    """Anybody who may write to the dead-letter topic can name a topic in a header."""
    deployment.produce(*BAD[:1])
    deployment.count_up_to(1)
    other = f"{deployment.topic}-other"
    create_topics(deployment.broker, {other: 1})
    (letter,) = messages(deployment.broker, deployment.dead_letters)
    forged = [(name, other.encode() if name == "authtally-topic" else value) for name, value in letter.headers()]
    producer = Producer({"bootstrap.servers": deployment.broker})
    producer.produce(deployment.dead_letters, b"forged", headers=forged, partition=0)
    producer.flush(30)

    result = deployment.run("dead-letters", "resend", "--yes")
    assert result.exit_code == 0, result.output
    assert "1 name a topic that AUTHTALLY_TOPICS does not bind" in result.output
    assert "Resent 1." in result.output
    assert records(deployment.broker, other) == []
    assert [value for _, value, _ in records(deployment.broker, deployment.topic, 1)] == [BAD[0]]


class Forged(NamedTuple):
    """A bad record whose producer marks it as resent, by the header `claim`."""

    value: bytes
    claim: str
    why: str


FORGED: Final = [
    Forged(b"mallory 0", "", "the first record, honest"),
    Forged(b"mallory 1", "{topic}/0/0/0", "it names a letter with another value"),
    Forged(b"mallory 2", "{topic}/0/2/0", "it names itself"),
    Forged(b"mallory 3", "{topic}/0/4/0", "it names the next one"),
    Forged(b"mallory 3", "{topic}/0/99/0", "it names a letter that does not exist"),
    Forged(b"mallory 5", "{topic}/0/x/0", "no offset"),
    Forged(b"mallory 6", "{topic}/0/", "nothing more"),
    Forged(b"mallory 7", "{topic}/0/00/0", "another spelling"),
]


def test_a_forged_mark_keeps_no_letter_from_being_resent(deployment: Deployment) -> None:
    producer = Producer({"bootstrap.servers": deployment.broker})
    for record in FORGED:
        claim = record.claim.format(topic=deployment.topic).encode()
        producer.produce(
            deployment.topic, record.value, b"k", partition=0, headers=[("authtally-resent", claim)] if claim else []
        )
        assert producer.flush(10) == 0
    deployment.count_up_to(len(FORGED))
    letters = records(deployment.broker, deployment.dead_letters)
    # The worker keeps marks that name the record's partition: only `resend` can judge them.
    assert [letter[2].get("authtally-resent", b"").decode() for letter in letters] == [
        record.claim.format(topic=deployment.topic) for record in FORGED
    ]

    assert f"Resent {len(FORGED)}." in deployment.run("dead-letters", "resend", "--yes").output
    sent = records(deployment.broker, deployment.topic, len(FORGED))
    assert [(value, given) for _, value, given in sent] == [
        (record.value, {"authtally-resent": f"{deployment.topic}/0/{offset}/0".encode()})
        for offset, record in enumerate(FORGED)
    ]
    deployment.count_up_to(2 * len(FORGED))
    again = deployment.run("dead-letters", "resend", "--yes").output
    assert f"{len(FORGED)} were resent once and came back" in again
    assert "Nothing to resend." in again


def test_headers_of_ours_that_a_sender_wrote_are_dropped(deployment: Deployment) -> None:
    """Otherwise a sender could redirect its letter, or mark it as resent so that it never is."""
    forged = {
        "authtally-topic": b"other",
        "authtally-partition": b"7",
        "authtally-reason": b"none",
        "authtally-resent": b"other/0/1/0",
        "authtally-cut": b"1",
        "authtally-unheard-of": b"x",
        "kept": b"1",
    }
    producer = Producer({"bootstrap.servers": deployment.broker})
    producer.produce(deployment.topic, BAD[0], key=b"key", headers=list(forged.items()), partition=0)
    producer.flush(30)
    deployment.count_up_to(1)

    (_, _, found) = records(deployment.broker, deployment.dead_letters)[0]
    assert found["kept"] == b"1"
    assert (found["authtally-topic"], found["authtally-reason"]) == (deployment.topic.encode(), b"not_json")
    assert not found.keys() & {"authtally-resent", "authtally-cut", "authtally-unheard-of"}
    assert "Resent 1." in deployment.run("dead-letters", "resend", "--yes").output
