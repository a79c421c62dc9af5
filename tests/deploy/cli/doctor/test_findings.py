"""`authtally doctor` finds nothing in a healthy deployment, and reports faults to programs and people alike."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Final

from deploy.cli.doctor.findings import CHECKS
from deploy.demo.servers.process import start_child, stop_child
from tests.conftest import wait_until
from tests.deploy.cli.doctor.conftest import Patient
from tests.deploy.conftest import PREFIX, login

PAGE: Final = (Path(__file__).parents[4] / "docs" / "doctor.md").read_text(encoding="utf-8")
VOLATILE: Final = ((r"cluster \S+", "cluster …"), (r"\b[\d,]+ MB", "… MB"), (r"Valkey [\d.]+", "Valkey …"))


def test_a_healthy_site_has_no_problems(patient: Patient) -> None:
    deployment = patient.deployment
    deployment.produce(login("ada"), login("bob"))
    environment = {**os.environ, **deployment.environment}
    worker = start_child(
        (sys.executable, "-m", "aggregator"), deployment.folder / "log", deployment.folder, environment
    )
    try:
        wait_until(lambda: deployment.position() == 2 and deployment.position(1) == 0, 60, "all is counted")
        found = patient.examine()
    finally:
        stop_child(worker, 10)
    assert found.of("kafka.group", "ok")[0]["found"] == "1 worker, up to 2 could share the work"
    assert [finding for finding in found.printed["findings"] if finding["verdict"] in ("problem", "unknown")] == []
    # One broker is one copy: no test of ours has three.
    assert {finding["check"] for finding in found.printed["findings"] if finding["verdict"] == "warning"} == {
        "kafka.copies"
    }
    assert found.status == 0
    assert found.printed["healthy"] is True
    assert found.printed["counts"]["ok"] == len(found.printed["findings"]) - found.printed["counts"]["warning"]
    # Each check has looked, except those of other regions.
    asked = {check for check in CHECKS if not check.startswith("regions.")} - {"clock.records"}
    assert {finding["check"] for finding in found.printed["findings"]} >= asked


def test_people_read_the_same(patient: Patient) -> None:
    result = patient.deployment.run("doctor", "--backup-age", "2d", AUTHTALLY_DEAD_LETTER_TOPIC="nowhere")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert [line for line in lines if line in ("settings", "kafka", "redis", "ledger", "access", "clock")]
    at = lines.index("  problem  topic nowhere: Kafka has no such topic, or hides it from our principal")
    assert lines[at + 1].strip() == "→ create it: authtally topics create; or correct AUTHTALLY_DEAD_LETTER_TOPIC"
    assert re.fullmatch(r"\d+ ok,( \d+ unknown,)? \d+ warnings?, 1 problem\.", lines[-1]), result.stdout


def test_every_wrong_setting_is_a_finding_and_the_other_service_is_checked(patient: Patient) -> None:
    found = patient.examine(max_labels="many", retain_days="-1", timezonne="UTC")
    assert {finding["subject"] for finding in found.of("settings.worker", "problem")} == {
        "AUTHTALLY_MAX_LABELS",
        "AUTHTALLY_RETAIN_DAYS",
        "AUTHTALLY_TIMEZONNE",
    }
    assert found.status == 2
    alone = patient.examine("--service", "api", max_labels="many")
    assert (alone.status, alone.verdicts("settings.api"), alone.verdicts("redis.version")) == (0, {"ok"}, {"ok"})


def test_the_examples_of_the_documentation_read_as_printed(patient: Patient) -> None:
    names = {patient.topic: "auth.logins", patient.otp: "auth.otp-tokens", patient.dead_letters: "auth.dead-letter"}
    names[patient.deployment.environment["AUTHTALLY_KAFKA_GROUP"]] = "authtally"
    names[f"KEY_PREFIX={PREFIX}"] = "KEY_PREFIX=authtally:"
    examples = re.findall(r"^\$ authtally (doctor.*)\n((?:(?!```).*\n)*)```", PAGE, re.MULTILINE)
    assert examples
    for arguments, printed in examples:
        result = patient.deployment.run(*arguments.split()).stdout
        for name, plain in names.items():
            result = result.replace(name, plain)
        for pattern, plain in VOLATILE:
            result, printed = re.sub(pattern, plain, result), re.sub(pattern, plain, printed)
        assert result.rstrip().splitlines() == printed.rstrip().splitlines()
