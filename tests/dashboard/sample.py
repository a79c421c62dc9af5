"""Two months of a small deployment, and two of the year before, with something of everything that the page shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from types import MappingProxyType
from typing import Any, Final

from aggregator.ledger.ledger import Ledger
from aggregator.ledger.store import connect
from schemas.ledger import fields
from schemas.ledger.keys import Shard
from tests.aggregator import ledgers
from tests.api.otp import state, write
from tests.api.worker import Event, account, count, login, token

NOW: Final = datetime(2026, 11, 20, 12, tzinfo=UTC)
TODAY: Final = NOW.date()
FIRST: Final = date(2026, 9, 14)
LAST_YEAR: Final = (date(2025, 10, 15), date(2025, 11, 30))
KEPT: Final[dict[str, Any]] = {"users_by": ("realm", "client"), "counts_by": ("realm", "client")}
REALMS: Final = ("acme", "globex")
QUOTAS: Final = '{"tenant": 2000, "clients": [{"realm": "acme", "client_id": "billing", "limit": 400}]}'


def at(day: date, hour: int = 9) -> str:
    return datetime.combine(day, time(hour), UTC).isoformat()


def days(first: date = FIRST, last: date = TODAY) -> list[date]:
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def events() -> Iterator[Event]:
    """Weekends are quiet, and there are a few more users each week."""
    for number, day in enumerate(days(*LAST_YEAR)):
        for user in range(2 + number % 3):
            yield login(at(day), f"user-{user + number % 5}", realm=REALMS[user % 2], client_id="web")
        yield login(at(day), "someone", success=False, reason="locked", realm="globex", client_id="app")
        yield token(at(day), "refresh_token", "access_token", realm="globex", client_id="web", user_id="user-1")
        yield account(at(day), "signup", realm="acme")
    for number, day in enumerate(days()):
        busy = 1 if day.weekday() > 4 else 3
        for user in range(busy * (4 + number // 7)):
            labels = {"realm": REALMS[user % 2], "client_id": ("web", "app")[user % 3 == 0]}
            yield login(at(day, 8 + user % 3), f"user-{(user * 7 + number) % 60}", **labels)
        for failure in range(1 + number % 4):
            reason = ("invalid_credentials", "locked", "mfa_failed")[failure % 3]
            yield login(at(day), "someone", success=False, reason=reason, realm="acme", client_id="web")
        for _ in range(busy):
            yield token(at(day), "authorization_code", "access_token", "id_token", realm="acme", client_id="web")
            yield token(at(day), "refresh_token", "access_token", realm="globex", client_id="app", user_id="user-1")
            yield token(at(day), "client_credentials", "access_token", realm="acme", client_id="billing")
        yield account(at(day), "signup", realm="globex")
        if number % 9 == 0:
            yield account(at(day), "leaked_password", realm="acme")
    yield {"type": "login", "raw": b"{", "at_ms": 1}


def inventory() -> list[dict[str, object]]:
    serials = [(number, day) for number, day in enumerate(days()) if number % 3 == 0]
    return [
        state(at(day), f"OATH{number:04}", "token_init", REALMS[number % 2], active=number % 4 > 0, assigned=True)
        for number, day in serials
    ]


async def fill(redis_url: str, **settings: Any) -> None:
    """Counts all of it, and reads the ends of the logs."""
    await count(redis_url, events(), **KEPT | settings)
    await write(redis_url, inventory(), **KEPT | settings)
    await observe_ends(redis_url, NOW, **settings)


BEHIND: Final = {Shard("auth.logins", 0): 3, Shard("auth.logins", 1): 12}


async def observe_ends(
    redis_url: str, now: datetime, behind: Mapping[Shard, int] = MappingProxyType(BEHIND), **settings: Any
) -> None:
    """As a worker does now and then: there is a little more to read."""
    worker = ledgers.settings(redis_url, **KEPT | settings)
    client = connect(worker)
    try:
        ledger = Ledger(client, worker)
        for shard, offsets in behind.items():
            position = (await ledger.read_state(shard)).position or 0
            await ledger.record_observations(
                shard, {fields.END: fields.observation(position + offsets, int(now.timestamp() * 1000))}
            )
    finally:
        await client.aclose()
