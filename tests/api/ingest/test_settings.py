"""What ingest asks of its settings, what it counts, and what it says of itself."""

from __future__ import annotations

import re
from typing import Any

import pytest

from api.ingest.openapi import PATHS, SECURITY_SCHEMES
from api.settings.settings import ApiSettings
from schemas.settings import SettingsError, read
from tests.api.conftest import Serve
from tests.api.ingest.sending import MakeSite

LOGIN = {"type": "login", "time": "2026-11-20T10:00:00Z", "user_id": "alice"}


@pytest.mark.parametrize(
    ("environment", "named", "why"),
    [
        ({"INGEST": "perhaps"}, ["INGEST"], "neither on nor off"),
        ({"INGEST": "on", "TOPICS": "auth.logins=nothing"}, ["TOPICS"], "an unknown event"),
        ({"INGEST_KEYCLOAK_SECRET": "short"}, ["INGEST_KEYCLOAK_SECRET"], "anybody may try some"),
        ({"INGEST_SECRET_HEADER": "X Key:"}, ["INGEST_SECRET_HEADER"], "no name of a header"),
        ({"INGEST_MAX_IN_FLIGHT_BYTES": "2000"}, ["INGEST_MAX_IN_FLIGHT_BYTES"], "less than one body"),
        (
            {
                "INGEST_TIMEOUT_S": "0",
                "INGEST_MAX_BYTES": "1",
                "INGEST_MAX_EVENTS": "0",
                "INGEST_RATE_LIMIT": "-1",
                "INGEST_RATE_PER_S": "0",
                "INGEST_AUTH0_SECRET": "x",
                "INGEST_FUSIONAUTH_SECRET": "x",
            },
            [
                *("INGEST_AUTH0_SECRET", "INGEST_FUSIONAUTH_SECRET", "INGEST_MAX_BYTES", "INGEST_MAX_EVENTS"),
                *("INGEST_RATE_LIMIT", "INGEST_RATE_PER_S", "INGEST_TIMEOUT_S"),
            ],
            "all at once",
        ),
    ],
)
def test_faults_are_reported_by_name(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], named: list[str], why: str
) -> None:
    for name, value in ({"AUTH": "none"} | environment).items():
        monkeypatch.setenv(f"AUTHTALLY_{name}", value)
    with pytest.raises(SettingsError) as raised:
        read(ApiSettings, _env_file=None)
    assert [error.partition(":")[0] for error in raised.value.errors] == [f"AUTHTALLY_{name}" for name in named], why
    assert "short" not in str(raised.value)


def test_ingest_without_a_topic_for_any_event_is_a_fault_that_names_topics() -> None:
    given: dict[str, Any] = {"auth": ("none",), "topics": {"keycloak.events": "keycloak"}, "_env_file": None}
    assert not read(ApiSettings, **given).ingest
    with pytest.raises(SettingsError) as raised:
        read(ApiSettings, **given, ingest="on")
    (error,) = raised.value.errors
    assert error.startswith("AUTHTALLY_INGEST: is on, but AUTHTALLY_TOPICS binds no topic")


async def test_what_became_of_elements_is_counted(make_site: MakeSite, serve: Serve, redis_url: str) -> None:
    site = await make_site()
    await site.send([LOGIN, LOGIN, LOGIN | {"time": "yesterday"}])
    await site.send({"id": "1", "time": 1_795_168_800_000, "type": "LOGOUT", "realmId": "r"}, "/v1/ingest/keycloak")
    await site.send(LOGIN, media="text/plain")
    result = (await (await serve(redis_url=redis_url)).get("/metrics")).text
    for sample in (
        'authtally_ingest_elements_total{result="accepted",way="events"}',
        'authtally_ingest_elements_total{result="rejected",way="events"}',
        'authtally_ingest_elements_total{result="ignored",way="keycloak"}',
        'authtally_ingest_rejections_total{reason="wrong_type",way="events"}',
        'authtally_ingest_refusals_total{cause="media",way="events"}',
        "authtally_ingest_produce_seconds_count",
    ):
        found = re.search(f"^{re.escape(sample)} (.*)$", result, re.MULTILINE)
        assert found is not None, sample
        assert float(found[1]) > 0
    assert "authtally_ingest_in_flight_bytes 0.0" in result


async def test_every_way_in_is_described(make_site: MakeSite) -> None:
    site = await make_site()
    for path in PATHS:
        assert (await site.send(b"", path)).status == 400
    schemes = {name for path in PATHS.values() for each in path["post"]["security"] for name in each}
    assert schemes == {"bearer", *SECURITY_SCHEMES}
