"""Records in, additions out: the pure middle of the worker.

What `fold` returns depends on its arguments alone, and folding a log in any cuts adds up to the same ledger. Whatever
looks like a "now" is a record's timestamp.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from aggregator.duplicates import Sieve
from aggregator.routes import Router
from aggregator.tally import DeadLetter, Known, Record, Rules, Tally
from aggregator.units import IgnoredError, event_of, units_of
from schemas.adapters.registry import ADAPTERS
from schemas.events import (
    DECODERS,
    EARLIEST,
    MAX_AHEAD,
    SAFE_ID_CHARS,
    UNDECODABLE,
    BadRecordError,
    Login,
    RecordTime,
    TokenIssued,
    check,
    check_time,
    undecodable,
)

MAX_IDS: Final = 20_000
"""Users sent in one script, counted once per period and scope: keeps it under 5 ms of the store's time."""


def fold(name: str, records: Sequence[Record], end: int, known: Known, rules: Rules) -> Tally:
    """Fold the records of a range that ends before offset `end`, on a topic bound to the event or adapter `name`.

    Never raises for what records hold: bad ones come back in `dead`.
    """
    tally = Tally(end)
    if not records:
        return tally
    native = name in DECODERS
    units: Sequence[Any] = records if native else units_of(ADAPTERS[name], records)
    decode: Any = DECODERS[name].decode if native else event_of
    router = Router(rules, known)
    routes = router.routes
    sieve = Sieve(known.seen, rules.dedupe_window_s, rules.dedupe_max_ids)
    repeats, digest_of = sieve.repeats, rules.digest.event_id
    is_login, is_token = name == "login", name == "token"
    stamps = [unit.timestamp for unit in units]
    if not stamps:
        return tally
    # Between these an event is of `day`, and plausible whatever its own record's timestamp is: settles nearly all.
    plausible = datetime.fromtimestamp(min(stamps) / 1000, UTC) + MAX_AHEAD
    since = until = EARLIEST
    day = 0
    first = last = None
    ids = repeated = ignored = 0
    unit: Any = None

    for unit, stamp in zip(units, stamps, strict=True):
        if ids >= MAX_IDS and (native or unit.opens):
            tally.end = unit.offset
            break
        try:
            event = decode(unit.value)
            time = event.time
            if not since <= time < until:
                check_time(time, RecordTime(stamp))
                day, since, until = router.day_of(time)
                since, until = max(since, EARLIEST), min(until, plausible)
            if not native:
                is_login, is_token = type(event) is Login, type(event) is TokenIssued
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
            route = routes.get(key)
            if (
                route is None
                or (len(user_id) > SAFE_ID_CHARS if user_id else is_login)
                or (event_id is not None and len(event_id) > SAFE_ID_CHARS)
            ):
                check(event)
            if event_id is not None and rules.dedupe_window_s and repeats(digest_of(event_id), stamp):
                repeated += native or unit.leads
                continue
            if route is None:
                route = router.open(key, day, event, stamp)
                ids += len(route.to.periods)
        except BadRecordError as bad:
            tally.dead.append(_dead(unit, bad, native=native))
            continue
        except IgnoredError:
            ignored += 1
            continue
        except (*UNDECODABLE, TypeError) as error:
            tally.dead.append(_dead(unit, undecodable(unit.value, error), native=native))
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
        unit = None

    if first is not None and last is not None:
        tally.first_event_ms, tally.last_event_ms = _ms(first), _ms(last)
    looked_at = len(stamps) if unit is None else units.index(unit)
    del stamps[looked_at:]
    tally.first_record_ms, tally.last_record_ms = min(stamps), max(stamps)
    router.total(tally)
    tally.sifted = sieve.sifted
    consumed = looked_at if native else sum(unit.leads for unit in units[:looked_at])
    tally.settle(consumed, repeated, ignored)
    return tally


def _dead(unit: Any, bad: BadRecordError, *, native: bool) -> DeadLetter:
    if native:
        return DeadLetter(unit, bad.reason, bad.detail, unit.value)
    return DeadLetter(unit.record, bad.reason, bad.detail, unit.raw, unit.nth)


def _ms(time: datetime) -> int:
    return int(time.timestamp() * 1000)
