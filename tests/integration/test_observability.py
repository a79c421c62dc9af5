"""Metrics of a real worker and api in a real Prometheus, with the shipped configuration, rules and panels."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from deploy.demo.servers import Tansu, Valkey
from tests.api import otp
from tests.api.ledger_writer import open_ledger
from tests.api.sources import listed
from tests.conftest import wait_until
from tests.deploy.test_alerts import ALERTS, FOLDER
from tests.deploy.test_grafana import PANELS, questions, without_variables
from tests.integration.api_process import ApiProcess
from tests.integration.sites import Broker, Site
from tests.integration.workers import WorkerProcess
from tests.servers.prometheus import Prometheus, PrometheusMissingError, promtool

TOKEN: Final = "a-token-of-the-tests"
SCOPES: Final = ["jans_stat", "metrics:read", "events:write"]
MONTH: Final = "2026-11"
"""One that the shipped configuration asks Gluu's statistics about, whatever the day."""
JOBS: Final = ("authtally-worker", "authtally-api", "authtally-statistics", "authtally-gluu")
SHORTLY: Final = "20s"
"""In place of Grafana's $__rate_interval: this Prometheus scrapes twice a second."""


@pytest.fixture(scope="module")
def site(tansu: Tansu, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Valkey() as store:
        folder, tag = tmp_path_factory.mktemp("site"), f"t{uuid.uuid4().hex[:8]}"
        logs = {"log_format": "json", "log_level": "debug"}
        site = Site(Broker(tansu.address, apache=False), store, folder, tag, 2, logs)
        open_ledger(store.url).few_users(MONTH, range(7))
        asyncio.run(otp.write(store.url, [otp.state("2026-11-20T09:00:00Z", "a", "token_init", "acme")]))
        with site.workers:
            yield site
        site.close()


@pytest.fixture(scope="module")
def worker(site: Site) -> WorkerProcess:
    return site.workers.start().wait_until_ready()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tokens and quotas, as files."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "tokens.json").write_text(json.dumps([listed(TOKEN, scopes=SCOPES)]))
    (folder / "quotas.json").write_text(json.dumps({"tenant": 1000}))
    (folder / "token").write_text(TOKEN)
    return folder


@pytest.fixture(scope="module")
def api(site: Site, folder: Path) -> Iterator[ApiProcess]:
    settings = {
        "redis_url": site.store.url,
        "auth": "static",
        "auth_tokens_file": str(folder / "tokens.json"),
        "quotas_file": str(folder / "quotas.json"),
        "cache_ttl_s": "0",
        "ingest": "on",
        "kafka_bootstrap_servers": site.broker.address,
        "kafka_idempotence": "false",
        "topics": site.workers.settings["topics"],
        "dead_letter_topic": site.dead_letters,
    }
    with ApiProcess(**settings) as api:
        yield api


def shipped(worker: WorkerProcess, api: ApiProcess, folder: Path) -> list[dict[str, Any]]:
    """The scrape configurations of deploy/observability, for the processes of the test, and faster."""
    configuration = yaml.safe_load((FOLDER / "prometheus.yaml").read_text(encoding="utf-8"))
    where = {"worker:8090": f"127.0.0.1:{worker.port}", "api:8080": api.address}
    found = configuration["scrape_configs"]
    for job in found:
        job.pop("scrape_interval", None)
        for targets in job["static_configs"]:
            targets["targets"] = [where[target] for target in targets["targets"]]
        if "authorization" in job:
            job["authorization"]["credentials_file"] = str(folder / "token")
    return list(found)


@pytest.fixture(scope="module")
def prometheus(site: Site, worker: WorkerProcess, api: ApiProcess, folder: Path) -> Iterator[Prometheus]:
    """Has scraped all four jobs before and after something went on in each way there is a panel for."""
    try:
        server = Prometheus(shipped(worker, api, folder), rule_files=[FOLDER / "alerts.yaml"])
    except PrometheusMissingError as missing:
        pytest.skip(str(missing))
    with server:
        wait_until(lambda: up(server) == dict.fromkeys(JOBS, 1.0), 60, "every job is scraped")
        site.publisher.publish(2000)
        shard = site.shards[0]
        site.publisher.send_bad(shard, b"no JSON", "not_json")
        site.publisher.flush()
        site.wait_until_counted()
        event = {"type": "login", "time": "2026-11-20T12:00:00Z", "user_id": "ada"}
        assert api.post("/v1/events", event, TOKEN).status == 202
        assert api.get("/v1/metrics", "nobody-knows-it").status == 401
        yield server


def up(prometheus: Prometheus) -> dict[str, float]:
    return {labels["job"]: value for labels, value in prometheus.query("up")}


def pages_of(worker: WorkerProcess, api: ApiProcess) -> dict[str, str]:
    """What each of the services' own pages of metrics says."""
    return {
        "worker": worker.metrics(),
        "api": api.get("/metrics").text,
        "statistics": api.get("/v1/metrics", TOKEN).text,
    }


@pytest.mark.parametrize("page", ["worker", "api", "statistics"])
def test_promtool_finds_nothing_against_the_metrics(worker: WorkerProcess, api: ApiProcess, page: str) -> None:
    try:
        tool = promtool()
    except PrometheusMissingError as missing:
        pytest.skip(str(missing))
    text = pages_of(worker, api)[page]
    done = subprocess.run(
        (tool, "check", "metrics"), input=text, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert "_created" not in text


def test_every_metric_asked_for_exists(worker: WorkerProcess, api: ApiProcess) -> None:
    known = {"up"}
    for text in pages_of(worker, api).values():
        for family in text_string_to_metric_families(text):
            ends = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}.get(family.type, [""])
            known |= {family.name + end for end in ends}
    asked = " ".join([*(rule["expr"] for rule in ALERTS.values()), *(expression for _, expression in questions())])
    names = set(re.findall(r"\b(?:authtally|process)_\w+|\bup\b", re.sub(r'"[^"]*"', "", asked)))
    assert names - known == set()
    assert len(names) > 30


def test_the_apis_own_page_has_nothing_of_users(worker: WorkerProcess, api: ApiProcess) -> None:
    page = pages_of(worker, api)["api"]
    assert "authtally_api_requests_total" in page
    assert not re.search(r"active_users|otp|quota|m2m", page)


def test_active_users_of_day_week_and_month_quotas_and_otp_tokens_are_shown(prometheus: Prometheus) -> None:
    periods = {labels["period"] for labels, _ in prometheus.query("authtally_active_users")}
    assert periods == {"day", "week", "month"}
    assert prometheus.query('authtally_m2m_tokens_limit{scope="tenant"} == 1000')
    assert prometheus.query('authtally_otp_tokens{realm="acme",status="total"} == 1')


def test_the_gluu_statistics_are_scraped_with_the_shipped_months(prometheus: Prometheus) -> None:
    ((_, users),) = prometheus.query('monthly_active_users{job="authtally-gluu",month="202611"}')
    assert users >= 7


@pytest.mark.parametrize("title", dict.fromkeys(title for title, _ in questions()))
def test_every_panel_shows_something(prometheus: Prometheus, title: str) -> None:
    for panel in (panel for panel in PANELS if panel["title"] == title):
        for target in panel.get("targets", ()):
            expression = without_variables(target["expr"], SHORTLY)
            wait_until(partial(prometheus.query, expression), 30, expression)
            labels = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            for series, _ in prometheus.query(expression):
                # A label that is empty is none: the tenant's quota has neither realm nor client.
                assert labels - series.keys() <= {"realm", "client_id"}, expression


def test_the_log_is_json_and_names_no_user(prometheus: Prometheus, worker: WorkerProcess, site: Site) -> None:
    # At its most talkative, after logins and tokens of many users and a record that could not be counted.
    lines = [json.loads(line) for line in worker.log.splitlines() if line.startswith("{")]
    assert {"metrics and health listen"} <= {line["event"] for line in lines}
    assert all({"event", "level", "logger", "timestamp"} <= line.keys() for line in lines)
    for never in ("user-", "no JSON", site.workers.settings["user_hash_key"]):
        assert never not in worker.log


def test_every_rule_is_evaluated_and_a_dead_letter_alarms(prometheus: Prometheus) -> None:
    def rules() -> dict[str, dict[str, Any]]:
        return {rule["name"]: rule for group in prometheus.api("rules")["groups"] for rule in group["rules"]}

    wait_until(lambda: {rule["health"] for rule in rules().values()} == {"ok"}, 30, "all rules are evaluated")
    assert rules().keys() == ALERTS.keys()
    wait_until(lambda: rules()["AuthtallyDeadLetters"]["state"] == "firing", 30, "the dead letter's alert")
    (alert,) = rules()["AuthtallyDeadLetters"]["alerts"]
    assert alert["labels"]["reason"] == "not_json"
    assert alert["annotations"]["summary"].endswith("records that cannot be counted (not_json)")
