"""The fold of logins, token answers and account events: records in, a range delta out.

`fold` depends on its arguments alone, and any division of a log into ranges gives the same ledger. The store's clock is
an argument: it replaces record timestamps that are not usable.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import repeat
from operator import attrgetter
from typing import Any, Final

from aggregator.fold.adapter_events import IgnoredError, adapter_events, require_event
from aggregator.fold.classifier import Classifier
from aggregator.fold.deduplication import Deduplicator
from aggregator.fold.range_delta import CountingRules, DeadLetter, RangeDelta, Record, ShardCache
from schemas.adapters.registry import adapter_named
from schemas.events import (
    DECODERS,
    EARLIEST,
    MAX_AHEAD,
    SAFE_ID_CHARS,
    UNDECODABLE,
    AccountEvent,
    BadRecordError,
    Login,
    RecordTime,
    TokenIssued,
    check,
    check_time,
    decode_native,
)
from schemas.time.rfc3339 import cut_time

MAX_USER_ADDITIONS: Final = 20_000
"""Users in one script, counted once per period and scope: keeps the script under 5 ms of the store's time."""

LABELS_OF: Final[dict[Any, Any]] = {
    Login: attrgetter("realm", "client_id", "node", "success", "counted", "reason"),
    TokenIssued: attrgetter("realm", "client_id", "node", "grant_type", "tokens"),
    AccountEvent: attrgetter("realm", "client_id", "kind"),
}
"""By type of event: the fields that, with the day, determine its class."""


def fold(
    binding: str, records: Sequence[Record], end: int, cache: ShardCache, rules: CountingRules, now_ms: int
) -> RangeDelta:
    """Fold the records of a range that ends before offset `end`; `binding` is the topic's event or adapter.

    `now_ms` is the store's clock. Bad records are returned as `dead_letters`; an exception is a defect, and the caller
    turns the record that caused it into an `unexpected` dead letter.
    """
    delta = RangeDelta(end)
    records, skipped = cache.without_unexpected(records)
    if not records and not skipped:
        return delta
    # A topic of one event type needs no adapter; the binding "native" (events of any type) has one, as products have.
    from_adapter = binding not in DECODERS
    items: Sequence[Any] = (
        adapter_events(adapter_named(binding, rules.realm_names), records, now_ms) if from_adapter else records
    )
    decode: Any = require_event if from_adapter else DECODERS[binding].decode
    classifier = Classifier(rules, cache)
    tallies = classifier.tallies
    deduplicator = Deduplicator(cache.seen_ids, rules.dedupe_window_s, rules.dedupe_max_ids, now_ms, len(items))
    # It keeps an id that is no repeat; `is_repeat` keeps none.
    is_duplicate, digest_of = deduplicator.is_duplicate, rules.digest.event_id
    is_login, is_token = binding == "login", binding == "token"
    timestamps, untimed = usable_times([item.timestamp for item in items], now_ms)
    # Between `since` and `until` all times are of `day` and plausible for every record: nearly all events skip checks.
    plausible = datetime.fromtimestamp(min(timestamps, default=now_ms) / 1000, UTC) + MAX_AHEAD
    since = until = EARLIEST
    day = 0
    first = last = None
    user_additions = duplicates = ignored = 0
    # After the loop: the first item that is left for the next delta, or None.
    item: Any = None

    timed_flags: Iterable[bool] = repeat(True)
    if untimed:
        timed_flags = [place not in untimed for place in range(len(timestamps))]
    for item, timestamp_ms, timed in zip(items, timestamps, timed_flags, strict=False):
        if user_additions >= MAX_USER_ADDITIONS and (not from_adapter or item.starts_record):
            delta.end = item.offset
            break
        try:
            try:
                event = decode(item.value)
            except (*UNDECODABLE, TypeError):
                # Slower: accepts a failed login that has a field over its length limit, else raises the exact reason.
                event = decode_native(binding, item.value)
            time = event.time
            if not since < time < until:
                if not from_adapter:
                    time = cut_time(time, item.value)
                check_time(time, RecordTime(timestamp_ms))
                day, since, until = classifier.local_day(time)
                since, until = max(since, EARLIEST), min(until, plausible)
            if from_adapter:
                is_login, is_token = type(event) is Login, type(event) is TokenIssued
            # Written out: `_key` takes 0.15 µs more, a fifth of the fold.
            if is_login:
                key: tuple[object, ...] = (
                    day,
                    event.realm,
                    event.client_id,
                    event.node,
                    event.success,
                    event.counted,
                    event.reason,
                )
            elif is_token:
                key = (day, event.realm, event.client_id, event.node, event.grant_type, event.tokens)
            else:
                key = (day, event.realm, event.client_id, event.kind)
            user_id, event_id = event.user_id, event.id
            tally = tallies.get(key)
            if (
                tally is None
                or (len(user_id) > SAFE_ID_CHARS if user_id else is_login)
                or (event_id is not None and len(event_id) > SAFE_ID_CHARS)
            ):
                checked = check(event)
                if checked is not event:
                    event, key = checked, _key(day, checked)
                    user_id, tally = event.user_id, tallies.get(key)
            if event_id is not None and rules.dedupe_window_s:
                at_ms = timestamp_ms if timed else _ms(time)
                digest = digest_of(event_id)
                if tally is None and not deduplicator.is_repeat(digest, at_ms):
                    # Labels first, because the id counts in the share of its realm. A repeat makes no label known.
                    tally = classifier.open_tally(key, day, event)
                    user_additions += len(tally.event_class.periods)
                if tally is None or is_duplicate(digest, at_ms, tally.realm):
                    duplicates += not from_adapter or item.starts_element
                    continue
            elif tally is None:
                tally = classifier.open_tally(key, day, event)
                user_additions += len(tally.event_class.periods)
        except BadRecordError as bad:
            delta.dead_letters.append(_dead(item, bad, from_adapter=from_adapter))
            continue
        except IgnoredError:
            ignored += 1
            if item.unknown is not None:
                # A name costs the script as much as a user.
                user_additions += delta.note_unknown(item.unknown)
            continue

        tally.events += 1
        if timed:
            if timestamp_ms > tally.last_ms:
                tally.last_ms = timestamp_ms
            if timestamp_ms < tally.first_ms:
                tally.first_ms = timestamp_ms
        if first is None or last is None:
            first = last = time
        elif time > last:
            last = time
        elif time < first:
            first = time
        users = tally.users
        if users is not None and user_id and user_id not in users.applied and user_id not in users.new:
            users.new.add(user_id)
            user_additions += users.keys_per_user
    else:
        item = None

    if first is not None and last is not None:
        delta.first_event_ms, delta.last_event_ms = _ms(first), _ms(last)
    folded = len(items) if item is None else items.index(item)
    delta.note_timestamps(
        timestamps[:folded], untimed, [item.starts_record for item in items[:folded]] if from_adapter else None
    )
    classifier.add_to(delta)
    delta.dedupe = deduplicator.finish(classifier.events_by_realm)
    consumed = sum(item.starts_element for item in items[:folded]) if from_adapter else folded
    delta.record_progress(consumed, duplicates, ignored, note_skipped(delta, skipped, now_ms))
    return delta


def _key(day: int, event: Any) -> tuple[object, ...]:
    """The day of an event and the fields that decide where it counts."""
    return (day, *LABELS_OF[type(event)](event))


def note_skipped(delta: RangeDelta, skipped: Sequence[Record], now_ms: int) -> int:
    """Add the timestamps of unexpected records before the delta's end, as `fold_unexpected` did. Returns how many."""
    passed = [record.timestamp for record in skipped if record.offset < delta.end]
    delta.note_timestamps(*usable_times(passed, now_ms))
    return len(passed)


def usable_times(timestamps: list[int], now_ms: int) -> tuple[list[int], frozenset[int]]:
    """The times that events are compared with, Unix ms: the timestamps, or the clock where one is not usable.

    Also the indexes of those that are not usable.
    """
    if not timestamps or (
        RecordTime.of(min(timestamps), now_ms).usable and RecordTime.of(max(timestamps), now_ms).usable
    ):
        return timestamps, _NONE
    times = [RecordTime.of(timestamp, now_ms) for timestamp in timestamps]
    return [at.ms for at in times], frozenset(number for number, at in enumerate(times) if not at.usable)


def fold_unexpected(record: Record, end: int, error: Exception, now_ms: int) -> RangeDelta:
    """The delta of a single record on which a fold raised: one dead letter, even if it contains several events."""
    delta = RangeDelta(end)
    delta.unexpected.add(record.offset)
    delta.dead_letters.append(DeadLetter(record, "unexpected", type(error).__name__, record.value))
    delta.note_timestamps(*usable_times([record.timestamp], now_ms))
    delta.record_progress(consumed=1, duplicates=0, ignored=0)
    return delta


_NONE: Final[frozenset[int]] = frozenset()


def _dead(item: Any, bad: BadRecordError, *, from_adapter: bool) -> DeadLetter:
    if from_adapter:
        return DeadLetter(item.record, bad.reason, bad.detail, item.raw, item.element_index)
    return DeadLetter(item, bad.reason, bad.detail, item.value)


def _ms(time: datetime) -> int:
    return int(time.timestamp() * 1000)
