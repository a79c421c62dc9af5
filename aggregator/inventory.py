"""The OTP token inventory of a shard: states of tokens in, numbers per realm and their history out. Pure.

As `fold`, and by the same law: what comes out depends on the log and the recorded settings, not on where ranges end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from aggregator.duplicates import Sieve
from aggregator.inventory_changes import Changing
from aggregator.stock import Stock, realm_bytes
from aggregator.tally import DeadLetter, Known, Record, Rules, Tally
from aggregator.units import Unit, units_of
from schemas.adapters.instants import in_utc
from schemas.adapters.registry import ADAPTERS
from schemas.events import (
    DECODERS,
    EARLIEST,
    MAX_AHEAD,
    BadRecordError,
    Inventory,
    OtpTokenCount,
    OtpTokenState,
    RecordTime,
    decode_native,
)
from schemas.inventory import (
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
    what: Inventory | BadRecordError | None
    user: bytes = b""
    """Digest of whom the token is assigned to."""


def read(name: str, records: Sequence[Record], rules: Rules) -> list[Told]:
    """Decode and check records of a topic bound to `name`, one of `schemas.inventory.BINDINGS`."""
    if name not in DECODERS:
        return [_checked(unit, unit.value, unit.timestamp, rules) for unit in units_of(ADAPTERS[name], records)]
    told: list[Told] = []
    if not records:
        return told
    # Up to here a time is plausible whatever its own record's timestamp is: settles nearly all.
    until = datetime.fromtimestamp(min(record.timestamp for record in records) / 1000, UTC) + MAX_AHEAD
    for record in records:
        try:
            event = decode_native(name, record.value)
        except BadRecordError as bad:
            told.append(Told(record, BadRecordError(bad.reason, bad.detail)))
        else:
            told.append(_checked(record, event, record.timestamp, rules, until))
    return told


def _checked(unit: Any, what: Any, record_ms: int, rules: Rules, until: datetime = EARLIEST) -> Told:
    if not isinstance(what, (OtpTokenState, OtpTokenCount)):
        return Told(unit, what)
    try:
        if not EARLIEST <= what.time < until:
            in_utc(what.time, RecordTime(record_ms))
    except BadRecordError as bad:
        bad.__context__ = None
        return Told(unit, bad.with_traceback(None))
    if isinstance(what, OtpTokenState) and what.assigned and what.user_id and not what.deleted:
        return Told(unit, what, rules.digest.holder(what.user_id))
    return Told(unit, what)


class Reading:
    """Records of one range as events, read some at a time."""

    def __init__(self, name: str, records: Sequence[Record], end: int, rules: Rules) -> None:
        self._name = name
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
        """Read the next ones, at most MAX_EVENTS; in slices, so that what is under way to the store gets there."""
        for _ in range(0, MAX_EVENTS, SLICE):
            await asyncio.sleep(0)
            self._some(SLICE)

    def _some(self, most: int) -> None:
        more = self._records[self._read : self._read + most]
        self._read += len(more)
        self._ahead = self._ahead + read(self._name, more, self._rules)


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


def fold_inventory(told: Sequence[Told], end: int, known: Known, stock: Stock, rules: Rules) -> Tally:
    """Fold what was told up to offset `end`. `stock` knows every serial and holder of it."""
    tally = Tally(end)
    changing = Changing(stock, rules)
    sieve = Sieve(known.seen, rules.dedupe_window_s, rules.dedupe_max_ids)
    consumed = repeated = ignored = 0
    stamps = []
    first: datetime | None = None
    last: datetime | None = None
    for unit, what, user in told:
        foreign = isinstance(unit, Unit)
        if changing.work >= MAX_ROWS and (not foreign or unit.opens):
            tally.end = unit.offset
            break
        stamp = unit.timestamp
        stamps.append(stamp)
        leads = unit.leads if foreign else True
        consumed += leads
        if what is None:
            ignored += 1
            continue
        if isinstance(what, BadRecordError):
            record, value, nth = (unit.record, unit.raw, unit.nth) if foreign else (unit, unit.value, 0)
            tally.dead.append(DeadLetter(record, what.reason, what.detail, value, nth))
            continue
        if what.id is not None and rules.dedupe_window_s and sieve.repeats(rules.digest.event_id(what.id), stamp):
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
    if not stamps:
        return tally
    if first is not None and last is not None:
        tally.first_event_ms, tally.last_event_ms = micros(first) // 1000, micros(last) // 1000
    tally.first_record_ms, tally.last_record_ms = min(stamps), max(stamps)
    tally.sifted = sieve.sifted
    tally.inventory = changing.done()
    tally.settle(consumed, repeated, ignored)
    return tally
