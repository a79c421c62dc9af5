"""An api with every surface open for attack, in a thread of its own, over a ledger with something of everything."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

import redis

from api.settings.settings import ApiSettings
from schemas.settings import read
from schemas.time.clock import Clock
from tests.api.in_thread import served
from tests.api.otp import state, write
from tests.api.sources import listed
from tests.api.worker import account, count, login, token

NOW: Final = datetime.fromisoformat("2026-11-20T12:00:00+00:00")
TOKEN: Final = "canary-token-all"
LIMITED: Final = "canary-token-limited"
WEBHOOK: Final = "canary-webhook-secret"
SCOPES: Final = ["jans_stat", "read:stats", "reporting", "stats:read", "metrics:read", "events:write"]
KEPT: Final = ("realm", "client", "node")


class Target(NamedTuple):
    """Where it listens, and the folder whose name must not be answered."""

    address: tuple[str, int]
    folder: Path


def seed(url: str) -> None:
    """Some months of everything, under names that are text to be careful with."""
    with redis.Redis.from_url(url) as server:
        server.flushall()
    days = [(NOW - timedelta(days=number)).isoformat() for number in range(0, 80, 4)]
    label_sets = [
        {"realm": realm, "client_id": "web", "node": "as1"} for realm in ("acme", 'a"c\\me\n=1', "ümläut\r\nX-A: b")
    ]
    events = [
        event
        for number, day in enumerate(days)
        for names in label_sets
        for event in (
            login(day, f"user-{number}", **names),
            login(day, f"user-{number}", success=False, reason="locked\r\n", **names),
            token(day, "client_credentials\n", "access_token", **names),
            account(day, "signup", realm=names["realm"]),
        )
    ]
    asyncio.run(count(url, events, users_by=KEPT, counts_by=KEPT))
    serials = [state(day, str(number), "token_init", "acme") for number, day in enumerate(reversed(days))]
    asyncio.run(write(url, serials, users_by=KEPT, counts_by=KEPT))


@contextmanager
def deployed(redis_url: str, folder: Path, **given: Any) -> Iterator[Target]:
    """Serves until the block ends."""
    tokens = folder / "tokens.json"
    tokens.write_text(json.dumps([listed(TOKEN, scopes=SCOPES), listed(LIMITED, scopes=SCOPES, realms=["acme"])]))
    settings = read(
        ApiSettings,
        **{
            "redis_url": redis_url,
            "auth": ("static",),
            "auth_tokens_file": tokens,
            "users_by": KEPT,
            "counts_by": KEPT,
            "cache_ttl_s": 1,
            "auth0_rate_limit": 0,
            "ingest_rate_limit": 0,
        }
        | given,
    )
    with served(settings, Clock(now=NOW.timestamp)) as address:
        yield Target(address, folder)
