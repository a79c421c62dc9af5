"""Two tenants in one deployment, one of them hostile: the other's figures are those that it would have alone."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from deploy.cli.main import main
from schemas.ledger.periods import Month
from tests.conftest import wait_until
from tests.integration.api_process import ApiProcess
from tests.integration.conftest import MakeSite
from tests.integration.sites import Broker, Site

pytestmark = pytest.mark.apache_kafka

VICTIM, HOSTILE = "acme/b", "acme"
"""Realms whose names, joined with ids, could be taken for each other."""
SENT, REPEATS = 300, 2
FLOOD_BODIES, FLOOD_EVENTS = 40, 500
SECRET = "a secret that no one guesses"
NOW = datetime.now(UTC)
SCOPES = {"sender": ["events:write"], "reader": ["stats:read", "jans_stat"]}


def login(time: datetime, user: str, realm: str, event_id: str) -> dict[str, Any]:
    return {
        "type": "login",
        "time": time.isoformat(),
        "user_id": user,
        "realm": realm,
        "client_id": "web",
        "id": event_id,
    }


def tokens_file(folder: Path) -> str:
    rows = [
        {
            "sha256": hashlib.sha256(f"{who}-{use}".encode()).hexdigest(),
            "subject": f"{who}-{use}",
            "scopes": scopes,
            **({} if realm is None else {"realms": [realm]}),
        }
        for who, realm in (("victim", VICTIM), ("hostile", HOSTILE), ("all", None))
        for use, scopes in SCOPES.items()
    ]
    path = folder / "tokens.json"
    path.write_text(json.dumps(rows))
    return str(path)


def auth0_log(number: int) -> dict[str, Any]:
    data = {
        "type": "s",
        "date": NOW.isoformat(),
        "tenant_name": VICTIM,
        "client_id": "web",
        "user_id": f"auth0|{number}",
    }
    return {"log_id": f"9002{number}", "data": data}


class Flood:
    """Bodies of made-up events from the hostile sender, in threads, with bodies that are refused in between."""

    def __init__(self, api: ApiProcess) -> None:
        self._api = api
        self.statuses: list[int] = []

    @contextmanager
    def running(self, threads: int = 4) -> Iterator[None]:
        started = [threading.Thread(target=self._send, args=(number, threads)) for number in range(threads)]
        for thread in started:
            thread.start()
        yield
        for thread in started:
            thread.join(120)
            assert not thread.is_alive()

    def _send(self, first: int, step: int) -> None:
        for number in range(first, FLOOD_BODIES, step):
            body = [login(NOW, f"bot{number}-{place}", HOSTILE, f"{number}/{place}") for place in range(FLOOD_EVENTS)]
            self.statuses.append(self._api.post("/v1/events", body, "hostile-sender").status)
            self.statuses.append(self._api.post("/v1/events", ["x"] * 9000, "hostile-sender").status)


def rejected(api: ApiProcess, event: dict[str, Any], token: str = "hostile-sender") -> str:
    reply = api.post("/v1/events", [event], token)
    assert reply.status == 400, reply.text
    return str(reply.json["rejected"][0]["reason"])


def attack_before(api: ApiProcess, past: Month) -> None:
    """Ids that the victim will use, and times of other months."""
    # Joined with a slash, realm `acme` and id `b/7` are realm `acme/b` and id `7`.
    ids = [event_id for number in range(SENT) for event_id in (f"b/{number}", f"auth0:9002{number}")]
    body = [login(NOW, "bot", HOSTILE, event_id) for event_id in ids]
    assert api.post("/v1/events", body, "hostile-sender").json["accepted"] == 2 * SENT
    in_past = datetime(past.year, past.month, 15, tzinfo=UTC)
    for time in (in_past, datetime(2001, 1, 1, tzinfo=UTC), NOW - timedelta(days=36)):
        assert rejected(api, login(time, "bot", HOSTILE, "old")) == "too_old"
    assert rejected(api, login(NOW + timedelta(hours=25), "bot", HOSTILE, "future")) == "impossible_time"
    assert rejected(api, login(NOW, "bot", VICTIM, "theirs")) == "realm"
    for ahead in (1, 23):
        event = login(NOW + timedelta(hours=ahead), "bot", HOSTILE, f"ahead{ahead}")
        assert api.post("/v1/events", event, "hostile-sender").status == 202


def send_as_victim(api: ApiProcess) -> None:
    """All logins several times, as a sender does that retries; and some by the webhook."""
    for _ in range(REPEATS):
        for first in range(0, SENT, 50):
            body = [login(NOW, f"user{number}", VICTIM, str(number)) for number in range(first, first + 50)]
            assert api.post("/v1/events", body, "victim-sender").json["accepted"] == 50
        assert api.post("/v1/ingest/auth0", [auth0_log(number) for number in range(20)], SECRET).json["accepted"] == 20


def import_month(site: Site, folder: Path, month: Month) -> None:
    (folder / "past.csv").write_text(f"month,active_users,logins\n{month.key},1811,24310\n")
    settings = {
        "AUTHTALLY_REDIS_URL": site.store.url,
        "AUTHTALLY_USER_HASH_KEY": site.workers.settings["user_hash_key"],
    }
    done = CliRunner().invoke(main, ["import-stat", str(folder / "past.csv")], env=settings)
    assert done.exit_code == 0, done.output


def test_a_hostile_sender_changes_no_figure_of_another_tenant(
    make_site: MakeSite, apache: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    site = make_site(apache)
    past = Month.of(NOW.date()).plus(-2)
    import_month(site, tmp_path, past)
    settings = {
        "auth": "static",
        "auth_tokens_file": tokens_file(tmp_path),
        "ingest": "on",
        "ingest_auth0_secret": SECRET,
        "ingest_max_age_days": "35",
        "cache_ttl_s": "0",
        "janssen_cache_ttl_s": "0",
    }
    worker = site.workers.start().wait_until_ready()
    common = {name: value for name, value in site.workers.settings.items() if name != "user_hash_key"}
    with ApiProcess(**common | settings) as api:
        attack_before(api, past)
        flood = Flood(api)
        with flood.running():
            send_as_victim(api)
        assert set(flood.statuses) == {202, 400}
        site.wait_until_counted(120)
        # Positions and figures are written together, so all is counted now.
        today = f"{NOW:%Y-%m-%d}"
        logins = api.get(f"/v1/logins?from={today}&to={today}", "victim-reader").json
        assert [row["succeeded"] for row in logins["items"]] == [SENT + 20]
        assert logins["complete"] is True
        users = api.get(f"/v1/active-users?from={today}&to={today}", "victim-reader").json
        assert [(row["value"], row["exact"]) for row in users["items"]] == [(SENT + 20, True)]
        stat = api.get(f"/jans-auth/restv1/internal/stat?month={NOW:%Y%m}", "victim-reader").json
        assert stat["response"][f"{NOW:%Y%m}"]["monthly_active_users"] == SENT + 20
        imported = api.get(f"/jans-auth/restv1/internal/stat?month={past.compact}", "all-reader").json
        assert imported["response"][past.compact]["monthly_active_users"] == 1811
        overview = api.get("/v1/overview", "all-reader").json
        (row,) = [row for row in overview["months"] if row["month"] == past.key]
        assert (row["value"], row["logins"], row["imported"]) == (1811, 24310, "past.csv")
        hostile = api.get(f"/v1/logins?from={today}&to={today}", "hostile-reader").json
        assert hostile["items"][0]["succeeded"] >= 2 * SENT + FLOOD_BODIES * FLOOD_EVENTS
    assert worker.running


def test_an_event_counts_twice_by_two_routes_and_once_by_one(
    make_site: MakeSite, apache: Broker, tmp_path: Path
) -> None:
    """The price of ids that no other sender can use up: the webhook's event is not the one from Kafka."""
    site = make_site(apache)
    settings = {"auth": "none", "auth_none_writes": "on", "ingest": "on", "cache_ttl_s": "0"}
    site.workers.start().wait_until_ready()
    today = f"{NOW:%Y-%m-%d}"
    event = login(NOW, "ada", "acme", "keycloak:b0c1")
    keycloak = {
        "id": "b0c1",
        "time": int(NOW.timestamp() * 1000),
        "type": "LOGIN",
        "realmName": "acme",
        "userId": "ada",
    }
    with ApiProcess(**site.workers.settings | settings) as api:
        for _ in range(3):
            assert api.post("/v1/events", event).status == 202
            assert api.post("/v1/ingest/keycloak", keycloak).status == 202

        def logins() -> Any:
            return api.get(f"/v1/logins?from={today}&to={today}").json["items"][0]["succeeded"]

        site.wait_until_counted()
        wait_until(lambda: logins() == 2, what="each route's event counts once")
