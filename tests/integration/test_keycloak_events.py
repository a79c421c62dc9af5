"""A real Keycloak sends its own signed webhooks; its stored events and Kafka records give the same figures."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import redis

from deploy.demo.servers import Tansu, Valkey, create_topics
from schemas.adapters.keycloak import RULES
from schemas.ledger import fields
from schemas.ledger.keys import SMALL_PARTS, Shard, ShardKeys
from schemas.ledger.scopes import EVERYTHING, Scope
from tests.aggregator.counting import Counting
from tests.aggregator.logs import LogRecord
from tests.conftest import wait_until
from tests.integration.api_process import ApiProcess
from tests.integration.keycloak.deeds import Deeds
from tests.integration.keycloak.flows import HOOKED, MACHINES, REALM_IDS, Admin
from tests.integration.workers import WorkerProcess
from tests.servers import JavaMissingError
from tests.servers.keycloak import Keycloak

# The first run on a machine fetches Keycloak.
pytestmark = pytest.mark.timeout(900)

REALM_FILES: Final = Path(__file__).with_name("keycloak")
SECRET: Final = "a secret that both listeners share"
NAMES: Final = ",".join(f"{realm_id}={name}" for name, realm_id in REALM_IDS.items())
BOUND: Final = {"keycloak.logins": "login", "keycloak.tokens": "token", "keycloak.accounts": "account"}
KEY: Final = "a key for nothing but tests"
PREFIX: Final = "authtally:"
FOREIGN: Final = "keycloak.events"


class Done(NamedTuple):
    deeds: Deeds
    store: Valkey
    api: ApiProcess
    shards: list[Shard]
    events: list[dict[str, Any]]
    """As Keycloak's admin REST interface returns them."""
    admin_events: list[dict[str, Any]]


@pytest.fixture(scope="module")
def done(tansu: Tansu, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    """Everything is done once: Keycloak takes half a minute to start."""
    broker = tansu.address
    folder = tmp_path_factory.mktemp("keycloak")
    create_topics(broker, dict.fromkeys((*BOUND, "keycloak.dead-letter"), 2))
    common = {
        "kafka_bootstrap_servers": broker,
        "kafka_idempotence": "false",
        "topics": ",".join(f"{topic}={event}" for topic, event in BOUND.items()),
    }
    with Valkey() as store:
        api = ApiProcess(
            redis_url=store.url,
            auth="none",
            ingest="on",
            ingest_keycloak_secret=SECRET,
            realm_names=NAMES,
            **common,
        )
        worker = WorkerProcess(
            folder / "worker",
            common
            | {"redis_url": store.url, "user_hash_key": KEY, "kafka_group": "keycloak"}
            | {"dead_letter_topic": "keycloak.dead-letter"},
        )
        try:
            with api, keycloak_of(api, folder) as keycloak:
                worker.wait_until_ready()
                deeds = Deeds(keycloak)
                deeds.do()
                shards = [Shard(topic, partition) for topic in BOUND for partition in range(2)]
                yield Done(deeds, store, api, shards, deeds.stored("events"), deeds.stored("admin-events"))
        finally:
            worker.stop()


def keycloak_of(api: ApiProcess, folder: Path) -> Keycloak:
    """A Keycloak that sends every event to the api by `ext-event-webhook`, and those of one realm by both listeners."""
    target = f"http://{api.address}/v1/ingest/keycloak"
    sender = json.dumps({"targetUri": target, "sharedSecret": SECRET})
    files = []
    for name, attributes in ((HOOKED, {"_providerConfig.ext-event-http.0": sender}), (MACHINES, {})):
        realm = json.loads((REALM_FILES / f"{name}-realm.json").read_text(encoding="utf-8"))
        # By default Keycloak stores no refreshes.
        realm |= {"attributes": attributes, "enabledEventTypes": sorted(RULES)}
        files.append(folder / f"{name}-realm.json")
        files[-1].write_text(json.dumps(realm), encoding="utf-8")
    variables = {"WEBHOOK_URI": target, "WEBHOOK_SECRET": SECRET} | Admin.BOOTSTRAP
    try:
        return Keycloak(files, variables=variables)
    except JavaMissingError as missing:
        pytest.skip(str(missing))


def month() -> str:
    return datetime.now(UTC).strftime("%Y-%m")


def figures(store: Any, shards: list[Shard], scope: Scope = EVERYTHING) -> tuple[Counter[str], int]:
    """The counts of this month, and its active users, from the ledger."""
    counts: Counter[str] = Counter()
    users = 0
    for shard in shards:
        for name, count in store.hgetall(ShardKeys(PREFIX, shard).counts(month(), scope)).items():
            counts[name] += int(count)
    for part in range(SMALL_PARTS):
        users += len(store.sunion([ShardKeys(PREFIX, shard).small_set(month(), scope, part) for shard in shards]))
    return counts, users


def progress(store: Any, shards: list[Shard]) -> Counter[str]:
    total: Counter[str] = Counter()
    for shard in shards:
        found = store.hgetall(ShardKeys(PREFIX, shard).progress)
        total.update({name: int(number) for name, number in found.items() if not name.endswith("_ms")})
    return total


def test_signed_webhooks_count_what_was_done(done: Done) -> None:
    deeds = done.deeds
    # Two listeners report the same events of one realm.
    sent = 2 * deeds.events[HOOKED] + deeds.events[MACHINES]
    with redis.Redis.from_url(done.store.url, decode_responses=True) as store:
        wait_until(lambda: progress(store, done.shards)[fields.CONSUMED] >= sent, 90, f"{sent} events are counted")
        found = progress(store, done.shards)
        assert (found[fields.CONSUMED], found[fields.DUPLICATES]) == (sent, deeds.events[HOOKED])
        assert figures(store, done.shards) == (deeds.counts, len(deeds.users))
        realms = {name: figures(store, done.shards, Scope("realm", (name,))) for name in (HOOKED, MACHINES)}
    assert realms[HOOKED][1] == len(deeds.users)
    assert realms[MACHINES][1] == 0, "a service account that refreshes is known by its user name"
    assert sum((counts for counts, _ in realms.values()), Counter()) == deeds.counts, "ids and names are one realm"


def test_the_api_answers_them(done: Done) -> None:
    today = datetime.now(UTC).date()
    query = f"granularity=month&from={today.replace(day=1)}&to={today}&realm={HOOKED}"
    answer = done.api.get(f"/v1/active-users?{query}").json
    assert [item["value"] for item in answer["items"]] == [len(done.deeds.users)]


def test_admin_events_are_ignored(done: Done) -> None:
    found = {
        line.rpartition('result="')[2].partition('"')[0]: float(line.split()[-1])
        for line in done.api.get("/metrics").text.splitlines()
        if line.startswith("authtally_ingest_elements_total{") and 'way="keycloak"' in line
    }
    assert done.admin_events
    assert (found["rejected"], found["unacknowledged"]) == (0, 0)
    assert found["ignored"] >= len(done.admin_events)


def as_kafka_listener(event: dict[str, Any]) -> dict[str, Any]:
    """The record that keycloak-kafka writes: Keycloak's own Event, with every field, and no key."""
    names = ("id", "time", "type", "realmId", "realmName", "clientId", "userId", "sessionId", "ipAddress", "error")
    realm_name = next(name for name, realm_id in REALM_IDS.items() if realm_id == event["realmId"])
    return {name: event.get(name) for name in names} | {"realmName": realm_name, "details": event.get("details")}


@pytest.mark.parametrize("partitions", [1, 4, 12])
@pytest.mark.parametrize("source", ["rest", "kafka"])
async def test_records_give_the_same_figures(done: Done, redis_url: str, source: str, partitions: int) -> None:
    deeds = done.deeds
    records = [*done.events, *done.admin_events] if source == "rest" else [as_kafka_listener(e) for e in done.events]
    shards = [Shard(FOREIGN, number) for number in range(partitions)]
    given: Any = {"topics": {FOREIGN: "keycloak"}, "realm_names": NAMES, "retain_days": "forever"}
    for number, shard in enumerate(shards):
        log = [
            LogRecord(offset, int(time.time() * 1000), json.dumps(event).encode())
            for offset, event in enumerate(records[number::partitions])
        ]
        async with Counting(redis_url, shard, **given) as counting:
            await counting.open()
            await counting.count(log, 0, len(log))
    with redis.Redis.from_url(redis_url, decode_responses=True) as store:
        # No field distinguishes the refresh of a service account from that of a user.
        assert figures(store, shards) == (deeds.counts, len(deeds.users) + 1)
        assert figures(store, shards, Scope("realm", (HOOKED,)))[1] == len(deeds.users)
        found = progress(store, shards)
    assert found[fields.CONSUMED] == len(records)
    assert not [name for name in found if name.startswith(("dead", "unknown"))], "every type is known"
