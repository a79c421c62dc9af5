"""`/v1/metrics`: the day, the ISO week and the month so far, as gauges."""

from __future__ import annotations

from datetime import datetime

from prometheus_client.parser import text_string_to_metric_families

from tests.api.conftest import Api, Clock, Serve
from tests.api.worker import account, count, login, token

SUNDAY, MONDAY, TUESDAY = "2026-11-01T12:00:00Z", "2026-11-02T12:00:00Z", "2026-11-03T12:00:00Z"
EVENTS = [
    login("2026-10-26T12:00:00Z", "old"),
    login(SUNDAY, "ada"),
    login(MONDAY, "ada"),
    login(MONDAY, "bob"),
    login(TUESDAY, "bob"),
    login(TUESDAY, "bob", success=False, reason="locked"),
    token(MONDAY, "password", "access_token"),
    account(TUESDAY, "signup"),
]


async def samples(api: Api) -> dict[tuple[str, ...], float]:
    """Values by metric name and label values; these are in the order of the labels' names."""
    answer = await api.get("/v1/metrics")
    assert answer.status == 200
    return {
        (sample.name.removeprefix("authtally_"), *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def test_day_week_and_month_so_far_are_shown(serve: Serve, redis_url: str, clock: Clock) -> None:
    clock.now = datetime.fromisoformat(TUESDAY).timestamp()
    await count(redis_url, EVENTS)
    result = await samples(await serve(redis_url=redis_url))
    assert {period: result["active_users", period] for period in ("day", "week", "month")} == {
        "day": 1,
        "week": 2,  # since Monday
        "month": 2,  # since Sunday the first
    }
    assert [result["logins", "success", period] for period in ("day", "week", "month")] == [1, 3, 4]
    assert [result["logins", "failure", period] for period in ("day", "week", "month")] == [1, 1, 1]
    assert [result["tokens", period] for period in ("day", "week", "month")] == [0, 1, 1]
    assert [result["signups", period] for period in ("day", "week", "month")] == [1, 1, 1]
    assert result["active_users_standard_error_ratio", "week"] == 0


async def test_a_week_reaches_back_into_the_month_before(serve: Serve, redis_url: str, clock: Clock) -> None:
    clock.now = datetime.fromisoformat(SUNDAY).timestamp()
    await count(redis_url, EVENTS[:2])
    result = await samples(await serve(redis_url=redis_url))
    assert (result["active_users", "week"], result["active_users", "month"]) == (2, 1)


async def test_where_no_days_are_kept_only_the_month_is_shown(serve: Serve, redis_url: str, clock: Clock) -> None:
    clock.now = datetime.fromisoformat(TUESDAY).timestamp()
    await count(redis_url, EVENTS, retain_days=0)
    result = await samples(await serve(redis_url=redis_url))
    assert [name for name in result if name[0] == "active_users"] == [("active_users", "month")]
