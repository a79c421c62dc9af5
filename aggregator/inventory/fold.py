"""The OTP token inventory of a shard: states of tokens in, numbers per realm and their history out. Pure.

As `fold`, and by the same law: what comes out depends on the log and the recorded settings, not on where ranges end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from aggregator.fold.adapter_events import Unit, units_of
from aggregator.fold.deduplication import Sieve
from aggregator.fold.fold import note_skipped
from aggregator.fold.range_delta import DeadLetter, Known, Record, Rules, Tally
from aggregator.inventory.changes import Changing
from aggregator.inventory.state import Stock, realm_bytes
from schemas.adapters.registry import ADAPTERS
from schemas.adapters.timestamps import in_utc
from schemas.events import (
    DECODERS,
    BadRecordError,
    Inventory,
    OtpTokenCount,
    OtpTokenState,
    RecordTime,
    decode_native,
)
from schemas.ledger.inventory import (
    NO_REALM,
    micros,
)

MAX_EVENTS: Final = 500
"""Records folded at once: what is read for them, and what one script writes, keeps under 5 ms of the store's time."""
MAX_ROWS: Final = 1_000
"""Events and rows of one script; a range of tokens in many realms ends earlier."""


SLICE: Final = 50
"""Records read at once while the store works: half a millisecond."""


class Told(NamedTuple):
    """One event of a record, or why there is none, before anything is known of the shard."""

    unit: Any
    """A record, or a Unit of one."""
    at: RecordTime
    what: Inventory | BadRecordError | None
    user: bytes = b""
    """Digest of whom the token is assigned to."""


def read(name: str, records: Sequence[Record], rules: Rules, now_ms: int) -> list[Told]:
    """Decode and check records of a topic bound to `name`, one of `schemas.ledger.inventory.BINDINGS`."""
    if name not in DECODERS:
        return [
            _checked(unit, unit.value, RecordTime.of(unit.timestamp, now_ms), rules)
            for unit in units_of(ADAPTERS[name], records, now_ms)
        ]
    told: list[Told] = []
    for record in records:
        at = RecordTime.of(record.timestamp, now_ms)
        try:
            event = decode_native(name, record.value)
        except BadRecordError as bad:
            told.append(Told(record, at, BadRecordError(bad.reason, bad.detail)))
        else:
            told.append(_checked(record, event, at, rules))
    return told


def _checked(unit: Any, what: Any, at: RecordTime, rules: Rules) -> Told:
    if not isinstance(what, (OtpTokenState, OtpTokenCount)):
        return Told(unit, at, what)
    try:
        in_utc(what.time, at)
    except BadRecordError as bad:
        bad.__context__ = None
        return Told(unit, at, bad.with_traceback(None))
    if isinstance(what, OtpTokenState) and what.assigned and what.user_id and not what.deleted:
        return Told(unit, at, what, rules.digest.holder(what.user_id))
    return Told(unit, at, what)


class Reading:
    """Records of one range as events, read some at a time."""

    def __init__(self, name: str, records: Sequence[Record], end: int, rules: Rules, now_ms: int) -> None:
        self._name = name
        self._now_ms = now_ms
        self._records = records
        self._end = end
        self._rules = rules
        self._read = 0
        self._ahead: list[Told] = []

    def take(self, start: int) -> tuple[list[Told], int]:
        """What is to be folded from offset `start` on, and the offset that it reaches to."""
        self._ahead = [one for one in self._ahead if one.unit.offset >= start]
        if not self._ahead:
            self._some(MAX_EVENTS)
        end = self._records[self._read].offset if self._read < len(self._records) else self._end
        return self._ahead, end

    async def read_on(self) -> None:
        """Read the next ones, at most MAX_EVENTS; in slices, so that what is under way to the store gets there.

        Ends before records that cannot be read: `take` raises for those, when nothing else of the range waits.
        """
        for _ in range(0, MAX_EVENTS, SLICE):
            await asyncio.sleep(0)
            try:
                self._some(SLICE)
            except Exception:  # noqa: BLE001 - raised again by take()
                return

    def _some(self, most: int) -> None:
        more = self._records[self._read : self._read + most]
        told = read(self._name, more, self._rules, self._now_ms)
        self._read += len(more)
        self._ahead = self._ahead + told


def unknown_tokens(told: Iterable[Told], stock: Stock) -> list[str]:
    """Serials whose last state has to be read first."""
    serials = {one.what.serial for one in told if isinstance(one.what, OtpTokenState)}
    return [serial for serial in serials if serial not in stock.tokens]


def unknown_holders(told: Iterable[Told], stock: Stock) -> list[bytes]:
    """Holders whose number of tokens has to be read first; the serials are known by now."""
    found: set[bytes] = set()
    for one in told:
        if not isinstance(one.what, OtpTokenState):
            continue
        if one.user:
            for realm in one.what.realms or (NO_REALM,):
                number = stock.realms.get(realm)
                if number is not None:
                    found.add(realm_bytes(number) + one.user)
        held = stock.tokens[one.what.serial]
        if held is not None and held.user:
            found.update([realm_bytes(number) + held.user for number in held.realms])
    return [holder for holder in found if holder not in stock.holders]


def fold_inventory(
    told: Sequence[Told],
    end: int,
    known: Known,
    stock: Stock,
    rules: Rules,
    now_ms: int,
    skipped: Sequence[Record] = (),
) -> Tally:
    """Fold what was told up to offset `end`. `stock` knows every serial and holder of it; `now_ms` as for `fold`.

    `skipped` are the records that are not in `told` since they are known as unexpected.
    """
    tally = Tally(end)
    changing = Changing(stock, rules)
    sieve = Sieve(known.seen, rules.dedupe_window_s, rules.dedupe_max_ids, now_ms)
    consumed = repeated = ignored = 0
    times: list[RecordTime] = []
    opens: list[bool] = []
    first: datetime | None = None
    last: datetime | None = None
    for unit, at, what, user in told:
        foreign = isinstance(unit, Unit)
        if changing.work >= MAX_ROWS and (not foreign or unit.opens):
            tally.end = unit.offset
            break
        times.append(at)
        opens.append(not foreign or unit.opens)
        leads = unit.leads if foreign else True
        consumed += leads
        if what is None:
            ignored += 1
            continue
        if isinstance(what, BadRecordError):
            record, value, nth = (unit.record, unit.raw, unit.nth) if foreign else (unit, unit.value, 0)
            tally.dead.append(DeadLetter(record, what.reason, what.detail, value, nth))
            continue
        if what.id is not None and rules.dedupe_window_s:
            at_ms = at.ms if at.usable else micros(what.time) // 1000
            if sieve.repeats(rules.digest.event_id(what.id), at_ms):
                repeated += leads
                continue
        if isinstance(what, OtpTokenState):
            order = changing.state(what, user)
            if order <= 0:
                repeated += order == 0
                ignored += order < 0
                continue
        else:
            changing.give(what, unit.offset << 16 | (unit.nth if foreign else 0))
        if first is None or last is None:
            first = last = what.time
        elif what.time > last:
            last = what.time
        elif what.time < first:
            first = what.time
    if first is not None and last is not None:
        tally.first_event_ms, tally.last_event_ms = micros(first) // 1000, micros(last) // 1000
    untimed = frozenset(place for place, at in enumerate(times) if not at.usable)
    tally.note_record_times([at.ms for at in times], untimed, opens)
    tally.sifted = sieve.sifted
    tally.inventory = changing.done()
    tally.settle(consumed, repeated, ignored, note_skipped(tally, skipped, now_ms))
    return tally
