"""Writes a ledger as the worker does: its fold, its script, without Kafka."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from aggregator.ledger.ledger import Applied
from schemas.ledger.keys import Shard
from tests.aggregator.counting import Counting
from tests.aggregator.logs import LogRecord, record

TOPICS = {"login": "auth.logins", "token": "auth.tokens", "account": "auth.accounts"}

Event = Mapping[str, Any]


def login(time: str, user_id: str, **rest: object) -> Event:
    return {"type": "login", "time": time, "user_id": user_id} | rest


def token(time: str, grant_type: str, *tokens: str, **rest: object) -> Event:
    return {"type": "token", "time": time, "grant_type": grant_type, "tokens": list(tokens)} | rest


def account(time: str, kind: str, **rest: object) -> Event:
    return {"type": "account", "time": time, "kind": kind} | rest


async def count(redis_url: str, events: Iterable[Event], partitions: int = 2, **given: Any) -> None:
    """Count events, each in a partition of its kind's topic; a second call continues where the first one ended.

    Days are kept forever: tests ask about days whose retention may be over when they run.
    """
    settings = {"retain_days": "forever"} | given
    logs: dict[Shard, list[Event]] = defaultdict(list)
    for number, event in enumerate(events):
        logs[Shard(TOPICS[event["type"]], number % partitions)].append(event)
    for shard, log in logs.items():
        async with Counting(redis_url, shard, **settings) as counter:
            start = await counter.resume()
            records = [stamped(start + number, event) for number, event in enumerate(log)]
            assert isinstance(await counter.count(records, start, start + len(records)), Applied)


def stamped(offset: int, event: Event) -> LogRecord:
    """Written a second after it happened; undecodable values are written as they are."""
    if "raw" in event:
        return record(offset, event["raw"], event["at_ms"])
    sent = datetime.fromisoformat(event["time"]) + timedelta(seconds=1)
    return record(offset, event, int(sent.timestamp() * 1000))
