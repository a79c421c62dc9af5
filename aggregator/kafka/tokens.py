"""OAuth tokens for the worker's Kafka connections."""

from __future__ import annotations

import asyncio

import structlog
from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaConnectionError

from schemas.connections.kafka_settings import KafkaConnectionSettings
from schemas.connections.oauth import TokenCache, TokenError

log = structlog.get_logger(__name__)


class KafkaTokenProvider(AbstractTokenProvider):  # type: ignore[misc]
    """aiokafka calls it for each connection, on the loops of two threads: consumer and dead letters."""

    def __init__(self, settings: KafkaConnectionSettings) -> None:
        self._tokens = TokenCache(settings)
        self._logged: str | None = None

    @property
    def error(self) -> str | None:
        """Why there is no new token, with the setting to check; the last token may still be valid."""
        return self._tokens.error

    async def token(self) -> str:
        """Raises KafkaConnectionError, which aiokafka treats like an unreachable broker: it retries."""
        try:
            return await asyncio.to_thread(self._tokens.get)
        except TokenError as error:
            raise KafkaConnectionError(str(error)) from error
        finally:
            self._log_change()

    def _log_change(self) -> None:
        """Log one line per change of state."""
        previous, self._logged = self._logged, self.error
        if self._logged and self._logged != previous:
            log.warning("no token for kafka", error=self._logged)
        elif previous and not self._logged:
            log.info("tokens for kafka again")
