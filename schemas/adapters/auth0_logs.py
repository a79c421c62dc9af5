"""Auth0's tenant logs: the records of log streams (array, lines or object), and items of its Management API.

One table maps each code to events; other codes are ignored. A refused token exchange is no failed login: a wrong
password has its own `fp`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec
from msgspec import Raw, Struct

from schemas.adapters.framing import adapter
from schemas.adapters.timestamps import from_text
from schemas.events import UNDECODABLE, AccountEvent, BadRecordError, Event, Login, RecordTime, TokenIssued, check


class Item(Struct, frozen=True, gc=False):
    type: str | None = None
    date: str | None = None
    log_id: str | None = None
    old_id: str | None = msgspec.field(name="_id", default=None)
    """The Management API's former name of `log_id`."""
    tenant_name: str | None = None
    client_id: str | None = None
    user_id: str | None = None
    details: Raw = Raw(b"{}")


class Entry(Item, frozen=True, gc=False):
    """A stream's element wraps the item in `data`; the Management API returns the item itself."""

    data: Item | None = None


class Details(Struct, frozen=True, gc=False):
    """Raw, because only the presence of a field matters: the types have changed over the years."""

    refresh_token: Raw = Raw(b"")
    family_id: Raw = msgspec.field(name="familyId", default=Raw(b""))


class Code(NamedTuple):
    """The meaning of a code: a login, a failure, tokens (with or without a login), or an account event."""

    login: bool = False
    active: bool = False
    """The user becomes active, but no login is counted."""
    failed: bool = False
    reason: str | None = None
    grant: str = ""
    kind: str = ""


_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
_MFA: Final = "http://auth0.com/oauth/grant-type/mfa-"


def _failed(reason: str | None = None) -> Code:
    return Code(failed=True, reason=reason)


CODES: Final = {
    "s": Code(login=True),
    "sens": Code(login=True),
    # `ssa`: a session renewed without a prompt. `scoa` (cross-origin): the `s` of the same login follows.
    "ssa": Code(active=True),
    "scoa": Code(active=True),
    # An exchange follows its `s`, so it only makes the user active; with the password grants it is the login itself.
    "seacft": Code(active=True, grant="authorization_code"),
    "sede": Code(active=True, grant="urn:ietf:params:oauth:grant-type:device_code"),
    "secte": Code(active=True, grant=_EXCHANGE),
    "seta": Code(active=True, grant=_EXCHANGE),
    "success_on_behalf_of_token_exchange": Code(active=True, grant=_EXCHANGE),
    "idjag_exchange_succeeded": Code(active=True, grant="urn:ietf:params:oauth:grant-type:jwt-bearer"),
    "ciba_exchange_succeeded": Code(active=True, grant="urn:openid:params:grant-type:ciba"),
    "sepft": Code(login=True, grant="password"),
    "seoobft": Code(login=True, grant=f"{_MFA}oob"),
    "seotpft": Code(login=True, grant=f"{_MFA}otp"),
    "sercft": Code(login=True, grant=f"{_MFA}recovery-code"),
    "sepkoobft": Code(login=True, grant=f"{_MFA}oob"),
    "sepkotpft": Code(login=True, grant=f"{_MFA}otp"),
    "sepkrcft": Code(login=True, grant=f"{_MFA}recovery-code"),
    # The worker decides whether a refresh makes active (ACTIVE_ON); a machine is never active.
    "sertft": Code(grant="refresh_token"),
    "seccft": Code(grant="client_credentials"),
    "f": _failed(),
    "fp": _failed("invalid_credentials"),
    "fu": _failed("user_not_found"),
    "fsa": _failed("silent_authentication"),
    "fco": _failed("origin_not_allowed"),
    "fcoa": _failed("cross_origin_authentication"),
    "fens": _failed("native_social_login"),
    "fc": _failed("connector"),
    "limit_wc": _failed("locked"),
    "limit_sul": _failed("locked"),
    "limit_mu": _failed("locked"),
    "ss": Code(kind="signup"),
    "fs": Code(kind="signup_failed"),
    "pwd_leak": Code(kind="leaked_password"),
    "signup_pwd_leak": Code(kind="leaked_password"),
    "reset_pwd_leak": Code(kind="leaked_password"),
}

_DECODE: Final = msgspec.json.Decoder(Entry).decode
_DECODE_DETAILS: Final = msgspec.json.Decoder(Details).decode
_ABSENT: Final = (b"", b"null", b'""', b"false")


def _read(raw: bytes, at: RecordTime) -> tuple[Event, ...]:
    entry = _DECODE(raw)
    item = entry.data or entry
    if item.type is None:
        raise BadRecordError("missing_field", "`type` is missing")
    code = CODES.get(item.type)
    if code is None:
        return ()
    time = from_text(item.date, at, "date")
    realm, client_id, user_id = item.tenant_name or None, item.client_id or None, item.user_id or None
    log_id = entry.log_id or item.log_id or item.old_id or entry.old_id
    id = f"auth0:{log_id}" if log_id else None  # noqa: A001
    events: tuple[Event, ...] = ()
    if code.kind:
        events = (AccountEvent(time=time, kind=code.kind, realm=realm, client_id=client_id, user_id=user_id, id=id),)
    elif code.failed or ((code.login or code.active) and (user_id or not code.grant)):
        # An exchange may lack a user; `check` rejects a login without one.
        events = (
            Login(
                time=time,
                user_id=user_id or "",
                success=not code.failed,
                counted=not code.active,
                realm=realm,
                client_id=client_id,
                reason=code.reason,
                id=id,
            ),
        )
    if code.grant:
        events = (
            *events,
            TokenIssued(
                time=time,
                grant_type=code.grant,
                tokens=_issued_tokens(item),
                realm=realm,
                client_id=client_id,
                user_id=None if code.grant == "client_credentials" else user_id,
                id=id,
            ),
        )
    return tuple([check(event) for event in events])


def _issued_tokens(item: Item) -> tuple[str, ...]:
    """The access token, and the refresh token if the details show one. The log does not show id tokens."""
    try:
        details = _DECODE_DETAILS(item.details)
    except UNDECODABLE:
        return ("access_token",)
    # A refresh logs the refresh token that was used; it issues a new one only if that belongs to a family.
    trace = details.family_id if item.type == "sertft" else details.refresh_token
    return ("access_token",) if bytes(trace) in _ABSENT else ("access_token", "refresh_token")


auth0_logs: Final = adapter(_read)
