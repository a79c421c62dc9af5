"""Senders that repeat themselves: a delivery counts once, whatever becomes of the workers meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.ledger import fields
from schemas.ledger.keys import ShardKeys
from schemas.ledger.scopes import EVERYTHING
from tests.conftest import wait_until
from tests.integration.api_process import ApiProcess
from tests.integration.conftest import MakeSite
from tests.integration.sites import PREFIX, Broker, Site

pytestmark = pytest.mark.apache_kafka

AT_MS = 1_795_168_800_000
"""2026-11-20, ten o'clock."""
EVENT = {"id": "b0c1", "time": AT_MS, "type": "LOGIN", "realmName": "acme", "clientId": "web", "userId": "7d0a"}
DELIVERIES = 100


def deliver(api: ApiProcess, event: dict[str, Any]) -> None:
    assert api.post("/v1/ingest/keycloak", event).json["accepted"] == 1


def sums(site: Site, name: str) -> int:
    """Of a field of progress, over all shards."""
    return sum(int(site.client.hget(ShardKeys(PREFIX, shard).progress, name) or 0) for shard in site.shards)


def test_a_webhook_delivered_a_hundred_times_counts_once_across_a_kill(make_site: MakeSite, apache: Broker) -> None:
    site = make_site(apache)
    settings = {"auth": "none", "auth_none_writes": "on", "ingest": "on", "redis_url": site.store.url}
    worker = site.workers.start().wait_until_ready()
    with ApiProcess(**site.workers.settings | settings) as api:
        for number in range(DELIVERIES // 2):
            deliver(api, EVENT)
            if number == DELIVERIES // 4:
                wait_until(lambda: sums(site, fields.DUPLICATES) > 0, what="a repeat is recognised")
        worker.kill()
        for _ in range(DELIVERIES // 2):
            deliver(api, EVENT)
        deliver(api, EVENT | {"id": "b0c2"})
    site.workers.start().wait_until_ready()
    site.wait_until_counted()
    assert sums(site, fields.CONSUMED) == DELIVERIES + 1
    assert sums(site, fields.COUNTED) == 2
    assert sums(site, fields.DUPLICATES) == DELIVERIES - 1
    logins = [
        int(site.client.hget(ShardKeys(PREFIX, shard).counts("2026-11", EVERYTHING), fields.LOGIN) or 0)
        for shard in site.shards
    ]
    assert sum(logins) == 2
