"""Entries of the audit log for changes that callers of the api order."""

from __future__ import annotations

from typing import Final

import structlog

from api.auth.principal import Principal
from api.ledger.client import UNREACHABLE, Client
from api.metrics import REDIS_ERRORS
from schemas.ledger.audit import AuditEntry, Parameters, add_command

log: Final = structlog.get_logger("audit")


class AuditLog:
    """Writes a log line of the logger `audit`, and an entry of the ledger's stream."""

    def __init__(self, client: Client, prefix: str) -> None:
        self._client = client
        self._prefix = prefix

    async def record(self, action: str, principal: Principal, parameters: Parameters, number: int) -> None:
        """Record a change that was made. Without Redis only the log line is written, because the change stands."""
        entry = AuditEntry(action, f"subject {principal.subject}", parameters, number)
        log.info(entry.action, actor=entry.actor, number=entry.number, **entry.parameters)
        try:
            await self._client.run([add_command(self._prefix, entry)])
        except UNREACHABLE as error:
            REDIS_ERRORS.labels("ledger").inc()
            log.warning("audit entry not stored", action=action, error=type(error).__name__)
