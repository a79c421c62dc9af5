"""Each shipped alert fires when it should and is silent when it should be, by Prometheus' own test runner."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.deploy.alert_cases import CASES
from tests.servers.prometheus import PrometheusMissingError, promtool

FOLDER: Final = Path(__file__).parents[2] / "deploy" / "observability"
RULES: Final[dict[str, Any]] = yaml.safe_load((FOLDER / "alerts.yaml").read_text(encoding="utf-8"))
ALERTS: Final[dict[str, dict[str, Any]]] = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}


@pytest.fixture(scope="module")
def tool() -> str:
    try:
        return promtool()
    except PrometheusMissingError as missing:
        pytest.skip(str(missing))


def run(tool: str, *arguments: str | Path) -> str:
    done = subprocess.run((tool, *arguments), capture_output=True, text=True, timeout=60, check=False)
    result = done.stdout + done.stderr
    assert done.returncode == 0, result
    return result


def test_prometheus_takes_the_rules(tool: str) -> None:
    assert f"{len(ALERTS)} rules found" in run(tool, "check", "rules", FOLDER / "alerts.yaml")


@pytest.mark.parametrize("step", sorted({case.step for case in CASES}))
def test_each_alert_fires_when_it_should_and_only_then(tool: str, tmp_path: Path, step: str) -> None:
    # What an alert says in words would have to be repeated in every case; `check rules` fills its templates in.
    bare = {
        "groups": [
            group
            | {
                "rules": [
                    {name: value for name, value in rule.items() if name != "annotations"} for rule in group["rules"]
                ]
            }
            for group in RULES["groups"]
        ]
    }
    (tmp_path / "alerts.yaml").write_text(json.dumps(bare))
    tests = [
        {
            "name": f"{case.alert}: {case.why}",
            "interval": step,
            "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
            "alert_rule_test": [
                {
                    "eval_time": case.at,
                    "alertname": case.alert,
                    "exp_alerts": [{"exp_labels": ALERTS[case.alert]["labels"] | labels} for labels in case.fires],
                }
            ],
        }
        for case in CASES
        if case.step == step
    ]
    asked = {"rule_files": ["alerts.yaml"], "evaluation_interval": step, "tests": tests}
    (tmp_path / "tests.yaml").write_text(json.dumps(asked))
    run(tool, "test", "rules", tmp_path / "tests.yaml")


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_is_tried_both_ways_and_says_what_to_do(alert: str) -> None:
    assert {bool(case.fires) for case in CASES if case.alert == alert} == {True, False}
    result = ALERTS[alert]["annotations"]
    assert set(result) == {"summary", "description", "runbook"}
    assert all(text.strip() for text in result.values())
    assert ALERTS[alert]["labels"]["severity"] in ("warning", "critical")


def test_prometheus_takes_the_scrape_configuration(tool: str, tmp_path: Path) -> None:
    for name in ("prometheus.yaml", "alerts.yaml"):
        (tmp_path / name).write_text((FOLDER / name).read_text(encoding="utf-8"))
    for name in ("metrics-token", "statistics-token"):
        (tmp_path / name).write_text("a-token")
    assert "SUCCESS" in run(tool, "check", "config", tmp_path / "prometheus.yaml")
