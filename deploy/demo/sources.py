"""The demo's other ways in: a few of today's events through each, every one of them sent twice where it has an id."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from deploy.demo.processes import Children, DemoError
from deploy.demo.sample_events import KEYCLOAK
from schemas.ledger.periods import Month

USERS: Final = 5
"""Through each way, one login each."""
COMMAND_TIMEOUT_S: Final = 60
JSON: Final = "application/json"
CLOUD_EVENTS: Final = "application/cloudevents-batch+json"
PAST: Final = {Month(2026, 3): 987, Month(2026, 4): 1042}
"""Monthly active users from before the sample, as another system counted them."""


class Sent(NamedTuple):
    """What a way was given. The realm tells its events from all others."""

    way: str
    realm: str
    records: int
    """Records in Kafka, repeats included."""
    logins: int


def send(children: Children) -> list[Sent]:
    """Send through every way; returns when Kafka has it all. Raises DemoError."""
    now = datetime.now(UTC)
    past = [now - timedelta(seconds=number) for number in range(USERS)]
    sent = [_keycloak_topic(children, past)]
    for way, path, content_type, events in _deliveries(past):
        # A sender that did not hear the answer sends again.
        for _ in range(2):
            _post(children, path, content_type, events)
        sent.append(Sent(way, _realm(way), 2 * USERS, USERS))
    sent.append(_published_file(children, past))
    _import(children)
    return sent


def _realm(way: str) -> str:
    return f"by {way}"


def _keycloak_topic(children: Children, past: Sequence[datetime]) -> Sent:
    way = "Keycloak's topic"
    producer = children.producer()
    for event in 2 * list(_keycloak(way, past)):
        producer.produce(KEYCLOAK, json.dumps(event).encode())
    if producer.flush(COMMAND_TIMEOUT_S):
        raise DemoError("The broker did not take the Keycloak events.")
    return Sent(way, _realm(way), 2 * USERS, USERS)


def _deliveries(past: Sequence[datetime]) -> Iterator[tuple[str, str, str, list[dict[str, Any]]]]:
    """Way, path, content type and body."""
    way = "POST v1 events"
    yield way, "/v1/events", JSON, list(_native(way, past))
    way = "CloudEvents"
    yield way, "/v1/events", CLOUD_EVENTS, list(_cloud_events(way, past))
    way = "Keycloak's webhook"
    yield way, "/v1/ingest/keycloak", JSON, list(_keycloak(way, past))
    way = "Auth0's log stream"
    yield way, "/v1/ingest/auth0", JSON, list(_auth0(way, past))
    way = "FusionAuth's webhook"
    yield way, "/v1/ingest/fusionauth", JSON, list(_fusionauth(way, past))


def _native(way: str, past: Sequence[datetime]) -> Iterator[dict[str, Any]]:
    for number, time in enumerate(past):
        yield {
            "type": "login",
            "time": time.isoformat(),
            "user_id": f"{way} {number}",
            "realm": _realm(way),
            "client_id": "web",
            "id": f"{way}:{number}",
        }


def _cloud_events(way: str, past: Sequence[datetime]) -> Iterator[dict[str, Any]]:
    for number, time in enumerate(past):
        yield {
            "specversion": "1.0",
            "id": str(number),
            "source": "/demo",
            "type": "io.identity.login.v1",
            "subject": f"{way} {number}",
            "time": time.isoformat(),
            "data": {"tenant": _realm(way), "client": "web", "outcome": "success"},
        }


def _keycloak(way: str, past: Sequence[datetime]) -> Iterator[dict[str, Any]]:
    for number, time in enumerate(past):
        yield {
            "id": f"{way} {number}",
            "time": int(time.timestamp() * 1000),
            "type": "LOGIN",
            "realmId": "9f3e",
            "realmName": _realm(way),
            "clientId": "web",
            "userId": f"{way} {number}",
        }


def _auth0(way: str, past: Sequence[datetime]) -> Iterator[dict[str, Any]]:
    for number, time in enumerate(past):
        data = {
            "type": "s",
            "date": time.isoformat(),
            "tenant_name": _realm(way),
            "client_id": "web",
            "user_id": f"auth0|{number}",
        }
        yield {"log_id": str(number), "data": data}


def _fusionauth(way: str, past: Sequence[datetime]) -> Iterator[dict[str, Any]]:
    for number, time in enumerate(past):
        event = {
            "id": f"{way} {number}",
            "createInstant": int(time.timestamp() * 1000),
            "type": "user.login.success",
            "tenantId": _realm(way),
            "applicationId": "web",
            "authenticationType": "PASSWORDLESS",
            "user": {"id": f"{way} {number}"},
        }
        yield {"event": event}


def _post(children: Children, path: str, content_type: str, body: object) -> None:
    try:
        told = json.loads(children.post(path, content_type, json.dumps(body).encode()))
    except OSError as error:
        raise DemoError(f"The api did not take events at {path}: {error}") from error
    if told["accepted"] != USERS:
        raise DemoError(f"The api did not take all events at {path}: {told}")


def _published_file(children: Children, past: Sequence[datetime]) -> Sent:
    way = "authtally publish"
    file = children.folder / "events.jsonl"
    file.write_text("".join(json.dumps(event) + "\n" for event in _native(way, past)), encoding="utf-8")
    _command(children, "publish", str(file))
    return Sent(way, _realm(way), USERS, USERS)


def _import(children: Children) -> None:
    file = children.folder / "past.csv"
    rows = "".join(f"{month.key},{users}\n" for month, users in PAST.items())
    file.write_text(f"month,active_users\n{rows}", encoding="utf-8")
    _command(children, "import-stat", str(file))


def _command(children: Children, *arguments: str) -> None:
    done = subprocess.run(
        (sys.executable, "-m", "deploy.cli.main", *arguments),
        env=children.environment,
        cwd=children.folder,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise DemoError(f"authtally {arguments[0]} failed:\n{done.stdout}{done.stderr}")
