"""librdkafka's admin client, and what it says of its connections."""

from __future__ import annotations

from collections import deque
from functools import cached_property
from typing import Any, Final

from aiokafka import errors
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from schemas.connections import kafka_diagnosis
from schemas.settings import PREFIX, KafkaSettings

REMEMBERED: Final = 16
"""Complaints: of several brokers, each time that they are tried."""
UNCONNECTED: Final = (
    KafkaError._TRANSPORT,
    KafkaError._TIMED_OUT,
    KafkaError._TIMED_OUT_QUEUE,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._AUTHENTICATION,
    KafkaError._SSL,
    KafkaError._RESOLVE,
)
UNCONNECTED_IN_AIOKAFKA: Final = (
    errors.KafkaConnectionError,
    errors.KafkaTimeoutError,
    errors.NodeNotReadyError,
    errors.RequestTimedOutError,
    errors.NoBrokersAvailable,
    errors.AuthenticationFailedError,
)
"""What says no more than that there was no connection."""


class KafkaAdmin:
    """Connects when first used."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._told: deque[str] = deque(maxlen=REMEMBERED)

    @cached_property
    def client(self) -> Any:
        """Raises KafkaException when librdkafka does not take the settings."""
        return AdminClient({**self._settings.kafka_client(), "log_level": 0, "error_cb": self._hear})

    def _hear(self, error: Any) -> None:
        self._told.append(str(error.str()))

    def why(self, error: Exception) -> str:
        """Why Kafka does not do its part, by the setting to look at: an error of either client library.

        May block for seconds, to find out.
        """
        if isinstance(error, KafkaException):
            text, unconnected = error.args[0].str(), error.args[0].code() in UNCONNECTED
        else:
            text, unconnected = str(error) or type(error).__name__, isinstance(error, UNCONNECTED_IN_AIOKAFKA)
        if unconnected:
            if "client" in self.__dict__:
                # It tells what it has to tell only when polled.
                self.client.poll(0)
            return kafka_diagnosis.why(self._settings, tuple(self._told), text)
        return f"{PREFIX}KAFKA_BOOTSTRAP_SERVERS={self._settings.kafka_bootstrap_servers}: {text}"
