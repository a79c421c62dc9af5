"""The border: whatever a log holds, no fold raises, and any cutting of it adds up to the same ledger."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aggregator.fold.range_delta import CountingRules
from schemas.adapters.registry import ADAPTERS
from schemas.events import BOM, RecordTime
from schemas.ledger import fields
from schemas.ledger.keys import Shard
from tests.aggregator import ledgers
from tests.aggregator.counting import Counting
from tests.aggregator.logs import LogRecord
from tests.aggregator.sums import Sums, summed
from tests.corpus.bindings import BINDINGS, Role
from tests.corpus.rows import changed, filled
from tests.schemas.adapters.test_never_raises import ALLOWED, HOSTILE_NUMBERS, HOSTILE_TEXTS, headers, records

EXAMPLES: Final = 2_000
LONG_EXAMPLES: Final = 100_000
STORED_EXAMPLES: Final = 50
ROUND_S: Final = 1_800

CLOCKS_MS: Final = (1_767_225_600_000, 2_082_758_400_000)
"""2026 to 2035."""
HOUR_MS: Final = 3_600_000
LIMITS: Final = -(2**63), 2**63 - 1

NAMED: Final[list[dict[str, Any]]] = [
    {},
    {"timezone": "America/St_Johns", "users_by": "realm,client,node", "counts_by": "realm,client,node"},
    {
        "timezone": "Pacific/Apia",
        "user_scope": "realm",
        "max_labels": 1,
        "labels_on": "success",
        "dedupe_max_ids": 4,
    },
    {"dedupe_max_ids": 1, "dedupe_window_s": 3600, "counts_by": "client", "active_on": "login"},
    {"dedupe_window_s": 0, "retain_days": 0, "exact_up_to": 0},
]
"""Settings that change what a log yields."""
RULES: Final = [CountingRules.of(ledgers.settings("redis://nowhere", **named)) for named in NAMED]

ONE: Final = [b"%b", BOM + b"%b", b'{"id":"twice",%b', b'{"nested":' + b"[" * 50 + b"]" * 50 + b",%b"]
FRAMES: Final = [*ONE, b"[%b]", b"[%b,%b,5]", b"%b\n%b"]
"""The value, whole or without its first brace."""


@dataclass(frozen=True)
class Log:
    """Records on a topic bound to `name`, the store's clock, where the ranges end, and by which settings they count."""

    name: str
    records: list[LogRecord]
    now_ms: int
    cuts: list[int]
    rules: int


def framed(value: bytes, frame: bytes) -> bytes:
    return frame.replace(b",%b", b"," + value[1:]) if frame.startswith(b"{") else frame.replace(b"%b", value)


TEXTS: Final = st.sampled_from([*HOSTILE_TEXTS, "acme", "globex", "u", "v"])
WORDS: Final = st.sampled_from(["password", "refresh_token", "client_credentials", "odd", "x" * 256])
MORE: Final[dict[str, st.SearchStrategy[dict[str, Any]]]] = {
    "login": st.fixed_dictionaries(
        {}, optional={"success": st.booleans(), "counted": st.booleans(), "node": TEXTS, "reason": TEXTS}
    ),
    "token": st.fixed_dictionaries({}, optional={"grant_type": WORDS, "tokens": st.lists(WORDS, max_size=3)}),
    "account": st.fixed_dictionaries({}, optional={"kind": st.sampled_from([*sorted(fields.FAILURE_KINDS), "odd"])}),
    "otp": st.fixed_dictionaries(
        {},
        optional={
            "realms": st.lists(st.sampled_from(["acme", "b", "c"]), max_size=3),
            "active": st.booleans(),
            "assigned": st.booleans(),
            "deleted": st.booleans(),
        },
    ),
    "otp-count": st.fixed_dictionaries({}, optional={"count": st.integers(-1, 2**32), "status": WORDS}),
}
"""Fields of native events besides those that every binding has."""
ARBITRARY: Final = {name: st.one_of(ALLOWED[name], records) for name in ADAPTERS}
ID: Final = "<id>"
"""Stands in a value for the id that each record of it gets: the same event otherwise, and often a new one."""
ROLES: Final[frozenset[Role]] = frozenset(("user", "label"))
KEYS: Final = st.one_of(st.none(), st.just(b""), st.binary(max_size=8))


@st.composite
def valid(draw: st.DrawFn, name: str, now_ms: int) -> bytes:
    """A record that the binding's schema allows, one of its fields perhaps hostile."""
    binding = BINDINGS[name]
    record = draw(st.sampled_from([binding.good, binding.good, binding.other, binding.ignored or binding.other]))
    if record is binding.ignored or "payload" in record:
        return filled(json.dumps(record).encode(), now_ms, ID)
    paths, change = binding.paths, dict[Role, Any]()
    for role in ROLES.intersection(paths):
        change[role] = draw(st.sampled_from("uuv"))
    if draw(st.sampled_from([True, False, False])):
        role = draw(st.sampled_from(sorted(paths)))
        change[role] = draw(st.sampled_from(HOSTILE_NUMBERS) if role == "time" else TEXTS)
    value = changed({**record, **draw(MORE.get(name, st.just({})))}, binding, change)
    own_ms = now_ms + draw(st.sampled_from([-1, -2, -30, -720, 0, 23, 25])) * HOUR_MS
    frames = FRAMES if binding.several else ONE
    return framed(filled(value, own_ms, ID), draw(st.sampled_from(frames)))


@st.composite
def value(draw: st.DrawFn, name: str, now_ms: int) -> bytes | None:
    # Not by one_of: that would give each of the arbitrary sorts as much room as all valid ones.
    return draw(valid(name, now_ms) if draw(st.booleans()) else ARBITRARY[name])


@st.composite
def logs(draw: st.DrawFn) -> Log:
    name = draw(st.sampled_from(sorted(ADAPTERS)))
    now_ms = draw(st.integers(*CLOCKS_MS))
    # Few, each sent several times: what meets its like is what a cut can come between.
    values = [draw(value(name, now_ms)) for _ in range(draw(st.integers(1, 5)))]
    around = draw(st.lists(st.tuples(KEYS, headers), min_size=1, max_size=2))
    near = st.sampled_from([-47, -30, -2, -1, 0, 1, 22]).map(lambda hours: now_ms + hours * HOUR_MS)
    odd = st.sampled_from([-1, 0, now_ms // 1000, now_ms * 1000, 946_684_799_999, 946_684_800_000, *LIMITS])
    timestamps = st.booleans().flatmap(lambda usable: near if usable else odd | st.integers(*LIMITS))
    size = draw(st.integers(0, 12))
    idents = st.sampled_from([b"a", b"b", b"c", b"d", b"e", b"f"])
    one = st.tuples(st.sampled_from(values), idents, st.sampled_from(around), timestamps)
    sent = draw(st.lists(one, min_size=size, max_size=size))
    log = [
        LogRecord(at, ms, value and value.replace(ID.encode(), ident), key, tuple(named))
        for at, (value, ident, (key, named), ms) in enumerate(sent)
    ]
    cuts = draw(st.lists(st.integers(1, 11), max_size=4))
    return Log(name, log, now_ms, cuts, draw(st.integers(0, len(RULES) - 1)))


def check(log: Log) -> None:
    whole, range_, single = (
        summed(log.name, log.records, cuts, RULES[log.rules], log.now_ms)
        for cuts in ([], log.cuts, range(len(log.records)))
    )
    assert whole == range_ == single
    check_books(whole, log)


def check_books(sums: Sums, log: Log) -> None:
    progress = sums.progress
    became = [name for name in progress if fields.split(name)[0] == "dead"]
    became += [fields.COUNTED, fields.DUPLICATES, fields.IGNORED]
    assert progress[fields.CONSUMED] == sum(progress[name] for name in became)
    assert Counter(fields.dead(reason) for _, _, reason, _ in sums.dead) == Counter(
        {name: progress[name] for name in became if name.startswith("dead")}
    )
    untimed = [not RecordTime.of(record.timestamp, log.now_ms).usable for record in log.records]
    assert progress[fields.UNTIMED] <= sum(untimed)
    assert ("records" in sums.spans) <= (not all(untimed))


@pytest.fixture(autouse=True)
def _small_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shares that a short log can exceed."""
    for name, size in {"REALM_CLIENTS": 1, "REALM_WORDS": 1, "WORD_POOL": 3, "MAX_WORDS": 2}.items():
        monkeypatch.setattr(fields, name, size)


QUICK: Final = settings(deadline=None, suppress_health_check=list(HealthCheck))


@settings(QUICK, max_examples=EXAMPLES)
@given(logs())
def test_no_log_makes_a_fold_raise_and_any_cutting_adds_up_to_the_same(log: Log) -> None:
    check(log)


@pytest.mark.chaos
@pytest.mark.timeout(ROUND_S)
@pytest.mark.parametrize("round_", range(LONG_EXAMPLES // EXAMPLES))
@settings(QUICK, max_examples=EXAMPLES, derandomize=False)
@given(log=logs())
def test_nor_do_a_hundred_thousand_logs(round_: int, log: Log) -> None:
    """In rounds, each with a seed of its own: hypothesis remembers every example of one, 100 KB each."""
    check(log)


@settings(QUICK, max_examples=STORED_EXAMPLES)
@given(log=logs(), remember=st.booleans())
async def test_any_cutting_leaves_the_same_keys_in_a_store(redis_url: str, log: Log, remember: bool) -> None:
    if log.records:
        assert await stored(redis_url, log, [], remember=True) == await stored(
            redis_url, log, log.cuts, remember=remember
        )


async def stored(redis_url: str, log: Log, cuts: Iterable[int], *, remember: bool) -> dict[str, object]:
    shard = Shard("auth.foreign", 0)
    named = {**NAMED[log.rules], "topics": f"{shard.topic}={log.name}"}
    with ledgers.client(redis_url) as client:
        client.flushall()
        async with Counting(redis_url, shard, remember=remember, **named) as counter:
            counter.now_ms = log.now_ms
            await counter.open()
            await counter.count_cut(log.records, cuts)
        return ledgers.contents(client)
