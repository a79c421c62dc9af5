"""The private seams of Faust and aiokafka that the transport leans on. A version that moves one fails here first."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import weakref
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any, cast

import aiokafka
import aiokafka.conn
import faust
import pytest
import redis.asyncio
import uvloop
from aiokafka.consumer import fetcher
from aiokafka.consumer.subscription_state import Assignment, SubscriptionState
from aiokafka.errors import CorruptRecordException, KafkaConnectionError
from aiokafka.protocol.admin import ApiVersionRequest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from faust.transport import consumer as faust_consumer
from faust.transport.drivers import aiokafka as driver

from aggregator.kafka import batches, sockets
from aggregator.kafka.batches import BatchFetchResult, PartitionBatches, WholeBatches
from aggregator.kafka.consumer_thread import ConsumerThread
from aggregator.kafka.lenient_batches import lenient_records
from aggregator.kafka.transport import Consumer, Transport
from aggregator.ledger.store import as_connection_errors
from schemas.ledger.keys import Shard


def test_the_versions_are_those_that_the_seams_were_read_in() -> None:
    assert (version("faust-streaming"), version("aiokafka")) == ("0.15.3", "0.14.0")


def batch(start: int = 0, *, compression: int = 0) -> bytes:
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=compression,
        is_transactional=False,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=10_000,
    )
    builder.append(0, 1_000, b"key", b"value", [("name", b"text"), ("empty", b"")])
    builder.append(1, 2_000, None, None, [])
    builder.append(2, 1_500, b"", b"x" * 3_000, [])
    written = bytearray(builder.build())
    # The base offset leads the header, and no checksum covers it: brokers fill it in.
    written[:8] = start.to_bytes(8, "big")
    return bytes(written)


def read(kind: Any, *written: bytes, start: int = 0) -> Any:
    sent = (WholeBatches if kind is PartitionBatches else MemoryRecords)(b"".join(written))
    return kind(TopicPartition("t", 0), sent, None, start, None, None, True, fetcher.READ_COMMITTED)


@pytest.mark.parametrize("compression", [0, DefaultRecordBatch.CODEC_GZIP])
@pytest.mark.parametrize("start", [0, 1, 2])
def test_batches_of_light_records_say_what_the_public_records_say(compression: int, start: int) -> None:
    written = [batch(offset, compression=compression) for offset in (0, 3, 11)]
    ours, public = read(PartitionBatches, *written, start=start), read(fetcher.PartitionRecords, *written, start=start)
    light, full = [record for several in ours for record in several], list(public)
    assert ours.next_fetch_offset == public.next_fetch_offset == 14
    assert [record.offset for record in light] == [0, 1, 2, 3, 4, 5, 11, 12, 13][start:]
    for one, other in zip(light, full, strict=True):
        for name in ("offset", "timestamp", "key", "value"):
            assert getattr(one, name) == getattr(other, name), name
        assert tuple(one.headers) == other.headers


@pytest.mark.parametrize("compression", [0, DefaultRecordBatch.CODEC_GZIP])
def test_the_lenient_parser_says_what_aiokafkas_says(compression: int) -> None:
    written = batch(7, compression=compression)
    lenient, theirs = lenient_records(memoryview(written)), list(DefaultRecordBatch(bytearray(written)))
    assert len(lenient) == len(theirs) == 3
    for one, other in zip(lenient, theirs, strict=True):
        for name in ("offset", "timestamp", "timestamp_type", "key", "value", "headers"):
            assert getattr(one, name) == getattr(other, name), name
        assert not one.renamed


def test_a_damaged_byte_makes_the_lenient_parser_answer_or_refuse() -> None:
    written, outcomes = batch(), set()
    for at, value in itertools.product(range(61, len(written)), (0, 1, 0x7F, 0x80, 0xFF)):
        damaged = bytearray(written)
        damaged[at] = value
        try:
            outcomes.add(len(lenient_records(memoryview(damaged))))
        except CorruptRecordException:
            outcomes.add(0)
    assert outcomes == {0, 3}


def test_what_was_fetched_is_freed_without_the_cyclic_collector() -> None:
    records = read(PartitionBatches, batch())
    gone = weakref.ref(records)
    assert sum(map(len, records)) == 3
    del records
    assert gone() is None


async def test_whole_batches_are_handed_out_up_to_the_limit_and_the_position_follows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batches, "MAX_RANGE_RECORDS", 4)
    tp = TopicPartition("t", 0)
    assignment = Assignment([tp])
    state = assignment.state_value(tp)
    state.seek(1)
    records = read(PartitionBatches, batch(0), batch(3), batch(11), start=1)
    fetched = BatchFetchResult(tp, assignment=assignment, partition_records=records, backoff=0)
    assert ([one.offset for one in fetched.getall()], state.position) == ([1, 2, 3, 4, 5], 6)
    assert fetched.has_more()
    assert ([one.offset for one in fetched.getall()], state.position) == ([11, 12, 13], 14)
    assert not fetched.has_more()


def test_fetch_results_are_created_and_distinguished_by_the_name_that_is_replaced() -> None:
    assert "FetchResult(" in inspect.getsource(fetcher.Fetcher._proc_fetch_request)
    assert "type(res_or_error) is FetchResult" in inspect.getsource(fetcher.Fetcher.fetched_records)


def test_aiokafkas_fetcher_makes_its_records_by_the_names_that_are_replaced() -> None:
    assert "PartitionRecords(" in inspect.getsource(fetcher.Fetcher._proc_fetch_request)
    assert "MemoryRecords(part_data[-1])" in inspect.getsource(fetcher.Fetcher._proc_fetch_request)


def test_aiokafka_fetches_nothing_of_a_partition_while_a_result_of_it_is_left() -> None:
    assert "if tp in self._records:" in inspect.getsource(fetcher.Fetcher._get_actions_per_node)
    assert "del self._records[tp]" in inspect.getsource(fetcher.Fetcher.seek_to)


def test_aiokafka_reads_isolation_and_fetch_limits_when_it_starts() -> None:
    started = inspect.getsource(aiokafka.AIOKafkaConsumer.start)
    for private in ("isolation_level", "fetch_max_wait_ms", "fetch_min_bytes"):
        assert f"{private}=self._{private}" in started


async def test_a_rebalance_makes_new_states_of_partitions() -> None:
    tp = TopicPartition("t", 0)
    assert Assignment([tp])._tp_state[tp] is not Assignment([tp])._tp_state[tp]
    assert SubscriptionState().subscription is None


@pytest.mark.parametrize(
    ("ours", "theirs", "overridden"),
    [
        (
            ConsumerThread,
            driver.AIOKafkaConsumerThread,
            ["__post_init__", "_create_worker_consumer", "_fetch_records", "close"],
        ),
        (
            Consumer,
            driver.Consumer,
            [
                "_new_consumer_thread",
                "_to_message",
                "_wait_next_records",
                "seek_to_committed",
                "_seek",
                "force_commit",
                "verify_event_path",
            ],
        ),
        (Transport, driver.Transport, ["Consumer"]),
    ],
)
def test_what_is_overridden_is_there(ours: type, theirs: type, overridden: list[str]) -> None:
    for name in overridden:
        assert hasattr(theirs, name), name
        assert name in vars(ours), name


def test_faust_asks_for_records_and_commits_through_the_overridden_methods() -> None:
    assert "self._fetch_records," in inspect.getsource(driver.AIOKafkaConsumerThread.getmany)
    assert "to_message(tp, record)" in inspect.getsource(faust_consumer.Consumer.getmany)
    assert "self.force_commit(" in inspect.getsource(faust_consumer.Consumer.commit)
    assert "await self.seek_to_committed()" in inspect.getsource(faust_consumer.Consumer.perform_seek)


def test_faust_makes_its_transport_through_the_overridden_method() -> None:
    assert "self._new_transport()" in inspect.getsource(faust.App.transport.fget)


def test_faust_keeps_no_numbers_for_topics_without_acks() -> None:
    source = inspect.getsource(faust_consumer.Consumer._drain_messages)
    assert "if acks_enabled:" in source
    assert "acks" in inspect.signature(faust.App.topic).parameters


def test_uvloop_reports_a_closed_connection_in_known_words() -> None:
    """redis-py hands its error on as it is; a worker that did not know it would end."""

    async def write() -> None:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1")
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.transport.abort()
        await asyncio.sleep(0)
        try:
            writer.writelines([b"PING\r\n", b"PING\r\n"])
        finally:
            server.close()

    with pytest.raises(redis.ConnectionError), as_connection_errors():
        uvloop.run(write())


def test_a_kafka_connection_that_ended_is_lost_on_uvloop_too() -> None:
    """aiokafka's own would raise uvloop's error, and the task that fetches would end with it."""

    async def send() -> None:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1")
        port = server.sockets[0].getsockname()[1]
        connection = sockets.LossAwareConnection("127.0.0.1", port)
        _, connection._writer = await asyncio.open_connection("127.0.0.1", port)
        connection._versions = {ApiVersionRequest.API_KEY: (0, 0)}
        connection._writer.transport.abort()
        await asyncio.sleep(0)
        try:
            connection.send(ApiVersionRequest())
        finally:
            server.close()

    with pytest.raises(KafkaConnectionError, match="is lost"):
        uvloop.run(send())


def test_aiokafka_makes_its_connections_of_the_class_that_its_module_names() -> None:
    assert "conn = AIOKafkaConnection(" in inspect.getsource(aiokafka.conn.create_conn)


async def test_redis_py_reports_a_connection_that_it_closed_itself_in_known_words() -> None:
    """Another task of a Cluster's client closes it between the look whether it is there and the write."""

    class Closing(redis.asyncio.Connection):
        looks = 0

        @property
        def is_connected(self) -> bool:
            self.looks += 1
            return self.looks == 1

    with pytest.raises(redis.ConnectionError), as_connection_errors():
        await Closing().send_packed_command([b"PING"], check_health=False)


async def test_nothing_is_committed_for_partitions_that_others_have_by_now() -> None:
    """aiokafka raises ValueError when it is asked to commit nothing, which would end the worker."""
    consumer = aiokafka.AIOKafkaConsumer(group_id="g")
    thread = SimpleNamespace(assignment=set, _ensure_consumer=lambda: consumer)
    consumer.assign([TopicPartition("logins", 0)])
    try:
        with pytest.raises(ValueError):
            await consumer.commit({})
        assert not await ConsumerThread.commit_on_thread(cast(Any, thread), {Shard("logins", 0): 5})
    finally:
        await consumer.stop()


async def test_a_state_without_a_seek_raises_instead_of_returning_a_position() -> None:
    tp = TopicPartition("logins", 0)
    state = Assignment({tp}).state_value(tp)
    assert not state.has_valid_position
    with pytest.raises(AssertionError):
        _ = state.position
