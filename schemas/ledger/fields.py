"""Names of hash fields and set members, each built and split side by side. Quoted parts: none can forge another."""

from __future__ import annotations

from functools import lru_cache
from typing import Final
from urllib.parse import quote, unquote

LOGIN: Final = "login"
"""In counts: successful logins."""

GRANTS: Final = (
    "authorization_code",
    "client_credentials",
    "implicit",
    "none",
    "password",
    "refresh_token",
    "unknown",
    "urn:ietf:params:oauth:grant-type:device_code",
    "urn:ietf:params:oauth:grant-type:jwt-bearer",
    "urn:ietf:params:oauth:grant-type:token-exchange",
    "urn:ietf:params:oauth:grant-type:uma-ticket",
    "urn:openid:params:grant-type:ciba",
)
TOKEN_TYPES: Final = ("access_token", "id_token", "logout_status_jwt", "refresh_token", "uma_token")
KINDS: Final = (
    "client_deleted",
    "client_registered",
    "client_updated",
    "leaked_password",
    "locked_out",
    "signup",
    "signup_failed",
)
FAILURE_KINDS: Final = frozenset({"leaked_password", "locked_out", "signup_failed"})
"""Kinds of account events that no success caused: their client is whatever was typed."""
FAILURE_REASONS: Final = (
    "invalid_credentials",
    "locked",
    "mfa_failed",
    "unspecified",
    "user_disabled",
    "user_not_found",
)
UNSPECIFIED: Final = "unspecified"
"""The reason of a failure that gives none."""

RESERVED: Final[dict[str, frozenset[str]]] = {
    "grant": frozenset(GRANTS),
    "token": frozenset(TOKEN_TYPES),
    "kind": frozenset(KINDS),
    "reason": frozenset(FAILURE_REASONS),
}
"""Words of the vocabulary that always have their own counter, whatever else came first."""

MAX_WORDS: Final = 100
"""Distinct reasons, grants, token types and kinds a shard keeps, each; RESERVED ones included."""


@lru_cache(maxsize=65_536)
def _join(*parts: str) -> str:
    return "/".join(quote(part, safe=":") for part in parts)


@lru_cache(maxsize=65_536)
def split(field: str) -> tuple[str, ...]:
    """The parts that a field or member was built from."""
    return tuple(unquote(part) for part in field.split("/"))


def failed(reason: str) -> str:
    """In counts: failed logins by reason."""
    return _join("failed", reason)


def token(grant_type: str, token_type: str) -> str:
    """In counts: tokens issued."""
    return _join("token", grant_type, token_type)


def account(kind: str) -> str:
    """In counts: account events."""
    return _join("account", kind)


def label(dimension: str, *names: str) -> str:
    """In labels: a realm, a client (realm and client_id), a node; or a word: grant, token, kind, reason."""
    return _join(dimension, *names)


# progress: consumed = counted + duplicates + ignored + dead, in events.
CONSUMED: Final = "consumed"
COUNTED: Final = "counted"
DUPLICATES: Final = "duplicates"
IGNORED: Final = "ignored"
LOST: Final = "lost"
"""In progress: offsets that retention deleted before they were read. Not part of consumed."""
UNTIMED: Final = "untimed"
"""In progress: records whose timestamp is not usable. They are part of consumed, and of whatever they became."""
FIRST_EVENT: Final = "first_event_ms"
LAST_EVENT: Final = "last_event_ms"
FIRST_RECORD: Final = "first_record_ms"
LAST_RECORD: Final = "last_record_ms"


def dead(reason: str) -> str:
    """In progress: dead letters by reason."""
    return _join("dead", reason)


def overflowed(dimension: str) -> str:
    """In progress: events counted under OTHER because their label came after the limit."""
    return _join("overflowed", dimension)


# meta
def since(setting: str) -> str:
    """In meta: from which position the present value of a setting holds, as an observation."""
    return _join("since", setting)


FORMAT: Final = "format"
"""In meta: the version of the layout."""

UNEXPECTED_ALLOWED: Final = "unexpected_allowed"
"""In meta: how many unexpected records the shard may hold before its partition stops; ALLOWED_AT_FIRST if absent."""
ALLOWED_AT_FIRST: Final = 100

RESTORED: Final = "restored"
"""In meta: the snapshot that the shard was restored from."""

RESTORING: Final = 2**63 - 1
"""The position of a shard that is being restored: no log reaches there, so that no worker counts into half of it."""


# resent
def resent(topic_id: str, partition: int, reason: str) -> str:
    """In resent: a partition of the dead-letter topic, and a reason; of a topic made anew nothing is resent yet."""
    return _join(topic_id, str(partition), reason)


# written
FIRST: Final = "first_ms"
LAST: Final = "last_ms"

# imported: monthly figures of the whole deployment that were counted elsewhere; a month (`2025-03`) and what it tells.
ACTIVE: Final = "active"
SOURCE: Final = "source"


def imported(month: str, *names: str) -> str:
    """`names` is ACTIVE, SOURCE (where the figures are from, as text), or the parts of a counts field."""
    return _join(month, *names)


# ids: the others are hours since the Unix epoch, with the number of ids held.
EVICTED_BEFORE: Final = "given_up_before"
"""In ids: the first hour of which no id was given up for want of room."""

# observed: a number of refused scripts; the others are "<number> <Unix ms>".
REFUSED: Final = "refused"
REFUSED_MS: Final = "refused_ms"
"""In observed: when the last script was refused."""
END: Final = "end"
STABLE_END: Final = "stable_end"


def observation(value: int, at_ms: int) -> str:
    return f"{value} {at_ms}"


def split_observation(text: str) -> tuple[int, int]:
    value, at_ms = text.split(" ")
    return int(value), int(at_ms)


# floors of an OTP realm's rows: the others are statuses, each with the first row that is not deleted.
FREED_CHUNKS: Final = "freed"
"""In floors: chunks of rows that are gone, from the first on."""
