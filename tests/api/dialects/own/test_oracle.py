"""Days, weeks, months and ranges against plain sets, over random logs that the worker's own fold counted."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
import redis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from api.dialects.own import active_users, series
from api.dialects.own.parameters import Parameters
from api.ledger.client import open_ledger
from api.ledger.ledger_statistics import LedgerStatistics
from api.settings.settings import ApiSettings
from deploy.demo.servers import Valkey
from schemas.ledger.periods import Month, Span, Week
from schemas.settings import read
from tests.api.worker import count, login

Log = list[tuple[datetime, str, str]]
"""When, who, in which realm."""

EDGES = (
    date(2026, 11, 30),  # the end of a month
    date(2026, 12, 31),  # and of a year, whose last week goes into the next
    date(2028, 2, 29),
    date(2027, 3, 28),  # clocks go forward in Berlin
    date(2027, 10, 31),  # and back
)
REALMS = ("acme", "globex")


@st.composite
def logs(draw: st.DrawFn) -> tuple[date, Log]:
    """Some thousand logins around one of the edges, of few users or of many."""
    edge = draw(st.sampled_from(EDGES))
    users = draw(st.sampled_from((3, 200, 3000)))
    random = draw(st.randoms(use_true_random=False))
    noon = datetime.combine(edge, time(12), UTC)
    return edge, [
        (noon + timedelta(minutes=random.randint(-45 * 1440, 20 * 1440)), f"user-{random.randrange(users)}", realm)
        for realm in REALMS
        for _ in range(draw(st.sampled_from((5, 300, 1500))))
    ]


def spans(granularity: str, asked: Span) -> list[Span]:
    """The days that an item covers, by a plain calculation."""
    if granularity == "range":
        return [asked]
    if granularity == "day":
        return [Span(day, day) for day in asked.days]
    kind = Week if granularity == "week" else Month
    return list(dict.fromkeys(kind.of(day).span for day in asked.days))


def within(value: int, exact: int, error: float) -> bool:
    # A sketch below a few hundred users is a table of single hits: whole users off, not per cent.
    return abs(value - exact) <= (max(4.5 * error * exact, 4 * math.sqrt(exact / 2000), 5) if error else 0)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    log=logs(),
    zone=st.sampled_from(("UTC", "Europe/Berlin", "America/St_Johns")),
    bound=st.sampled_from((0, 100, 4096)),
    units=st.sampled_from((1, 3, 256)),
)
@example(log=(EDGES[0], []), zone="UTC", bound=4096, units=256)
def test_figures_of_any_days_are_those_of_a_plain_calculation(
    valkey: Valkey, log: tuple[date, Log], zone: str, bound: int, units: int
) -> None:
    """`units` is how much is read at once: few make every question a wide one."""
    edge, logins = log
    today = edge + timedelta(days=20)
    local = [(when.astimezone(ZoneInfo(zone)).date(), user, realm) for when, user, realm in logins]
    with redis.Redis.from_url(valkey.url) as server:
        server.flushdb()

    def users(span: Span, realms: Iterable[str]) -> set[str]:
        return {user for day, user, realm in local if span.first <= day <= span.last and realm in realms}

    async def check() -> None:
        chosen: dict[str, Any] = {"timezone": zone, "exact_up_to": bound}
        await count(
            valkey.url,
            [login(when.isoformat(), user, realm=realm) for when, user, realm in logins],
            **chosen,
        )
        api = read(ApiSettings, auth=("none",), redis_url=valkey.url, **chosen)
        client = open_ledger(api)
        statistics = LedgerStatistics(client, api)
        try:
            for granularity, days, realms in (
                ("day", 12, None),
                ("week", 40, None),
                ("month", 40, ("acme",)),
                ("range", 45, None),
                ("range", 45, REALMS),
                ("range", 3, ("globex",)),
            ):
                asked = Span.ending(edge + timedelta(days=2), days)
                given = {"from": str(asked.first), "to": str(asked.last), "granularity": granularity}
                question = active_users.parse(Parameters(given, active_users.PARAMETERS), api, today)
                items = msgspec.to_builtins((await question.read(statistics, realms)).document.items)
                expected = spans(granularity, asked)
                assert [(item["from"], item["to"]) for item in items] == [(str(a), str(b)) for a, b in expected]
                for item, span in zip(items, expected, strict=True):
                    exact = len(users(span, realms or REALMS))
                    assert within(item["value"], exact, item["standard_error"]), (given, realms, exact, item)
                    assert item["exact"] == (item["standard_error"] == 0)
            await counted(statistics, api)
        finally:
            await client.close()

    async def counted(statistics: LedgerStatistics, api: ApiSettings) -> None:
        given = {"from": str(edge - timedelta(days=5)), "to": str(edge + timedelta(days=5)), "group_by": "realm"}
        question = series.parse(series.LOGINS, Parameters(given, series.LOGINS.operation.parameters), api, today)
        found: dict[Any, int] = {}
        for item in msgspec.to_builtins((await question.read(statistics, None)).document.items):
            found[item["period"], item["realm"]] = item["succeeded"]
        expected: dict[Any, int] = {}
        for day, _, realm in local:
            if abs(day - edge) <= timedelta(days=5):
                expected[str(day), realm] = expected.get((str(day), realm), 0) + 1
        assert found == expected

    with pytest.MonkeyPatch.context() as patch:
        for name in ("distinct_query.MAX_SHARD_SCOPES", "users.MAX_MERGED", "users.MAX_COPIED"):
            patch.setattr(f"api.ledger.{name}", units)
        asyncio.run(check())
