"""A control arm: the same counting by Faust as its documentation shows it, with Kafka's offsets as positions.

`take` batches, one HINCRBY per counter, and Faust commits what it has processed every few seconds. Whatever is lost in
Redis stays lost, and whatever came after the last commit of a killed process counts twice. Run as a program.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import faust
from redis.asyncio import Redis

from schemas.ledger import fields

COUNTS = "plain"


def outcomes(event: dict[str, Any]) -> list[str]:
    if "grant_type" in event:
        return [fields.token(event["grant_type"], token) for token in event["tokens"]]
    if not event.get("success", True):
        return [fields.failed(event.get("reason", fields.UNSPECIFIED))]
    return [fields.LOGIN] if event.get("counted", True) else []


def build() -> Any:
    app = faust.App(
        os.environ["AUTHTALLY_KAFKA_GROUP"],
        broker="kafka://" + os.environ["AUTHTALLY_KAFKA_BOOTSTRAP_SERVERS"],
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=10.0,
        broker_rebalance_timeout=10.0,
        broker_heartbeat_interval=2.0,
        topic_disable_leader=True,
        web_enabled=False,
        autodiscover=False,
        datadir=tempfile.gettempdir(),
    )
    redis = Redis.from_url(os.environ["AUTHTALLY_REDIS_URL"])

    async def count(stream: Any) -> None:
        batches: AsyncIterator[list[bytes]] = stream.take(500, within=0.2)
        async for batch in batches:
            more = Counter(name for value in batch for name in outcomes(json.loads(value)))
            async with redis.pipeline() as pipeline:
                for name, events in more.items():
                    pipeline.hincrby(COUNTS, name, events)
                await pipeline.execute()

    for bound in os.environ["AUTHTALLY_TOPICS"].split(","):
        topic = bound.partition("=")[0]
        app.agent(app.topic(topic, value_type=bytes, value_serializer="raw"), name=f"plain:{topic}")(count)
    return app


if __name__ == "__main__":
    faust.Worker(build(), loglevel="info").execute_from_commandline()
