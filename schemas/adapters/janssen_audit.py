"""The audit log of Janssen Auth Server and Gluu oxAuth (queue or file; a bridge sends it to Kafka).

A record is one whole message: the JSON that the server writes, or a log entry of its file, which has the log's prefix.
The log has no ids, grants or token types: a token request counts one access token, which every token answer contains,
under the grant `unknown`. For more detail publish native events from the server.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from schemas.adapters.elements import Adapter, Element, Headers, UnknownType
from schemas.adapters.framing import ReadElement, elements
from schemas.adapters.timestamps import Number, checked_from_ms, from_text
from schemas.events import AccountEvent, BadRecordError, Event, Login, RecordTime, TokenIssued, check


class Audited(Struct, frozen=True, gc=False, rename="camel"):
    action: str
    timestamp: Number | str | None = None
    client_id: str | None = None
    username: str | None = None
    success: bool | None = None
    is_success: bool | None = None
    """The documented name; the server writes `success`."""
    mac_address: str | None = None
    """The node's name, as in Janssen's own statistics."""


class Mapping(Enum):
    LOGIN = "a login, or a failed one"
    ACTIVITY = "activity of the user, but no login"
    TOKENS = "tokens"


Rules = dict[str, Mapping | str]

_COMMON: Final[Rules] = {
    "TOKEN_REQUEST": Mapping.TOKENS,
    "CLIENT_REGISTRATION": "client_registered",
    "CLIENT_UPDATE": "client_updated",
    "CLIENT_DELETE": "client_deleted",
}
BY_AUTHORIZATION: Final[Rules] = _COMMON | {
    "USER_AUTHORIZATION": Mapping.LOGIN,
    "SESSION_AUTHENTICATED": Mapping.ACTIVITY,
}
"""As documented: an authorization is a successful or failed login. A text is a kind of account event.

IGNORED has the other actions.
"""
BY_SESSION: Final[Rules] = _COMMON | {
    "USER_AUTHORIZATION": Mapping.ACTIVITY,
    "SESSION_AUTHENTICATED": Mapping.LOGIN,
}
"""The reverse: a login is an authenticated session, so one session for many clients is one login."""

IGNORED: Final = frozenset(
    {
        *("CLIENT_READ", "USER_INFO", "TOKEN_VALIDATE", "TOKEN_REVOCATION", "SSA_CREATE", "SSA_READ"),
        *("SESSION_UNAUTHENTICATED", "SESSION_DESTROYED"),
        # Their tokens have a TOKEN_REQUEST of their own.
        *("BACKCHANNEL_AUTHENTICATION", "BACKCHANNEL_DEVICE_REGISTRATION", "DEVICE_CODE_AUTHORIZATION"),
    }
)
"""The other actions of Janssen (its Action enumeration)."""

LOG_PREFIX: Final = re.compile(rb"\d{4}-\d\d-\d\d[ T][^\n]*? - (?=\{)")
"""The beginning of an entry of the audit file (its log4j2 pattern is `%d %-5p [%t] … - %m%n`), up to the message."""

_DECODE: Final = msgspec.json.Decoder(Audited).decode


def _reader(rules: Rules) -> ReadElement:
    def read(raw: bytes, at: RecordTime) -> tuple[Event, ...] | UnknownType:
        record = _DECODE(raw)
        mapping = rules.get(record.action)
        if mapping is None:
            return () if record.action in IGNORED else UnknownType.of(record.action)
        success = record.is_success if record.success is None else record.success
        if success is None:
            raise BadRecordError("missing_field", "`success` is missing")
        if not success and mapping is not Mapping.LOGIN:
            return ()
        timestamp = record.timestamp
        time = (
            from_text(timestamp, at, "timestamp")
            if isinstance(timestamp, str)
            else checked_from_ms(timestamp, at, "timestamp")
        )
        client_id, node = record.client_id or None, record.mac_address or None
        event: Event
        if mapping is Mapping.TOKENS:
            event = TokenIssued(
                time=time,
                grant_type="unknown",
                tokens=("access_token",),
                client_id=client_id,
                node=node,
                user_id=record.username or None,
            )
        elif isinstance(mapping, Mapping):
            event = Login(
                time=time,
                user_id=record.username or "",
                success=success,
                counted=mapping is Mapping.LOGIN,
                client_id=client_id,
                node=node,
            )
        else:
            event = AccountEvent(time=time, kind=mapping, client_id=client_id, user_id=record.username or None)
        return (check(event),)

    return read


def _adapter(rules: Rules) -> Adapter:
    read = _reader(rules)

    def adapt(value: bytes | None, headers: Headers, at: RecordTime) -> list[Element]:
        prefix = LOG_PREFIX.match(value) if value is not None else None
        if value is None or prefix is None:
            return elements(read, value, at)
        message = value[prefix.end() :]
        # A dead letter of a whole record contains it unchanged, with its prefix.
        return [replace(one, raw=value) if one.raw is message else one for one in elements(read, message, at)]

    return adapt


janssen_audit: Final = _adapter(BY_AUTHORIZATION)
janssen_audit_sessions: Final = _adapter(BY_SESSION)
