"""Writes a ledger as the worker does: its fold, its script, without Kafka."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from aggregator.fold.fold import fold
from aggregator.fold.range_delta import CountingRules, ShardCache
from aggregator.ledger.ledger import Applied, Ledger
from aggregator.ledger.store import connect
from schemas.ledger.keys import Shard
from tests.aggregator import ledgers
from tests.aggregator.logs import NOW_MS, LogRecord, record

TOPICS = {"login": "auth.logins", "token": "auth.tokens", "account": "auth.accounts"}

Event = Mapping[str, Any]


def login(time: str, user_id: str, **rest: object) -> Event:
    return {"type": "login", "time": time, "user_id": user_id} | rest


def token(time: str, grant_type: str, *tokens: str, **rest: object) -> Event:
    return {"type": "token", "time": time, "grant_type": grant_type, "tokens": list(tokens)} | rest


def account(time: str, kind: str, **rest: object) -> Event:
    return {"type": "account", "time": time, "kind": kind} | rest


async def count(redis_url: str, events: Iterable[Event], partitions: int = 2, **given: Any) -> None:
    """Count events, each in a partition of its kind's topic; a second call goes on where the first one ended.

    Days stay for ever: tests ask about days whose retention may be over when they run.
    """
    settings = ledgers.settings(redis_url, **{"retain_days": "forever"} | given)
    logs: dict[Shard, list[Event]] = defaultdict(list)
    for number, event in enumerate(events):
        logs[Shard(TOPICS[event["type"]], number % partitions)].append(event)
    client = connect(settings)
    ledger, rules = Ledger(client, settings), CountingRules.of(settings)
    try:
        for shard, log in logs.items():
            start = (await ledger.read_state(shard)).position
            if start is None:
                start = 0
                assert isinstance(await ledger.initialize(shard, 0, "id-1"), Applied)
            state = await ledger.read_state(shard)
            seen = await ledger.read_seen_ids(shard, state)
            assert seen is not None
            known = ShardCache(set(state.labels), seen_ids=seen)
            records = [stamped(start + number, event) for number, event in enumerate(log)]
            end = start + len(records)
            while start < end:
                batch = [one for one in records if one.offset >= start]
                delta = fold(settings.topics[shard.topic], batch, end, known, rules, NOW_MS)
                assert isinstance(await ledger.apply(shard, start, delta), Applied)
                known.update(delta)
                start = delta.end
    finally:
        await client.aclose()


def stamped(offset: int, event: Event) -> LogRecord:
    """Written a second after it happened; undecodable values are written as they are."""
    if "raw" in event:
        return record(offset, event["raw"], event["at_ms"])
    sent = datetime.fromisoformat(event["time"]) + timedelta(seconds=1)
    return record(offset, event, int(sent.timestamp() * 1000))
