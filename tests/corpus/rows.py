"""The corpus: records made of a value and what is around it, and a plain model of what each must become."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from schemas.ledger import fields
from tests.corpus.around import CODECS, HEADERS, HOUR_MS, KEYS, TIMESTAMPS, Headers, timestamp_ms
from tests.corpus.bindings import BINDINGS, Binding, Role
from tests.corpus.kinds import ABSENT, KINDS, LATE
from tests.corpus.pairs import all_pairs

COUNTED: Final = "counted"
REPEATED: Final = "duplicates"
IGNORED: Final = "ignored"
DEAD: Final = "dead/"
_MAX_AHEAD_MS: Final = 24 * HOUR_MS
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Outcome(NamedTuple):
    """What one element becomes."""

    fate: str
    """COUNTED, REPEATED, IGNORED, or DEAD and a reason: fields of the progress."""
    counts: tuple[str, ...] = ()
    """Fields of the counts that it adds 1 to."""
    time_ms: int = 0
    """When it happened, if it is counted."""


class Record(NamedTuple):
    """What is sent."""

    value: bytes | None
    key: bytes | None
    headers: Headers
    timestamp_ms: int


class Row(NamedTuple):
    """Names of KINDS, KEYS, HEADERS, TIMESTAMPS, CODECS, and the topic's binding."""

    binding: str
    kind: str
    key: str
    headers: str
    timestamp: str
    codec: str

    @property
    def why(self) -> str:
        around = KEYS[self.key].why, HEADERS[self.headers].why, TIMESTAMPS[self.timestamp].why, CODECS[self.codec]
        return "; ".join((KINDS[self.kind].why, *around))

    @property
    def untimed(self) -> bool:
        """Whether its timestamp is not usable; a record without elements is nowhere counted."""
        return not TIMESTAMPS[self.timestamp].usable and bool(self._becomes)

    @property
    def _becomes(self) -> str:
        kind = KINDS[self.kind]
        return next((text for names, text in kind.instead.items() if self.binding in names), kind.becomes)

    def record(self, clock_ms: int, ident: str) -> Record:
        """`ident` begins all its ids: rows with different ones are different events."""
        kind, binding, own_ms = KINDS[self.kind], BINDINGS[self.binding], clock_ms - HOUR_MS
        value = kind.frame
        if value is not None:
            for part in range(value.count(b"%b")):
                one = filled(_sample(binding, self.kind), own_ms, ident if kind.same_id else f"{ident}.{part}")
                value = value.replace(b"%b", one, 1)
        needed = [(name, filled(given, own_ms, ident)) for name, given in kind.headers]
        return Record(
            value,
            KEYS[self.key].key,
            (*needed, *HEADERS[self.headers].headers),
            timestamp_ms(TIMESTAMPS[self.timestamp], clock_ms),
        )

    def outcomes(self, clock_ms: int) -> list[Outcome]:
        """What each element becomes, by the contract; of several faults the one that is found first counts."""
        stamp, binding = TIMESTAMPS[self.timestamp], BINDINGS[self.binding]
        at_ms = timestamp_ms(stamp, clock_ms) if stamp.usable else clock_ms
        good = binding.other_becomes if KINDS[self.kind].other else binding.becomes
        counts = () if good == "otp" else tuple(good.split(" + "))

        def judged(text: str) -> Outcome:
            if text == IGNORED or text.startswith(DEAD):
                return Outcome(text)
            if text == "record" and not stamp.usable:
                return Outcome(fields.dead("no_time"))
            time_ms = at_ms if text == "record" else clock_ms - HOUR_MS
            late = text.removeprefix(LATE)
            if late != text and not binding.late:
                return Outcome(late)
            if time_ms > at_ms + _MAX_AHEAD_MS:
                return Outcome(fields.dead("impossible_time"))
            if late != text:
                return Outcome(late)
            return Outcome(REPEATED) if text == "repeated" else Outcome(COUNTED, counts, time_ms)

        return [judged(text) for text in self._becomes.split(", ") if text]


ROWS: Final = [
    Row(*levels)
    for levels in all_pairs(
        [(binding, kind) for binding in BINDINGS for kind, each in KINDS.items() if binding in each.only],
        [list(KEYS), list(HEADERS), list(TIMESTAMPS), list(CODECS)],
    )
]


def neighbour(binding: str, number: int) -> Row:
    """A good record without anything odd around it."""
    return Row(binding, "good", "text", "none", "now", list(CODECS)[number % len(CODECS)])


def progress(outcomes: Sequence[Outcome]) -> Counter[str]:
    """What the outcomes add to the progress of their shard, less the number of untimed records."""
    found = Counter(outcome.fate for outcome in outcomes)
    found[fields.CONSUMED] = len(outcomes)
    return found


def counts(outcomes: Sequence[Outcome]) -> dict[str, Counter[str]]:
    """What the outcomes add to the counts of everything, by day and month in UTC."""
    found: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        day = f"{_EPOCH + timedelta(milliseconds=outcome.time_ms):%Y-%m-%d}"
        for period in (day, day[:7]) if outcome.counts else ():
            found.setdefault(period, Counter()).update(outcome.counts)
    return found


def _sample(binding: Binding, name: str) -> bytes:
    """The record of a binding with the change of a kind."""
    kind = KINDS[name]
    if name == "ignored":
        return json.dumps(binding.ignored).encode()
    return changed(binding.other if kind.other else binding.good, binding, kind.change)


def changed(sample: Mapping[str, Any], binding: Binding, change: Mapping[Role, Any]) -> bytes:
    """One of the binding's records as JSON, with other values at some of its paths."""
    written: Any = deepcopy(sample)
    for role, value in change.items():
        *outer, field = binding.paths[role]
        inner = written
        for step in outer:
            inner = inner[step]
        if value is ABSENT:
            del inner[field]
        else:
            inner[field] = value
    return json.dumps(written).encode()


def filled(text: bytes, own_ms: int, ident: str) -> bytes:
    """The text with all placeholders replaced: the event's own time is `own_ms`, its id `ident`."""
    time = _EPOCH + timedelta(milliseconds=own_ms)
    naive = f"{time:%Y-%m-%dT%H:%M:%S}.{own_ms % 1000:03}"
    given = {
        "<id>": ident,
        "<time>": f"{naive}Z",
        "<fine>": f"{naive}999999Z",
        "<naive>": naive.replace("T", " "),
        '"<ms>"': str(own_ms),
        '"<ms.0>"': f"{own_ms}.0",
        '"<ms.5>"': f"{own_ms}.5",
        '"<msE>"': f"{own_ms // 1000}E3",
    }
    for name, value in given.items():
        text = text.replace(name.encode(), value.encode())
    return text
