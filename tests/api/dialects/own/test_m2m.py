"""Machine-to-machine usage against quotas, as answer and as gauges."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.settings import quotas
from api.settings.quotas import QuotasFile
from api.settings.settings import ApiSettings
from schemas.settings import SettingsError, read
from tests.api.conftest import Api, Clock, Serve
from tests.api.worker import count, login, token

HALF = "2026-11-16T00:00:00+00:00"
"""Half of November has passed."""
AT = "2026-11-10T12:00:00Z"
QUOTAS = {
    "tenant": 100,
    "clients": [
        {"realm": "acme", "client_id": "job", "limit": 10},
        {"realm": "acme", "client_id": "idle", "limit": 5},
        {"client_id": "lone", "limit": 4},
    ],
}


def issued(number: int, **client: str) -> list[Any]:
    return [token(AT, "client_credentials", "access_token", **client)] * number


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "quotas.json"
    path.write_text(json.dumps(QUOTAS))
    return path


@pytest.fixture
async def api(serve: Serve, redis_url: str, clock: Clock, path: Path) -> Api:
    clock.now = datetime.fromisoformat(HALF).timestamp()
    events = [
        *issued(8, realm="acme", client_id="job"),
        *issued(3, realm="globex", client_id="job"),
        *issued(4, client_id="lone"),
        token(AT, "password", "access_token", realm="acme", client_id="web"),
        login(AT, "ada", realm="acme", client_id="web"),
    ]
    await count(redis_url, events)
    return await serve(redis_url=redis_url, quotas_file=path)


def usage(used: int, limit: int | None, projected: int) -> dict[str, Any]:
    return {
        "used": used,
        "limit": limit,
        "percent": None if limit is None else used / limit * 100,
        "projected": projected,
        "projected_percent": None if limit is None else projected / limit * 100,
    }


async def test_usage_is_returned_per_client_against_its_quota_with_a_projection(api: Api) -> None:
    result = (await api.get("/v1/m2m")).json
    assert result["tenant"] == usage(15, 100, 30)
    assert result["items"] == [
        {"realm": "acme", "client_id": "job"} | usage(8, 10, 16),
        {"realm": "", "client_id": "lone"} | usage(4, 4, 8),
        {"realm": "globex", "client_id": "job"} | usage(3, None, 6),
        {"realm": "acme", "client_id": "idle"} | usage(0, 5, 0),
    ]
    assert result["active_clients"]["value"] == 4


async def test_a_month_that_is_over_is_projected_as_it_was(api: Api, clock: Clock) -> None:
    clock.now = datetime.fromisoformat("2026-12-01T00:00:00+00:00").timestamp()
    result = (await api.get("/v1/m2m?month=2026-11")).json
    assert (result["tenant"]["used"], result["tenant"]["projected"]) == (15, 15)
    now = (await api.get("/v1/m2m")).json
    assert (now["month"], now["tenant"]["used"], now["tenant"]["projected"]) == ("2026-12", 0, 0)


async def test_clients_of_one_realm_and_the_largest_first(api: Api) -> None:
    result = (await api.get("/v1/m2m?realm=acme&limit=1")).json
    assert [(row["client_id"], row["used"]) for row in result["items"]] == [("job", 8)]
    assert result["tenant"] == usage(8, None, 16), "the tenant's limit is not one of a realm"
    assert result["left_out"] == {"groups": 1, "used": 0}
    assert result["active_clients"] == {"value": 2, "exact": True, "standard_error": 0.0}


async def test_gauges_show_the_same_so_that_an_alert_can_be_written(api: Api) -> None:
    answer = await api.get("/v1/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    samples = {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert samples["authtally_active_users", "month"] == 1
    assert samples["authtally_logins", "success", "month"] == 1
    assert samples["authtally_tokens", "month"] == 16
    assert samples["authtally_m2m_tokens", "", "", "tenant"] == 15
    assert samples["authtally_m2m_tokens_limit", "", "", "tenant"] == 100
    assert samples["authtally_m2m_tokens", "job", "acme", "client"] == 8
    assert samples["authtally_m2m_tokens_limit", "job", "acme", "client"] == 10
    assert samples["authtally_m2m_tokens_projected", "job", "acme", "client"] == 16
    assert ("authtally_m2m_tokens", "job", "globex", "client") not in samples, "only clients that a quota names"


def test_a_changed_file_counts_at_once(path: Path, clock: Clock) -> None:
    files = QuotasFile(path, clock.handed)
    assert files.current().tenant == 100
    path.write_text(json.dumps({"tenant": 7}))
    os.utime(path, ns=(1, 1))
    assert files.current().tenant == 100, "checked once a second"
    clock.now += 1
    assert files.current().tenant == 7
    path.write_text("{")
    clock.now += 1
    assert files.current().tenant == 7, "a wrong one leaves the last good one"
    path.unlink()
    clock.now += 1
    assert files.current().tenant == 7


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "tenant and clients"),
        ("[]", "tenant and clients"),
        ('{"tenant": 0}', "`tenant`"),
        ('{"tenants": 5}', "tenants"),
        ('{"clients": [{"client_id": "job"}]}', "limit"),
        ('{"clients": [{"client_id": "job", "limit": "5"}]}', "`clients[0].limit`"),
        ('{"clients": [{"client_id": "", "limit": 5}]}', "`clients[0].client_id`"),
        ('{"clients": [{"client_id": "a", "limit": 5}, {"client_id": "a", "limit": 6}]}', "clients[1]"),
        (b"\xff", "tenant and clients"),
    ],
)
def test_a_wrong_file_is_a_fault_that_names_the_field(path: Path, content: str | bytes, words: str) -> None:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SettingsError) as error:
        read(ApiSettings, auth=("none",), quotas_file=path)
    (fault,) = error.value.errors
    assert fault.startswith("AUTHTALLY_QUOTAS_FILE: ")
    assert words in fault


def test_a_missing_file_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No such file"):
        quotas.read(tmp_path / "none.json")


async def test_where_clients_are_not_kept_the_setting_is_named(serve: Serve, redis_url: str) -> None:
    api = await serve(redis_url=redis_url, counts_by=("realm",))
    answer = await api.get("/v1/m2m")
    assert (answer.status, "COUNTS_BY" in answer.json["detail"]) == (400, True)
    gauges = await api.get("/v1/metrics")
    assert (gauges.status, "authtally_m2m" in gauges.text) == (200, False)
