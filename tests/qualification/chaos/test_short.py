"""A short seeded run on the real clusters; `make chaos` does the long ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.qualification.chaos.__main__ import sound
from tests.qualification.chaos.faults import KINDS
from tests.qualification.chaos.run import Order, run
from tests.servers import JavaMissingError
from tests.servers.apache_kafka import fetch_jars
from tests.servers.java import java

RUNS = Path(__file__).with_name("runs")
SHORT = {"connection_cut", "log_cut", "primary_killed", "promoted_behind", "scripts_flushed", "slot_moved", "disk_full"}
"""What needs no waiting for sessions to end."""
POISON = {
    "foreign_codec",
    "foreign_record",
    "odd_record_timestamp",
    "store_address_moved",
    "store_clock_wrong",
    "unexpected_record",
    "worker_clocks_wrong",
}


@pytest.fixture(scope="module")
def needs_java() -> None:
    try:
        java()
        fetch_jars()
    except JavaMissingError as missing:
        pytest.skip(str(missing))


@pytest.mark.apache_kafka
def test_a_short_run_of_seeded_faults_loses_nothing_and_counts_nothing_twice(needs_java: None) -> None:
    lines: list[str] = []
    order = Order(seed=8, minutes=0.35, faults=5, events_per_s=3000, kinds=SHORT, older="", workers=2)
    record = run(order, lines.append)
    assert sound(record), json.dumps({**record, "log": lines}, indent=1)
    assert record["faults"] >= 1
    assert record["events"] > 10_000


@pytest.mark.apache_kafka
@pytest.mark.timeout(600)
def test_one_fault_of_each_kind_of_poison_leaves_every_record_what_it_must_be(needs_java: None) -> None:
    lines: list[str] = []
    order = Order(seed=3, minutes=2, faults=len(POISON), events_per_s=2000, kinds=POISON, workers=2, once=True)
    record = run(order, lines.append)
    assert sound(record), json.dumps({**record, "log": lines}, indent=1)
    assert record["faults_by_kind"] == dict.fromkeys(sorted(POISON), 1)
    assert record["poisoned_records"] > 100


RECORDED = sorted(RUNS.glob("worker-*.json"))


@pytest.mark.parametrize("path", RECORDED, ids=[path.stem for path in RECORDED])
def test_a_recorded_run_shows_no_loss_and_no_double(path: Path) -> None:
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    assert sound(record)
    assert set(record["faults_by_kind"]) <= set(KINDS)
    assert record["faults"] == sum(record["faults_by_kind"].values()) == len(record["log"])


@pytest.mark.parametrize("arm", ["no-compare", "plain-faust"])
def test_a_control_arm_was_wrong_in_its_recorded_run(arm: str) -> None:
    (path,) = RUNS.glob(f"{arm}-*.json")
    verdict = json.loads(path.read_text(encoding="utf-8"))["verdict"]
    assert verdict["lost"] + verdict["duplicated"] > 0


def test_a_killed_workers_partitions_go_on_in_a_fifth_of_the_time_that_fausts_defaults_take() -> None:
    record = json.loads((RUNS / "recovery.json").read_text(encoding="utf-8"))
    assert record["ratio_of_medians"] <= 0.2
