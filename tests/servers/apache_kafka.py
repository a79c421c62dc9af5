"""Apache Kafka itself: jars by Maven into the checkout's `.kafka/`, one node (KRaft) as a child process."""

from __future__ import annotations

import os
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from deploy.demo.servers.process import HOST, ServerProcess, free_port
from deploy.demo.servers.topics import broker_answers
from tests.servers.java import fetched, java, run

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


@dataclass(frozen=True, slots=True)
class Listener:
    """A listener in addition to the plaintext one: `SSL` or `SASL_SSL`, with its own properties."""

    name: str
    protocol: str
    properties: Mapping[str, str] = field(default_factory=dict, hash=False)


def fetch_jars() -> Path:
    """The folder of Kafka's jars, fetched once per checkout. Raises JavaMissingError, ServerError."""
    return fetched(POM, JARS, lambda jars: jars)


class ApacheKafka(ServerProcess):
    """One node that is broker and controller. `properties` replace those set here.

    Topics have one replica and are not created automatically. Groups form without delay. Retention runs every second.
    `scram` are users of SCRAM-SHA-256 and -512 with their passwords, `system` is for the JVM (`-Dname=value`).
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
        listeners: Sequence[Listener] = (),
        scram: Mapping[str, str] | None = None,
        system: Sequence[str] = (),
    ) -> None:
        self._java, self._jars = java(), fetch_jars()
        super().__init__(folder, port)
        self._controller_port = free_port()
        self._listeners = {listener: free_port() for listener in listeners}
        self._scram, self._system = dict(scram or {}), tuple(system)
        self.given = dict(properties or {})
        self.heap_mb = heap_mb

    def address_of(self, listener: str) -> str:
        """Host and port of the listener with this name."""
        return next(f"{HOST}:{port}" for one, port in self._listeners.items() if one.name == listener)

    def properties(self) -> dict[str, str]:
        more = [f"{listener.name}://{HOST}:{port}" for listener, port in self._listeners.items()]
        protocols = ["PLAINTEXT:PLAINTEXT", "CONTROLLER:PLAINTEXT"]
        protocols += [f"{listener.name}:{listener.protocol}" for listener in self._listeners]
        return {
            "process.roles": "broker,controller",
            "node.id": str(NODE_ID),
            "controller.quorum.voters": f"{NODE_ID}@{HOST}:{self._controller_port}",
            "listeners": ",".join(
                (f"PLAINTEXT://{self.address}", f"CONTROLLER://{HOST}:{self._controller_port}", *more)
            ),
            "advertised.listeners": ",".join((f"PLAINTEXT://{self.address}", *more)),
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": ",".join(protocols),
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
            # A killed node can register again only after the controller has ended its session, by default after 9 s.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            "log.retention.check.interval.ms": "1000",
            "log.segment.delete.delay.ms": "1000",
            "log.initial.task.delay.ms": "1000",
            **{
                f"listener.name.{listener.name.lower()}.{name}": value
                for listener in self._listeners
                for name, value in listener.properties.items()
            },
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
                *(word for user in self._users() for word in ("--add-scram", user)),
            ),
            self.start_timeout_s,
            folder=self.folder,
            environment=self.environment(),
        )

    def _users(self) -> list[str]:
        return [
            f"{mechanism}=[name={name},password={password}]"
            for name, password in self._scram.items()
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
        ]

    def _jvm(self, heap_mb: int) -> Sequence[str]:
        return (
            *(self._java, f"-Xms{heap_mb}m", f"-Xmx{heap_mb}m", "-XX:+UseG1GC"),
            *("-Djava.awt.headless=true", f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}"),
            # The default leaves /tmp/hsperfdata_<user> behind when killed.
            *(f"-Djava.io.tmpdir={self.folder}", "-XX:-UsePerfData", "-cp", f"{self._jars}{os.sep}*"),
        )

    def command(self) -> Sequence[str | Path]:
        return (*self._jvm(self.heap_mb), *self._system, "kafka.Kafka", "server.properties")

    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("JAVA_HOME",) if name in os.environ}
        return super().environment() | kept

    def answers(self) -> bool:
        return broker_answers(self.address)
