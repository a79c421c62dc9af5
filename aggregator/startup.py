"""Checks before the first record is read: wait if waiting can help; else fail, with the setting to check."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

import structlog
from confluent_kafka import KafkaException

from aggregator.assignment import SettingsConflictError, settings_conflict
from aggregator.kafka.admin import KafkaAdmin
from aggregator.ledger.store import (
    UNREACHABLE,
    Client,
    as_connection_errors,
    diagnose_unreachable,
    is_auth_error,
    preflight_error,
)
from aggregator.settings import WorkerSettings
from schemas.connections.redis_replies import leave_server
from schemas.ledger import keys
from schemas.ledger.keys import Shard, ShardKeys
from schemas.settings import PREFIX

log = structlog.get_logger(__name__)

KAFKA_TIMEOUT_S: Final = 5.0
MAX_PAUSE_S: Final = 5.0


class PreflightError(Exception):
    """A problem that waiting does not solve; one line that names the setting."""


async def wait_for_preflight(settings: WorkerSettings, redis: Client, on_wait: Callable[[str | None], None]) -> None:
    """Return when Redis is usable and agrees with the settings, and Kafka has every topic. Raises PreflightError.

    `on_wait` is called with each reason for waiting, and with None at the end.
    """
    pause = 0.2
    while True:
        try:
            with as_connection_errors():
                problem = await preflight_error(redis)
                if problem is None:
                    await _check_settings(settings, redis)
        except UNREACHABLE as error:
            await leave_server(redis, error, settings.redis_url.get_secret_value())
            reason = await diagnose_unreachable(settings, error)
            if is_auth_error(error):
                raise PreflightError(reason) from error
        except SettingsConflictError as error:
            raise PreflightError(str(error)) from error
        else:
            if problem is not None:
                raise PreflightError(problem)
            missing = await asyncio.to_thread(_missing_topics, settings)
            if missing is None:
                on_wait(None)
                return
            reason = missing
        on_wait(reason)
        log.warning("not ready", waits_for=reason, retry_in_s=pause)
        await asyncio.sleep(pause)
        pause = min(pause * 2, MAX_PAUSE_S)


async def _check_settings(settings: WorkerSettings, redis: Client) -> None:
    """Raises SettingsConflictError if a shard of our topics was counted with other settings."""
    tags = await cast(Any, redis.smembers(keys.shards(settings.key_prefix)))
    for shard in map(Shard.parse, sorted(tags)):
        if shard.topic not in settings.topics:
            continue
        meta = await cast(Any, redis.hgetall(ShardKeys(settings.key_prefix, shard).meta))
        conflict = settings_conflict(meta, settings.counted_with(shard.topic))
        if conflict:
            raise SettingsConflictError(f"{shard.tag}: {conflict}")


def _missing_topics(settings: WorkerSettings) -> str | None:
    """The topics that Kafka does not have, with the setting to check; None if it has all."""
    admin = KafkaAdmin(settings)
    try:
        existing = admin.client.list_topics(timeout=KAFKA_TIMEOUT_S).topics
    except KafkaException as error:
        return admin.diagnose(error)
    missing = [topic for topic in settings.topics if topic not in existing]
    if missing:
        return f"{PREFIX}TOPICS: Kafka has no topic {', '.join(missing)}"
    if settings.dead_letter_topic not in existing:
        return f"{PREFIX}DEAD_LETTER_TOPIC: Kafka has no topic {settings.dead_letter_topic}"
    return None
