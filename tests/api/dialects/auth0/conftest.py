"""An api for Auth0's clients, and the figures of some days as a worker writes them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest
import redis

from schemas.ledger import fields
from schemas.ledger.keys import Shard
from schemas.ledger.scopes import EVERYTHING, Scope
from tests.api.conftest import Api, Clock, Serve
from tests.api.ledger_writer import DEFAULT, LedgerWriter
from tests.api.sources import by_file, listed

ACTIVE: Final = "/api/v2/stats/active-users"
DAILY: Final = "/api/v2/stats/daily"
READ: Final = ["read:stats"]
TOKENS: Final = Shard("auth.tokens", 0)


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.now = datetime(2026, 11, 20, 13, 30, tzinfo=UTC).timestamp()
    return clock


@pytest.fixture
async def api(serve: Serve, redis_url: str, tmp_path: Path) -> Api:
    tokens = [
        listed("good", scopes=READ),
        listed("other", scopes=["jans_stat"]),
        listed("acme", scopes=READ, realms=["acme"]),
        listed("both", scopes=READ, realms=["acme", "globex"]),
        listed("nothing", scopes=READ, realms=[]),
    ]
    return await serve(redis_url=redis_url, **by_file(tmp_path, *tokens))


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def counted(
    url: str,
    day: str,
    counts: Mapping[str, int],
    shard: Shard = DEFAULT,
    scope: Scope = EVERYTHING,
    written: tuple[str, str] | None = None,
) -> None:
    """Write the counts of a day, by `login` and account kind, and its first and last record time."""
    with redis.Redis.from_url(url) as server:
        names = LedgerWriter(server).hold(day, shard)
        if written is not None:
            server.hset(names.record_times(day), mapping={fields.FIRST: ms(written[0]), fields.LAST: ms(written[1])})
        for kind, count in counts.items():
            field = fields.LOGIN if kind == fields.LOGIN else fields.account(kind)
            server.hset(names.counts(day, scope), field, str(count))


@pytest.fixture
def november(redis_url: str) -> None:
    """Two days, the second in two shards; a day without logins in between."""
    counts = {"login": 5, "signup": 2, "leaked_password": 1, "client_registered": 9}
    counted(redis_url, "2026-11-17", counts, written=("2026-11-17T00:00:01.250Z", "2026-11-17T23:59:59.999Z"))
    counted(redis_url, "2026-11-19", {"login": 7}, written=("2026-11-19T08:00Z", "2026-11-19T09:00Z"))
    other = {"login": 3, "signup": 1}
    counted(redis_url, "2026-11-19", other, TOKENS, written=("2026-11-19T07:00Z", "2026-11-19T08:30Z"))


ROWS: Final = {
    "2026-11-17": {
        "date": "2026-11-17T00:00:00.000Z",
        "logins": 5,
        "signups": 2,
        "leaked_passwords": 1,
        "updated_at": "2026-11-17T23:59:59.999Z",
        "created_at": "2026-11-17T00:00:01.250Z",
    },
    "2026-11-19": {
        "date": "2026-11-19T00:00:00.000Z",
        "logins": 10,
        "signups": 1,
        "leaked_passwords": 0,
        "updated_at": "2026-11-19T09:00:00.000Z",
        "created_at": "2026-11-19T07:00:00.000Z",
    },
}
