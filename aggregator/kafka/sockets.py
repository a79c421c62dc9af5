"""aiokafka's connections, so that they take one that ended for lost on uvloop too."""

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
            # uvloop's for writing to what the other side has closed. aiokafka knows asyncio's OSError only, and its
            # task that fetches would end: nothing would be read any more, until the worker is found to be stuck.
            if not is_lost_connection(error):
                raise
            self.close(reason=CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(f"connection to {self.host}:{self.port} is lost: {error}") from error
