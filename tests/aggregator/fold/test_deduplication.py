"""Events that are sent twice: what is a repeat, for how long, within which memory, and that no cutting changes it."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aggregator.fold.deduplication import (
    AHEAD_HOURS,
    HOUR_MS,
    NOTHING_EVICTED,
    Deduplicator,
    SeenIds,
    effective_window_s,
    pack,
)
from aggregator.fold.fold import fold
from aggregator.fold.range_delta import CountingRules, ShardCache
from aggregator.ledger.ledger import Applied
from deploy.cli.verify.plain_counting import Repeats
from schemas.ledger import fields
from schemas.ledger.keys import ShardKeys
from schemas.ledger.scopes import EVERYTHING
from tests.aggregator import ledgers
from tests.aggregator.counting import SHARD, Counting
from tests.aggregator.logs import NOW_MS, LogRecord
from tests.aggregator.sums import summed

OF = ShardKeys("authtally:", SHARD)
WINDOW_S = 2 * 3600
MINUTE_MS = 60_000
DAY = 24 * 60
"""In minutes."""
START_MS = 1_795_132_800_000  # 2026-11-20, midnight


def login(offset: int, minutes: int, event_id: str | None = None, **more: object) -> LogRecord:
    event = {"time": "2026-11-20T00:00:00Z", "user_id": f"user-{offset}", "id": event_id} | more
    return LogRecord(offset, START_MS + minutes * MINUTE_MS, json.dumps(event).encode())


def counted(*log: LogRecord, cuts: tuple[int, ...] = (), **given: Any) -> tuple[int, int]:
    """Logins and duplicates of a log that is folded in one range or several."""
    rules = CountingRules.of(ledgers.settings("redis://nowhere", **({"dedupe_window_s": WINDOW_S} | given)))
    sums = summed("login", log, cuts, rules, NOW_MS)
    return sums.counts["2026-11", EVERYTHING][fields.LOGIN], sums.progress[fields.DUPLICATES]


@pytest.mark.parametrize(
    ("log", "expected", "why"),
    [
        ([login(0, 0, "a"), login(1, 1, "a")], (1, 1), "at once again"),
        ([login(0, 0, "a"), login(1, 120, "a")], (1, 1), "at the window's very end"),
        ([login(0, 59, "a"), login(1, 179, "a")], (1, 1), "at the window's very end, from an hour's end"),
        ([login(0, 0, "a"), login(1, 180 + 24 * 60, "a")], (2, 0), "after the window, its hour and a day"),
        ([login(0, 0, "a"), login(1, 0, "b"), login(2, 0)], (3, 0), "different ids, and none"),
        ([login(0, 0), login(1, 0)], (2, 0), "no id is no repeat"),
        ([login(0, 0, ""), login(1, 0, "")], (1, 1), "an empty id is one"),
        ([login(0, 600 + 24 * 60, "a"), login(1, 0, "b"), login(2, 1, "b")], (3, 0), "too late to be remembered"),
        ([login(0, 600, "a"), login(1, 0, "a")], (1, 1), "late, of an id that is held"),
        ([login(0, 0, "a", user_id=""), login(1, 0, "a")], (1, 0), "a bad event leaves no id"),
        ([login(0, 0, "a"), login(1, 0, "a", success=False)], (1, 1), "the id decides, not the rest"),
    ],
)
def test_an_id_counts_once_within_the_window(log: list[LogRecord], expected: tuple[int, int], why: str) -> None:
    assert counted(*log) == expected, why
    assert counted(*log, cuts=(1,)) == expected, why


@pytest.mark.parametrize(
    ("window_s", "log", "why"),
    [
        (7200, [login(0, 0, "a"), login(1, 120 + DAY, "b"), login(2, 120, "a")], "at the window's end"),
        (7200, [login(0, 0, "a"), login(1, DAY, "b"), login(2, 1, "a")], "soon after"),
        (5400, [login(0, 59, "a"), login(1, 149 + DAY, "b"), login(2, 149, "a")], "after a window of no whole hours"),
    ],
)
def test_an_event_of_the_next_day_makes_no_id_expire(window_s: int, log: list[LogRecord], why: str) -> None:
    """Records up to 24 h ahead of the clock are taken."""
    assert counted(*log, dedupe_window_s=window_s) == (2, 1), why
    assert counted(*log, dedupe_window_s=window_s, cuts=(1, 2)) == (2, 1), why


def test_without_a_window_every_event_counts() -> None:
    assert counted(login(0, 0, "a"), login(1, 0, "a"), dedupe_window_s=0) == (2, 0)


def test_a_repeat_makes_no_user_active_and_no_label_known() -> None:
    rules = CountingRules.of(ledgers.settings("redis://nowhere"))
    log = [login(0, 0, "a"), login(1, 0, "a", realm="acme", client_id="web")]
    delta = fold("login", log, 2, ShardCache(set()), rules, NOW_MS)
    assert delta.labels == set()
    assert sum(map(len, delta.users["2026-11", EVERYTHING])) == 1
    assert delta.clients == {}
    assert delta.progress == {fields.CONSUMED: 2, fields.COUNTED: 1, fields.DUPLICATES: 1}


def test_the_oldest_hour_goes_first_when_ids_have_no_room() -> None:
    # Three realms, none of which holds more than half.
    old = [login(n, 0, f"old-{n}", realm=f"r{n}") for n in range(3)]
    new = [login(3 + n, 60, f"new-{n}", realm=f"r{n}") for n in range(3)]
    again = [login(6, 61, "old-0"), login(7, 61, "new-0")]
    assert counted(*old, *new, *again, dedupe_max_ids=5) == (7, 1)
    assert counted(*old, *new, *again, dedupe_max_ids=6) == (6, 2)


def test_the_window_that_is_held_says_what_was_given_up() -> None:
    def held(log: list[tuple[int, int]], max_ids: int) -> int:
        seen = SeenIds()
        sieve = Deduplicator(seen, WINDOW_S, max_ids, NOW_MS, len(log))
        for number, hour in log:
            sieve.is_duplicate(digest(number), hour * HOUR_MS, f"r{number}")
        seen.update(sieve.finish())
        return effective_window_s(seen, WINDOW_S)

    assert held([], 1) == WINDOW_S
    assert held([(1, 7), (2, 8), (3, 9)], 3) == WINDOW_S
    assert held([(1, 7), (2, 8), (3, 9)], 2) == 3600
    assert held([(1, 9), (2, 9)], 1) == 0, "an hour too large by itself"
    assert held([(1, 7), (2, 8), (3, 9), (4, 20)], 2) == WINDOW_S, "long past"


ids = st.tuples(st.integers(0, 12), st.integers(0, 4_000))
"""Which id, and the minute of its record."""
REALMS = ("acme", "acme", "acme", "acme", "b", "c")


def realm_of(event_id: int) -> str:
    return REALMS[event_id % len(REALMS)]


def digest(number: int) -> bytes:
    return number.to_bytes(8, "big")


def unlimited(log: list[tuple[int, int]], window_hours: int) -> list[bool]:
    """The repeats, by a plain calculation without a limit."""
    held: dict[int, int] = {}
    newest = -1
    result = []
    for event_id, minute in log:
        hour = minute // 60
        newest = max(newest, hour)
        held = {
            known: last_hour for known, last_hour in held.items() if last_hour >= newest - window_hours - AHEAD_HOURS
        }
        result.append(event_id in held)
        if event_id not in held and hour >= newest - window_hours - AHEAD_HOURS:
            held[event_id] = hour
    return result


@given(st.lists(ids, max_size=60), st.integers(1, 4))
def test_repeats_equal_those_of_a_plain_calculation(log: list[tuple[int, int]], window_hours: int) -> None:
    sieve = Deduplicator(SeenIds(), window_hours * 3600, 1000, NOW_MS, len(log))
    result = [sieve.is_duplicate(digest(event_id), minute * MINUTE_MS, "") for event_id, minute in log]
    assert result == unlimited(log, window_hours)


@settings(max_examples=500)
@given(st.lists(ids, max_size=60), st.lists(st.integers(0, 60), max_size=8), st.integers(1, 20), st.integers(1, 3))
def test_no_cutting_changes_what_is_a_repeat_or_what_is_held(
    log: list[tuple[int, int]], cuts: list[int], max_ids: int, window_hours: int
) -> None:
    recount = Repeats(window_hours * 3600, max_ids)
    independent = [recount.has(str(event_id), minute * MINUTE_MS, realm_of(event_id)) for event_id, minute in log]
    found = []
    for where in ([], cuts):
        seen, result = SeenIds(), []
        edges = [0, *sorted(range_ for range_ in where if range_ < len(log)), len(log)]
        for start, end in pairwise(edges):
            sieve = Deduplicator(seen, window_hours * 3600, max_ids, NOW_MS, end - start)
            result += [
                sieve.is_duplicate(digest(event_id), minute * MINUTE_MS, realm_of(event_id))
                for event_id, minute in log[start:end]
            ]
            seen.update(sieve.finish())
            assert len(seen.digests) == sum(map(len, seen.hours.values())) <= max_ids
            assert all(number <= max_ids // 2 + 1 for number in seen.by_realm.values())
            assert seen.excess is None or len(seen.excess.digests) <= max(max_ids // 2, 1)
            seen = reloaded(seen)
        found.append((result, seen))
    assert found[0] == found[1]
    assert found[0][0] == independent


def reloaded(seen: SeenIds) -> SeenIds:
    """The ids as the next worker finds them."""
    kept = {hour: pack(held) for hour, held in seen.hours.items()}
    read = SeenIds.from_packed(
        kept, seen.evicted_before, {hour: numbers for hour, numbers in seen.realms.items() if numbers}
    )
    if seen.excess is not None:
        read.excess = reloaded(seen.excess)
    return read


def test_a_realm_that_floods_ids_displaces_no_id_of_another_and_remembers_its_latest() -> None:
    max_ids, share = 100, 50
    seen = SeenIds()
    victim = [(f"victim {number}", number) for number in range(share - 1)]
    flood = [(f"flood {number}", number // 20) for number in range(2_000)]
    for start in range(0, 2_000, 100):
        sieve = Deduplicator(seen, WINDOW_S, max_ids, NOW_MS, 200)
        for text, minute in flood[start : start + 100]:
            assert not sieve.is_duplicate(digest_of(text), minute * MINUTE_MS, "hostile")
        for text, minute in victim:
            assert sieve.is_duplicate(digest_of(text), minute * MINUTE_MS, "victim") == bool(start), text
        result = sieve.finish()
        seen.update(result)
        assert result.over_share == 100 - (0 if start else share + 1)
    assert seen.by_realm == {"hostile": share + 1, "victim": share - 1}
    assert (len(seen.digests), seen.evicted_before) == (max_ids, NOTHING_EVICTED)
    assert seen.excess is not None
    assert digest_of("flood 1999") in seen.excess.digests
    assert len(seen.excess.digests) <= share


def digest_of(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(ids, min_size=1, max_size=40),
    st.lists(st.integers(1, 40), max_size=6),
    st.integers(1, 8),
    st.booleans(),
)
async def test_any_cutting_leaves_the_same_ids_in_the_ledger(
    redis_url: str, events: list[tuple[int, int]], cuts: list[int], max_ids: int, remember: bool
) -> None:
    log = [
        login(offset, minute, str(event_id), realm=realm_of(event_id))
        for offset, (event_id, minute) in enumerate(events)
    ]
    given: dict[str, Any] = {"dedupe_window_s": WINDOW_S, "dedupe_max_ids": max_ids}
    found = []
    for where, memory in (([], True), (cuts, remember)):
        client = ledgers.client(redis_url)
        client.flushall()
        async with Counting(redis_url, remember=memory, **given) as counter:
            await counter.open()
            await counter.count_cut(log, where)
            found.append(ledgers.contents(client))
        client.close()
    assert found[0] == found[1]


async def test_ids_that_were_read_are_void_when_the_shard_has_moved_on(redis_url: str) -> None:
    async with Counting(redis_url) as counter:
        await counter.open()
        await counter.count([login(0, 0, "a")], 0, 1)
        state = await counter.ledger.read_state(SHARD)
        assert isinstance(await counter.count([login(1, 0, "b")], 1, 2), Applied)
        assert await counter.ledger.read_seen_ids(SHARD, state) is None
        seen = await counter.ledger.read_seen_ids(SHARD, await counter.ledger.read_state(SHARD))
        assert seen is not None
        assert seen.digests == {counter.rules.digest.event_id("a"), counter.rules.digest.event_id("b")}
        assert ledgers.client(redis_url).strlen(OF.ids_of(START_MS // HOUR_MS)) == 16, "eight bytes an id"
