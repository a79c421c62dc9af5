"""A broker that cannot read its own file: the partition stops by name soon, and continues behind the damage."""

from __future__ import annotations

import json
import re
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from click.testing import CliRunner

from deploy.cli.main import main
from schemas.ledger.keys import Shard
from tests.conftest import wait_until
from tests.integration.api_process import ApiProcess
from tests.integration.conftest import MakeSite
from tests.integration.raw_batches import Written, batch, produce
from tests.integration.sites import Broker, Site
from tests.servers import ApacheKafka

BATCHES: Final = 60
DAMAGED: Final = 20
LENGTH_AT: Final = 8
HEAD: Final = 12
"""Where a batch has its length, and the bytes that the length does not count."""


def with_length(segment: bytes, number: int, length: int) -> bytes:
    """The segment with another length of one batch: a broker checks no more when it looks for an offset."""
    patched, at = bytearray(segment), 0
    for _ in range(number):
        at += HEAD + struct.unpack_from(">i", patched, at + LENGTH_AT)[0]
    struct.pack_into(">i", patched, at + LENGTH_AT, length)
    return bytes(patched)


def command(site: Site, *arguments: str) -> Any:
    environment = {f"AUTHTALLY_{name.upper()}": value for name, value in site.workers.settings.items()}
    return CliRunner(env=environment).invoke(main, list(arguments))


@contextmanager
def damaged(make_site: MakeSite, folder: Path) -> Iterator[tuple[ApacheKafka, Site, Path, bytes]]:
    """A broker with one damaged segment, a site, and the segment's path and undamaged bytes."""
    with ApacheKafka(folder / "kafka") as kafka:
        site = make_site(Broker(kafka.address, apache=True), partitions=2)
        shard = Shard(site.logins, 1)
        now_ms = int(time.time() * 1000)
        for number in range(BATCHES):
            # Large enough for several entries of the index, one for each 4 KB.
            value = json.dumps({"time": now_ms, "user_id": f"user-{number}", "realm": "x" * 200, "padding": "y" * 600})
            produce(kafka.address, shard, batch(Written(value.encode(), b"k", (), now_ms)))
        kafka.stop()
        (segment,) = kafka.folder.glob(f"data/{shard.topic}-1/*.log")
        whole = segment.read_bytes()
        segment.write_bytes(with_length(whole, DAMAGED, 0))
        kafka.start()
        yield kafka, site, segment, whole


def shown(api: ApiProcess) -> dict[tuple[str, int], str | None]:
    """By partition: why it is stopped."""
    items = api.get("/v1/pipeline").json["items"]
    return {(row["topic"], row["partition"]): row["stopped"] for row in items}


def test_a_damaged_segment_stops_its_partition_with_the_command_that_continues_behind_it(
    make_site: MakeSite, tmp_path: Path
) -> None:
    with damaged(make_site, tmp_path) as (_, site, _, _):
        stopped = Shard(site.logins, 1)
        worker = site.workers.start()
        # Long before AUTHTALLY_STUCK_AFTER_S, by which the worker would end.
        reason = worker.wait_until_troubled(f"positions reset {stopped.topic} 1 --to")
        assert f"cannot be read at offset {DAMAGED} of {stopped.topic} (CORRUPT_MESSAGE)" in reason
        beyond = int(re.search(r"--to (\d+)$", reason)[1])  # type: ignore[index]
        # The next entry of the index is at most 4 KB behind the damage.
        assert DAMAGED < beyond <= DAMAGED + 8
        assert worker.running
        assert worker.metric("authtally_partition_stopped", topic=stopped.topic, partition="1") == 1
        site.publisher.publish(200, site.tokens)
        site.wait_until_counted(without=[stopped])
        assert site.positions()[stopped] == DAMAGED

        # The worker writes it in its next check of positions.
        with ApiProcess(auth="none", redis_url=site.workers.settings["redis_url"], cache_ttl_s="0") as api:
            wait_until(lambda: shown(api)[stopped] == reason, 30, "the reason is in the pipeline")
            rows = shown(api)
        assert [*rows.values()].count(None) == len(rows) - 1
        findings = json.loads(command(site, "doctor", "--service", "worker", "--json").stdout)["findings"]
        (finding,) = [each for each in findings if each["check"] == "ledger.stopped"]
        assert (finding["verdict"], finding["subject"]) == ("problem", stopped.tag)
        assert f"{finding['found']}; {finding['advice']}" == reason

        moved = command(site, *reason[reason.index("positions") :].split(), "--yes")
        assert moved.exit_code == 0, moved.output
        site.publisher.ends[stopped] = BATCHES
        site.wait_until_counted()
        worker.wait_until_ready()
        assert worker.metric("authtally_partition_stopped", topic=stopped.topic, partition="1") == 0
        assert site.positions()[stopped] == BATCHES


def test_a_partition_continues_by_itself_once_a_broker_can_read_it(make_site: MakeSite, tmp_path: Path) -> None:
    with damaged(make_site, tmp_path) as (kafka, site, segment, whole):
        stopped = Shard(site.logins, 1)
        worker = site.workers.start()
        worker.wait_until_troubled("(CORRUPT_MESSAGE)")
        assert site.positions()[stopped] == DAMAGED
        kafka.stop()
        segment.write_bytes(whole)
        kafka.start()
        site.publisher.ends[stopped] = BATCHES
        site.wait_until_counted()
        assert worker.running
        worker.wait_until_ready()
