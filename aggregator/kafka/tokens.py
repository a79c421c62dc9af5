"""Tokens for the worker's Kafka connections."""

from __future__ import annotations

import asyncio

import structlog
from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaConnectionError

from schemas.connections.kafka_settings import KafkaConnection
from schemas.connections.oauth import TokenError, Tokens

log = structlog.get_logger(__name__)


class KafkaTokens(AbstractTokenProvider):  # type: ignore[misc]
    """Asked by aiokafka with each connection, on the loops of two threads: consumer and dead letters."""

    def __init__(self, settings: KafkaConnection) -> None:
        self._tokens = Tokens(settings)
        self._told: str | None = None

    @property
    def trouble(self) -> str | None:
        """Why there is no new token, by the setting to look at; the last one may still do."""
        return self._tokens.trouble

    async def token(self) -> str:
        """Raises KafkaConnectionError, which aiokafka takes for a broker that is away: it tries again."""
        try:
            return await asyncio.to_thread(self._tokens.get)
        except TokenError as error:
            raise KafkaConnectionError(str(error)) from error
        finally:
            self._tell()

    def _tell(self) -> None:
        """A line per change of state."""
        told, self._told = self._told, self.trouble
        if self._told and self._told != told:
            log.warning("no token for kafka", error=self._told)
        elif told and not self._told:
            log.info("tokens for kafka again")
