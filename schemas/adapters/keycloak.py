"""Keycloak's user events, as its Kafka and webhook event listeners send them.

One table maps each type to events. Admin events, which have no `type`, are ignored: a user that an administrator
creates has not signed up.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from schemas.adapters.framing import adapter
from schemas.adapters.timestamps import Number, checked_from_ms
from schemas.events import AccountEvent, BadRecordError, Event, Login, RecordTime, TokenIssued, check

SERVICE_ACCOUNT: Final = "service-account-"
"""Prefix of Keycloak's user name for client credentials. A service account is not a user, so never active."""

REASONS: Final = {
    "invalid_user_credentials": "invalid_credentials",
    "user_disabled": "user_disabled",
    "user_not_found": "user_not_found",
    "user_temporarily_disabled": "locked",
}
"""Keycloak's errors with a reason of our vocabulary; other errors keep their name."""


class Details(Struct, frozen=True, gc=False):
    grant_type: str | None = None
    refresh_token_id: str | None = None
    updated_refresh_token_id: str | None = None
    scope: str | None = None
    username: str | None = None


class UserEvent(Struct, frozen=True, gc=False, rename="camel"):
    type: str | None = None
    time: Number | None = None
    id: str | None = None
    realm_id: str | None = None
    realm_name: str | None = None
    client_id: str | None = None
    user_id: str | None = None
    error: str | None = None
    details: Details | None = None
    operation_type: str | None = None
    """Admin events have this field and no type."""


class Rule(NamedTuple):
    """The meaning of an event type: at most one of these fields is set."""

    login: bool | None = None
    """A login that succeeded or failed."""
    grant: str = ""
    """Tokens issued under this grant."""
    kind: str = ""
    """An account event of this kind."""


_NOTHING: Final = Rule()
_EXTENSION: Final = Rule(grant="extension")
"""The grant is `details.grant_type`."""

COUNTED: Final = {
    # Browser login: CODE_TO_TOKEN follows and issues the tokens. With the password grant, LOGIN also means tokens.
    "LOGIN": Rule(login=True),
    "LOGIN_ERROR": Rule(login=False),
    # Brokered login: a success is followed by a LOGIN, a failure by no other event.
    "IDENTITY_PROVIDER_LOGIN_ERROR": Rule(login=False),
    "CODE_TO_TOKEN": Rule(grant="authorization_code"),
    "CLIENT_LOGIN": Rule(grant="client_credentials"),
    "REFRESH_TOKEN": Rule(grant="refresh_token"),
    "TOKEN_EXCHANGE": Rule(grant="urn:ietf:params:oauth:grant-type:token-exchange"),
    "OAUTH2_DEVICE_CODE_TO_TOKEN": Rule(grant="urn:ietf:params:oauth:grant-type:device_code"),
    "AUTHREQID_TO_TOKEN": Rule(grant="urn:openid:params:grant-type:ciba"),
    "PERMISSION_TOKEN": Rule(grant="urn:ietf:params:oauth:grant-type:uma-ticket"),
    "JWT_BEARER": Rule(grant="urn:ietf:params:oauth:grant-type:jwt-bearer"),
    "OAUTH2_EXTENSION_GRANT": _EXTENSION,
    # A brokered user's first login registers too.
    "REGISTER": Rule(kind="signup"),
    "REGISTER_ERROR": Rule(kind="signup_failed"),
    "CLIENT_REGISTER": Rule(kind="client_registered"),
    "CLIENT_UPDATE": Rule(kind="client_updated"),
    "CLIENT_DELETE": Rule(kind="client_deleted"),
    "USER_DISABLED_BY_PERMANENT_LOCKOUT": Rule(kind="locked_out"),
    "USER_DISABLED_BY_TEMPORARY_LOCKOUT": Rule(kind="locked_out"),
}
_UNCOUNTED: Final = (
    "LOGOUT",
    "INTROSPECT_TOKEN",
    "VALIDATE_ACCESS_TOKEN",
    "USER_INFO_REQUEST",
    "IMPERSONATE",
    "RESTART_AUTHENTICATION",
    "FEDERATED_IDENTITY_LINK",
    "FEDERATED_IDENTITY_OVERRIDE_LINK",
    "REMOVE_FEDERATED_IDENTITY",
    "IDENTITY_PROVIDER_LOGIN",
    "IDENTITY_PROVIDER_FIRST_LOGIN",
    "IDENTITY_PROVIDER_POST_LOGIN",
    "IDENTITY_PROVIDER_RESPONSE",
    "IDENTITY_PROVIDER_LINK_ACCOUNT",
    "IDENTITY_PROVIDER_RETRIEVE_TOKEN",
    "CLIENT_INITIATED_ACCOUNT_LINKING",
    "UPDATE_EMAIL",
    "UPDATE_PROFILE",
    "UPDATE_PASSWORD",
    "UPDATE_TOTP",
    "REMOVE_TOTP",
    "UPDATE_CREDENTIAL",
    "REMOVE_CREDENTIAL",
    "VERIFY_EMAIL",
    "VERIFY_PROFILE",
    "SEND_VERIFY_EMAIL",
    "SEND_RESET_PASSWORD",
    "SEND_IDENTITY_PROVIDER_LINK",
    "RESET_PASSWORD",
    "GRANT_CONSENT",
    "UPDATE_CONSENT",
    "REVOKE_GRANT",
    "CUSTOM_REQUIRED_ACTION",
    "EXECUTE_ACTIONS",
    "EXECUTE_ACTION_TOKEN",
    "INVALID_SIGNATURE",
    "REGISTER_NODE",
    "UNREGISTER_NODE",
    "CLIENT_INFO",
    "DELETE_ACCOUNT",
    "INVITE_ORG",
    "USER_SESSION_DELETED",
    "OAUTH2_DEVICE_AUTH",
    "OAUTH2_DEVICE_VERIFY_USER_CODE",
    "PUSHED_AUTHORIZATION_REQUEST",
)
RULES: Final = (
    dict.fromkeys(_UNCOUNTED, _NOTHING)
    # Only failed logins and registrations count: a refused token request is no login.
    | {f"{name}_ERROR": _NOTHING for name in (*_UNCOUNTED, *COUNTED) if not name.endswith("_ERROR")}
    | COUNTED
)
"""Every event type of Keycloak; types added later are ignored."""

_TOKENS: Final = {
    (False, False): ("access_token",),
    (False, True): ("access_token", "id_token"),
    (True, False): ("access_token", "refresh_token"),
    (True, True): ("access_token", "id_token", "refresh_token"),
}
_NO_DETAILS: Final = Details()
_DECODE: Final = msgspec.json.Decoder(UserEvent).decode


def _read(raw: bytes, at: RecordTime) -> tuple[Event, ...]:
    user_event = _DECODE(raw)
    if user_event.type is None:
        if user_event.operation_type is not None:
            return ()
        raise BadRecordError("missing_field", "`type` is missing")
    rule = RULES.get(user_event.type, _NOTHING)
    if rule is _NOTHING:
        return ()
    time = checked_from_ms(user_event.time, at)
    realm = user_event.realm_name or user_event.realm_id or None
    client_id = user_event.client_id or None
    id = f"keycloak:{user_event.id}" if user_event.id else None  # noqa: A001
    details = user_event.details or _NO_DETAILS
    user_id = user_event.user_id or None
    grant = rule.grant
    is_service_account = grant == "client_credentials" or (
        details.username is not None and details.username.startswith(SERVICE_ACCOUNT)
    )
    if is_service_account:
        user_id = None
    events: tuple[Event, ...] = ()
    if rule.login is not None:
        if rule.login:
            if details.grant_type == "password":
                grant = "password"
            if not is_service_account:
                events = (Login(time=time, user_id=user_id or "", realm=realm, client_id=client_id, id=id),)
        else:
            events = (
                Login(
                    time=time,
                    user_id=user_id or "",
                    success=False,
                    realm=realm,
                    client_id=client_id,
                    reason=REASONS.get(user_event.error, user_event.error) if user_event.error else None,
                    id=id,
                ),
            )
    elif rule.kind:
        events = (AccountEvent(time=time, kind=rule.kind, realm=realm, client_id=client_id, user_id=user_id, id=id),)
    if grant:
        if rule is _EXTENSION:
            grant = details.grant_type or "unknown"
        events = (
            *events,
            TokenIssued(
                time=time,
                grant_type=grant,
                tokens=_issued(user_event.type, details),
                realm=realm,
                client_id=client_id,
                user_id=user_id,
                id=id,
            ),
        )
    return tuple([check(event) for event in events])


def _issued(type_: str, details: Details) -> tuple[str, ...]:
    """The issued tokens: no event lists them, but the details show them."""
    # In a refresh `refresh_token_id` is the token that was used.
    refreshed = details.updated_refresh_token_id if type_ == "REFRESH_TOKEN" else details.refresh_token_id
    return _TOKENS[bool(refreshed), details.scope is not None and "openid" in details.scope.split()]


keycloak: Final = adapter(_read)
