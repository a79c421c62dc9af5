"""Redis 7, as Debian ships it, holds the same ledger as Valkey."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from deploy.servers import Valkey
from tests.aggregator import ledgers
from tests.aggregator.counting import Counting
from tests.aggregator.logs import logins


@pytest.fixture(scope="module")
def redis_7_url() -> Iterator[str]:
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("no redis-server on PATH: deploy/install_test_servers.sh installs it")
    with Valkey(binary=Path(binary)) as server:
        yield server.url


async def test_a_log_leaves_the_same_ledger_on_either_server(redis_url: str, redis_7_url: str) -> None:
    log, _ = logins(11, 2_000, ZoneInfo("UTC"))
    found = []
    for url in (redis_url, redis_7_url):
        async with Counting(url, exact_up_to=100) as counter:
            await counter.open()
            await counter.count_cut(log, [300, 301, 900])
        with ledgers.client(url) as client:
            found.append(ledgers.contents(client))
    assert found[0] == found[1]
    assert any(":users:" in key for key in found[0])
