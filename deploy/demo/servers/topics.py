"""Administration of a broker for tests and demo; works with any Kafka-compatible broker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

TIMEOUT_S = 10


def admin(bootstrap: str) -> Any:
    """An admin client that does not write librdkafka's connection errors to stderr."""
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": 0, "socket.timeout.ms": TIMEOUT_S * 1000})


def broker_answers(bootstrap: str) -> bool:
    """Whether a broker answers a metadata request and lists itself."""
    try:
        return bool(admin(bootstrap).list_topics(timeout=2).brokers)
    except KafkaException:
        return False


def create_topics(bootstrap: str, partitions: Mapping[str, int], config: Mapping[str, str] | None = None) -> None:
    """Create topics (name to number of partitions, with one replica) and wait until they exist.

    Raises KafkaException if one exists already.
    """
    client = admin(bootstrap)
    wanted = [NewTopic(name, count, 1, config=dict(config or {})) for name, count in partitions.items()]
    for future in client.create_topics(wanted, operation_timeout=TIMEOUT_S).values():
        future.result(TIMEOUT_S)
