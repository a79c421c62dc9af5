"""The demo's other sources: sends a few events of today through each, twice if the events have ids."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from deploy.demo import site
from deploy.demo.processes import Children, DemoError
from deploy.demo.sample_events import Expected
from schemas.ledger.periods import Month

USERS: Final = 5
"""Users per source, with one login each."""
COMMAND_TIMEOUT_S: Final = 60
JSON: Final = "application/json"
CLOUD_EVENTS: Final = "application/cloudevents-batch+json"
PAST: Final = (612, 655)
"""Monthly active users of the two months before the sample, counted by another system."""
REALMS: Final = {
    "Keycloak's topic": "acme",
    "POST v1 events": "globex",
    "CloudEvents": "initech",
    "Keycloak's webhook": "acme",
    "Auth0's log stream": "umbrella",
    "FusionAuth's webhook": "hooli",
    "authtally publish": "globex",
}
"""Realm by source."""


class Sent(NamedTuple):
    """The events sent through a source."""

    source: str
    records: int
    """Records in Kafka, repeats included."""
    logins: int


def send(children: Children, expected: Expected, first_month: Month) -> list[Sent]:
    """Send through every source and add the logins to `expected`; returns when Kafka has all events. Raises DemoError.

    `first_month` is the first of the sample; figures of months before it are imported.
    """
    now = datetime.now(UTC)
    past = [now - timedelta(seconds=number) for number in range(USERS)]
    sent = [_keycloak_topic(children, past)]
    for source, realm in REALMS.items():
        for number, time in enumerate(past):
            expected.count_login(f"{source} {number}", realm, time)
    for source, path, content_type, events in _deliveries(past):
        # Sent twice, like a sender that did not receive the answer.
        for _ in range(2):
            _post(children, path, content_type, events)
        sent.append(Sent(source, 2 * USERS, USERS))
    sent.append(_published_file(children, past))
    _import(children, first_month)
    return sent


def _keycloak_topic(children: Children, past: Sequence[datetime]) -> Sent:
    source = "Keycloak's topic"
    producer = children.producer()
    for event in 2 * list(_keycloak(source, past)):
        producer.produce(site.KEYCLOAK, json.dumps(event).encode())
    if producer.flush(COMMAND_TIMEOUT_S):
        raise DemoError("The broker did not accept the Keycloak events.")
    return Sent(source, 2 * USERS, USERS)


def _deliveries(past: Sequence[datetime]) -> Iterator[tuple[str, str, str, list[dict[str, Any]]]]:
    """Source, path, content type and body."""
    source = "POST v1 events"
    yield source, "/v1/events", JSON, list(_native(source, past))
    source = "CloudEvents"
    yield source, "/v1/events", CLOUD_EVENTS, list(_cloud_events(source, past))
    source = "Keycloak's webhook"
    yield source, "/v1/ingest/keycloak", JSON, list(_keycloak(source, past))
    source = "Auth0's log stream"
    yield source, "/v1/ingest/auth0", JSON, list(_auth0(source, past))
    source = "FusionAuth's webhook"
    yield source, "/v1/ingest/fusionauth", JSON, list(_fusionauth(source, past))


def _native(source: str, past: Sequence[datetime]) -> Iterator[dict[str, Any]]:
    for number, time in enumerate(past):
        yield {
            "type": "login",
            "time": time.isoformat(),
            "user_id": f"{source} {number}",
            "realm": REALMS[source],
            "client_id": "web",
            "id": f"{source}:{number}",
        }


def _cloud_events(source: str, past: Sequence[datetime]) -> Iterator[dict[str, Any]]:
    for number, time in enumerate(past):
        yield {
            "specversion": "1.0",
            "id": str(number),
            "source": "/demo",
            "type": "io.identity.login.v1",
            "subject": f"{source} {number}",
            "time": time.isoformat(),
            "data": {"tenant": REALMS[source], "client": "web", "outcome": "success"},
        }


def _keycloak(source: str, past: Sequence[datetime]) -> Iterator[dict[str, Any]]:
    for number, time in enumerate(past):
        yield {
            "id": f"{source} {number}",
            "time": int(time.timestamp() * 1000),
            "type": "LOGIN",
            "realmId": "9f3e",
            "realmName": REALMS[source],
            "clientId": "web",
            "userId": f"{source} {number}",
        }


def _auth0(source: str, past: Sequence[datetime]) -> Iterator[dict[str, Any]]:
    for number, time in enumerate(past):
        data = {
            "type": "s",
            "date": time.isoformat(),
            "tenant_name": REALMS[source],
            "client_id": "web",
            "user_id": f"{source} {number}",
        }
        yield {"log_id": str(number), "data": data}


def _fusionauth(source: str, past: Sequence[datetime]) -> Iterator[dict[str, Any]]:
    for number, time in enumerate(past):
        event = {
            "id": f"{source} {number}",
            "createInstant": int(time.timestamp() * 1000),
            "type": "user.login.success",
            "tenantId": REALMS[source],
            "applicationId": "web",
            "authenticationType": "PASSWORDLESS",
            "user": {"id": f"{source} {number}"},
        }
        yield {"event": event}


def _post(children: Children, path: str, content_type: str, body: object) -> None:
    try:
        result = json.loads(children.post(path, content_type, json.dumps(body).encode()))
    except OSError as error:
        raise DemoError(f"The api did not accept events at {path}: {error}") from error
    if result["accepted"] != USERS:
        raise DemoError(f"The api did not accept all events at {path}: {result}")


def _published_file(children: Children, past: Sequence[datetime]) -> Sent:
    source = "authtally publish"
    file = children.folder / "events.jsonl"
    file.write_text("".join(json.dumps(event) + "\n" for event in _native(source, past)), encoding="utf-8")
    _command(children, "publish", str(file))
    return Sent(source, USERS, USERS)


def _import(children: Children, first_month: Month) -> None:
    file = children.folder / "past.csv"
    months = first_month.plus(-len(PAST)).until(first_month.plus(-1))
    rows = "".join(f"{month.key},{users}\n" for month, users in zip(months, PAST, strict=True))
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
