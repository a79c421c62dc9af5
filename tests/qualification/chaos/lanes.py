"""The events sent to one partition, those that Kafka acknowledged, and those that its log contains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from schemas.ledger import fields
from schemas.ledger.keys import Shard
from schemas.ledger.scopes import OTHER
from tests.integration.publishing import Expected
from tests.qualification.chaos.poison import UNEXPECTED, Dead, Headers, Outcome, fates, is_usable
from tests.qualification.chaos.templates import BAD, CHUNK, NAMED, TEMPLATES, Numbers, Templates

# A record's key is eight bytes: its number in the lane, or one of these with a number of its own.
OPENING: Final = 1 << 60
IN_TRANSACTION: Final = 1 << 61
POISONED: Final = 1 << 62
SERIAL_BITS: Final = 40
TEMPLATE_BITS: Final = 20
EVENTS_A_MS: Final = 20


def number_of(key: int) -> int:
    """The transaction that a key of one names."""
    return (key & ~IN_TRANSACTION) >> TEMPLATE_BITS


def poisoned(specimen: int, serial: int) -> int:
    """The key of a poisoned record: an index of the lane's corpus, or a template's number after all of those."""
    return POISONED | specimen << SERIAL_BITS | serial


class Lane:
    """One partition of one topic. Events are numbered; what they are follows from number and seed."""

    def __init__(self, shard: Shard, templates: Templates, first_ms: int) -> None:
        self.shard, self.templates, self.first_ms = shard, templates, first_ms
        self.sent = 0
        self.acknowledged = 0
        self.opened = 0
        self.unknown: list[int] = []
        """Keys without an acknowledgement of the producer."""
        self.twice: list[int] = []
        """Keys that the log holds more than once, which no producer may cause."""
        self.bad_at: list[int] = []
        """Offsets of records of the flow that must become dead letters."""
        self.poisoned = 0
        self.defects = 0
        """Records sent on which the fold raises."""
        self.poison_taken: set[int] = set()
        """Keys of poisoned records that Kafka acknowledged."""
        self.read_to = 0
        self._seen = np.zeros(0, bool)
        self._in_transactions: list[tuple[int, int]] = []
        self._poison: list[tuple[int, int, int]] = []
        """Key, offset and timestamp of the poisoned records that the log holds."""
        self._before = _Sums()

    # What the producer does.

    def next_chunk(self) -> tuple[list[bytes], list[bytes], list[int]]:
        """Keys, values and timestamps of the next events."""
        start = self.sent
        self.sent += CHUNK
        values = self.templates.values
        picked = [values[number] for number in self.templates.chunk(self.shard, start // CHUNK).tolist()]
        keys = np.arange(start, start + CHUNK, dtype=">u8").tobytes()
        stamps = [self.first_ms + number // EVENTS_A_MS for number in range(start, start + CHUNK)]
        return [keys[at : at + 8] for at in range(0, len(keys), 8)], picked, stamps

    def delivered(self, error: Any, message: Any) -> None:
        """The producer's report."""
        if error is None:
            self.acknowledged += 1
        else:
            self.unknown.append(int.from_bytes(message.key(), "big"))

    def poison_delivered(self, key: int, error: Any) -> None:
        """The producer's report on a poisoned record: without one its outcome is unknown."""
        if error is None:
            self.poison_taken.add(key)

    @property
    def settled(self) -> bool:
        return self.acknowledged + len(self.unknown) == self.sent + self.opened

    def poison(self, specimen: int) -> tuple[bytes, bytes | None, bytes | None, Headers]:
        """Mark, value, key and headers of the next poisoned record: a specimen, or after those a template by number.

        A key of eight bytes would name an event of the flow.
        """
        self.poisoned += 1
        mark = poisoned(specimen, self.poisoned).to_bytes(8, "big")
        known = self.templates.corpus
        if specimen >= len(known):
            return mark, self.templates.values[specimen - len(known)], b"odd", ()
        one = known[specimen]
        self.defects += one.defect
        return mark, one.value_of(self.poisoned), one.key, one.headers

    # What the log says.

    def read(self, keys: bytes, offsets: Sequence[int], stamps: Sequence[int]) -> None:
        """Take in committed records of the log, in its order."""
        numbers = np.frombuffer(keys, ">u8").astype(np.int64)
        if len(self._seen) < self.sent:
            self._seen = np.concatenate([self._seen, np.zeros(self.sent - len(self._seen), bool)])
        plain = numbers[numbers < OPENING]
        repeated = plain[self._seen[plain]]
        self.twice += repeated.tolist()
        self._seen[plain] = True
        fresh, times = np.unique(plain, return_counts=True)
        self.twice += fresh[times > 1].tolist()
        self._note_bad(numbers, offsets)
        for at in np.nonzero(numbers >= IN_TRANSACTION)[0].tolist():
            key = int(numbers[at])
            if key >= POISONED:
                self._poison.append((key, offsets[at], stamps[at]))
            else:
                self._in_transactions.append((key, stamps[at]))
        if len(offsets):
            self.read_to = offsets[-1] + 1

    def _note_bad(self, numbers: Numbers, offsets: Sequence[int]) -> None:
        if self.templates.plain:
            return
        plain = np.unique(numbers[numbers < OPENING] // CHUNK).tolist()
        drawn = [np.nonzero(self.templates.chunk(self.shard, chunk) == BAD)[0] + chunk * CHUNK for chunk in plain]
        bad = np.concatenate(drawn) if drawn else np.zeros(0, np.int64)
        self.bad_at += [offsets[at] for at in np.nonzero(np.isin(numbers, bad))[0].tolist()]

    @property
    def committed_transactions(self) -> set[int]:
        return {number_of(key) for key, _ in self._in_transactions}

    def missing(self) -> list[int]:
        """Acknowledged events that the log does not hold."""
        unknown = np.array([key for key in self.unknown if key < OPENING], np.int64)
        # Of a log that was never read, or not to its end, all that was acknowledged is missing.
        there = np.zeros(self.sent, bool)
        there[: len(self._seen)] = self._seen[: self.sent]
        # A delivery to the topic before this one may end late.
        there[unknown[unknown < self.sent]] = True
        absent: list[int] = np.nonzero(~there)[0].tolist()
        return absent

    def missing_poison(self) -> set[int]:
        """Acknowledged poisoned records that the log does not hold."""
        return self.poison_taken - {key for key, _, _ in self._poison}

    # What the ledger must hold.

    def begin_anew(self) -> None:
        """The topic was made anew, after all of the old one was read: figures stay, numbers begin at 0."""
        self._before = self._sums()
        self.sent = self.acknowledged = self.opened = self.read_to = 0
        self.unknown, self._in_transactions, self.bad_at, self._poison = [], [], [], []
        self._seen = np.zeros(0, bool)

    @property
    def events(self) -> int:
        """Committed events, dead letters included."""
        return self._sums().events + len(self.templates.openings) + sum(len(fates) for _, _, fates in self._fates(0))

    def letters(self, clock_ms: int) -> set[tuple[int, int, str]]:
        """Offset, index and reason of every dead letter that the log must lead to."""
        due = {(offset, 0, "not_json") for offset in self.bad_at}
        return due | {
            (offset, index, fate.reason)
            for offset, _, fates in self._fates(clock_ms)
            for index, fate in enumerate(fates)
            if isinstance(fate, Dead)
        }

    def _fates(self, clock_ms: int) -> Iterator[tuple[int, int, list[Outcome]]]:
        """Offset and timestamp of each poisoned record, and what its elements must become."""
        known = self.templates.corpus
        for key, offset, stamp_ms in self._poison:
            specimen, serial = (key & ~POISONED) >> SERIAL_BITS, key & ((1 << SERIAL_BITS) - 1)
            if specimen < len(known):
                becomes = known[specimen].becomes
            else:
                becomes = self.templates.outcome(specimen - len(known))
            yield offset, stamp_ms, fates(becomes, serial, stamp_ms, clock_ms)

    def expected(self, contributions: Sequence[Expected], clock_ms: int) -> Expected:
        """What a ledger of this log must hold, by each template's own contribution. `clock_ms` is the true time."""
        wanted = Expected()
        for number, opening in enumerate(self.templates.openings):
            wanted.add(opening, self.first_ms + number)
        sums = self._sums()
        named = 0 if self.templates.plain else NAMED
        for template in np.nonzero(sums.times)[0].tolist():
            records = int(sums.times[template])
            wanted.progress[fields.CONSUMED] += records
            if template == BAD and not self.templates.plain:
                wanted.progress[fields.dead("not_json")] += records
                continue
            times = 1 if template >= TEMPLATES - named else records
            wanted.progress[fields.DUPLICATES] += records - times
            _add(wanted, contributions[template], times)
            if template >= TEMPLATES - named:
                wanted.ids.add(str(template))
                sums.last[template] = sums.first[template]
        for day, templates in self.templates.days.items():
            there = templates[(sums.times[templates] > 0) & ((templates != BAD) | self.templates.plain)]
            if len(there):
                first, last = int(sums.first[there].min()), int(sums.last[there].max())
                was = wanted.written.get(day, (first, last))
                wanted.written[day] = min(first, was[0]), max(last, was[1])
        wanted.records_ms = [*wanted.records_ms, *([] if sums.stamps is None else sums.stamps)]
        self._expect_poison(wanted, clock_ms)
        return wanted

    def _expect_poison(self, wanted: Expected, clock_ms: int) -> None:
        opened = Expected()
        for opening in self.templates.openings:
            opened.add(opening, 0)
        for offset, stamp_ms, becomes in self._fates(clock_ms):
            usable = is_usable(stamp_ms, clock_ms)
            wanted.progress[fields.UNTIMED] += not usable
            wanted.records_ms += [stamp_ms] * usable
            for fate in becomes:
                wanted.progress[fields.CONSUMED] += 1
                if isinstance(fate, Dead):
                    wanted.progress[fields.dead(fate.reason)] += 1
                    if fate.reason == UNEXPECTED:
                        wanted.unexpected.add(offset)
                else:
                    _expect_counted(wanted, opened, fate.event, stamp_ms if usable else None)

    def _sums(self) -> _Sums:
        sums = self._before.copy()
        for start in range(0, self.sent, CHUNK):
            there = self._seen[start : start + CHUNK]
            numbers = np.arange(start, start + len(there))[there]
            if len(numbers):
                picked = self.templates.chunk(self.shard, start // CHUNK)[: len(there)][there]
                sums.add(picked, self.first_ms + numbers // EVENTS_A_MS)
        for key, stamp in self._in_transactions:
            sums.add(np.array([key & ((1 << TEMPLATE_BITS) - 1)]), np.array([stamp]))
        return sums


class _Sums:
    """How often each template is in a log, and when first and last."""

    def __init__(self) -> None:
        self.times = np.zeros(TEMPLATES, np.int64)
        self.first = np.full(TEMPLATES, np.iinfo(np.int64).max)
        self.last = np.zeros(TEMPLATES, np.int64)
        self.stamps: tuple[int, int] | None = None

    @property
    def events(self) -> int:
        return int(self.times.sum())

    def add(self, templates: Numbers, stamps: Numbers) -> None:
        np.add.at(self.times, templates, 1)
        np.minimum.at(self.first, templates, stamps)
        np.maximum.at(self.last, templates, stamps)
        low, high = int(stamps.min()), int(stamps.max())
        self.stamps = (low, high) if self.stamps is None else (min(low, self.stamps[0]), max(high, self.stamps[1]))

    def copy(self) -> _Sums:
        other = _Sums()
        other.times, other.first, other.last = self.times.copy(), self.first.copy(), self.last.copy()
        other.stamps = self.stamps
        return other


def _after(opened: Expected) -> Expected:
    """Nothing yet, where all names of the openings are known. A copy: what one event makes known, another does too."""
    return Expected(_realms=set(opened._realms), _clients=set(opened._clients))


def _expect_counted(wanted: Expected, opened: Expected, event: Mapping[str, Any], stamp_ms: int | None) -> None:
    if "id" in event:
        if event["id"] in wanted.ids:
            wanted.progress[fields.DUPLICATES] += 1
            return
        wanted.ids.add(event["id"])
    one = _after(opened)
    one.add(event, 0)
    one.labels = {label for label in one.labels if fields.split(label)[-1] != OTHER}
    _add(wanted, one, 1)
    if stamp_ms is not None:
        day = event["time"][:10]
        first, last = wanted.written.get(day, (stamp_ms, stamp_ms))
        wanted.written[day] = min(first, stamp_ms), max(last, stamp_ms)


def contributions(templates: Templates) -> list[Expected]:
    """What each template adds once all openings have been counted."""
    opened = Expected()
    for opening in templates.openings:
        opened.add(opening, 0)
    found = []
    for event in templates.events:
        one = _after(opened)
        one.add(event, 0)
        found.append(one)
    return found


def _add(wanted: Expected, one: Expected, times: int) -> None:
    wanted.progress[fields.COUNTED] += times
    for place, counts in one.counts.items():
        held = wanted.counts[place]
        for name, more in counts.items():
            held[name] += more * times
    for place, users in one.users.items():
        wanted.users[place] |= users
    for period, clients in one.clients.items():
        wanted.clients[period] |= clients
    wanted.labels |= one.labels
