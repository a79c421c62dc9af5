"""Events and webhooks of each product, as senders post them."""

from __future__ import annotations

import json
from typing import Any, Final

NOW: Final = "2026-11-20T10:00:00Z"
LOGIN: Final = {"type": "login", "time": NOW, "user_id": "alice", "realm": "acme", "id": "a-1"}
TOKEN: Final = {"type": "token", "time": NOW, "grant_type": "password", "tokens": ["access_token"], "id": "a-2"}
SIGNUP: Final = {"type": "account", "time": NOW, "kind": "signup", "realm": "acme", "id": "a-3"}
KEYCLOAK: Final = {
    "id": "0f0e",
    "time": 1_795_168_800_000,
    "type": "LOGIN",
    "realmId": "r1",
    "realmName": "acme",
    "clientId": "web",
    "userId": "alice",
    "details": {"username": "alice@example.org"},
}
PASSWORD_GRANT: Final = KEYCLOAK | {"id": "0f0f", "details": {"grant_type": "password", "token_id": "t"}}
LOGOUT: Final = KEYCLOAK | {"id": "0f10", "type": "LOGOUT"}
AUTH0: Final[dict[str, Any]] = {
    "log_id": "9002",
    "data": {"type": "s", "date": NOW, "tenant_name": "acme", "client_id": "web", "user_id": "auth0|1"},
}
FUSIONAUTH: Final[dict[str, Any]] = {
    "event": {
        "id": "6b33",
        "createInstant": 1_795_168_800_000,
        "type": "user.login.success",
        "tenantId": "acme",
        "applicationId": "web",
        "user": {"id": "alice"},
    }
}
CLOUD_EVENT: Final = {
    "specversion": "1.0",
    "id": "01HZ",
    "source": "/idp/shop",
    "type": "io.identity.login.v1",
    "subject": "alice",
    "time": NOW,
    "datacontenttype": "application/json",
    "data": {"tenant": "acme", "client": "web", "outcome": "success"},
}


def hook(product: str, event_id: str) -> str:
    """The id of a webhook's event in Kafka."""
    return f"http:{product}:*:{product}:{event_id}"


SECRET: Final = "a secret that no one guesses"


def lines(*events: object) -> bytes:
    return b"\n".join(json.dumps(event).encode() for event in events)


SECRETS: Final = {f"ingest_{source}_secret": SECRET for source in ("keycloak", "auth0", "fusionauth")}
