"""What must be right before a record is read. Waits where waiting can help; refuses, naming the setting, where not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

import structlog
from confluent_kafka import KafkaException

from aggregator.assignment import SettingsDifferError, differing
from aggregator.kafka.admin import KafkaAdmin
from aggregator.ledger.store import (
    UNREACHABLE,
    Client,
    lost_connections_told,
    password_is_wrong,
    unfit,
    why_unreachable,
)
from aggregator.settings import WorkerSettings
from schemas.connections.redis_replies import leave_server
from schemas.ledger import keys
from schemas.ledger.keys import Shard, ShardKeys
from schemas.settings import PREFIX

log = structlog.get_logger(__name__)

ASK_KAFKA_S: Final = 5.0
LONGEST_PAUSE_S: Final = 5.0


class UnfitError(Exception):
    """Something that waiting will not mend; one line that names the setting."""


async def wait_until_fit(settings: WorkerSettings, redis: Client, says: Callable[[str | None], None]) -> None:
    """Return when Redis is fit and agrees with the settings, and Kafka has every topic. Raises UnfitError.

    `says` is told what it waits for, and None when it waits no more.
    """
    pause = 0.2
    while True:
        try:
            with lost_connections_told():
                problem = await unfit(redis)
                if problem is None:
                    await _agree(settings, redis)
        except UNREACHABLE as error:
            await leave_server(redis, error, settings.redis_url.get_secret_value())
            waits = await why_unreachable(settings, error)
            if password_is_wrong(error):
                raise UnfitError(waits) from error
        except SettingsDifferError as error:
            raise UnfitError(str(error)) from error
        else:
            if problem is not None:
                raise UnfitError(problem)
            missing = await asyncio.to_thread(_kafka_lacks, settings)
            if missing is None:
                says(None)
                return
            waits = missing
        says(waits)
        log.warning("not ready", waits_for=waits, retry_in_s=pause)
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE_S)


async def _agree(settings: WorkerSettings, redis: Client) -> None:
    """Raises SettingsDifferError when any shard of our topics was counted with other settings."""
    tags = await cast(Any, redis.smembers(keys.shards(settings.key_prefix)))
    for shard in map(Shard.parse, sorted(tags)):
        if shard.topic not in settings.topics:
            continue
        meta = await cast(Any, redis.hgetall(ShardKeys(settings.key_prefix, shard).meta))
        differs = differing(meta, settings.counted_with(shard.topic))
        if differs:
            raise SettingsDifferError(f"{shard.tag}: {differs}")


def _kafka_lacks(settings: WorkerSettings) -> str | None:
    """What Kafka does not offer yet, naming the setting; None when all is there."""
    admin = KafkaAdmin(settings)
    try:
        there = admin.client.list_topics(timeout=ASK_KAFKA_S).topics
    except KafkaException as error:
        return admin.why(error)
    missing = [topic for topic in settings.topics if topic not in there]
    if missing:
        return f"{PREFIX}TOPICS: Kafka has no topic {', '.join(missing)}"
    if settings.dead_letter_topic not in there:
        return f"{PREFIX}DEAD_LETTER_TOPIC: Kafka has no topic {settings.dead_letter_topic}"
    return None
