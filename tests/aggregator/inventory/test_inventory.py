"""The OTP inventory on a real store, held against a plain model of it."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aggregator.inventory.fold import decode_records, fold_inventory
from aggregator.inventory.state import InventoryCache
from aggregator.ledger.ledger import Applied, LedgerDefectError, Refused
from schemas.ledger.inventory import NO_REALM, ROWS_PER_CHUNK
from tests.aggregator import ledgers
from tests.aggregator.inventories import OF, SHARD, Held, Inventories, Model, log, state
from tests.aggregator.logs import NOW_MS

BERLIN = ZoneInfo("Europe/Berlin")
START = datetime(2026, 3, 27, 22, tzinfo=UTC)


@st.composite
def states(draw: st.DrawFn) -> dict[str, Any]:
    """Few serials, realms, users and times, so that events are late, repeated and at odds all the time."""
    # Hours around the turn to summer time, some days apart, and over a year's end.
    at = START + draw(st.sampled_from((1, 1, 40, 400))) * timedelta(hours=draw(st.integers(0, 30)))
    return {
        "time": at.isoformat(),
        "serial": draw(st.sampled_from(("S1", "S2", "S3", "S4"))),
        "event": draw(st.sampled_from(("token_init", "token_assign", "token_disable"))),
        "realms": draw(st.lists(st.sampled_from(("a", "b", "ü c")), max_size=3)),
        "active": draw(st.booleans()),
        "assigned": draw(st.booleans()),
        "user_id": draw(st.sampled_from((None, "alice", "bob"))),
        "deleted": draw(st.integers(0, 5)) == 0,
        "event_id": draw(st.sampled_from((None, None, "e1", "e2"))),
    }


@st.composite
def logs(draw: st.DrawFn) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = []
    for event in draw(st.lists(states(), min_size=1, max_size=40)):
        result.append(event)
        if draw(st.integers(0, 4)) == 0:
            result.append(result[draw(st.integers(0, len(result) - 1))])
    return result


def compare(redis_url: str, model: Model) -> None:
    with Held(redis_url) as held:
        for realm in held.realms:
            assert held.rows(realm) == model.rows[realm]
            assert held.days(realm) == model.days(realm)
            if model.rows[realm]:
                assert held.now(realm) == model.now(realm)
        assert set(model.rows) <= set(held.realms)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=logs(), cuts=st.lists(st.integers(1, 50), max_size=5), remember=st.booleans())
async def test_any_log_in_any_cuts_is_what_a_plain_model_holds(
    redis_url: str, events: list[dict[str, Any]], cuts: list[int], remember: bool
) -> None:
    model = Model(BERLIN)
    fates = [model.take(event) for event in events]
    async with Inventories(redis_url, remember=remember, timezone="Europe/Berlin") as counter:
        await counter.client.flushall()
        await counter.open()
        await counter.count_cut(log(events), cuts)
    compare(redis_url, model)
    with Held(redis_url) as held:
        assert held.progress["consumed"] == len(events)
        for fate in ("counted", "duplicates", "ignored"):
            assert held.progress.get(fate, 0) == fates.count(fate)


async def test_cutting_the_log_elsewhere_leaves_the_same_bytes(redis_url: str) -> None:
    events = [
        state(
            *(f"2026-03-0{1 + n % 5}T00:00:00Z", f"S{n % 7}", f"e{n % 3}", "a", "bc"[n % 2]),
            user_id=f"u{n % 4}",
            event_id=f"{n // 3}" if n % 2 else None,
        )
        for n in range(700)
    ]
    found = []
    for cuts, remember in (([], True), ([1, 2, 3, 350, 351], False), (range(0, 700, 9), True)):
        async with Inventories(redis_url, remember=remember) as counter:
            await counter.client.flushall()
            await counter.open()
            await counter.count_cut(log(events), cuts)
        with ledgers.client(redis_url) as client:
            found.append(ledgers.contents(client))
    assert found[0] == found[1] == found[2]


async def test_rows_continue_over_chunks_and_the_chunk_starts_are_stored(redis_url: str) -> None:
    model = Model(ZoneInfo("UTC"))
    events = [
        state((START + timedelta(minutes=n)).isoformat(), f"S{n}", "token_init", "a") for n in range(2 * ROWS_PER_CHUNK)
    ]
    for event in events:
        model.take(event)
    async with Inventories(redis_url) as counter:
        await counter.open()
        await counter.count_cut(log(events), [ROWS_PER_CHUNK - 1, ROWS_PER_CHUNK])
    compare(redis_url, model)
    with Held(redis_url) as held:
        begun = [model.rows["a"][n][0] for n in (0, ROWS_PER_CHUNK)]
        assert list(array("q", held.places("a"))) == [round(at.timestamp() * 1e6) for at in begun]
        assert [len(chunk) for chunk in held.chunks("a")] == [8 + 30 * ROWS_PER_CHUNK] * 2


T = [f"2026-05-01T00:00:0{n}Z" for n in range(8)]


@pytest.mark.parametrize(
    ("events", "realm", "now", "fates", "why"),
    [
        ([state(T[0], "S", "token_init", "a")], "a", (1, 1, 0, 0, 1), "c", "active and unassigned"),
        ([state(T[0], "S", "token_init")], NO_REALM, (1, 1, 0, 0, 1), "c", "in no realm"),
        (
            [state(T[0], "S", "token_init"), state(T[1], "S", "token_tokenrealm", "a")],
            NO_REALM,
            (0, 0, 0, 0, 0),
            "cc",
            "what leaves a realm is counted off there",
        ),
        (
            [state(T[1], "S", "token_disable", "a", active=False), state(T[0], "S", "token_init", "a")],
            "a",
            (1, 0, 1, 0, 1),
            "ci",
            "an older state comes too late",
        ),
        (
            [state(T[1], "S", "token_remove", "a", deleted=True), state(T[0], "S", "token_init", "a")],
            None,
            (),
            "ci",
            "a deleted token is not brought back by its past",
        ),
        (
            [state(T[0], "S", "token_init", "a"), state(T[0], "S", "token_disable", "a", active=False)],
            "a",
            (1, 0, 1, 0, 1),
            "cc",
            "of equal times the later in the log",
        ),
        ([state(T[0], "S", "token_init", "a")] * 3, "a", (1, 1, 0, 0, 1), "cdd", "one state over again"),
        (
            [state(T[n], "S", "token_init", "a", id="one") for n in range(2)],
            "a",
            (1, 1, 0, 0, 1),
            "cd",
            "one id over again",
        ),
        ([state(T[0], "S", "token_init", "a", "a")], "a", (1, 1, 0, 0, 1), "c", "a realm named twice"),
    ],
)
async def test_what_becomes_of_states(
    redis_url: str, events: list[dict[str, object]], realm: str | None, now: tuple[int, ...], fates: str, why: str
) -> None:
    async with Inventories(redis_url) as counter:
        await counter.open()
        await counter.count_cut(log(events))
    with Held(redis_url) as held:
        if realm is not None:
            assert held.now(realm)[:5] == now, why
        for fate, name in (("c", "counted"), ("d", "duplicates"), ("i", "ignored")):
            assert held.progress.get(name, 0) == fates.count(fate), why


async def test_users_are_counted_once_per_realm_and_never_stored(redis_url: str) -> None:
    events = [
        state(T[0], "S1", "token_init", "a", "b", user_id="alice"),
        state(T[1], "S2", "token_init", "a", user_id="alice"),
        state(T[2], "S3", "token_init", "a", user_id="bob"),
        state(T[3], "S1", "token_unassign", "a", "b"),
        state(T[4], "S2", "token_remove", "a", deleted=True),
    ]
    async with Inventories(redis_url) as counter:
        await counter.open()
        await counter.count_cut(log(events), [2])
    with Held(redis_url) as held:
        assert [values[-1] for *_, values in held.rows("a")] == [1, 1, 2, 2, 1]
        assert [values[-1] for *_, values in held.rows("b")] == [1, 0]
    with ledgers.client(redis_url) as client:
        assert "alice" not in str(ledgers.contents(client))


async def test_bad_events_are_dead_letters_and_stop_nothing(redis_url: str) -> None:
    bad: list[Mapping[str, object] | bytes] = [
        b"nope",
        state(T[0], "", "token_init", "a"),
        state(T[0], "S", "token_init", ""),
        state(T[0], "S", "token_init", *(f"r{n}" for n in range(65))),
        state("1999-01-01T00:00:00Z", "S", "token_init", "a"),
        state(T[0], "ü" * 129, "token_init", "a"),
        {**state(T[0], "S", "token_init", "a"), "type": "login"},
    ]
    async with Inventories(redis_url) as counter:
        await counter.open()
        records = log([*bad, state(T[0], "S", "token_init", "a")])
        await counter.count_cut(records)
        assert isinstance(counter.known, InventoryCache)
        assert counter.known.inventory is not None
        delta = fold_inventory(
            decode_records("otp", records, counter.rules, NOW_MS),
            99,
            counter.known,
            counter.known.inventory,
            counter.rules,
            NOW_MS,
        )
    assert [letter.reason for letter in delta.dead_letters] == [
        "not_json",
        "missing_field",
        "missing_field",
        "too_long",
        "impossible_time",
        "too_long",
        "wrong_type",
    ]
    with Held(redis_url) as held:
        assert held.now("a")[0] == 1
        assert held.progress["counted"] == 1


async def test_an_unexpected_state_is_passed_over(redis_url: str) -> None:
    events = [state(T[n], f"S{n}", "token_init", "a") for n in range(3)]
    async with Inventories(redis_url) as counter:
        await counter.open()
        counter.known.unexpected.add(1)
        await counter.count_cut(log(events))
    with Held(redis_url) as held:
        assert held.now("a")[0] == 2
        assert (held.progress["counted"], held.progress["dead/unexpected"]) == (2, 1)


async def test_tokens_in_many_realms_end_a_range_early(redis_url: str) -> None:
    realms = [f"r{n}" for n in range(64)]
    events = [state(T[0], f"S{n}", "token_init", *realms) for n in range(100)]
    async with Inventories(redis_url) as counter:
        await counter.open()
        assert isinstance(counter.known, InventoryCache)
        assert counter.known.inventory is None
        await counter.count_cut(log(events[:1]))
        assert counter.known.inventory is not None
        result = decode_records("otp", log(events), counter.rules, NOW_MS)
        counter.known.inventory.tokens |= {f"S{n}": None for n in range(1, 100)}
        assert 15 <= fold_inventory(result, 100, counter.known, counter.known.inventory, counter.rules, NOW_MS).end < 20
        assert isinstance(await counter.count(log(events), 1, 100), Applied)
    with Held(redis_url) as held:
        assert held.now("r63")[0] == 100


async def test_a_replayed_range_changes_nothing(redis_url: str) -> None:
    events = log([state(T[n], f"S{n}", "token_init", "a", user_id="u") for n in range(5)])
    async with Inventories(redis_url) as counter:
        await counter.open()
        await counter.count_cut(events)
        with ledgers.client(redis_url) as client:
            before = ledgers.contents(client)
        async with Inventories(redis_url) as late:
            assert await late.count(events, 0, 5) == Refused(5)
        with ledgers.client(redis_url) as client:
            assert ledgers.contents(client) == before


async def test_a_damaged_row_in_the_store_is_an_error_before_anything_is_written(redis_url: str) -> None:
    async with Inventories(redis_url) as counter:
        await counter.open()
        await counter.count_cut(log([state(T[0], "S", "token_init", "a")]))
        await counter.client.delete(OF.rows(0, 0))
        with pytest.raises(LedgerDefectError, match="is shorter than"):
            await counter.count(log([state(T[n], "S", "token_init", "a") for n in range(2)]), 1, 2)
        assert (await counter.ledger.read_state(SHARD)).position == 1


async def test_given_rows_stand_at_their_own_time_with_the_maximum_of_each_day(redis_url: str) -> None:
    def row(time: str, status: str, count: int, **more: object) -> dict[str, object]:
        return {"time": time, "realm": "A", "event": "token_init", "status": status, "count": count, **more}

    events = [
        row("2026-05-02T10:00:00.5Z", "total", 7),
        row("2026-05-01T10:00:00Z", "total", 5),
        row("2026-05-02T09:00:00Z", "total", 9),
        row("2026-05-02T09:00:00Z", "unassigned&active", 3),
        row("2026-05-02T09:00:00Z", "total", 9, id="x"),
        row("2026-05-02T09:00:00Z", "total", 8, id="x"),
        row("2026-05-02T09:00:00Z", "nonsense", 1),
    ]
    topics = "auth.otp-tokens=otp-count"
    for cuts in ([], [1, 2, 3]):
        async with Inventories(redis_url, topics=topics) as counter:
            await counter.client.flushall()
            await counter.open()
            await counter.count_cut(log(events), cuts)
        with Held(redis_url) as held:
            assert [(f"{at:%d %H:%M:%S.%f}"[:13], count) for at, _, count in held.given("A", "total")] == [
                ("01 10:00:00.0", 5),
                ("02 09:00:00.0", 9),
                ("02 09:00:00.0", 9),
                ("02 10:00:00.5", 7),
            ]
            assert [count for *_, count in held.given("A", "unassigned&active")] == [3], "in its own spelling"
            assert held.given("A", "active&unassigned") == []
            assert sorted(held.given_days("A", "total").values()) == [5, 9]
            assert held.progress["counted"] == 5
            assert held.progress["duplicates"] == 1
            assert held.progress["dead/wrong_type"] == 1
