"""Snapshots of a site that runs: saved while workers write, restored under them, verified against the log."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from deploy.cli.main import main
from deploy.demo.servers import create_topics
from deploy.demo.servers.topics import admin
from schemas.ledger import changes, fields
from schemas.ledger.keys import Shard, ShardKeys
from tests.conftest import wait_until
from tests.deploy.conftest import Deployment, login
from tests.integration.conftest import MakeSite, apache, each_broker, embedded, make_site
from tests.integration.sites import PREFIX, Broker, Site

__all__ = ["apache", "each_broker", "embedded", "make_site"]

EVENTS = 2_000
BOUND = "100"
"""EXACT_UP_TO: low enough that some users are in sketches, and some not."""


def run(site: Site, *arguments: object) -> Result:
    """A command with the settings of the site's workers."""
    environment = {f"AUTHTALLY_{name.upper()}": value for name, value in site.workers.settings.items()}
    return CliRunner().invoke(main, list(map(str, arguments)), env=environment)


def printed(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_ledger_saved_while_it_counts_and_restored_later_continues_exactly(
    embedded: Broker, make_site: MakeSite, tmp_path: Path
) -> None:
    site = make_site(embedded, partitions=2, exact_up_to=BOUND)
    worker = site.workers.start().wait_until_ready()
    file = tmp_path / "ledger.snapshot"
    with site.publisher.flow():
        site.wait_until_moved()
        saved = printed(run(site, "snapshot", "save", file, "--json"))
        site.wait_until_moved()
    stands = {Shard(each["topic"], each["partition"]): each["position"] for each in saved["shards"]}
    later = site.wait_until_counted()
    assert all(0 < stands[shard] < later[shard] for shard in site.shards)

    # The store lost everything, and the worker has begun to count anew: into the same shards that are restored.
    site.client.flushall()
    refused = run(site, "snapshot", "restore", "--yes", file)
    assert refused.exit_code in (0, 1)
    done = printed(run(site, "snapshot", "restore", "--yes", file, "--replace", "--json"))
    assert sorted(done["restored"]) == sorted(shard.tag for shard in stands)
    assert all(remark.endswith("offsets to replay") for remark in done["remarks"].values())
    site.publisher.publish(EVENTS)
    assert site.differences() == []
    assert worker.running


def test_a_worker_leaves_a_shard_alone_until_it_is_restored(
    embedded: Broker, make_site: MakeSite, tmp_path: Path
) -> None:
    site = make_site(embedded, partitions=1)
    worker = site.workers.start().wait_until_ready()
    site.publisher.publish(EVENTS)
    site.wait_until_counted()
    file = tmp_path / "ledger.snapshot"
    printed(run(site, "snapshot", "save", file, "--json"))

    # What a restore leaves that was killed on its way.
    shard_keys = ShardKeys(PREFIX, site.shards[0])
    site.client.set(shard_keys.position, fields.RESTORING)
    site.client.delete(shard_keys.progress, shard_keys.labels)
    site.publisher.publish(EVENTS)
    worker.wait_until_troubled("is being restored", "authtally snapshot restore")
    assert site.client.get(shard_keys.position) == str(fields.RESTORING)

    assert printed(run(site, "snapshot", "restore", "--yes", file, "--replace", "--json"))["restored"]
    site.publisher.publish(EVENTS)
    assert site.differences() == []


def test_verify_and_recount_agree_and_name_what_was_tampered_with(
    each_broker: Broker, make_site: MakeSite, tmp_path: Path
) -> None:
    # Both scopes of users, one with each broker.
    site = make_site(
        each_broker, partitions=2, exact_up_to=BOUND, user_scope="realm" if each_broker.apache else "global"
    )
    site.workers.start().wait_until_ready()
    file = tmp_path / "ledger.snapshot"
    site.publisher.publish(EVENTS)
    site.publisher.send_bad(site.shards[0], b"nope", "not_json")
    site.publisher.flush()
    site.wait_until_counted()
    printed(run(site, "snapshot", "save", file, "--json"))
    with site.publisher.flow():
        site.wait_until_moved()
        for source in (file, "--from-start"):
            found = printed(run(site, "snapshot", "verify", source, "--json"))
            assert found["agree"]
            assert sum(each["keys"] for each in found["shards"]) > 500
    site.wait_until_counted()
    shard_keys = ShardKeys(PREFIX, site.shards[0])
    month = min(period for period in site.client.zrange(shard_keys.index, 0, -1) if len(period) == 7)
    figures = {each["name"]: each for each in printed(run(site, "recount", month, "--json"))["figures"]}
    assert figures["logins"]["bound"] == 0
    assert min(figures[name]["recount"] for name in ("active users", "logins", "failed logins", "tokens")) > 0

    (counts,) = site.client.keys(f"{shard_keys.base}counts:{month}:all")
    site.client.hincrby(counts, fields.LOGIN, 1)
    site.client.srem(shard_keys.labels, site.client.srandmember(shard_keys.labels))
    site.client.set(shard_keys.clients("1999-01"), "x")
    # Random tokens do not follow from the log.
    assert {month, changes.EPOCH} <= set(site.client.hkeys(shard_keys.changes))
    site.client.hset(shard_keys.changes, month, changes.new_token())
    # In another database of the same server, of which nothing is left behind.
    differs = run(site, "snapshot", "verify", file, "--scratch-url", re.sub("/0$", "/1", site.store.url))
    assert differs.exit_code == 1
    for said in (
        "3 keys differ",
        f"counts:{month}:all: login ",
        "labels: 0 members only in the ledger, 1 only by the log",
        "clients:1999-01: exists in the ledger, missing by the log",
    ):
        assert said in differs.output
    assert site.client.info("keyspace").keys() == {"db0"}
    recounted = run(site, "recount", month)
    assert recounted.exit_code == 1
    assert [line.split()[1] for line in recounted.output.splitlines() if "DIFFERS" in line] == ["logins"]


def test_a_snapshot_of_a_topic_made_anew_is_refused(deployment: Deployment, tmp_path: Path) -> None:
    deployment.produce(login("ada"), login("bob"))
    deployment.count_up_to(2)
    file = tmp_path / "ledger.snapshot"
    assert deployment.run("snapshot", "save", str(file)).exit_code == 0
    client = admin(deployment.broker)
    client.delete_topics([deployment.topic], operation_timeout=10)[deployment.topic].result(20)
    wait_until(lambda: deployment.topic not in client.list_topics(timeout=5).topics)
    create_topics(deployment.broker, {deployment.topic: 2})
    deployment.redis.flushall()

    refused = deployment.run("snapshot", "restore", "--yes", str(file))
    assert refused.exit_code == 1
    assert f"{deployment.topic}-0: the snapshot has topic id " in refused.output
    assert "was created again" in refused.output
    assert deployment.redis.dbsize() == 0
    cannot = deployment.run("snapshot", "verify", str(file))
    assert cannot.exit_code == 1
    assert "The ledger has no shard of these TOPICS." in cannot.output
