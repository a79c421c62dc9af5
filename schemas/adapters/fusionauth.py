"""FusionAuth's events, as its webhooks and its Kafka integration send them.

Only the fields below are decoded: the tokens in some events never leave the record. A login with a password counts as
the password grant, because no event shows whether its tokens were issued for a code.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec
from msgspec import Struct

from schemas.adapters.elements import UnknownType
from schemas.adapters.framing import adapter
from schemas.adapters.timestamps import Number, checked_from_ms
from schemas.events import AccountEvent, BadRecordError, Event, Login, RecordTime, TokenIssued, check


class User(Struct, frozen=True, gc=False, rename="camel"):
    id: str | None = None
    tenant_id: str | None = None


class Reason(Struct, frozen=True, gc=False):
    code: str | None = None


class EventPayload(Struct, frozen=True, gc=False, rename="camel"):
    type: str | None = None
    id: str | None = None
    create_instant: Number | None = None
    tenant_id: str | None = None
    application_id: str | None = None
    authentication_type: str | None = None
    user: User | None = None
    user_id: str | None = None
    reason: Reason | None = None


class Body(EventPayload, frozen=True, gc=False):
    """A webhook wraps the event."""

    event: EventPayload | None = None


LOGIN: Final = "user.login.success"
LOGIN_FAILED: Final = "user.login.failed"
REFRESH: Final = "jwt.refresh"
KINDS: Final = {
    # `user.create` is not a signup: it also comes for users that an administrator creates, and in addition to signups.
    "user.registration.create": "signup",
    "user.password.breach": "leaked_password",
}
IGNORED: Final = frozenset(
    {
        *("audit-log.create", "event-log.create", "kickstart.success", "test"),
        *("jwt.public-key.update", "jwt.refresh-token.revoke", "identity.verified"),
        *(f"group.{what}{done}" for what in ("create", "delete", "update") for done in ("", ".complete")),
        *(f"group.member.{what}{done}" for what in ("add", "remove", "update") for done in ("", ".complete")),
        *(f"user.{what}{done}" for what in ("create", "delete", "update") for done in ("", ".complete")),
        *("user.registration.create.complete", "user.registration.delete", "user.registration.delete.complete"),
        *("user.registration.update", "user.registration.update.complete", "user.registration.verified"),
        *("user.action", "user.bulk.create", "user.deactivate", "user.reactivate"),
        *("user.email.update", "user.email.verified"),
        *("user.identity-provider.link", "user.identity-provider.unlink"),
        *("user.loginId.duplicate.create", "user.loginId.duplicate.update"),
        # Both accompany a `user.login.success`.
        *("user.login.new-device", "user.login.suspicious"),
        *("user.password.reset.send", "user.password.reset.start", "user.password.reset.success"),
        *("user.password.update", "user.two-factor.method.add", "user.two-factor.method.remove"),
    }
)
"""The other event types of FusionAuth (its API's EventType)."""
UNPROMPTED: Final = frozenset({"JWT_SSO", "PING", "REFRESH_TOKEN", "REGISTRATION", "USER_CREATE"})
"""Authentication types without a sign-in: the user becomes active, but no login is counted."""

REASONS: Final = {"credentials": "invalid_credentials"}
"""FusionAuth's codes with a reason of our vocabulary; other codes keep their name."""

_NOBODY: Final = User()
_DECODE: Final = msgspec.json.Decoder(Body).decode


def _read(raw: bytes, at: RecordTime) -> tuple[Event, ...] | UnknownType:
    body = _DECODE(raw)
    payload = body.event or body
    if payload.type is None:
        raise BadRecordError("missing_field", "`type` is missing")
    kind = KINDS.get(payload.type)
    if kind is None and payload.type not in (LOGIN, LOGIN_FAILED, REFRESH):
        return () if payload.type in IGNORED else UnknownType.of(payload.type)
    time = checked_from_ms(payload.create_instant, at, "createInstant")
    user = payload.user or _NOBODY
    realm, client_id = payload.tenant_id or user.tenant_id or None, payload.application_id or None
    user_id = user.id or payload.user_id or None
    id = f"fusionauth:{payload.id}" if payload.id else None  # noqa: A001
    events: tuple[Event, ...]
    if kind is not None:
        events = (AccountEvent(time=time, kind=kind, realm=realm, client_id=client_id, user_id=user_id, id=id),)
    elif payload.type == REFRESH:
        events = (_access_token("refresh_token", time, realm, client_id, user_id, id),)
    else:
        success = payload.type == LOGIN
        login = Login(
            time=time,
            user_id=user_id or "",
            success=success,
            counted=not success or payload.authentication_type not in UNPROMPTED,
            realm=realm,
            client_id=client_id,
            reason=None if success else _reason(payload),
            id=id,
        )
        if success and payload.authentication_type == "PASSWORD":
            events = (login, _access_token("password", time, realm, client_id, user_id, id))
        else:
            events = (login,)
    return tuple([check(event) for event in events])


def _access_token(
    grant_type: str,
    time: datetime,
    realm: str | None,
    client_id: str | None,
    user_id: str | None,
    id: str | None,  # noqa: A002
) -> TokenIssued:
    """No event lists the issued tokens; an access token is always issued."""
    return TokenIssued(
        time=time,
        grant_type=grant_type,
        tokens=("access_token",),
        realm=realm,
        client_id=client_id,
        user_id=user_id,
        id=id,
    )


def _reason(payload: EventPayload) -> str | None:
    if payload.reason is not None and payload.reason.code:
        return REASONS.get(payload.reason.code, payload.reason.code)
    # Versions that send no reason still send the user if the user exists.
    return None if payload.user else "user_not_found"


fusionauth: Final = adapter(_read)
