"""Three real brokers that are controllers too: topics have three copies, and two must have a record."""

from __future__ import annotations

import contextlib
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import NewTopic

from deploy.demo.servers import free_port
from deploy.demo.servers.process import HOST
from deploy.demo.servers.topics import admin
from tests.qualification.chaos.waiting import wait_for
from tests.servers import ApacheKafka
from tests.servers.java import run

BROKERS: Final = 3
ADMIN_S: Final = 20


class Broker(ApacheKafka):
    """One of them. `voters` and the cluster's id are known to all before any starts."""

    start_timeout_s = 240

    def __init__(self, folder: Path, number: int, heap_mb: int) -> None:
        super().__init__(folder, heap_mb=heap_mb)
        self.number = number
        self.controller_port = free_port()
        self.cluster_id = ""
        self.paused = False

    def join(self, voters: Mapping[int, int], cluster_id: str) -> None:
        self.cluster_id = cluster_id
        self.given |= {
            "node.id": str(self.number),
            "controller.quorum.voters": ",".join(f"{number}@{HOST}:{port}" for number, port in voters.items()),
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://{HOST}:{self.controller_port}",
            "default.replication.factor": str(BROKERS),
            "min.insync.replicas": "2",
            "unclean.leader.election.enable": "false",
            "offsets.topic.replication.factor": str(BROKERS),
            "transaction.state.log.replication.factor": str(BROKERS),
            "transaction.state.log.min.isr": "2",
            "replica.lag.time.max.ms": "5000",
            # Shorter ones elect and elect again on a machine that has much else to do.
            "broker.session.timeout.ms": "5000",
            "controller.quorum.election.timeout.ms": "2000",
            "controller.quorum.fetch.timeout.ms": "4000",
            # A transaction that is not ended is aborted soon after its timeout.
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
            "num.network.threads": "2",
            "num.io.threads": "4",
            "log.cleaner.dedupe.buffer.size": "16777216",
            "log.segment.bytes": "67108864",
        }

    def _format(self) -> None:
        command = ("kafka.tools.StorageTool", "format", "--config", "server.properties", "--cluster-id")
        run(
            "Apache Kafka's storage could not be formatted",
            (*self._jvm(heap_mb=128), *command, self.cluster_id),
            self.start_timeout_s,
            folder=self.folder,
            environment=self.environment(),
        )

    @property
    def up(self) -> bool:
        return self.running and not self.paused

    def pause(self) -> None:
        super().pause()
        self.paused = True

    def resume(self) -> None:
        super().resume()
        self.paused = False


class KafkaCluster:
    def __init__(self, folder: Path, brokers: int = BROKERS, heap_mb: int = 256) -> None:
        self.brokers = [Broker(folder / f"broker-{number}", number, heap_mb) for number in range(1, brokers + 1)]
        cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
        voters = {broker.number: broker.controller_port for broker in self.brokers}
        for broker in self.brokers:
            broker.join(voters, cluster_id)

    @property
    def bootstrap(self) -> str:
        return ",".join(broker.address for broker in self.brokers)

    def start(self) -> Self:
        self.start_again(self.brokers)
        wait_for(lambda: len(self.metadata().brokers) == len(self.brokers), 60, "all brokers are in")
        return self

    def start_again(self, brokers: Sequence[Broker]) -> None:
        # All at once: none answers before two of the three are there.
        with ThreadPoolExecutor(len(brokers)) as pool:
            list(pool.map(lambda broker: broker.start(), brokers))

    def metadata(self) -> Any:
        return admin(self.bootstrap).list_topics(timeout=5)

    def create(self, topic: str, partitions: int, **config: str) -> None:
        """Make a topic with all its copies; return when it has its leaders. Raises KafkaException."""
        wanted = NewTopic(topic, partitions, len(self.brokers), config=config)
        client = admin(self.bootstrap)
        client.create_topics([wanted], operation_timeout=ADMIN_S)[topic].result(ADMIN_S)
        wait_for(lambda: self.led(topic) == partitions, 60, f"{topic} has its leaders")

    def remove(self, topic: str) -> None:
        """Delete a topic; return when every broker has forgotten it."""
        client = admin(self.bootstrap)
        client.delete_topics([topic], operation_timeout=ADMIN_S)[topic].result(ADMIN_S)
        wait_for(lambda: not any(topic in _topics(broker) for broker in self.brokers), 60, f"{topic} is gone")

    def led(self, topic: str) -> int:
        """How many partitions of a topic have a leader."""
        with contextlib.suppress(KafkaException):
            there = self.metadata().topics.get(topic)
            if there is not None and there.error is None:
                return sum(at.leader >= 0 for at in there.partitions.values())
        return 0

    def in_step(self) -> bool:
        """Whether every partition has all its copies."""
        try:
            topics = self.metadata().topics.values()
        except KafkaException:
            return False
        return all(len(at.isrs) == len(self.brokers) for topic in topics for at in topic.partitions.values())

    def wait_until_in_step(self, timeout_s: float = 120) -> None:
        wait_for(self.in_step, timeout_s, "every partition has all its copies")

    def close(self) -> None:
        for broker in self.brokers:
            if broker.running:
                broker.kill()


def _topics(broker: Broker) -> Any:
    return admin(broker.address).list_topics(timeout=5).topics
