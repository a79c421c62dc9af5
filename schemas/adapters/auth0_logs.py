"""Auth0's tenant logs: the records of log streams (array, lines or object), and items of its Management API.

A record may be in the envelope of Amazon EventBridge (`detail`), of Azure Event Grid (`data`), or in `{"logs": […]}`.
One table maps each code to events. A refused token exchange is no failed login: a wrong
password has its own `fp`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec
from msgspec import Raw, Struct

from schemas.adapters.elements import Element, Headers, UnknownType
from schemas.adapters.framing import array_elements, elements
from schemas.adapters.timestamps import from_text
from schemas.events import BOM, UNDECODABLE, AccountEvent, BadRecordError, Event, Login, RecordTime, TokenIssued, check


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


class Envelope(Item, frozen=True, gc=False):
    """An element as it is, in `detail` (EventBridge), or in `data` (Event Grid, in either of its schemas)."""

    data: Entry | None = None
    detail: Entry | None = None


class Batch(Struct, frozen=True, gc=False):
    logs: Raw = Raw(b"")


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

IGNORED: Final = frozenset(
    {
        *("acls_summary", "actions_execution_failed", "acul_sdk_notice", "admin_update_launch", "api_limit"),
        *("api_limit_warning", "appi", "ciba_exchange_failed", "ciba_start_failed", "ciba_start_succeeded", "cls"),
        *("coff", "con", "connected_accounts_connection_failed", "connected_accounts_connection_succeeded"),
        *("connected_accounts_delete_failed", "connected_accounts_delete_succeeded", "cs"),
        *("custom_domain_verification_failed", "depnote", "directory_sync_completed", "directory_sync_failed"),
        *("directory_sync_started", "du", "failed_on_behalf_of_token_exchange", "fapi", "fce", "fcp", "fcph", "fcpn"),
        *("fcpr", "fcpro", "fcu", "fd", "fdeac", "fdeaz", "fdecc", "fdeleacft", "fdelsa", "fdu", "feacft", "feccft"),
        *("fecte", "fede", "federated_logout_failed", "feoobft", "feotpft", "fepft", "fepotpft", "fercft", "ferrt"),
        *("fertft", "feta", "fi", "flo", "flows_execution_completed", "flows_execution_failed", "fn"),
        *("forms_submission_failed", "forms_submission_succeeded", "fpar", "fpurh", "fscim", "fui", "fv", "fvr"),
        *("gd_auth_email_verification", "gd_auth_failed", "gd_auth_rejected", "gd_auth_succeed"),
        *("gd_enrollment_complete", "gd_module_switch", "gd_otp_rate_limit_exceed", "gd_recovery_failed"),
        *("gd_recovery_rate_limit_exceed", "gd_recovery_succeed", "gd_send_email", "gd_send_email_verification"),
        *("gd_send_mail", "gd_send_pn", "gd_send_pn_failure", "gd_send_sms", "gd_send_sms_failure", "gd_send_voice"),
        *("gd_send_voice_failure", "gd_start_auth", "gd_start_enroll", "gd_start_enroll_failed", "gd_tenant_update"),
        *("gd_unenroll", "gd_update_device_account", "gd_user_delete", "gd_webauthn_challenge_failed"),
        *("gd_webauthn_enrollment_failed", "idjag_exchange_failed", "jwt_bearer_exchange_failed"),
        *("kms_key_management_failure", "kms_key_management_success", "kms_key_state_changed", "limit_delegation"),
        *("limit_phone", "limit_ui", "mfar", "mgmt_api_read", "my_account_authentication_method_failed"),
        *("my_account_authentication_method_succeeded", "oidc_backchannel_logout_failed"),
        *("oidc_backchannel_logout_succeeded", "organization_member_added", "passkey_challenge_failed"),
        *("passkey_challenge_started", "pla", "resource_cleanup", "rich_consents_access_error", "sapi", "sce", "scp"),
        *("scph", "scpn", "scpr", "scu", "scv", "sd", "sdel", "sdeleacft", "sdelsa", "sdu", "si", "slo", "srrt"),
        *("ss_sso_failure", "ss_sso_info", "ss_sso_success", "sscim", "sui", "sv", "svr", "sys_os_update_end"),
        *("sys_os_update_start", "sys_update_end", "sys_update_start", "ublkdu", "universal_logout_failed"),
        *("universal_logout_succeeded", "w", "wn", "wum"),
    }
)
"""The other codes of Auth0's documentation and of its log schemas, in 2026."""

_DECODE: Final = msgspec.json.Decoder(Envelope).decode
_DECODE_BATCH: Final = msgspec.json.Decoder(Batch).decode
_DECODE_DETAILS: Final = msgspec.json.Decoder(Details).decode
_ABSENT: Final = (b"", b"null", b'""', b"false")


def _read(raw: bytes, at: RecordTime) -> tuple[Event, ...] | UnknownType:
    envelope = _DECODE(raw)
    entry = envelope.detail or envelope.data or envelope
    item = getattr(entry, "data", None) or entry
    if item.type is None:
        raise BadRecordError("missing_field", "`type` is missing")
    code = CODES.get(item.type)
    if code is None:
        return () if item.type in IGNORED else UnknownType.of(item.type)
    time = from_text(item.date, at, "date")
    realm, client_id, user_id = item.tenant_name or None, item.client_id or None, item.user_id or None
    log_id = next((held for source in (envelope, entry, item) if (held := source.log_id or source.old_id)), None)
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


def auth0_logs(value: bytes | None, headers: Headers, at: RecordTime) -> list[Element]:
    """The adapter. The logs of `{"logs": […]}` are elements of their own."""
    if value is not None and b'"logs"' in value:
        try:
            batch = _DECODE_BATCH(value.removeprefix(BOM))
        except UNDECODABLE:
            batch = Batch()
        logs = bytes(batch.logs)
        if logs.startswith(b"["):
            return array_elements(_read, value, logs, at)
    return elements(_read, value, at)
