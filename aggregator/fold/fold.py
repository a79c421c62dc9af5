"""Records in, additions out: the pure middle of the worker.

`fold` depends on its arguments alone, and folding a log in any cuts adds up to the same ledger. The store's clock is an
argument: it stands in for a record's timestamp that is not usable.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, Final

from aggregator.fold.adapter_events import IgnoredError, event_of, units_of
from aggregator.fold.classifier import Router
from aggregator.fold.deduplication import Sieve
from aggregator.fold.range_delta import DeadLetter, Known, Record, Rules, Tally
from schemas.adapters.registry import ADAPTERS
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
from schemas.rfc3339 import cut_time

MAX_IDS: Final = 20_000
"""Users sent in one script, counted once per period and scope: keeps it under 5 ms of the store's time."""

LABELS_OF: Final[dict[Any, Any]] = {
    Login: attrgetter("realm", "client_id", "node", "success", "counted", "reason"),
    TokenIssued: attrgetter("realm", "client_id", "node", "grant_type", "tokens"),
    AccountEvent: attrgetter("realm", "client_id", "kind"),
}
"""By type of event: the fields that decide, with its day, where it counts."""


def fold(name: str, records: Sequence[Record], end: int, known: Known, rules: Rules, now_ms: int) -> Tally:
    """Fold the records of a range that ends before offset `end`, on a topic bound to the event or adapter `name`.

    `now_ms` is the store's clock. Bad records are returned in `dead`; an exception is a defect, and the caller makes an
    `unexpected` dead letter of the record that caused it.
    """
    tally = Tally(end)
    records, skipped = known.without_unexpected(records)
    if not records and not skipped:
        return tally
    native = name in DECODERS
    units: Sequence[Any] = records if native else units_of(ADAPTERS[name], records, now_ms)
    decode: Any = DECODERS[name].decode if native else event_of
    labels_of: Any = LABELS_OF[DECODERS[name].type] if native else None
    router = Router(rules, known)
    routes = router.routes
    sieve = Sieve(known.seen, rules.dedupe_window_s, rules.dedupe_max_ids, now_ms)
    repeats, digest_of = sieve.repeats, rules.digest.event_id
    is_login = name == "login"
    stamps, untimed = record_times([unit.timestamp for unit in units], now_ms)
    # Between these an event is of `day`, and plausible whatever its own record's timestamp is: settles nearly all.
    plausible = datetime.fromtimestamp(min(stamps, default=now_ms) / 1000, UTC) + MAX_AHEAD
    since = until = EARLIEST
    day = 0
    first = last = None
    ids = repeated = ignored = 0
    unit: Any = None

    for number, (unit, stamp) in enumerate(zip(units, stamps, strict=True)):
        if ids >= MAX_IDS and (native or unit.opens):
            tally.end = unit.offset
            break
        try:
            try:
                event = decode(unit.value)
            except (*UNDECODABLE, TypeError):
                # Over a limit, perhaps, which a failed login may be; or what the error was.
                event = decode_native(name, unit.value)
            time = event.time
            if not since < time < until:
                if native:
                    time = cut_time(time, unit.value)
                check_time(time, RecordTime(stamp))
                day, since, until = router.day_of(time)
                since, until = max(since, EARLIEST), min(until, plausible)
            if not native:
                is_login, labels_of = type(event) is Login, LABELS_OF[type(event)]
            key = day, labels_of(event)
            user_id, event_id = event.user_id, event.id
            route = routes.get(key)
            if (
                route is None
                or (len(user_id) > SAFE_ID_CHARS if user_id else is_login)
                or (event_id is not None and len(event_id) > SAFE_ID_CHARS)
            ):
                checked = check(event)
                if checked is not event:
                    event, key = checked, (day, labels_of(checked))
                    user_id, route = event.user_id, routes.get(key)
            if event_id is not None and rules.dedupe_window_s:
                at_ms = _ms(time) if untimed and number in untimed else stamp
                if repeats(digest_of(event_id), at_ms):
                    repeated += native or unit.leads
                    continue
            if route is None:
                route = router.open(key, day, event)
                ids += len(route.to.periods)
        except BadRecordError as bad:
            tally.dead.append(_dead(unit, bad, native=native))
            continue
        except IgnoredError:
            ignored += 1
            continue

        route.events += 1
        if not untimed or number not in untimed:
            if stamp > route.last_ms:
                route.last_ms = stamp
            if stamp < route.first_ms:
                route.first_ms = stamp
        if first is None or last is None:
            first = last = time
        elif time > last:
            last = time
        elif time < first:
            first = time
        active = route.active
        if active is not None and user_id and user_id not in active.known and user_id not in active.new:
            active.new.add(user_id)
            ids += active.width
    else:
        unit = None

    if first is not None and last is not None:
        tally.first_event_ms, tally.last_event_ms = _ms(first), _ms(last)
    folded = len(units) if unit is None else units.index(unit)
    tally.note_record_times(stamps[:folded], untimed, None if native else [unit.opens for unit in units[:folded]])
    router.total(tally)
    tally.sifted = sieve.sifted
    consumed = folded if native else sum(unit.leads for unit in units[:folded])
    tally.settle(consumed, repeated, ignored, note_skipped(tally, skipped, now_ms))
    return tally


def note_skipped(tally: Tally, skipped: Sequence[Record], now_ms: int) -> int:
    """Enter the timestamps of the unexpected records before the tally's end, as their first fold did; how many."""
    passed = [record.timestamp for record in skipped if record.offset < tally.end]
    tally.note_record_times(*record_times(passed, now_ms))
    return len(passed)


def record_times(timestamps: list[int], now_ms: int) -> tuple[list[int], frozenset[int]]:
    """The moments that events are compared with, Unix ms, and the places of those whose timestamp is not usable."""
    if not timestamps or (
        RecordTime.of(min(timestamps), now_ms).usable and RecordTime.of(max(timestamps), now_ms).usable
    ):
        return timestamps, _NONE
    times = [RecordTime.of(timestamp, now_ms) for timestamp in timestamps]
    return [at.ms for at in times], frozenset(number for number, at in enumerate(times) if not at.usable)


def fold_unexpected(record: Record, end: int, error: Exception, now_ms: int) -> Tally:
    """The tally of a single record on which a fold raised: one dead letter, even of an array."""
    tally = Tally(end)
    tally.unexpected.add(record.offset)
    tally.dead.append(DeadLetter(record, "unexpected", type(error).__name__, record.value))
    tally.note_record_times(*record_times([record.timestamp], now_ms))
    tally.settle(consumed=1, repeated=0, ignored=0)
    return tally


_NONE: Final[frozenset[int]] = frozenset()


def _dead(unit: Any, bad: BadRecordError, *, native: bool) -> DeadLetter:
    if native:
        return DeadLetter(unit, bad.reason, bad.detail, unit.value)
    return DeadLetter(unit.record, bad.reason, bad.detail, unit.raw, unit.nth)


def _ms(time: datetime) -> int:
    return int(time.timestamp() * 1000)
