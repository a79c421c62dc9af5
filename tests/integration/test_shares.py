"""Two senders limited to a realm each: one floods labels, words and ids, and the other's figures stay right."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from schemas.ledger import fields
from schemas.ledger.keys import Shard, ShardKeys
from schemas.ledger.scopes import OTHER
from tests.api.sources import listed
from tests.conftest import wait_until
from tests.integration.api_process import ApiProcess
from tests.integration.conftest import MakeSite
from tests.integration.sites import PREFIX, Broker, Site
from tests.integration.workers import WorkerProcess

MAX_LABELS: Final = 10
MAX_IDS: Final = 400
GUARANTEED: Final = fields.REALM_CLIENTS
HOSTILE_CLIENTS: Final = GUARANTEED + MAX_LABELS
"""The hostile realm finds the whole pool, and takes half."""
VICTIM_CLIENTS: Final = GUARANTEED + MAX_LABELS // 2
"""Then the victim takes half of the rest."""
HOSTILE_REASONS: Final = fields.REALM_WORDS + fields.WORD_POOL // 2
VICTIM_REASONS: Final = fields.REALM_WORDS + fields.WORD_POOL // 4
FLOOD: Final = 1_000
TODAY: Final = f"{datetime.now(UTC):%Y-%m-%d}"


def login(realm: str, number: int, **more: Any) -> dict[str, Any]:
    time = datetime.now(UTC).isoformat()
    return {"type": "login", "time": time, "user_id": f"{realm} {number}", "realm": realm} | more


def clients(realm: str, count: int) -> list[dict[str, Any]]:
    return [
        login(realm, number, client_id=f"{realm} {number}", id=f"{realm} {number}", node=f"{realm} {number}")
        for number in range(count)
    ]


def failures(realm: str, count: int) -> list[dict[str, Any]]:
    return [login(realm, number, success=False, reason=f"{realm} {number}") for number in range(count)]


class Deployment:
    """A worker and an api; each realm has a bearer of its own, `all` is one for all realms."""

    def __init__(self, site: Site, worker: WorkerProcess, api: ApiProcess) -> None:
        self.site = site
        self.worker = worker
        self.api = api
        self.shard_keys = ShardKeys(PREFIX, Shard(site.logins, 0))
        self.sent = 0

    def send(self, realm: str, events: Sequence[dict[str, Any]]) -> None:
        for first in range(0, len(events), 500):
            reply = self.api.post("/v1/events", events[first : first + 500], realm)
            assert reply.status == 202, reply.text
        self.sent += len(events)

    def wait_until_counted(self) -> None:
        def counted() -> bool:
            consumed = self.site.client.hget(self.shard_keys.progress, fields.CONSUMED)
            return int(consumed or 0) == self.sent

        wait_until(counted, timeout_s=60, what="all events are counted")

    def answer(self, bearer: str, group_by: str) -> dict[str, Any]:
        reply = self.api.get(f"/v1/logins?from={TODAY}&to={TODAY}&group_by={group_by}", bearer)
        assert reply.status == 200, reply.text
        return dict(reply.json)

    def known(self, dimension: str) -> Counter[str]:
        members = map(fields.split, self.site.client.smembers(self.shard_keys.labels))
        return Counter(parts[1] for parts in members if parts[0] == dimension)


@pytest.fixture
def deployment(make_site: MakeSite, embedded: Broker, tmp_path: Path) -> Iterator[Deployment]:
    kept: dict[str, Any] = {"users_by": "realm,node", "counts_by": "realm,client,node"}
    site = make_site(embedded, 1, max_labels=str(MAX_LABELS), dedupe_max_ids=str(MAX_IDS), **kept)
    tokens = tmp_path / "tokens.json"
    scopes = ["stats:read", "events:write"]
    limited = [listed(realm, scopes=scopes, realms=[realm]) for realm in ("acme", "hostile")]
    tokens.write_text(json.dumps([listed("all", scopes=scopes), *limited]))
    with ExitStack() as stack:
        api = ApiProcess(
            auth="static",
            auth_tokens_file=str(tokens),
            redis_url=site.store.url,
            ingest="on",
            kafka_bootstrap_servers=embedded.address,
            kafka_idempotence="false",
            topics=f"{site.logins}=login",
            cache_ttl_s="1",
            **kept,
        )
        stack.enter_context(api)
        yield Deployment(site, site.workers.start().wait_until_joined(), api)


def test_a_flood_of_one_realm_leaves_another_its_share_its_figures_and_its_ids(deployment: Deployment) -> None:
    victim = [*clients("acme", VICTIM_CLIENTS), *failures("acme", VICTIM_REASONS)]
    deployment.send("hostile", clients("hostile", FLOOD) + failures("hostile", FLOOD))
    deployment.send("acme", victim)
    deployment.send("hostile", [login("hostile", number, id=f"more {number}") for number in range(FLOOD)])
    # An at-least-once sender: the same ids again, after more ids of the other realm than the shard keeps.
    deployment.send("acme", clients("acme", VICTIM_CLIENTS))
    deployment.wait_until_counted()

    assert deployment.known("client") == {"hostile": HOSTILE_CLIENTS, "acme": VICTIM_CLIENTS}
    assert deployment.known("reason") == {"hostile": HOSTILE_REASONS, "acme": VICTIM_REASONS}
    assert deployment.known("node") == {}, "a sender that is limited to realms names no node"
    progress = deployment.site.client.hgetall(deployment.shard_keys.progress)
    assert progress[fields.DUPLICATES] == str(VICTIM_CLIENTS), "each repeat of the victim is recognised"
    excess = 2 * FLOOD - (MAX_IDS // 2 + 1)
    assert deployment.worker.metric("authtally_dedupe_excess_ids_total", topic=deployment.site.logins) == excess
    (partition, _) = deployment.api.get("/v1/pipeline", "all").json["items"]
    share = VICTIM_CLIENTS + MAX_IDS // 2 + 1
    assert share < partition["ids_held"] <= share + MAX_IDS // 2

    by_client = deployment.answer("acme", "client_id")
    assert by_client["complete"] is True
    assert {item["client_id"]: item["succeeded"] for item in by_client["items"] if item["client_id"] != OTHER} == {
        f"acme {number}": 1 for number in range(VICTIM_CLIENTS)
    }
    by_reason = deployment.answer("acme", "reason")
    assert by_reason["complete"] is True
    assert {item["reason"] for item in by_reason["items"]} >= {f"acme {number}" for number in range(VICTIM_REASONS)}
    for bearer in ("hostile", "all"):
        for group_by in ("client_id", "reason"):
            assert deployment.answer(bearer, group_by)["complete"] is False, (bearer, group_by)

    labels = {bearer: deployment.api.get("/v1/labels", bearer).json for bearer in ("acme", "hostile", "all")}
    assert {bearer: each["complete"] for bearer, each in labels.items()} == {
        "acme": True,
        "hostile": False,
        "all": False,
    }
    assert len(labels["acme"]["items"]) == 1 + VICTIM_CLIENTS

    deployment.send("acme", [login("acme", 0, client_id="one more")])
    deployment.wait_until_counted()
    # The answer of before is cached for a second.
    wait_until(lambda: not deployment.answer("acme", "client_id")["complete"], what="the victim exceeds its own share")
    wait_until(lambda: not deployment.api.get("/v1/labels", "acme").json["complete"], what="its labels are incomplete")
