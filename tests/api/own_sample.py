"""Events around New Year and a leap day, an api over them, and how the tests ask it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tests.api.conftest import Api, Clock, Serve
from tests.api.worker import account, count, login, token

NOON = "T12:00:00Z"
DAY = "from=2028-03-01&to=2028-03-01"
EVENTS = [
    # New Year: 2026-01-01 is a Thursday, so its ISO week begins in the old year; 2027-01-01 is of 2026's week 53.
    login("2025-12-31" + NOON, "ada", realm="acme", client_id="web"),
    login("2026-01-01" + NOON, "bob", realm="acme", client_id="app"),
    login("2026-12-31" + NOON, "ada", realm="acme", client_id="web"),
    login("2027-01-01" + NOON, "ada", realm="acme", client_id="web"),
    login("2027-01-01" + NOON, "cyd", realm="globex", client_id="web"),
    # A leap day.
    login("2028-02-29" + NOON, "eve", realm="globex", client_id="web"),
    login("2028-03-01" + NOON, "eve", realm="globex", client_id="web"),
    login("2028-03-01" + NOON, "fay"),
    login("2028-03-01" + NOON, "eve", success=False, reason="locked", realm="globex", client_id="web"),
    login("2028-03-01" + NOON, "nobody", success=False, realm="typo", client_id="typo"),
    token("2028-03-01" + NOON, "client_credentials", "access_token", realm="globex", client_id="job"),
    token("2028-03-01" + NOON, "client_credentials", "access_token", realm="acme", client_id="job"),
    token("2028-03-01" + NOON, "client_credentials", "access_token", realm="acme", client_id="job"),
    token("2028-03-01" + NOON, "password", "access_token", "id_token", realm="acme", client_id="web"),
    account("2028-03-01" + NOON, "signup", realm="acme"),
    account("2028-03-01" + NOON, "client_registered", realm="globex"),
]


async def serve_sample(serve: Serve, redis_url: str, clock: Clock) -> Api:
    """The day after the last event."""
    clock.now = datetime.fromisoformat("2028-03-02" + NOON).timestamp()
    await count(redis_url, EVENTS, users_by=("realm", "client"))
    return await serve(redis_url=redis_url, users_by=("realm", "client"))


def values(answer: dict[str, Any]) -> dict[str, int]:
    return {item["period"]: item["value"] for item in answer["items"]}


async def query_api(api: Api, path: str, token: str | None = None) -> Any:
    answer = await api.get(path, token)
    assert answer.status == 200, answer.text
    return answer.json
