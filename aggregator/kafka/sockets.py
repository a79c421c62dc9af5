"""aiokafka's connections, which recognise a lost connection on uvloop too."""

from __future__ import annotations

from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError

from schemas.connections.lost_connections import is_lost_connection


class LossAwareConnection(AIOKafkaConnection):  # type: ignore[misc]
    def send(self, request: Any, expect_response: bool = True) -> Any:
        """Raises KafkaConnectionError."""
        try:
            return super().send(request, expect_response)
        except RuntimeError as error:
            # uvloop raises it on a write to a closed connection. aiokafka expects asyncio's OSError: its fetch task
            # would end, and nothing would be read until the worker is found stuck.
            if not is_lost_connection(error):
                raise
            self.close(reason=CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(f"connection to {self.host}:{self.port} is lost: {error}") from error
