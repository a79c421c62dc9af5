"""Records and batches that brokers take and clients refuse: counted, a dead letter, or one partition that stops."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import pytest
from aiokafka.codec import zstd_encode
from click.testing import CliRunner
from confluent_kafka import Message

from aggregator.counting import RANGES_AT_ONCE
from aggregator.fold.range_delta import DeadLetter
from aggregator.kafka import codecs, dead_letters
from aggregator.kafka.dead_letters import DeadLetters
from aggregator.settings import WorkerSettings
from deploy.cli.main import main
from deploy.demo.servers import create_topics
from schemas.ledger.keys import Shard
from tests.conftest import wait_until
from tests.integration.conftest import MakeSite
from tests.integration.expected_counts import log_ends
from tests.integration.raw_batches import (
    Written,
    batch,
    compressed,
    produce,
    replaced,
    with_codec,
    with_count,
    with_offset_delta,
    with_wrong_crc,
)
from tests.integration.sites import Broker, Site
from tests.integration.test_bad_records import letters
from tests.servers import ApacheKafka

NOW_MS: Final = int(time.time() * 1000)
NOW: Final = datetime.fromtimestamp(NOW_MS / 1000, UTC).isoformat()
Headers = list[tuple[str, bytes | None]]


def event(user: str) -> dict[str, Any]:
    return {"time": NOW, "user_id": user}


def good(user: str, headers: Headers | None = None) -> Written:
    return Written(json.dumps(event(user)).encode(), b"a key", headers or [], NOW_MS)


def bad(value: bytes | None, key: bytes | None = None, headers: Headers | None = None) -> Written:
    return Written(value, key, headers or [], NOW_MS)


class Hostile(NamedTuple):
    """One record between two good ones."""

    why: str
    record: Written
    reason: str | None
    """Of its dead letter; None where it counts."""
    patch: Callable[[bytes], bytes] = bytes
    headers: Headers | None = None
    """Those of the letter before ours; the record's own if not given."""
    cut: bool = False


def unreadable_name(written: bytes) -> bytes:
    return replaced(written, b"head", b"h\xffa\xfe")


LARGE: Final = 100_000
RECORDS: Final = [
    Hostile("neither key nor value", bad(None), "empty_value"),
    Hostile("no value", bad(None, b"k"), "empty_value"),
    Hostile("empty key and value", bad(b"", b""), "not_json"),
    Hostile("null and empty headers", bad(None, None, [("null", None), ("", b""), ("", None)]), "empty_value"),
    Hostile("two headers of one name", bad(b"?", None, [("a", b"1"), ("a", b"2")]), "not_json"),
    Hostile("two thousand headers", bad(b"?", None, [(f"h{n}", b"v") for n in range(2000)]), "not_json"),
    Hostile("a header that is too large for a letter", bad(b"?", b"k", [("h", b"x" * LARGE)]), "not_json", cut=True),
    Hostile("large headers and no value", bad(None, None, [("h", b"x" * LARGE)]), "empty_value", cut=True),
    Hostile("a key that is too large", bad(b"?", b"k" * LARGE), "not_json", cut=True),
    Hostile("a value that is too large", bad(b"?" * LARGE), "not_json", cut=True),
    Hostile(
        "a header whose name is not UTF-8",
        bad(b"?", b"k", [("head", b"v"), ("other", b"\xff")]),
        "not_json",
        unreadable_name,
        [("h\\xffa\\xfe", b"v"), ("other", b"\xff")],
    ),
    Hostile("such a header where nothing else is bad", good("named", [("head", b"v")]), None, unreadable_name),
    Hostile(
        "a sender's headers under our names",
        bad(b"?", None, [("authtally-topic", b"x"), ("authtally-resent", b"x"), ("authtally-y", b"z" * 5000)]),
        "not_json",
        headers=[],
    ),
]


def read_as_written(letter: Message) -> tuple[Headers, dict[str, str]]:
    """A letter's headers: the record's own, and ours."""
    given: Headers = letter.headers()
    first = [name for name, _ in given].index(dead_letters.REASON)
    return given[:first], {name: (value or b"").decode() for name, value in given[first:]}


def expect(site: Site, shard: Shard, offset: int, records: list[tuple[Written, str | None]]) -> None:
    expected = site.publisher.expected[shard]
    for record, reason in records:
        if reason is None:
            expected.add(json.loads(record.value or b""), record.timestamp_ms)
        else:
            expected.add_dead(reason, record.timestamp_ms)
    site.publisher.ends[shard] = offset + len(records)


def test_each_hostile_record_is_counted_or_a_dead_letter_and_its_neighbours_are_counted(
    each_broker: Broker, make_site: MakeSite
) -> None:
    # The embedded broker keeps no limit of a topic.
    limit = {"max.message.bytes": "50000"} if each_broker.apache else None
    hostile = [case for case in RECORDS if each_broker.apache or not case.cut]
    site = make_site(each_broker, partitions=1, dead_letter_config=limit)
    worker = site.workers.start().wait_until_ready()
    shard = Shard(site.logins, 0)
    sent = []
    for number, case in enumerate(hostile):
        around = good(f"before {number}"), good(f"after {number}")
        written = case.patch(batch(around[0], case.record, around[1]))
        (offset,) = produce(each_broker.address, shard, written)
        expect(site, shard, offset, [(around[0], None), (case.record, case.reason), (around[1], None)])
        site.wait_until_counted()
        assert worker.running, case.why
        if case.reason is not None:
            sent.append((case, offset + 1))
    assert site.differences() == []
    with letters(site, len(sent)) as found:
        assert len(found) == len(sent)
        for letter, (case, offset) in zip(found, sent, strict=True):
            foreign, ours = read_as_written(letter)
            where = ours[dead_letters.TOPIC], ours[dead_letters.PARTITION], ours[dead_letters.OFFSET]
            assert (ours[dead_letters.REASON], *where) == (case.reason, site.logins, "0", str(offset)), case.why
            key, value = case.record.key, case.record.value
            if case.cut:
                assert ours[dead_letters.TRUNCATED] == str(len(value or b"")), case.why
                key = key and key[: dead_letters.KEY_BYTES]
                value = value and value[: dead_letters.CUTS[1][0]]
                assert foreign == [], case.why
            else:
                assert foreign == (list(case.record.headers) if case.headers is None else case.headers), case.why
            assert (letter.key(), letter.value()) == (key, value), case.why
            assert (dead_letters.RENAMED in ours) == (case.patch is unreadable_name), case.why


@pytest.mark.parametrize("delta", [1, 2, 7, -1])
def test_offsets_that_lie_inside_a_batch_count_as_the_broker_numbers_them(
    apache: Broker, make_site: MakeSite, delta: int
) -> None:
    """Apache Kafka does not compare the offsets inside a batch that is not compressed."""
    site = make_site(apache, partitions=1)
    worker = site.workers.start().wait_until_ready()
    shard = Shard(site.logins, 0)
    records = [bad(b"?" * 80), bad(b"?"), good("c")]
    (offset,) = produce(apache.address, shard, with_offset_delta(batch(*records), delta))
    expect(site, shard, offset, [(records[0], "not_json"), (records[1], "not_json"), (records[2], None)])
    site.publisher.publish(50)
    assert site.differences() == []
    assert worker.running
    with letters(site, 2) as found:
        offsets = [read_as_written(letter)[1][dead_letters.OFFSET] for letter in found]
        assert offsets == [str(offset), str(offset + 1)]


UNREADABLE: Final = [
    pytest.param(with_wrong_crc, "CorruptRecordException", id="bytes that do not match the checksum"),
    pytest.param(lambda written: with_codec(written, 1), "CorruptRecordException", id="no gzip under that name"),
    pytest.param(lambda written: with_count(written, 9), "CorruptRecordException", id="more records counted"),
    pytest.param(lambda written: with_count(written, 1), "CorruptRecordException", id="fewer records counted"),
]


@pytest.mark.parametrize(("damage", "error"), UNREADABLE)
def test_an_unreadable_batch_stops_its_partition_and_no_other_until_it_is_passed(
    embedded: Broker, make_site: MakeSite, damage: Callable[[bytes], bytes], error: str
) -> None:
    site = make_site(embedded, partitions=2)
    worker = site.workers.start().wait_until_ready()
    stopped = Shard(site.logins, 1)
    before, lost, after = good("before"), [good("lost"), good("lost too")], good("after")
    (at,) = produce(embedded.address, stopped, batch(before))
    expect(site, stopped, at, [(before, None)])
    bad_at, after_at = produce(embedded.address, stopped, damage(batch(*lost)), batch(after))
    trouble = worker.wait_until_troubled(f"{stopped.topic} 1 --to")
    assert f"cannot be read at offset {bad_at} " in trouble
    assert error in trouble
    assert trouble.endswith(f"authtally positions reset {stopped.topic} 1 --to {after_at}")
    site.publisher.publish(200)
    others = site.wait_until_counted(without=[stopped])
    assert others
    assert site.positions()[stopped] == bad_at
    assert worker.running
    assert worker.alive()
    assert worker.metric("authtally_partition_stopped", topic=stopped.topic, partition="1") == 1

    environment = {f"AUTHTALLY_{name.upper()}": value for name, value in site.workers.settings.items()}
    command = [*trouble[trouble.index("positions") :].split(), "--yes"]
    moved = CliRunner(env=environment).invoke(main, command)
    assert moved.exit_code == 0, moved.output
    site.wait_until_counted()
    worker.wait_until_ready()


def test_a_batch_that_grows_too_large_stops_its_partition_and_fills_no_memory(
    embedded: Broker, make_site: MakeSite
) -> None:
    site = make_site(embedded, partitions=1)
    worker = site.workers.start().wait_until_ready()
    shard = Shard(site.logins, 0)
    before = good("before")
    bomb = compressed(batch(bad(bytes(codecs.MOST_BYTES))), 4, zstd_encode)
    _, bad_at = produce(embedded.address, shard, batch(before), bomb)
    expect(site, shard, 0, [(before, None)])
    memory = worker.rss_bytes
    trouble = worker.wait_until_troubled(f"cannot be read at offset {bad_at} ")
    assert "CorruptRecordException" in trouble
    assert worker.rss_bytes - memory < codecs.MOST_BYTES * 2
    site.publisher.publish(100, site.tokens)
    site.wait_until_counted(without=[shard])


def test_a_batch_that_the_disk_has_damaged_stops_its_partition_and_no_other(
    make_site: MakeSite, tmp_path: Path
) -> None:
    """Apache Kafka checks no batch that it hands out."""
    with ApacheKafka(tmp_path / "kafka") as kafka:
        broker = Broker(kafka.address, apache=True)
        site = make_site(broker, partitions=2)
        stopped = Shard(site.logins, 1)
        before, lost = good("before"), good("lost")
        produce(broker.address, stopped, batch(before), batch(lost))
        expect(site, stopped, 0, [(before, None)])
        kafka.stop()
        (segment,) = kafka.folder.glob(f"data/{site.logins}-1/*.log")
        segment.write_bytes(with_wrong_crc(segment.read_bytes()))
        kafka.start()
        worker = site.workers.start()
        error = worker.wait_until_troubled(f"positions reset {stopped.topic} 1 --to 2")
        assert "cannot be read at offset 1 " in error
        site.publisher.publish(200, site.tokens)
        site.wait_until_counted(without=[stopped])
        assert site.positions()[stopped] == 1
        assert worker.running


class Lying(NamedTuple):
    """A record as the sender of letters sees it."""

    timestamp: int
    offset: int
    key: bytes | None = None
    value: bytes | None = b"?"
    headers: Sequence[tuple[str, bytes | None]] = ()


async def test_letters_carry_usable_times_where_the_broker_does_not_take_ours(
    apache: Broker, make_site: MakeSite
) -> None:
    site = make_site(apache, partitions=1, dead_letter_config={"message.timestamp.before.max.ms": "0"})
    clock_ms, usable_ms = int(time.time() * 1000) + 600_000, int(time.time() * 1000) + 300_000
    stamps = [-1, 0, -(2**63), 2**62, 2**63 - 1, clock_ms * 1000, clock_ms // 1000, usable_ms]
    found = [DeadLetter(Lying(stamp, at), "not_json", "", b"?") for at, stamp in enumerate(stamps)]
    sender = DeadLetters(settings_of(site), {})
    try:
        assert await sender.send(Shard(site.logins, 0), found, clock_ms=clock_ms, wanted=lambda: True)
    finally:
        await sender.stop()
    with letters(site, len(stamps)) as sent:
        times = {read_as_written(letter)[1][dead_letters.TIMESTAMP]: letter.timestamp()[1] for letter in sent}
    assert times == {str(stamp): usable_ms if stamp == usable_ms else clock_ms for stamp in stamps}


async def test_a_letter_fits_into_the_smallest_topic(apache: Broker, make_site: MakeSite) -> None:
    site = make_site(apache, partitions=1, dead_letter_config={"max.message.bytes": "1000"})
    letter = DeadLetter(Lying(NOW_MS, 0, b"k" * 5000, b"?" * 5000), "not_json", "", b"?" * 5000)
    sender = DeadLetters(settings_of(site), {})
    try:
        async with asyncio.timeout(20):
            assert await sender.send(Shard(site.logins, 0), [letter], clock_ms=NOW_MS, wanted=lambda: True)
    finally:
        await sender.stop()
    with letters(site, 1) as (sent,):
        assert (sent.key(), sent.value()) == (b"", b"")
        assert read_as_written(sent)[1][dead_letters.TRUNCATED] == "5000"


async def test_letters_without_a_waiting_range_are_given_up(apache: Broker, make_site: MakeSite) -> None:
    """As after a rebalance: the partition's new owner sends its own."""
    site = make_site(apache, partitions=1)
    site.remove_topic(site.dead_letters)
    sender, asked = DeadLetters(settings_of(site), {}), []

    def wanted() -> bool:
        asked.append(sender.error)
        return len(asked) < 2

    letter = DeadLetter(Lying(NOW_MS, 0), "not_json", "", b"?")
    try:
        assert not await sender.send(Shard(site.logins, 0), [letter], clock_ms=NOW_MS, wanted=wanted)
    finally:
        await sender.stop()
    assert len(asked) == 2
    assert all(site.dead_letters in (error or "") for error in asked)
    assert sender.error is None


async def test_a_flood_of_letters_does_not_time_out_behind_itself(apache: Broker, make_site: MakeSite) -> None:
    """Each letter handed to the producer has ten seconds, so those of a flood must wait before that, of all shards."""
    site = make_site(apache, partitions=1)
    number, shards = 1500, [Shard(site.logins, partition) for partition in range(6)]
    flood = [DeadLetter(Lying(NOW_MS, at), "not_json", "", b"?" * 500) for at in range(number)]
    sender, most = DeadLetters(settings_of(site), {}), 0
    others = len(asyncio.all_tasks())
    sending = [asyncio.create_task(sender.send(shard, flood, clock_ms=NOW_MS, wanted=lambda: True)) for shard in shards]
    try:
        while not all(task.done() for task in sending):
            most = max(most, len(asyncio.all_tasks()) - others)
            await asyncio.sleep(0)
        assert all(await asyncio.gather(*sending))
    finally:
        await sender.stop()
    assert 0 < most < number, "most letters have not been handed over yet"
    end = log_ends(apache.address, [Shard(site.dead_letters, 0)])[Shard(site.dead_letters, 0)]
    assert end == number * len(shards), "each is sent once"


def settings_of(site: Site, **changed: str) -> WorkerSettings:
    return WorkerSettings(**cast(Any, site.workers.settings | changed))


def test_dead_letters_that_cannot_be_sent_hold_up_their_own_partition_only(apache: Broker, make_site: MakeSite) -> None:
    """The dead-letter topic is away. Far more ranges follow than a worker counts at once."""
    site = make_site(apache, partitions=2)
    site.publisher.publish(100)
    worker = site.workers.start().wait_until_ready()
    site.wait_until_counted()
    site.remove_topic(site.dead_letters)
    held = Shard(site.logins, 0)
    at = site.positions()[held]
    site.publisher.send_bad(held, b"nope", "not_json")
    site.publisher.flush()
    worker.wait_until_troubled("DEAD_LETTER_TOPIC")
    for _ in range(30):
        site.publisher.publish(40)
        site.wait_until_counted(without=[held])
    assert worker.running
    assert site.positions()[held] == at
    create_topics(apache.address, {site.dead_letters: 1})
    assert site.differences() == []
    assert worker.running


def test_partitions_that_wait_for_their_dead_letters_leave_places_to_others(
    apache: Broker, make_site: MakeSite
) -> None:
    """As many of them as a worker counts ranges at once."""
    site = make_site(apache, partitions=RANGES_AT_ONCE + 1)
    worker = site.workers.start().wait_until_ready()
    site.remove_topic(site.dead_letters)
    held = [Shard(site.logins, partition) for partition in range(RANGES_AT_ONCE)]
    for shard in held:
        site.publisher.send_bad(shard, b"nope", "not_json")
    site.publisher.flush()
    wait_until(lambda: len(worker.lines("dead letters wait")) >= len(held), what="all of them wait")
    site.publisher.publish(200, site.tokens)
    site.wait_until_counted(without=held)
    assert {site.positions()[shard] for shard in held} == {0}
    create_topics(apache.address, {site.dead_letters: 1})
    assert site.differences() == []


def test_a_partition_that_waits_for_its_dead_letters_fills_no_memory(apache: Broker, make_site: MakeSite) -> None:
    site = make_site(apache, partitions=1)
    worker = site.workers.start().wait_until_ready()
    site.remove_topic(site.dead_letters)
    held = Shard(site.logins, 0)
    site.publisher.send_bad(held, b"nope", "not_json")
    site.publisher.flush()
    worker.wait_until_troubled("DEAD_LETTER_TOPIC")
    value = json.dumps(event("u") | {"filler": "x" * 900}).encode()
    before = worker.rss_bytes
    for _ in range(10):
        produce(apache.address, held, *[batch(*[Written(value, b"k", (), NOW_MS)] * 1000)] * 20)
    # 200 MB lie in the log. It keeps counting the other topic meanwhile.
    site.publisher.publish(100, site.tokens)
    site.wait_until_counted(without=[held])
    assert worker.rss_bytes - before < 120 * 1024 * 1024
