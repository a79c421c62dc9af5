"""Records in, additions out: the pure middle of the worker.

What `fold` returns depends on its arguments alone, and folding a log in any cuts adds up to the same ledger. Whatever
looks like a "now" is a record's timestamp.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from aggregator.routes import Router
from aggregator.tally import DeadLetter, Known, Record, Rules, Tally
from schemas import fields
from schemas.events import (
    DECODERS,
    EARLIEST,
    MAX_AHEAD,
    SAFE_ID_CHARS,
    UNDECODABLE,
    BadRecordError,
    Event,
    check,
    check_time,
    undecodable,
)

MAX_IDS: Final = 20_000
"""Users sent in one script, counted once per period and scope: keeps it under 5 ms of the store's time."""


def fold(name: str, records: Sequence[Record], end: int, known: Known, rules: Rules) -> Tally:
    """Fold the records of a range that ends before offset `end`, on a topic bound to the event `name`.

    Never raises for what records hold: bad ones come back in `dead`.
    """
    tally = Tally(end)
    if not records:
        return tally
    decode = DECODERS[name].decode
    router = Router(rules, known)
    routes, day_of = router.routes, router.day_of
    is_login, is_token = name == "login", name == "token"
    utc = rules.zone.key == "UTC"
    stamps = [record.timestamp for record in records]
    # One comparison per event settles nearly all; only what lies beyond is compared with its own record's timestamp.
    plausible = datetime.fromtimestamp(min(stamps) / 1000, UTC) + MAX_AHEAD
    first = last = None
    ids = 0

    for record, stamp in zip(records, stamps, strict=True):
        if ids >= MAX_IDS:
            tally.end = record.offset
            break
        try:
            event: Event = decode(record.value)  # type: ignore[arg-type]
            time = event.time
            if time > plausible or time < EARLIEST:
                check_time(time, stamp)
            day = time.toordinal() if utc and time.tzinfo is UTC else day_of(time)
            if is_login:
                key: tuple[object, ...] = (
                    day,
                    event.realm,
                    event.client_id,
                    event.node,  # type: ignore[union-attr]
                    event.success,  # type: ignore[union-attr]
                    event.counted,  # type: ignore[union-attr]
                    event.reason,  # type: ignore[union-attr]
                )
            elif is_token:
                key = (day, event.realm, event.client_id, event.node, event.grant_type, event.tokens)  # type: ignore[union-attr]
            else:
                key = (day, event.realm, event.client_id, event.kind)  # type: ignore[union-attr]
            user_id, event_id = event.user_id, event.id
            route = routes.get(key)
            if (
                route is None
                or (len(user_id) > SAFE_ID_CHARS if user_id else is_login)
                or (event_id is not None and len(event_id) > SAFE_ID_CHARS)
            ):
                check(event)
                if route is None:
                    route = router.open(key, day, event, stamp)
        except BadRecordError as bad:
            tally.dead.append(DeadLetter(record, bad.reason, bad.detail))
            continue
        except (*UNDECODABLE, TypeError) as error:
            why = undecodable(record.value, error)
            tally.dead.append(DeadLetter(record, why.reason, why.detail))
            continue

        route.events += 1
        if stamp > route.last_ms:
            route.last_ms = stamp
        elif stamp < route.first_ms:
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
        record = None

    if first is not None and last is not None:
        tally.first_event_ms, tally.last_event_ms = _ms(first), _ms(last)
    looked_at = len(records) if record is None else records.index(record)
    del stamps[looked_at:]
    tally.first_record_ms, tally.last_record_ms = min(stamps), max(stamps)
    router.total(tally)
    tally.progress[fields.CONSUMED] = looked_at
    tally.progress[fields.COUNTED] = looked_at - len(tally.dead)
    for letter in tally.dead:
        reason = fields.dead(letter.reason)
        tally.progress[reason] = tally.progress.get(reason, 0) + 1
    return tally


def _ms(time: datetime) -> int:
    return int(time.timestamp() * 1000)
