"""A real Prometheus scrapes the statistics and the operations of a real api."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from deploy.demo.servers import Valkey
from tests.api.ledger_writer import open_ledger
from tests.api.sources import listed
from tests.conftest import wait_until
from tests.integration.api_process import ApiProcess
from tests.servers.prometheus import ACCEPTS, Prometheus, PrometheusMissingError, major_version

TOKEN: Final = "a-token-of-the-tests"
JANSSEN: Final = "/jans-auth/restv1/internal/stat"
GLUU: Final = "/oxauth/restv1/internal/stat"
MONTHS: Final = "202610 202611"

CIBA: Final = "urn:openid:params:grant-type:ciba"
HOSTILE: Final = 'a"b\\c\nd{e}, é'
"""A grant type is whatever an event said."""

USERS: Final = {"2026-10": 3, "2026-11": 1200}
TOKENS: Final[dict[str, dict[str, dict[str, int]]]] = {
    "2026-10": {"password": {"access_token": 8, "id_token": 7, "refresh_token": 6, "uma_token": 5}},
    "2026-11": {
        # Ten million and more is written with an exponent in source shape.
        "password": {"access_token": 1_939_497_078, "id_token": 9_999_999, "refresh_token": 10_000_000},
        CIBA: {"access_token": 1},
        HOSTILE: {"uma_token": 2},
    },
}
HELP: Final = {
    "monthly_active_users": "Monthly active users",
    "access_token": "Access Token",
    "id_token": "Id Token",
    "refresh_token": "Refresh Token",
    "uma_token": "UMA Token",
}

Figures = dict[tuple[str, str, str], float]
"""By family, month and grant type ("" for users)."""


def expected() -> Figures:
    figures: Figures = {("monthly_active_users", period.replace("-", ""), ""): count for period, count in USERS.items()}
    for period, grants in TOKENS.items():
        for grant, counts in grants.items():
            for family in HELP:
                if family != "monthly_active_users":
                    figures[family, period.replace("-", ""), grant] = counts.get(family, 0)
    return figures


@pytest.fixture(scope="module")
def store() -> Iterator[Valkey]:
    with Valkey() as server:
        ledger = open_ledger(server.url)
        for period, count in USERS.items():
            ledger.few_users(period, range(count))
            ledger.tokens(period, TOKENS[period])
            ledger.other_counts(period)
        yield server


@pytest.fixture(scope="module")
def tokens_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("tokens") / "tokens.json"
    path.write_text(json.dumps([listed(TOKEN, scopes=["jans_stat", "metrics:read"])]), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def apis(store: Valkey, tokens_file: str) -> Iterator[dict[str, ApiProcess]]:
    """By shape."""
    settings = {"redis_url": store.url, "auth": "static", "auth_tokens_file": tokens_file}
    with (
        ApiProcess(**settings) as documented,
        # In source shape a second call in the interval is refused, so scrapes must not be more frequent.
        ApiProcess(**settings, janssen_shape="source", gluu_shape="source", gluu_interval_s="0") as source,
    ):
        yield {"documented": documented, "source": source}


def scrape(
    job: str, api: ApiProcess, path: str, token: str = TOKEN, months: Sequence[str] = (MONTHS,), **rest: Any
) -> dict[str, Any]:
    """Prometheus repeats the parameter for each of several months; the source shape reads the first only."""
    return {
        "job_name": job,
        "static_configs": [{"targets": [api.address]}],
        "metrics_path": path,
        "params": {"month": list(months), "format": ["openmetrics"]},
        "authorization": {"credentials": token},
        **rest,
    }


@pytest.fixture(scope="module")
def prometheus(apis: dict[str, ApiProcess]) -> Iterator[Prometheus]:
    """Scrapes both products in both shapes, the api's own metrics, and with an unknown token."""
    documented, source = apis["documented"], apis["source"]
    try:
        # The source shape calls its text JSON, as the products do. Prometheus 2 accepts that; 3 needs a setting.
        result = {"fallback_scrape_protocol": "PrometheusText0.0.4"} if major_version() >= 3 else {}
        server = Prometheus(
            [
                scrape("janssen documented", documented, JANSSEN, months=MONTHS.split()),
                scrape("gluu documented", documented, GLUU, months=MONTHS.split()),
                scrape("janssen source", source, JANSSEN, **result),
                scrape("gluu source", source, GLUU, **result),
                scrape("stranger", documented, JANSSEN, token="nobody-knows-it"),
                {"job_name": "operations", "static_configs": [{"targets": [documented.address]}]},
            ]
        )
    except PrometheusMissingError as missing:
        pytest.skip(str(missing))
    with server:
        yield server


def wait_until_scraped(prometheus: Prometheus, job: str) -> None:
    """Return once a scrape went well and left what Prometheus says of it."""
    errors: list[str] = []

    def scraped() -> bool:
        # Targets come a few seconds after the server itself.
        target = prometheus.targets().get(job, {"health": "unknown", "lastError": "no such target yet"})
        errors[:] = [target["lastError"]]
        return (
            target["health"] == "up"
            and target["lastError"] == ""
            and values(prometheus, f'up{{job="{job}"}}') == [1]
            and sum(values(prometheus, f'scrape_samples_scraped{{job="{job}"}}')) > 0
        )

    try:
        wait_until(scraped, 60)
    except pytest.fail.Exception:
        pytest.fail(f"no good scrape of {job}: {errors}")


def values(prometheus: Prometheus, expression: str) -> list[float]:
    return [value for _, value in prometheus.query(expression)]


def stored(prometheus: Prometheus, job: str) -> Figures:
    # The last value scraped, not that of now: a later scrape that a busy machine did not finish would hide it.
    found = prometheus.query(f'last_over_time({{__name__=~"{"|".join(HELP)}",job="{job}"}}[10m])')
    figures = {(labels["__name__"], labels["month"], labels.get("grantType", "")): value for labels, value in found}
    assert len(figures) == len(found), "no series but these"
    return figures


@pytest.mark.parametrize("shape", ["documented", "source"])
@pytest.mark.parametrize("product", ["janssen", "gluu"])
def test_prometheus_stores_exactly_what_the_ledger_holds(prometheus: Prometheus, product: str, shape: str) -> None:
    job = f"{product} {shape}"
    wait_until_scraped(prometheus, job)
    assert stored(prometheus, job) == expected()
    described = prometheus.api("targets/metadata", match_target=f'{{job="{job}"}}')
    assert {each["metric"]: each["help"] for each in described} == HELP
    assert {each["type"] for each in described} == {"counter"}


@pytest.mark.parametrize("shape", ["documented", "source"])
@pytest.mark.parametrize("path", [JANSSEN, GLUU])
def test_the_python_parser_reads_the_same(apis: dict[str, ApiProcess], path: str, shape: str) -> None:
    answer = apis[shape].get(f"{path}?month={MONTHS.replace(' ', '+')}&format=openmetrics", TOKEN)
    assert answer.status == 200
    read = {
        # It gives every counter's sample this end, written or not.
        (sample.name.removesuffix("_total"), sample.labels["month"], sample.labels.get("grantType", "")): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert read == expected()


@pytest.mark.parametrize("version", ACCEPTS)
@pytest.mark.parametrize("path", [JANSSEN, GLUU, "/v1/metrics", "/metrics"])
def test_every_text_answers_the_accept_header_of_either_version(
    apis: dict[str, ApiProcess], path: str, version: int
) -> None:
    """Prometheus 3 takes a text by its content type only, and refuses one that it does not know."""
    query = f"?month={MONTHS.replace(' ', '+')}&format=openmetrics" if path in (JANSSEN, GLUU) else ""
    answer = apis["documented"].get(path + query, TOKEN, {"Accept": ACCEPTS[version]})
    assert answer.status == 200
    media = answer.headers["Content-Type"].split(";")[0]
    parsers: dict[str, Any] = {
        "text/plain": text_string_to_metric_families,
        "application/openmetrics-text": openmetrics_families,
    }
    assert [family.name for family in parsers[media](answer.text) if family.samples]
    assert media == ("application/openmetrics-text" if path == "/metrics" else "text/plain")


def test_a_scrape_with_a_bad_token_is_down_and_says_why(prometheus: Prometheus) -> None:
    def refused() -> bool:
        target = prometheus.targets().get("stranger", {"lastError": ""})
        return "401" in target["lastError"] and target["health"] == "down"

    wait_until(refused, 60, "the stranger's scrape is refused")
    assert stored(prometheus, "stranger") == {}


@pytest.mark.parametrize(
    "series",
    [
        'authtally_api_requests_total{job="operations",dialect="janssen",status="2xx"}',
        'authtally_api_requests_total{job="operations",dialect="gluu",status="2xx"}',
        'authtally_api_requests_total{job="operations",dialect="janssen",status="4xx"}',
        'authtally_api_access_refusals_total{job="operations",reason="refused"}',
    ],
)
def test_the_apis_own_metrics_count_the_other_scrapes(prometheus: Prometheus, series: str) -> None:
    wait_until_scraped(prometheus, "operations")
    wait_until(lambda: sum(values(prometheus, series)) > 0, 60, series)


def test_the_apis_own_metrics_say_what_they_are(prometheus: Prometheus) -> None:
    wait_until_scraped(prometheus, "operations")
    described = prometheus.api("targets/metadata", match_target='{job="operations"}')
    ours = [each for each in described if each["metric"].startswith("authtally_")]
    assert ours
    assert [each for each in ours if not each["help"].endswith(".") or each["type"] == "unknown"] == []
