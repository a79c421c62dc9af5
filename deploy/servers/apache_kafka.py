"""Apache Kafka itself: jars by Maven into the checkout's `.kafka/`, one node (KRaft) as a child process."""

from __future__ import annotations

import os
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from deploy.servers.java import fetched, java, run
from deploy.servers.process import HOST, ServerProcess, free_port
from deploy.servers.topics import broker_answers

VERSION: Final = "4.1.1"
POM: Final = Path(__file__).with_name("apache-kafka.pom.xml")
JARS: Final = Path(__file__).parents[2] / ".kafka" / VERSION
NODE_ID: Final = 1

LOGGING: Final = """\
status = error
rootLogger.level = warn
rootLogger.appenderRef.stdout.ref = stdout
appender.stdout.type = Console
appender.stdout.name = stdout
appender.stdout.layout.type = PatternLayout
appender.stdout.layout.pattern = %d %p %m (%c)%n
"""


def fetch_jars() -> Path:
    """The folder of Kafka's jars, fetched once per checkout. Raises JavaMissingError, ServerError."""
    return fetched(POM, JARS, lambda jars: jars)


class ApacheKafka(ServerProcess):
    """One node that is broker and controller. `properties` win over ours.

    Topics have one copy, are never made by themselves, groups form at once, and retention is enforced every second.
    """

    name = "kafka"
    start_timeout_s = 60
    stop_timeout_s = 20

    def __init__(
        self,
        folder: Path | None = None,
        port: int | None = None,
        properties: Mapping[str, str] | None = None,
        heap_mb: int = 768,
    ) -> None:
        self._java, self._jars = java(), fetch_jars()
        super().__init__(folder, port)
        self._controller_port = free_port()
        self.given = dict(properties or {})
        self.heap_mb = heap_mb

    def properties(self) -> dict[str, str]:
        return {
            "process.roles": "broker,controller",
            "node.id": str(NODE_ID),
            "controller.quorum.voters": f"{NODE_ID}@{HOST}:{self._controller_port}",
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://{HOST}:{self._controller_port}",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(self.folder / "data"),
            "auto.create.topics.enable": "false",
            "delete.topic.enable": "true",
            "default.replication.factor": "1",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            # A killed node may come back only when the controller has given its session up: 9 s by default.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            "log.retention.check.interval.ms": "1000",
            "log.segment.delete.delay.ms": "1000",
            "log.initial.task.delay.ms": "1000",
            **self.given,
        }

    def prepare(self) -> None:
        lines = "".join(f"{name}={value}\n" for name, value in self.properties().items())
        (self.folder / "server.properties").write_text(lines, encoding="utf-8")
        (self.folder / "log4j2.properties").write_text(LOGGING, encoding="utf-8")
        if not (self.folder / "data" / "meta.properties").exists():
            self._format()

    def _format(self) -> None:
        cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
        run(
            "Apache Kafka's storage could not be formatted",
            (
                *self._jvm(heap_mb=128),
                *("kafka.tools.StorageTool", "format", "--config", "server.properties", "--cluster-id", cluster_id),
            ),
            self.start_timeout_s,
            folder=self.folder,
            environment=self.environment(),
        )

    def _jvm(self, heap_mb: int) -> Sequence[str]:
        return (
            *(self._java, f"-Xms{heap_mb}m", f"-Xmx{heap_mb}m", "-XX:+UseG1GC"),
            *("-Djava.awt.headless=true", f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}"),
            # The default leaves /tmp/hsperfdata_<user> behind when killed.
            *(f"-Djava.io.tmpdir={self.folder}", "-XX:-UsePerfData", "-cp", f"{self._jars}{os.sep}*"),
        )

    def command(self) -> Sequence[str | Path]:
        return (*self._jvm(self.heap_mb), "kafka.Kafka", "server.properties")

    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("JAVA_HOME",) if name in os.environ}
        return super().environment() | kept

    def answers(self) -> bool:
        return broker_answers(self.address)
