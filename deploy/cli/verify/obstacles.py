"""Reasons for which a shard cannot be counted again: another topic, other settings, missing records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aggregator.assignment import settings_conflict
from aggregator.settings import FORMAT, WorkerSettings
from deploy.cli.operations import NO_ID, Log
from deploy.cli.verify.compare import SINCE_FORMAT
from schemas.ledger import fields
from schemas.ledger.keys import Shard


def verify_obstacle(
    settings: WorkerSettings,
    shard: Shard,
    meta: Mapping[str, str],
    position: int,
    base: Mapping[str, Any] | None,
    log: Log | None,
) -> str | None:
    """The first obstacle, or None. `meta` and `position` are the ledger's, `base` is the snapshot's section."""
    if log is None:
        return "Kafka has no such partition"
    known = meta.get("topic_id", NO_ID)
    if NO_ID not in (known, log.topic_id) and known != log.topic_id:
        return f"the ledger has topic id {known}, Kafka has {log.topic_id}"
    if differs := settings_conflict(meta, settings.counted_with(shard.topic)):
        return differs
    start = log.start if base is None else int(base["position"])
    before: Mapping[str, str] = {} if base is None else base["meta"]
    if other := _format_differs(meta, before, start):
        return other
    changed = sorted(
        name
        for name in meta
        if name.startswith(fields.since("")) and name != SINCE_FORMAT and meta.get(name) != before.get(name)
    )
    if fields.since(fields.REMOVALS) in changed:
        return "a realm was removed in between: verify from a snapshot that was saved after the removal"
    if changed:
        names = ", ".join(fields.split(name)[1].upper() for name in changed)
        return f"{names} changed in between: verify from a snapshot that was saved after the change"
    if base is None:
        return f"Kafka has no offset below {log.start}: name a snapshot" if log.start else None
    old = base["meta"].get("topic_id", NO_ID)
    if NO_ID not in (old, known) and old != known:
        return f"the snapshot has topic id {old}, the ledger has {known}"
    if base["position"] > position:
        return f"the snapshot's position is {base['position']}, the ledger's only {position}"
    if base["position"] < log.start:
        return f"Kafka has no offset below {log.start}, the snapshot ends at {base['position']}"
    return None


def _format_differs(meta: Mapping[str, str], before: Mapping[str, str], start: int) -> str | None:
    """The reason if `[start, …)` was counted by the rules of another ledger format than this version's."""
    held = int(meta.get(fields.FORMAT, FORMAT))
    if held < FORMAT:
        return f"the ledger has format {held}, this version counts by format {FORMAT}: verify with the version before"
    since = meta.get(SINCE_FORMAT)
    if since is None or since == before.get(SINCE_FORMAT):
        return None
    upgraded_at, _ = fields.split_observation(since)
    if start >= upgraded_at:
        return None
    return (
        f"format {FORMAT} applies from offset {upgraded_at} on, and the replay would begin at {start}: "
        "verify from a snapshot that was saved after the upgrade"
    )
