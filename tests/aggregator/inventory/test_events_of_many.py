"""One event that changes several tokens makes one row per realm; users count while their tokens are active."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from schemas.ledger.inventory import ROWS_PER_CHUNK, Token, pack_token, unpack_token
from tests.aggregator.inventories import OF, Held, Inventories, log, state

START = datetime(2026, 3, 27, 22, tzinfo=UTC)
TOTAL, ACTIVE, BOTH, USERS = 0, 1, 5, 9


async def count(redis_url: str, events: list[dict[str, object]], cuts: list[int]) -> None:
    async with Inventories(redis_url) as counter:
        await counter.client.flushall()
        await counter.open()
        await counter.count_cut(log(events), cuts)


def at(minutes: int) -> str:
    return (START + timedelta(minutes=minutes)).isoformat()


LOST = [
    state(at(0), "old", "token_init", "a", user_id="ada"),
    state(at(1), "old", "token_losttoken", "a", user_id="ada", active=False, event_id="e1"),
    state(at(1), "new", "token_losttoken", "a", user_id="ada", event_id="e1"),
]


@pytest.mark.parametrize("cuts", [[], [1, 2]])
@pytest.mark.parametrize(
    ("events", "rows", "why"),
    [
        (LOST, [1, 2], "a lost token and its replacement"),
        ([state(at(0), f"i{n}", "token_loadtokens", "a", event_id="e1") for n in range(5)], [5], "an import"),
        (
            [state(at(0), f"{n}", "token_init", "a", event_id=f"e{n // 2}") for n in range(4)],
            [2, 4],
            "one event after the other",
        ),
        (
            [state(at(0), f"{n}", "token_init", "a") for n in range(3)],
            [1, 2, 3],
            "without an id each state is an event",
        ),
        (
            [
                state(at(0), "1", "token_init", "a", event_id="e1"),
                state(at(0), "2", "token_init", "a"),
                state(at(0), "3", "token_init", "a", event_id="e1"),
            ],
            [1, 2, 3],
            "states of an event follow one another",
        ),
        (
            [
                state(at(0), "1", "token_init", "a", event_id="e1"),
                state(at(0), "2", "token_init", "b"),
                state(at(0), "3", "token_init", "a", event_id="e1"),
            ],
            [2],
            "in each realm",
        ),
    ],
)
async def test_states_of_one_event_make_one_row(
    redis_url: str, events: list[dict[str, object]], cuts: list[int], rows: list[int], why: str
) -> None:
    await count(redis_url, events, cuts)
    with Held(redis_url) as held:
        assert [values[TOTAL] for *_, values in held.rows("a")] == rows, why


@pytest.mark.parametrize("cuts", [[], [1, 2], [2, 3]])
async def test_the_maximum_of_a_day_does_not_contain_counts_within_an_event(redis_url: str, cuts: list[int]) -> None:
    events = [
        state(at(0), "1", "token_init", "a"),
        state(at(1), "2", "token_init", "a", event_id="e1"),
        state(at(1), "3", "token_init", "a", event_id="e1"),
        state(at(1), "2", "token_remove", "a", event_id="e1", deleted=True) | {"time": at(2)},
    ]
    await count(redis_url, events, cuts)
    with Held(redis_url) as held:
        (maxima,) = held.days("a").values()
        assert maxima[1][TOTAL] == 2


@pytest.mark.parametrize("before", [ROWS_PER_CHUNK - 1, ROWS_PER_CHUNK, ROWS_PER_CHUNK + 1])
async def test_an_event_continues_at_the_border_of_a_chunk(redis_url: str, before: int) -> None:
    events = [state(at(n), f"{n}", "token_init", "a") for n in range(before)]
    events += [state(at(before), f"e{n}", "token_init", "a", event_id="e1") for n in range(3)]
    events.append(state(at(before + 1), "last", "token_init", "a"))
    for cuts in ([], [before + 1], [before + 1, before + 2, before + 3]):
        await count(redis_url, events, cuts)
        with Held(redis_url) as held:
            expected = [*range(1, before + 1), before + 3, before + 4]
            assert [values[TOTAL] for *_, values in held.rows("a")] == expected


async def test_an_event_continues_after_a_delete_freed_its_full_chunk(redis_url: str) -> None:
    events = [state(at(n), f"{n}", "token_init", "a") for n in range(ROWS_PER_CHUNK - 1)]
    events += [state(at(ROWS_PER_CHUNK), f"e{n}", "token_init", "a", event_id="e1") for n in range(2)]
    events.append(state(at(ROWS_PER_CHUNK + 1), "last", "token_init", "a"))
    async with Inventories(redis_url) as counter:
        await counter.open()
        await counter.count(log(events)[:ROWS_PER_CHUNK], 0, ROWS_PER_CHUNK)
        with redis.Redis.from_url(redis_url) as server:
            assert server.unlink(OF.rows(0, 0)) == 1, "as a delete frees it"
        await counter.count(log(events)[ROWS_PER_CHUNK:], ROWS_PER_CHUNK, len(events))
        with redis.Redis.from_url(redis_url) as server:
            assert not server.exists(OF.rows(0, 0)), "what is deleted stays deleted"
    with Held(redis_url) as held:
        assert held.now("a")[TOTAL] == ROWS_PER_CHUNK + 2


@pytest.mark.parametrize(
    ("more", "users", "why"),
    [
        ([], 1, "an active token"),
        ([state(at(1), "1", "token_disable", "a", user_id="ada", active=False)], 0, "none that ada can use"),
        (
            [
                state(at(1), "2", "token_init", "a", user_id="ada"),
                state(at(2), "1", "token_disable", "a", user_id="ada", active=False),
            ],
            1,
            "another one",
        ),
        ([state(at(1), "1", "token_unassign", "a")], 0, "no user"),
        (
            [
                state(at(1), "1", "token_disable", "a", user_id="ada", active=False),
                state(at(2), "1", "token_enable", "a", user_id="ada"),
            ],
            1,
            "active again",
        ),
    ],
)
async def test_users_are_those_of_active_and_assigned_tokens(
    redis_url: str, more: list[dict[str, object]], users: int, why: str
) -> None:
    await count(redis_url, [state(at(0), "1", "token_init", "a", user_id="ada"), *more], [1])
    with Held(redis_url) as held:
        assert held.now("a")[USERS] == users, why


def format_1(token: Token) -> bytes:
    """As format 1 packed it: without a mark whether the user is counted."""
    flags = token.active | token.assigned << 1 | token.deleted << 2 | bool(token.user) << 3
    return struct.pack("<qB", token.time_us, flags) + token.user + struct.pack(f"<{len(token.realms)}I", *token.realms)


@pytest.mark.parametrize("active", [True, False])
def test_a_token_of_format_1_counted_its_user_whether_active_or_not(active: bool) -> None:
    token = Token(5, active, True, False, b"12345678", (1, 2), active)
    assert unpack_token(pack_token(token)) == token
    old = unpack_token(format_1(token))
    assert old.counts_user
    assert old.has_state_of(token)


async def test_users_of_a_format_1_ledger_are_right_after_each_tokens_next_state(redis_url: str) -> None:
    held_by: dict[str, Any] = {"user_id": "ada"}
    first = [
        state(at(0), "1", "token_init", "a", **held_by),
        state(at(0), "2", "token_init", "a", **held_by),
    ]
    more = [
        state(at(1), "2", "token_disable", "a", active=False, **held_by),
        state(at(2), "1", "token_disable", "a", active=False, **held_by),
    ]
    async with Inventories(redis_url) as counter:
        await counter.open()
        await counter.count(log(first), 0, 2)
        with redis.Redis.from_url(redis_url) as server:
            for serial, packed in server.hgetall(OF.tokens).items():
                # Format 1 counted the user of an inactive token: the second one is inactive since before the upgrade.
                token = unpack_token(packed)._replace(active=serial == b"1")
                server.hset(OF.tokens, serial, format_1(token))
    async with Inventories(redis_url, remember=False) as counter:
        await counter.resume()
        await counter.count([*log([*first, *more])[2:]], 2, 4)
    with Held(redis_url) as held:
        assert held.now("a")[USERS] == 0
