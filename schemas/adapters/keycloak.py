"""Keycloak's user events, as its Kafka and webhook event listeners send them.

One table maps each type to events. Admin events are ignored: a user that an administrator creates has not signed up.
The listener `ext-event-webhook` writes `access.LOGIN` for `LOGIN`, has user and client in `authDetails`, and adds an
`uid` that differs for each delivery; `id` is Keycloak's own.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from schemas.adapters.elements import UnknownType
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


ACCESS: Final = "access."
ADMIN: Final = "admin."
"""Prefixes of types in the bodies of `ext-event-webhook`; the latter marks admin events."""
ID_TOKEN: Final = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105


class Details(Struct, frozen=True, gc=False):
    grant_type: str | None = None
    requested_token_type: str | None = None
    refresh_token_id: str | None = None
    updated_refresh_token_id: str | None = None
    scope: str | None = None
    username: str | None = None


class AuthDetails(Struct, frozen=True, gc=False, rename="camel"):
    """Client and user of an event, in the bodies of `ext-event-webhook`. Its `realmId` may be a name: not read."""

    client_id: str | None = None
    user_id: str | None = None
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
    auth_details: AuthDetails | None = None
    operation_type: str | None = None
    """Admin events have this field and, but for those of `ext-event-webhook`, no type."""


class Rule(NamedTuple):
    """The meaning of an event type: at most one of these fields is set."""

    login: bool | None = None
    """A login that succeeded or failed."""
    grant: str = ""
    """Tokens issued under this grant, unless `details.grant_type` names another."""
    kind: str = ""
    """An account event of this kind."""


_NOTHING: Final = Rule()

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
    "JWT_AUTHORIZATION_GRANT": Rule(grant="urn:ietf:params:oauth:grant-type:jwt-bearer"),
    "JWT_BEARER": Rule(grant="urn:ietf:params:oauth:grant-type:jwt-bearer"),
    "VERIFIABLE_CREDENTIAL_PRE_AUTHORIZED_GRANT": Rule(grant="urn:ietf:params:oauth:grant-type:pre-authorized_code"),
    "OAUTH2_EXTENSION_GRANT": Rule(grant="unknown"),
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
    "VERIFIABLE_CREDENTIAL_REQUEST",
    "VERIFIABLE_CREDENTIAL_OFFER_REQUEST",
    "VERIFIABLE_CREDENTIAL_NONCE_REQUEST",
    "VERIFIABLE_CREDENTIAL_CREATE_OFFER",
)
RULES: Final = (
    dict.fromkeys(_UNCOUNTED, _NOTHING)
    # Only failed logins and registrations count: a refused token request is no login.
    | {f"{name}_ERROR": _NOTHING for name in (*_UNCOUNTED, *COUNTED) if not name.endswith("_ERROR")}
    | COUNTED
)
"""Every event type of Keycloak 26.7 and before."""

_TOKENS: Final = {
    (False, False): ("access_token",),
    (False, True): ("access_token", "id_token"),
    (True, False): ("access_token", "refresh_token"),
    (True, True): ("access_token", "id_token", "refresh_token"),
}
_NO_DETAILS: Final = Details()
_NOBODY: Final = AuthDetails()
_DECODE: Final = msgspec.json.Decoder(UserEvent).decode


def _read(raw: bytes, at: RecordTime) -> tuple[Event, ...] | UnknownType:
    user_event = _DECODE(raw)
    type_ = user_event.type
    if type_ is None:
        if user_event.operation_type is not None:
            return ()
        raise BadRecordError("missing_field", "`type` is missing")
    who = _NOBODY
    if type_.startswith(ACCESS):
        type_ = type_.removeprefix(ACCESS)
        who = user_event.auth_details or _NOBODY
    elif type_.startswith(ADMIN):
        return ()
    rule = RULES.get(type_)
    if rule is None:
        return UnknownType.of(user_event.type or "")
    if rule is _NOTHING:
        return ()
    time = checked_from_ms(user_event.time, at)
    realm = user_event.realm_name or user_event.realm_id or None
    client_id = user_event.client_id or who.client_id or None
    id = f"keycloak:{user_event.id}" if user_event.id else None  # noqa: A001
    details = user_event.details or _NO_DETAILS
    user_id = user_event.user_id or who.user_id or None
    grant = rule.grant
    is_service_account = grant == "client_credentials" or (details.username or who.username or "").startswith(
        SERVICE_ACCOUNT
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
        events = (
            *events,
            TokenIssued(
                time=time,
                grant_type=details.grant_type or grant,
                tokens=_issued(type_, details),
                realm=realm,
                client_id=client_id,
                user_id=user_id,
                id=id,
            ),
        )
    return tuple([check(event) for event in events])


def _issued(type_: str, details: Details) -> tuple[str, ...]:
    """The issued tokens: no event lists them, but the details show them."""
    if type_ == "TOKEN_EXCHANGE":
        if details.requested_token_type == ID_TOKEN:
            # The answer's `access_token` field holds it; no access token is issued.
            return ("id_token",)
        # The scope is that of the exchanged token. An id token comes only if the request asks for `openid` once more,
        # which no event shows.
        return _TOKENS[bool(details.refresh_token_id), False]
    # In a refresh `refresh_token_id` is the token that was used.
    refreshed = details.updated_refresh_token_id if type_ == "REFRESH_TOKEN" else details.refresh_token_id
    return _TOKENS[bool(refreshed), details.scope is not None and "openid" in details.scope.split()]


keycloak: Final = adapter(_read)
