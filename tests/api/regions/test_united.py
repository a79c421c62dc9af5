"""Figures over regions: equal users of two regions are one user, counters add up."""

from __future__ import annotations

from deploy.demo.servers import Valkey
from tests.api.regions.conftest import Start
from tests.api.worker import Event, count, login, token

MONTH = "2026-10"
DAYS = "from=2026-10-01&to=2026-10-31"


def events(users: range, region: str, realm: str = "acme") -> list[Event]:
    return [
        login(
            f"2026-10-{1 + user % 28:02}T10:00:00Z", f"user-{user}", realm=realm, client_id="web", id=f"{region}-{user}"
        )
        for user in users
    ] + [token("2026-10-05T10:00:00Z", "client_credentials", "access_token", realm=realm, client_id="job")]


async def test_overlapping_users_count_once_and_counters_add(start: Start, stores: list[Valkey]) -> None:
    await count(stores[0].url, events(range(300), "eu"))
    await count(stores[1].url, events(range(200, 500), "us"))
    regions = await start()
    eu, us = regions["eu"], regions["us"]
    path = f"/v1/active-users?{DAYS}&granularity=month"
    (own,) = (await eu.ask(path))["items"]
    assert own["value"] == 300
    answer = await eu.ask(f"{path}&region=all")
    assert answer["complete"], answer
    assert answer["regions"] == [{"region": "eu", "state": "current"}, {"region": "us", "state": "current"}]
    (both,) = answer["items"]
    assert abs(both["value"] - 500) <= 10, both
    assert (await us.ask(f"{path}&region=all"))["items"] == answer["items"]
