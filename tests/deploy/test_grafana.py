"""The shipped dashboard: whole, portable, and every question in it one that Prometheus understands."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import pytest

from tests.servers.prometheus import PrometheusMissingError, promtool

PATH: Final = Path(__file__).parents[2] / "deploy" / "observability" / "grafana-dashboard.json"
DASHBOARD: Final[dict[str, Any]] = json.loads(PATH.read_text(encoding="utf-8"))
PANELS: Final[list[dict[str, Any]]] = DASHBOARD["panels"]
DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
JOBS: Final = {"worker_job": "authtally-worker", "api_job": "authtally-api", "statistics_job": "authtally-statistics"}
GIVEN: Final = {
    "$__rate_interval": "5m",
    **{f"${name}": job for name, job in JOBS.items()},
    **dict.fromkeys(("$topic", "$instance", "$realm"), ".*"),
}
"""What Grafana puts in place of its variables."""


def without_variables(expression: str, rate_interval: str = GIVEN["$__rate_interval"]) -> str:
    for variable, value in (GIVEN | {"$__rate_interval": rate_interval}).items():
        expression = expression.replace(variable, value)
    return expression


def questions() -> Iterator[tuple[str, str]]:
    """Panel and PromQL of each target."""
    for panel in PANELS:
        for target in panel.get("targets", ()):
            yield panel["title"], without_variables(target["expr"])


def test_every_expression_is_promql(tmp_path: Path) -> None:
    try:
        tool = promtool()
    except PrometheusMissingError as missing:
        pytest.skip(str(missing))
    # As recording rules: promtool reads no expressions by themselves.
    rules = [{"record": f"panel:{number}", "expr": expression} for number, (_, expression) in enumerate(questions())]
    assert not [rule for rule in rules if "$" in rule["expr"]], "a variable that is not declared"
    (tmp_path / "rules.yaml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(
        (tool, "check", "rules", tmp_path / "rules.yaml"), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_datasource_is_the_importers_choice() -> None:
    variables = {variable["name"]: variable["type"] for variable in DASHBOARD["templating"]["list"]}
    queries = (*JOBS, "instance", "realm", "topic")
    assert variables == {"datasource": "datasource"} | dict.fromkeys(queries, "query")
    named = [panel["datasource"] for panel in PANELS if panel["type"] != "row"]
    named += [target["datasource"] for panel in PANELS for target in panel.get("targets", ())]
    assert all(source == DATASOURCE for source in named)
    assert "__inputs" not in DASHBOARD
    assert "id" not in DASHBOARD, "Grafana gives it its own"


def test_every_panel_has_a_title_a_place_and_something_to_ask() -> None:
    shown = [panel for panel in PANELS if panel["type"] != "row"]
    assert all(panel["title"] and panel["targets"] for panel in shown)
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    for one, other in combinations(PANELS, 2):
        a, b = one["gridPos"], other["gridPos"]
        apart_x = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        apart_y = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert apart_x or apart_y, (one["title"], other["title"])
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in PANELS)


def test_it_asks_about_both_services_and_what_they_count() -> None:
    asked = " ".join(expression for _, expression in questions())
    for name in ("authtally_events_total", "authtally_api_requests_total", "authtally_active_users"):
        assert re.search(rf"\b{name}\b", asked)


def test_no_job_is_fixed_and_every_selector_has_one() -> None:
    for panel in PANELS:
        for target in panel.get("targets", ()):
            expression = target["expr"]
            assert 'job="' not in expression, panel["title"]
            selectors = re.findall(r"\b(?:authtally_|process_|up\b)\w*(\{[^}]*\})?", expression)
            assert all(re.search(r'job=~"\$\w+_job"', selector) for selector in selectors), expression


def test_all_jobs_are_those_of_authtally() -> None:
    # With `.*` for "All", `up` would count every target of the server.
    for variable in DASHBOARD["templating"]["list"]:
        if variable["name"] in JOBS:
            assert "allValue" not in variable
            assert "authtally_" in variable["definition"]


def test_its_time_ranges_are_days() -> None:
    # A figure of a day changes once a day.
    assert DASHBOARD["time"] == {"from": "now-7d", "to": "now"}
    begin = next(index for index, panel in enumerate(PANELS) if panel["title"].startswith("Counting"))
    charts = [panel for panel in PANELS[:begin] if panel["type"] == "timeseries"]
    assert charts
    assert all(panel["timeFrom"] == "30d" for panel in charts)
