"""Rows, pages and maxima of any log, deletes and policies in between, equal those of a plain table of all rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import product
from random import Random
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
import redis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from api.inventory.deletes import delete
from api.inventory.inventory import Inventory
from api.inventory.maxima import Calendar, DayRange, maxima
from api.inventory.policy_history import RECORDED_FROM_START, Change, RecordingHistory
from api.inventory.rows import TableLine, lines
from api.inventory.table import table
from api.ledger.client import Client, open_url
from api.ledger.statistics import Statistics
from api.settings.reporting_policy import RecordingPolicy
from schemas.ledger.inventory import COUNTED_STATUSES, ROWS_PER_CHUNK, RealmTotals, micros, pack_day
from tests.aggregator import ledgers
from tests.aggregator.inventories import OF, Inventories, Model, log
from tests.aggregator.inventory.test_inventory import logs
from tests.api import otp

BERLIN = ZoneInfo("Europe/Berlin")
ALL = frozenset(range(len(COUNTED_STATUSES)))
ALWAYS = micros(datetime(2026, 4, 1, tzinfo=UTC))


class Plain(NamedTuple):
    """A row of the plain table."""

    at: datetime
    realm: str
    number: int
    status: int
    tokens: int


def plain(model: Model) -> list[Plain]:
    found = [
        Plain(at, realm, number, status, count)
        for realm, held in model.rows.items()
        for number, (at, _, _, counts) in enumerate(held)
        for status, count in enumerate(counts)
    ]
    return sorted(found, key=lambda row: row[:4])


def seen(found: Sequence[TableLine]) -> list[tuple[int, str, str, int]]:
    return [(line.at_us, line.realm, line.parameter, line.tokens) for line in found]


def expected(rows: Sequence[Plain]) -> list[tuple[int, str, str, int]]:
    return [(micros(row.at), row.realm, COUNTED_STATUSES[row.status], row.tokens) for row in rows]


def inventory_of(client: Client, redis_url: str) -> Inventory:
    return Inventory(client, Statistics(client, ledgers.settings(redis_url)))


async def page(
    inventory: Inventory, recorded: RecordingHistory, first: int, size: int, *, descending: bool
) -> list[TableLine]:
    stream_table = await table(inventory, await inventory.streams(), recorded, ALL)
    found: list[TableLine] = []
    async for line in lines(inventory, stream_table, first, descending=descending):
        if len(found) == size:
            break
        found.append(line)
    return found


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
@given(events=logs(), data=st.data())
async def test_any_log_gives_the_rows_of_a_plain_table(
    redis_url: str, events: list[dict[str, Any]], data: st.DataObject
) -> None:
    model = Model(BERLIN)
    for event in events:
        model.take(event)
    async with Inventories(redis_url, timezone="Europe/Berlin") as counter:
        await counter.client.flushall()
        await counter.open()
        await counter.count_cut(log(events), [7])
    client = open_url(redis_url)
    inventory = inventory_of(client, redis_url)
    recorded = data.draw(
        st.sampled_from(
            (
                RECORDED_FROM_START,
                RecordingHistory(
                    (
                        Change(0, (RecordingPolicy(None, ("active",)),)),
                        Change(ALWAYS, (RecordingPolicy(None, ("total",)),)),
                    )
                ),
            )
        )
    )
    try:
        rows = plain(model)
        if recorded is not RECORDED_FROM_START:
            rows = [row for row in rows if row.status == 0 or (row.status == 1 and micros(row.at) < ALWAYS)]
        for _ in range(3):
            total = (await table(inventory, await inventory.streams(), recorded, ALL)).lines
            assert total == len(rows)
            first = data.draw(st.integers(0, total))
            for descending in (False, True):
                found = await page(inventory, recorded, first, 25, descending=descending)
                assert seen(found) == expected((rows[::-1] if descending else rows)[first : first + 25])
            window = sorted(data.draw(st.tuples(*[st.dates(date(2026, 3, 26), date(2027, 6, 1))] * 2)))
            await compare_maxima(inventory, recorded, rows, DayRange(*window))
            before = data.draw(st.none() | st.dates(date(2026, 3, 26), date(2027, 6, 1)))
            statuses = data.draw(st.sets(st.sampled_from(sorted(ALL)), min_size=1))
            realms = data.draw(st.sets(st.sampled_from(("a", "b", "ü c"))))
            streams = [stream for stream in await inventory.streams() if stream.realm in realms]
            midnight = None if before is None else datetime.combine(before, time(), BERLIN)
            gone = [
                row
                for row in rows
                if row.realm in realms and row.status in statuses and (midnight is None or row.at < midnight)
            ]
            assert await delete(inventory, streams, recorded, frozenset(statuses), before, BERLIN) == len(gone)
            rows = [row for row in rows if row not in set(gone)]
    finally:
        await client.close()


async def compare_maxima(
    inventory: Inventory, recorded: RecordingHistory, rows: Sequence[Plain], days: DayRange
) -> None:
    low, high = (datetime.combine(day, time(), BERLIN) for day in days)
    stream_table = await table(inventory, await inventory.streams(), recorded, ALL)
    found = await maxima(inventory, stream_table, days, BERLIN)
    for realm, status in product(("a", "b", "ü c"), ALL):
        mine = [row for row in rows if (row.realm, row.status) == (realm, status)]
        inside = max((row.tokens for row in mine if low <= row.at < high), default=None)
        earlier = [(micros(row.at), row.tokens) for row in mine if row.at < low]
        result = found.get((realm, status))
        assert (result.highest if result else None) == inside
        assert (result.last_before if result else None) == (earlier[-1] if earlier else None)


START = datetime(2026, 1, 1, tzinfo=UTC)


def many(count: int, seed: int = 1) -> list[dict[str, object]]:
    """Tokens in a few realms, some of them late, many at the same moment, over a year's end."""
    random = Random(seed)
    events: list[dict[str, object]] = []
    at = START - timedelta(days=1)
    for number in range(count):
        at += timedelta(minutes=random.choice((0, 0, 1, 7)))
        own = at - timedelta(hours=5) if random.random() < 0.05 else at
        realm = random.choice(("a", "b", "b", "c"))
        events.append(otp.state(own.isoformat(), f"{number}", "token_init", realm))
    return events


@pytest.fixture
async def wide(redis_url: str) -> list[Plain]:
    """Several chunks a realm, with rows of another system in between."""
    events = many(5 * ROWS_PER_CHUNK)
    model = Model(ZoneInfo("UTC"))
    for event in events:
        model.take(event)
    await otp.write(redis_url, events)
    random = Random(2)
    result = [(START + timedelta(minutes=random.randrange(-1000, 4000)), number) for number in range(700)]
    counts = [otp.given(at.isoformat(), "d", "active", number) for at, number in result]
    await otp.write(redis_url, counts, otp.COUNTS)
    rows = [*plain(model), *(Plain(at, "d", number, 1, number) for at, number in result)]
    return sorted(rows, key=lambda row: row[:4])


async def test_every_page_is_a_cut_of_the_table(redis_url: str, wide: list[Plain]) -> None:
    client = open_url(redis_url)
    inventory = inventory_of(client, redis_url)
    try:
        for descending in (False, True):
            rows = expected(wide[::-1] if descending else wide)
            places = [0, 1, 17, len(rows) - 30, len(rows) - 1, len(rows), *range(5, len(rows), len(rows) // 40)]
            for first in places:
                found = await page(inventory, RECORDED_FROM_START, first, 37, descending=descending)
                assert seen(found) == rows[first : first + 37], (first, descending)
        whole = await page(inventory, RECORDED_FROM_START, 0, len(wide) + 1, descending=False)
        assert seen(whole) == expected(wide)
    finally:
        await client.close()


async def test_memory_is_freed_once_every_status_is_deleted(redis_url: str, wide: list[Plain]) -> None:
    client = open_url(redis_url)
    inventory = inventory_of(client, redis_url)
    utc = ZoneInfo("UTC")
    with redis.Redis.from_url(redis_url) as server:

        def held(kind: str) -> int:
            return len(server.keys(f"{OF.base}otp:{kind}:*"))

        chunks = held("rows")
        streams = await inventory.streams()
        some = ALL - {3}
        assert await delete(inventory, streams, RECORDED_FROM_START, some, date(2026, 1, 1), utc) > 0
        assert held("rows") == chunks, "one status is still answered"
        await delete(inventory, streams, RECORDED_FROM_START, frozenset({3}), date(2026, 1, 1), utc)
        assert 3 < held("rows") < chunks
        assert held("days") == 2, "those of the year before are gone with the chunks that held it"
        left = [row for row in wide if row.at >= START]
        assert seen(await page(inventory, RECORDED_FROM_START, 0, len(wide), descending=False)) == expected(left)
        count = await delete(inventory, await inventory.streams(), RECORDED_FROM_START, ALL, None, utc)
        assert count == len(left)
        # The chunk that the worker writes into stays.
        assert held("rows") == 3
        assert not server.keys("*otp:given*")
    await client.close()
    more = many(40, seed=3)
    for event in more:
        event["serial"] = f"later {event['serial']}"
    await otp.write(redis_url, more)
    client = open_url(redis_url)
    assert len(await page(inventory_of(client, redis_url), RECORDED_FROM_START, 0, 1000, descending=True)) == 400
    await client.close()


def test_a_calendar_is_of_the_moment_of_its_figures() -> None:
    now = RealmTotals(3, 3, 0, 0, 0, 9, 0, 0, day=20, slot=1, day_first=6, maxima=(7,) * len(COUNTED_STATUSES))
    over = [(18, 0, 1), (19, 4, 2)]
    # Read after the figures, when their day was over and another one too.
    later = [*over, (20, 6, 8), (21, 12, 9)]
    for held in (over, later):
        packed = b"".join(pack_day(day, first, *(highest,) * len(COUNTED_STATUSES)) for day, first, highest in held)
        calendar = Calendar(packed, now)
        assert list(calendar.ordinals) == [18, 19, 20]
        assert calendar.highest(0, 0, 9) == (7, [])
        assert calendar.highest(0, 0, 6) == (2, [])
        assert calendar.window(DayRange(date.fromordinal(19), date.fromordinal(30))) == (4, 9)
