"""A realm's figures are removed from a ledger whose worker runs; everything else and the positions stay."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import redis

from aggregator.fold.range_delta import RangeDelta
from aggregator.inventory.state import realm_bytes
from aggregator.ledger.ledger import Applied, Refused
from deploy.cli.realm_removal import plan, remove_from
from schemas.ledger import changes, fields
from tests.aggregator.counting import SHARD, Counting
from tests.aggregator.inventories import OF, Held, Inventories, state
from tests.aggregator.logs import record
from tests.api.otp import TOPICS, write
from tests.conftest import wait_until
from tests.deploy.conftest import Deployment, login
from tests.integration.workers import Workers

USERS = {"AUTHTALLY_USERS_BY": "realm,client", "AUTHTALLY_COUNTS_BY": "realm,client"}


def all_keys(deployment: Deployment) -> set[str]:
    return set(deployment.redis.keys(f"{deployment.keys(0).base}*"))


def about(names: set[str], realm: str) -> set[str]:
    return {name for name in names if f":realm/{realm}:" in f"{name}:" or f":client/{realm}/" in name}


def test_a_realm_is_removed_and_another_stays(deployment: Deployment) -> None:
    deployment.produce(login("ada", realm="acme", client_id="web"), login("bob", realm="acme2", client_id="web"))
    deployment.count_up_to(2, settings=USERS)
    before, meta = all_keys(deployment), deployment.keys(0).meta
    assert about(before, "acme")

    dry = deployment.run("realm", "remove", "acme", **USERS)
    assert dry.exit_code == 0, dry.output
    assert "Dry run" in dry.output
    assert "What remains" in dry.output
    assert all_keys(deployment) == before
    assert deployment.redis.hget(meta, fields.REMOVALS) is None

    done = deployment.run("realm", "remove", "acme", "--yes", "--json", **USERS)
    assert done.exit_code == 0, done.output
    document = json.loads(done.output)
    assert document["removed"] is True
    assert [(shard["keys"], shard["labels"]) for shard in document["shards"]] == [(len(about(before, "acme")), 2)]
    assert all_keys(deployment) == before - about(before, "acme")
    assert deployment.redis.smembers(deployment.keys(0).labels) >= {"realm/acme2", "client/acme2/web"}
    assert not {"realm/acme", "client/acme/web"} & deployment.redis.smembers(deployment.keys(0).labels)
    assert deployment.position() == 2
    assert deployment.redis.hget(meta, fields.REMOVALS) == "1"
    assert deployment.redis.hget(meta, fields.since(fields.REMOVALS)).startswith("2 ")

    shown = json.loads(deployment.run("audit", "--json").output)["entries"]
    assert [(entry["action"], entry["parameters"]) for entry in shown] == [("realm remove", {"realm": "acme"})]
    assert shown[0]["number"] == len(about(before, "acme"))
    assert shown[0]["actor"].startswith("os ")

    again = deployment.run("realm", "remove", "acme", "--yes", **USERS)
    assert "nothing of the realm 'acme'" in again.output
    deployment.produce(login("ada", realm="acme", client_id="web"))
    deployment.count_up_to(3, settings=USERS)
    assert about(all_keys(deployment), "acme"), "new events begin new figures"


async def test_a_worker_that_remembers_the_realm_counts_it_anew(redis_url: str) -> None:
    """The memory of labels, users and sketches of a worker that was running is not valid after the removal."""
    async with Counting(redis_url, SHARD, users_by=("realm",), exact_up_to=2) as worker:
        ledger, keys = worker.ledger, worker.ledger.keys(SHARD)
        at = {"type": "login", "time": "2027-01-01T12:00:00Z", "realm": "acme"}
        await worker.open()
        events = [record(number, {**at, "user_id": user}) for number, user in enumerate(("ada", "bob", "eve"))]
        assert isinstance(await worker.count(events, 0, 3), Applied)
        state_before = await ledger.read_state(SHARD)
        found = await plan(worker.client, keys, "acme")
        assert found.keys
        assert found.labels == ["realm/acme"]
        await remove_from(worker.client, keys, "acme")
        refused = await ledger.apply(SHARD, 3, RangeDelta(4), removals=state_before.removals)
        assert refused == Refused(3), "the position stays, and the range is refused"
        state = await ledger.read_state(SHARD)
        assert isinstance(await ledger.apply(SHARD, 3, RangeDelta(4), removals=state.removals), Applied)
        assert "realm/acme" not in state.labels
        assert (await plan(worker.client, keys, "acme")).empty


async def test_no_word_share_or_id_count_of_the_realm_stays(redis_url: str) -> None:
    """Everything that a shard holds under the realm's name goes; what only looks like it stays."""
    realm, hour = "ac/me:1", "2027-01-01T12:00:00Z"
    common: dict[str, Any] = {"users_by": ("realm", "client"), "counts_by": ("realm", "client")}
    common |= {"max_labels": 1, "topics": {SHARD.topic: "native"}}
    async with Counting(redis_url, SHARD, **common) as worker:
        await worker.open()
        keys = worker.ledger.keys(SHARD)
        at: dict[str, Any] = {"type": "login", "time": hour, "user_id": "ada"}
        # 17 clients of a realm have room.
        events = [{**at, "realm": realm, "client_id": f"web-{number}"} for number in range(19)]
        events += [
            {**at, "realm": realm, "success": False, "reason": "own reason"},
            {"type": "token", "time": hour, "realm": realm, "grant_type": "own grant", "tokens": ["own token"]},
            {"type": "account", "time": hour, "realm": realm, "kind": "own kind"},
            {**at, "realm": "__other__", "client_id": quote(realm, safe=":")},
            {**at, "success": False, "reason": "a reason without a realm"},
        ]
        log = [record(number, {**event, "id": f"id-{number}"}) for number, event in enumerate(events)]
        assert isinstance(await worker.count(log, 0, len(log)), Applied)
        with redis.Redis.from_url(redis_url, decode_responses=True) as server:
            server.sadd(keys.labels, fields.label("reason", realm))
            before = contents(server, keys.base)
            (hashes,) = ([name for name in before if keys.has_id_realms(name)],)
            name = fields.realm(realm)
            assert [before[key][name] for key in hashes] == ["22"]
            assert before[keys.shares][fields.refused("client", realm)] == "2"

            found = await plan(worker.client, keys, realm)
            assert len(found.labels) == 1 + 17 + 4
            assert set(found.shares) == {
                fields.refused("client", realm),
                *(fields.share(fields.label(each, realm, "")) for each in ("client", *fields.RESERVED)),
            }
            assert found.id_realms == hashes
            await remove_from(worker.client, keys, realm)
            after = contents(server, keys.base)

        named = {key for key in before if quote(realm, safe="") in key}
        gone = {"labels": set(found.labels), "shares": set(found.shares), "ids": {name}}
        kinds = {keys.labels: "labels", keys.shares: "shares", **dict.fromkeys(hashes, "ids")}
        assert named
        expected = {
            key: without(value, gone[kinds[key]]) if key in kinds else value
            for key, value in before.items()
            if key not in named and key != keys.meta
        }
        epochs = [content[keys.changes].pop(changes.EPOCH) for content in (expected, after)]
        assert epochs[0] != epochs[1], "merged periods are made anew"
        # An empty hash is no key.
        assert {key: value for key, value in after.items() if key != keys.meta} == {
            key: value for key, value in expected.items() if value
        }
        assert fields.label("reason", realm) in after[keys.labels], "a word of format 1 is no realm"

        # The ids stay, so a repeated event stays a duplicate; later ids count in the realm's share again.
        position = await worker.resume()
        again = [record(position, {**events[0], "id": "id-0"}), record(position + 1, {**events[0], "id": "new"})]
        assert isinstance(await worker.count(again, position, position + 2), Applied)
        with redis.Redis.from_url(redis_url, decode_responses=True) as server:
            assert [server.hget(key, name) for key in hashes] == ["1"]
            assert server.hget(keys.progress, fields.DUPLICATES) == "1"
            assert server.hgetall(keys.shares)[fields.share(fields.label("client", realm, ""))] == "1"


def contents(server: Any, base: str) -> dict[str, Any]:
    """Every key that begins with `base`."""
    read = {"set": server.smembers, "hash": server.hgetall, "zset": lambda key: server.zrange(key, 0, -1)}
    return {key: read.get(server.type(key), server.strlen)(key) for key in server.keys(f"{base}*")}


def without(value: Any, gone: set[str]) -> Any:
    if isinstance(value, Mapping):
        return {name: held for name, held in value.items() if name not in gone}
    return value - gone


async def test_a_realm_leaves_the_otp_inventory(redis_url: str) -> None:
    log = [
        state("2026-11-01T00:00:00Z", "1", "token_init", "acme", user_id="ada"),
        state("2026-11-01T00:00:01Z", "2", "token_init", "acme", "globex", user_id="bob"),
        state("2026-11-01T00:00:02Z", "3", "token_init", "globex"),
    ]
    await write(redis_url, log)
    async with Inventories(redis_url, topics=TOPICS) as operator:
        await remove_from(operator.client, OF, "acme")
    with Held(redis_url) as held:
        assert held.realms == {"globex": 1}
        assert held.now("globex")[0] == 2
    with redis.Redis.from_url(redis_url) as server:
        assert not [name for name in server.keys(OF.base + "otp:*") if OF.otp_realm_of(name.decode()) == 0]
        assert sorted(server.hkeys(OF.tokens)) == [b"2", b"3"]
        assert {holder[:4] for holder in server.hkeys(OF.holders)} == {realm_bytes(1)}
    # A token that was in both realms changes, and the realm comes back under a new number.
    await write(redis_url, [state("2026-11-02T00:00:00Z", "2", "token_tokenrealm", "acme", user_id="bob")])
    with Held(redis_url) as held:
        assert held.realms == {"globex": 1, "acme": 2}
        assert (held.now("globex")[0], held.now("acme")[0]) == (1, 1)


def test_other_cannot_be_removed(deployment: Deployment) -> None:
    refused = deployment.run("realm", "remove", "__other__", "--yes")
    assert refused.exit_code == 2, refused.output
    assert "__other__" in refused.output


def test_a_realm_that_the_settings_name_is_listed_as_remaining(deployment: Deployment) -> None:
    deployment.produce(login("ada", realm="acme"))
    named = {"AUTHTALLY_REALM_NAMES": "b0c1=acme"}
    deployment.count_up_to(1)
    assert "REALM_NAMES and the meta" in deployment.run("realm", "remove", "acme", **named).output
    assert "REALM_NAMES and the meta" not in deployment.run("realm", "remove", "acme").output


def test_verify_names_the_removal(deployment: Deployment) -> None:
    deployment.produce(login("ada", realm="acme"), login("bob", realm="globex"))
    deployment.count_up_to(2)
    assert deployment.run("realm", "remove", "acme", "--yes").exit_code == 0
    file = str(deployment.folder / "after.snapshot")
    assert deployment.run("snapshot", "save", file).exit_code == 0
    deployment.produce(login("eve", realm="globex"))
    deployment.count_up_to(3)

    verified = deployment.run("snapshot", "verify", file)
    assert verified.exit_code == 0, verified.output
    from_start = deployment.run("snapshot", "verify", "--from-start")
    assert from_start.exit_code == 1
    assert "a realm was removed in between" in from_start.output


def test_a_running_worker_continues_after_the_removal(deployment: Deployment) -> None:
    settings = {name.removeprefix("AUTHTALLY_").lower(): value for name, value in deployment.environment.items()}
    with Workers(deployment.folder / "workers", **(settings | {"users_by": "realm"})) as workers:
        worker = workers.start().wait_until_ready()
        deployment.produce(login("ada", realm="acme"), login("bob", realm="globex"))
        wait_until(lambda: deployment.position() == 2, 60)
        done = deployment.run("realm", "remove", "acme", "--yes", AUTHTALLY_USERS_BY="realm")
        assert done.exit_code == 0, done.output
        assert not about(all_keys(deployment), "acme")
        deployment.produce(login("ada", realm="acme"))
        wait_until(lambda: deployment.position() == 3, 60)
        assert worker.metric("authtally_refused_scripts_total", topic=deployment.topic, reason="removal") == 1
        assert "realm/acme" in deployment.redis.smembers(deployment.keys(0).labels)
        small = [name for name in about(all_keys(deployment), "acme") if ":small:" in name]
        assert len(small) == 2, "of a day and of a month"
        assert [deployment.redis.scard(name) for name in small] == [1, 1], "the worker had added the user before"
