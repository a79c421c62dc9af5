"""librdkafka's admin client, and diagnoses of connection errors."""

from __future__ import annotations

from collections import deque
from functools import cached_property
from typing import Any, Final

from aiokafka import errors
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from schemas.connections import kafka_diagnosis
from schemas.settings import PREFIX, KafkaSettings

MAX_ERRORS: Final = 16
"""Messages kept for a diagnosis: each broker adds one per attempt."""
CONNECTION_ERRORS: Final = (
    KafkaError._TRANSPORT,
    KafkaError._TIMED_OUT,
    KafkaError._TIMED_OUT_QUEUE,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._AUTHENTICATION,
    KafkaError._SSL,
    KafkaError._RESOLVE,
)
AIOKAFKA_CONNECTION_ERRORS: Final = (
    errors.KafkaConnectionError,
    errors.KafkaTimeoutError,
    errors.NodeNotReadyError,
    errors.RequestTimedOutError,
    errors.NoBrokersAvailable,
    errors.AuthenticationFailedError,
)
"""Errors that mean no connection, without the reason."""


class KafkaAdmin:
    """Connects on first use."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._errors: deque[str] = deque(maxlen=MAX_ERRORS)

    @cached_property
    def client(self) -> Any:
        """Raises KafkaException if librdkafka rejects the settings."""
        return AdminClient({**self._settings.kafka_client(), "log_level": 0, "error_cb": self._on_error})

    def _on_error(self, error: Any) -> None:
        self._errors.append(str(error.str()))

    def diagnose(self, error: Exception) -> str:
        """The cause of an error of either client library, with the setting to check. May block for seconds."""
        if isinstance(error, KafkaException):
            text, unconnected = error.args[0].str(), error.args[0].code() in CONNECTION_ERRORS
        else:
            text, unconnected = str(error) or type(error).__name__, isinstance(error, AIOKAFKA_CONNECTION_ERRORS)
        if unconnected:
            if "client" in self.__dict__:
                # Calls error_cb with the pending errors.
                self.client.poll(0)
            return kafka_diagnosis.diagnose(self._settings, tuple(self._errors), text)
        return f"{PREFIX}KAFKA_BOOTSTRAP_SERVERS={self._settings.kafka_bootstrap_servers}: {text}"
