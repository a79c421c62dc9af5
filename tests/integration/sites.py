"""One deployment for one test: topics of its own, a store of its own, its workers, and what was published."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, Final, NamedTuple

import redis
from confluent_kafka import Consumer, TopicPartition

from deploy.demo.servers import Valkey, create_topics
from deploy.demo.servers.topics import admin
from schemas.ledger.keys import Shard, ShardKeys
from tests.conftest import wait_until
from tests.integration.expected_counts import differences, log_ends, positions
from tests.integration.publishing import Publisher
from tests.integration.workers import Workers

PREFIX: Final = "authtally:"
QUEUED_EVENTS: Final = 500
"""With the batches of `Publisher.flow` these arrive in at least five fetches per partition."""

# Each is one script, so the keys of a shard are dumped at one moment, and replaced by the dump at one moment.
DUMP_KEYS: Final = """
local dump = {}
for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
  dump[#dump + 1] = key
  dump[#dump + 1] = redis.call('DUMP', key)
  dump[#dump + 1] = redis.call('PEXPIRETIME', key)
end
return dump
"""
RESTORE_KEYS: Final = """
for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
  redis.call('DEL', key)
end
for at = 2, #ARGV, 3 do
  redis.call('RESTORE', ARGV[at], math.max(tonumber(ARGV[at + 2]), 0), ARGV[at + 1], 'ABSTTL')
end
"""


class Broker(NamedTuple):
    address: str
    apache: bool


class Site:
    """`tag` makes the names of topics and group unlike those of any other test on the same broker."""

    def __init__(
        self,
        broker: Broker,
        store: Valkey,
        folder: Path,
        tag: str,
        partitions: int = 3,
        settings: Any = None,
        dead_letter_config: Any = None,
    ) -> None:
        self.broker = broker
        self.store = store
        self.logins, self.tokens, self.dead_letters = f"{tag}.logins", f"{tag}.tokens", f"{tag}.dead-letter"
        create_topics(broker.address, {self.logins: partitions, self.tokens: partitions})
        create_topics(broker.address, {self.dead_letters: 1}, dead_letter_config)
        self.publisher = Publisher(broker.address, self.logins, self.tokens, partitions)
        self.client: Any = redis.Redis.from_url(store.url, decode_responses=True)
        self.raw: Any = redis.Redis.from_url(store.url)
        self.workers = Workers(
            folder,
            kafka_bootstrap_servers=broker.address,
            kafka_group=tag,
            kafka_idempotence=str(broker.apache).lower(),
            redis_url=store.url,
            user_hash_key="a key for nothing but tests",
            topics=f"{self.logins}=login,{self.tokens}=token",
            dead_letter_topic=self.dead_letters,
            **(settings or {}),
        )

    def create_topic(self, topic: str, partitions: int) -> None:
        create_topics(self.broker.address, {topic: partitions})

    def remove_topic(self, topic: str) -> None:
        """Delete a topic and wait until the broker has forgotten it."""
        client = admin(self.broker.address)
        client.delete_topics([topic], operation_timeout=10)[topic].result(20)
        wait_until(lambda: topic not in client.list_topics(timeout=5).topics, what=f"{topic} is gone")

    def raw_figures(self, shard: Shard) -> dict[bytes, bytes]:
        """Every key of a shard byte by byte, except the observations of its log."""
        observed = ShardKeys(PREFIX, shard).observed.encode()
        dump = self.dump_shard(shard)
        return {key: value for key, value in zip(dump[::3], dump[1::3], strict=True) if key != observed}

    def close(self) -> None:
        self.client.close()
        self.raw.close()

    @property
    def shards(self) -> list[Shard]:
        return list(self.publisher.expected)

    def positions(self) -> dict[Shard, int]:
        """The position of each shard; 0 if it has none."""
        return {shard: at or 0 for shard, at in positions(self.client, self.shards, PREFIX).items()}

    def log_ends(self) -> dict[Shard, int]:
        """The offset after the last record or marker of each partition."""
        # The embedded broker returns the beginning of the last batch as the end; its log has no markers, only records.
        return log_ends(self.broker.address, self.shards) if self.broker.apache else dict(self.publisher.ends)

    def committed(self) -> dict[Shard, int]:
        """The group's offsets in Kafka: what lag monitors see, and what plain Faust takes for its position."""
        reader: Any = Consumer(
            {"bootstrap.servers": self.broker.address, "group.id": self.workers.settings["kafka_group"], "log_level": 0}
        )
        try:
            found = reader.committed([TopicPartition(*shard) for shard in self.shards], timeout=10)
            return {Shard(at.topic, at.partition): at.offset for at in found}
        finally:
            reader.close()

    def wait_until_counted(self, timeout_s: float = 60, without: Collection[Shard] = ()) -> dict[Shard, int]:
        """Return the log ends when each shard, except those in `without`, is at its own."""
        ends = {shard: end for shard, end in self.log_ends().items() if shard not in without}

        def all_there() -> bool:
            return positions(self.client, ends, PREFIX) == ends

        wait_until(all_there, timeout_s, f"positions {ends}, now {self.positions()}")
        return ends

    def differences(self, timeout_s: float = 60) -> list[str]:
        """Wait until all is counted; then everything that is not as published, a line each."""
        ends = self.wait_until_counted(timeout_s)
        return differences(self.client, self.publisher.expected, ends, PREFIX)

    def wait_until_moved(self, timeout_s: float = 60) -> None:
        """Return once every shard has been counted further than it was at the call."""
        before = self.positions()
        wait_until(
            lambda: all(at > before[shard] for shard, at in self.positions().items()), timeout_s, "every shard moves"
        )

    def dump_shard(self, shard: Shard) -> list[bytes]:
        """Every key of a shard at this moment: name, value and expiry in turn."""
        return list(self.raw.eval(DUMP_KEYS, 0, f"{ShardKeys(PREFIX, shard).base}*"))

    def restore_shard(self, shard: Shard, dump: list[bytes]) -> None:
        """Replace all keys of a shard by an older dump at once, as a failover to an old replica does."""
        self.behind_queued_ranges("EVAL", RESTORE_KEYS, 0, f"{ShardKeys(PREFIX, shard).base}*", *dump)

    def behind_queued_ranges(self, *command: Any) -> None:
        """Run a command in the store before the ranges that wait in the workers. Needs a running `Publisher.flow`.

        The store is paused, so ranges accumulate in the workers, and the command is sent meanwhile. When the store
        resumes, only ranges that were sent before the pause, at most one per topic, run before the command.
        """
        connection = self.raw.connection_pool.get_connection()
        try:
            self.store.pause()
            try:
                before = self.publisher.published
                wait_until(lambda: self.publisher.published > before + QUEUED_EVENTS, what="the flow continues")
                connection.send_command(*command)
            finally:
                self.store.resume()
            connection.read_response()
        finally:
            self.raw.connection_pool.release(connection)

    def refusals(self) -> float:
        """Ranges that the ledger has refused to the workers that run now."""
        return sum(
            worker.metric("authtally_refused_scripts_total") for worker in self.workers.started if worker.running
        )
