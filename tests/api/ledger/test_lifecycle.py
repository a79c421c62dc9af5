"""Lifecycle and retention through the whole path: a counted log, the api, and an oracle of sets."""

from __future__ import annotations

from tests.api.conftest import Clock, Serve
from tests.api.own_sample import NOON, query_api
from tests.api.worker import count, login


async def test_months_are_compared_with_all_months_before(serve: Serve, redis_url: str, clock: Clock) -> None:
    clock.now = 1_795_176_000.0  # 2026-11-20T12:00:00Z
    users = {"2026-08": "abc", "2026-09": "abd", "2026-10": "bde", "2026-11": "ce"}
    await count(redis_url, [login(f"{month}-05{NOON}", user) for month, names in users.items() for user in names])
    answer = await query_api(await serve(redis_url=redis_url), "/v1/lifecycle?from=2026-08-01")
    figures = ("active", "new", "returning", "reactivated", "lapsed")
    found = {item["period"]: tuple(item[figure]["value"] for figure in figures) for item in answer["items"]}
    assert found == {
        "2026-08": (3, None, None, None, None),
        "2026-09": (3, 1, 2, 0, 1),
        "2026-10": (3, 1, 2, 0, 1),
        "2026-11": (2, 0, 1, 1, 2),
    }
