"""For each binding a good record, where its fields are, and what it becomes.

Placeholders in values: `<id>` a text that no other element has, and the time of the event, an hour before the clock:
`<time>` RFC 3339, `<fine>` the same with nine digits of fraction, `<naive>` without offset, and as a number of
milliseconds `<ms>`, `<ms.0>`, `<msE>`, `<ms.5>`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

Role = Literal["user", "label", "time", "id"]


class Binding(NamedTuple):
    good: Mapping[str, Any]
    becomes: str
    """Fields of the counts, joined by ` + `; `otp` for an entry of the inventory."""
    other: Mapping[str, Any]
    """A second good record: a failure where the binding has failures."""
    other_becomes: str
    paths: Mapping[Role, tuple[str, ...]]
    """The user, a label of at most 256 bytes, the time and the id, as keys from the outermost object on."""
    time: Literal["text", "naive", "ms"]
    several: bool = True
    """Whether an array and JSON Lines are several elements."""
    late: bool = True
    """Whether lengths are checked after the time: the first fault found is the reason of the dead letter."""
    identified: bool = True
    """Whether the same record sent again is a duplicate."""
    ignored: Mapping[str, Any] | None = None
    """A well-formed record of no concern."""


_NATIVE: Final[Mapping[Role, tuple[str, ...]]] = {
    "user": ("user_id",),
    "label": ("realm",),
    "time": ("time",),
    "id": ("id",),
}
_LOGIN: Final = {"time": "<time>", "user_id": "u", "realm": "acme", "client_id": "web", "id": "<id>"}
_FAILED: Final = {**_LOGIN, "success": False, "reason": "locked"}
_TOKEN: Final = {
    "time": "<time>",
    "grant_type": "password",
    "tokens": ["access_token"],
    "user_id": "u",
    "realm": "acme",
    "client_id": "web",
    "id": "<id>",
}
_ACCOUNT: Final = {"time": "<time>", "kind": "signup", "user_id": "u", "realm": "acme", "id": "<id>"}
_STATE: Final = {
    "time": "<time>",
    "serial": "<id>",
    "event": "token_init",
    "realms": ["acme"],
    "active": True,
    "assigned": True,
    "user_id": "u",
}
_COUNT: Final = {
    "time": "<time>",
    "realm": "acme",
    "event": "token_init",
    "status": "total",
    "count": 1,
    "id": "<id>",
}
_KEYCLOAK: Final = {
    "type": "LOGIN",
    "time": "<ms>",
    "id": "<id>",
    "realmName": "acme",
    "clientId": "web",
    "userId": "u",
}
_JANSSEN: Final = {"timestamp": "<ms>", "clientId": "web", "username": "u", "success": True}
_AUTH0: Final = {"date": "<time>", "user_id": "u", "client_id": "web", "tenant_name": "acme"}
_FUSIONAUTH: Final = {
    "id": "<id>",
    "createInstant": "<ms>",
    "tenantId": "acme",
    "applicationId": "web",
    "user": {"id": "u"},
}
_ROW: Final = {
    "id": "<id>",
    "timestamp": "<naive>",
    "event": "token_init",
    "realm": "acme",
    "parameter": "total",
    "count": 1,
}
_ENVELOPE: Final = {
    "specversion": "1.0",
    "id": "<id>",
    "source": "/",
    "type": "io.identity.login.v1",
    "time": "<time>",
    "subject": "u",
    "data": {"tenant": "acme", "client": "web"},
}


def _janssen(login: str, other: str) -> Binding:
    return Binding(
        {"action": login, **_JANSSEN},
        "login",
        {"action": login, **_JANSSEN, "success": False},
        "failed/unspecified",
        {"user": ("username",), "label": ("clientId",), "time": ("timestamp",)},
        "ms",
        identified=False,
        ignored={"action": other, **_JANSSEN, "success": False},
    )


BINDINGS: Final[Mapping[str, Binding]] = {
    "login": Binding(_LOGIN, "login", _FAILED, "failed/locked", _NATIVE, "text", several=False),
    "token": Binding(
        _TOKEN,
        "token/password/access_token",
        {**_TOKEN, "grant_type": "refresh_token", "tokens": ["id_token"]},
        "token/refresh_token/id_token",
        _NATIVE,
        "text",
        several=False,
    ),
    "account": Binding(
        _ACCOUNT,
        "account/signup",
        {**_ACCOUNT, "kind": "signup_failed"},
        "account/signup_failed",
        _NATIVE,
        "text",
        several=False,
    ),
    "otp": Binding(
        _STATE,
        "otp",
        {**_STATE, "active": False, "realms": []},
        "otp",
        {"user": ("user_id",), "label": ("event",), "time": ("time",), "id": ("serial",)},
        "text",
        several=False,
        late=False,
    ),
    "otp-count": Binding(
        _COUNT,
        "otp",
        {**_COUNT, "status": "total users", "count": 2**32 - 1},
        "otp",
        {"label": ("realm",), "time": ("time",), "id": ("id",)},
        "text",
        several=False,
        late=False,
    ),
    "native": Binding(
        {"type": "login", **_LOGIN}, "login", {"type": "login", **_FAILED}, "failed/locked", _NATIVE, "text", late=False
    ),
    "keycloak": Binding(
        _KEYCLOAK,
        "login",
        {**_KEYCLOAK, "type": "LOGIN_ERROR", "error": "invalid_user_credentials"},
        "failed/invalid_credentials",
        {"user": ("userId",), "label": ("realmName",), "time": ("time",), "id": ("id",)},
        "ms",
        ignored={**_KEYCLOAK, "type": "LOGOUT"},
    ),
    "janssen-audit": _janssen("USER_AUTHORIZATION", "TOKEN_REQUEST"),
    "janssen-audit-sessions": _janssen("SESSION_AUTHENTICATED", "USER_AUTHORIZATION"),
    "auth0-logs": Binding(
        {"log_id": "<id>", "data": {"type": "s", **_AUTH0}},
        "login",
        {"log_id": "<id>", "data": {"type": "fp", **_AUTH0}},
        "failed/invalid_credentials",
        {"user": ("data", "user_id"), "label": ("data", "tenant_name"), "time": ("data", "date"), "id": ("log_id",)},
        "text",
        ignored={"log_id": "<id>", "data": {"type": "slo", **_AUTH0}},
    ),
    "fusionauth": Binding(
        {"event": {"type": "user.login.success", **_FUSIONAUTH}},
        "login",
        {"event": {"type": "user.login.failed", **_FUSIONAUTH, "reason": {"code": "credentials"}}},
        "failed/invalid_credentials",
        {
            "user": ("event", "user", "id"),
            "label": ("event", "tenantId"),
            "time": ("event", "createInstant"),
            "id": ("event", "id"),
        },
        "ms",
        ignored={"event": {"type": "user.update", **_FUSIONAUTH}},
    ),
    "linotp-report": Binding(
        _ROW,
        "otp",
        {"payload": {"op": "c", "after": {**_ROW, "count": "7", "realm": None}}},
        "otp",
        {"label": ("realm",), "time": ("timestamp",), "id": ("id",)},
        "naive",
        ignored={"payload": {"op": "d"}},
    ),
    "cloudevents": Binding(
        _ENVELOPE,
        "login",
        {**_ENVELOPE, "data": {"tenant": "acme", "client": "web", "outcome": "failure"}},
        "failed/unspecified",
        {"user": ("subject",), "label": ("data", "tenant"), "time": ("time",), "id": ("id",)},
        "text",
        ignored={**_ENVELOPE, "type": "com.example.other"},
    ),
}
"""Every binding of a topic; `tests/corpus/test_rows.py` compares them with those that the worker knows."""
