"""Records a request and its answer for each operation of `/openapi.json`: `python -m tests.api.dialects.own.examples`.

Everything but the brokers' work is fixed, so that a second recording is equal to the first one.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import tempfile
import urllib.request
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode
from urllib.request import OpenerDirector

import redis

import api.dialects.own
from api.settings.settings import ApiSettings
from deploy.demo.servers import Tansu, Valkey, create_topics
from schemas.ledger import keys
from schemas.settings import read
from schemas.time.clock import Clock
from tests.api import in_thread
from tests.api.otp import state, write
from tests.api.worker import account, count, login, token

FILE: Final = Path(api.dialects.own.__file__).with_name("examples.json")
NOW: Final = datetime.fromisoformat("2026-11-20T12:00:00+00:00")
WEB: Final = {"realm": "acme", "client_id": "web"}
TOKEN: Final = "demo-token"
HEADERS: Final = {"Authorization": f"Bearer {TOKEN}"}
SCOPES: Final = ["stats:read", "metrics:read", "events:write", "jans_stat", "read:stats", "reporting", "sketches:read"]
EVENTS: Final = [
    login("2026-10-20T10:00:00Z", "ada", id="shop:1", **WEB),
    login("2026-10-21T10:00:00Z", "bob", id="shop:2", **WEB),
    login("2026-11-20T10:00:00Z", "ada", id="shop:3", **WEB),
    login("2026-11-20T10:05:00Z", "eve", success=False, reason="locked", id="shop:4", **WEB),
    token("2026-11-20T10:00:00Z", "authorization_code", "access_token", "id_token", id="shop:5", **WEB),
    token("2026-11-20T10:10:00Z", "client_credentials", "access_token", id="shop:6", realm="acme", client_id="job"),
    account("2026-11-20T10:15:00Z", "signup", id="shop:7", realm="acme"),
]
LEDGER: Final = "5f1d0c8a93e27b46"
OTP_STATES: Final = [state(f"2026-11-{day}T10:00:00Z", f"hotp-{day}", "token_init", "acme") for day in (18, 19, 20)]


class Request(NamedTuple):
    operation: str
    path: str
    body: Any = None
    media: str = "application/json"
    method: str = "GET"

    def encoded(self, session: str) -> bytes | None:
        if self.body is None:
            return None
        text = json.dumps(self.body) if self.media == "application/json" else urlencode(self.body)
        return text.replace("SESSION", session).encode()

    def send(self, url: str, client: OpenerDirector, cookies: CookieJar) -> dict[str, Any]:
        """The example as it stands in the file, where `SESSION` is the session that LinOTP's cookie names."""
        session = next((cookie.value or "" for cookie in cookies), "")
        headers = HEADERS | {"Content-Type": self.media}
        target = url + self.path.replace("SESSION", session)
        request = urllib.request.Request(target, self.encoded(session), headers, method=self.method)
        with client.open(request, timeout=30) as response:
            media = response.headers.get_content_type()
            # A stream has no end: its first event is three lines.
            answer = b"".join(response.readline() for _ in range(3)) if "stream" in media else response.read()
        text = answer.decode()
        return {
            "request": f"{self.method} {self.path}",
            **({} if self.body is None else {"body": self.body}),
            "status": str(response.status),
            "media": media,
            "answer": json.loads(text) if "json" in media else text,
        }


def form(operation: str, path: str, body: Mapping[str, Any]) -> Request:
    return Request(operation, path, dict(body), "application/x-www-form-urlencoded", "POST")


def post(operation: str, path: str, body: Any = None) -> Request:
    return Request(operation, path, body, method="POST")


def reporting() -> Iterable[Request]:
    """LinOTP's routes. Deletes come last."""
    asked: dict[str, dict[str, Any]] = {
        "show": {"realms": "acme", "status": "total", "page": 1, "pagesize": 2},
        "maximum": {"realms": "acme", "status": "total"},
        "period": {"realms": "acme", "from": "2026-11-01", "to": "2026-12-01"},
        "delete_before": {"realms": "acme", "date": "2026-11-19", "status": "total"},
        "delete_all": {"realms": "acme", "status": "active"},
    }
    for action, parameters in asked.items():
        path = f"/reporting/{action}"
        yield Request(f"linotp_{action}", f"{path}?{urlencode(parameters)}")
        yield form(f"linotp_{action}_by_form", path, parameters)


STAT: Final = "/restv1/internal/stat"
KEYCLOAK: Final[dict[str, Any]] = {
    "id": "b0c1",
    "time": 1795168800000,
    "type": "LOGIN",
    "realmId": "9f3e",
    "clientId": "web",
    "userId": "7d",
}
AUTH0: Final = {
    "type": "s",
    "date": "2026-11-20T10:00:00Z",
    "tenant_name": "acme",
    "client_id": "web",
    "user_id": "a|63",
}
FUSIONAUTH: Final = {"id": "6b33", "createInstant": 1795168800000, "type": "user.login.success", "user": {"id": "7d0a"}}
UNION: Final = {"periods": ["2026-11"], "scopes": ["all"]}
REQUESTS: Final = (
    Request("active_users", "/v1/active-users?granularity=month&from=2026-10-01&to=2026-11-30"),
    Request("overview", "/v1/overview?date=2026-11-20"),
    Request("lifecycle", "/v1/lifecycle?from=2026-10-01&to=2026-11-30"),
    Request("retention", "/v1/retention?from=2026-10-01&to=2026-11-30"),
    Request("labels", "/v1/labels"),
    Request("logins", "/v1/logins?granularity=month&from=2026-11-01&to=2026-11-30&group_by=reason"),
    Request("tokens", "/v1/tokens?granularity=month&from=2026-11-01&to=2026-11-30&group_by=grant_type,token_type"),
    Request("accounts", "/v1/accounts?granularity=month&from=2026-11-01&to=2026-11-30&group_by=kind"),
    Request("m2m", "/v1/m2m?month=2026-11"),
    Request("otp_tokens", "/v1/otp-tokens?status=total"),
    Request("pipeline", "/v1/pipeline"),
    Request("regions", "/v1/regions"),
    Request("live", "/v1/live"),
    Request("metrics", "/v1/metrics"),
    post(
        "send_events", "/v1/events", [{**EVENTS[2], "colour": "red"}, EVENTS[4], login("yesterday", "ada", id="shop:8")]
    ),
    Request("region", "/v1/region"),
    post("region_export", "/v1/region/export", {"unions": [UNION], "counts": {**UNION, "scopes": ["realm/acme"]}}),
    Request("region_ids", "/v1/region/ids?hour=494241"),
    post("ingest_keycloak", "/v1/ingest/keycloak", [KEYCLOAK, KEYCLOAK | {"id": "b0c2", "type": "LOGIN_BY_FAX"}]),
    post("ingest_auth0", "/v1/ingest/auth0", [{"log_id": "90020261120", "data": AUTH0}]),
    post("ingest_fusionauth", "/v1/ingest/fusionauth", {"event": FUSIONAUTH}),
    Request("janssen_stat", f"/jans-auth{STAT}?month=202611"),
    form("janssen_stat_by_form", f"/jans-auth{STAT}", {"start-month": "202610", "end-month": "202611"}),
    Request("janssen_health_check", "/jans-auth/sys/health-check"),
    post("janssen_health_check_by_post", "/jans-auth/sys/health-check"),
    Request("gluu_stat", f"/oxauth{STAT}?month=202611"),
    form("gluu_stat_by_form", f"/oxauth{STAT}", {"month": "202610"}),
    Request("gluu_health_check", "/oxauth/sys/health-check"),
    post("gluu_health_check_by_post", "/oxauth/sys/health-check"),
    Request("auth0_active_users", "/api/v2/stats/active-users"),
    Request("auth0_daily", "/api/v2/stats/daily?from=20261101&to=20261120"),
    Request("linotp_getsession", "/admin/getsession"),
    Request("linotp_dropsession", "/admin/dropsession?session=SESSION"),
    form("linotp_getsession_by_form", "/admin/getsession", {}),
    form("linotp_dropsession_by_form", "/admin/dropsession", {"session": "SESSION"}),
    *reporting(),
)


@contextmanager
def served(redis_url: str, broker: str, tokens: Path) -> Iterator[str]:
    """The URL of an api over the events, with ingest, at a fixed time. `tokens` is a file to write."""
    with redis.Redis.from_url(redis_url) as server:
        server.flushall()
    kept: dict[str, Any] = {"users_by": ("realm", "client"), "counts_by": ("realm", "client")}
    asyncio.run(count(redis_url, EVENTS, partitions=1, **kept))
    asyncio.run(write(redis_url, OTP_STATES, **kept))
    with redis.Redis.from_url(redis_url) as server:
        server.set(keys.ledger_id("authtally:"), LEDGER)
    topics = {f"examples.{event}.{uuid.uuid4().hex[:8]}": event for event in ("login", "token", "account")}
    create_topics(broker, dict.fromkeys(topics, 1))
    kafka = {"kafka_bootstrap_servers": broker, "kafka_idempotence": False, "topics": topics, "ingest": True}
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    tokens.write_text(json.dumps([{"sha256": digest, "subject": "demo", "scopes": SCOPES}]), encoding="utf-8")
    access = {"auth": ("static",), "auth_tokens_file": tokens}
    regions: dict[str, Any] = {"region": "eu", "region_users": "shared", "region_min_users": 1}
    settings = read(ApiSettings, redis_url=redis_url, **access, **kept, **kafka, **regions)
    with in_thread.served(settings, Clock(now=NOW.timestamp)) as (host, port):
        yield f"http://{host}:{port}"


def record(url: str) -> dict[str, dict[str, Any]]:
    """The examples by operation."""
    cookies = CookieJar()
    client = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(cookies))
    return {request.operation: request.send(url, client, cookies) for request in REQUESTS}


def main() -> None:
    with (
        Valkey() as valkey,
        Tansu() as tansu,
        tempfile.TemporaryDirectory() as folder,
        served(valkey.url, tansu.address, Path(folder) / "tokens.json") as url,
    ):
        found = record(url)
    FILE.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
