"""Names of hash fields and set members. Parts are quoted, so no label can forge another name."""

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
"""Kinds of account events without a success, so an attacker may have typed their fields, as in a failed login."""
FAILURE_REASONS: Final = (
    "invalid_credentials",
    "locked",
    "mfa_failed",
    "unspecified",
    "user_disabled",
    "user_not_found",
)
UNSPECIFIED: Final = "unspecified"
"""The reason of a failure without one."""

RESERVED: Final[dict[str, frozenset[str]]] = {
    "grant": frozenset(GRANTS),
    "token": frozenset(TOKEN_TYPES),
    "kind": frozenset(KINDS),
    "reason": frozenset(FAILURE_REASONS),
}
"""Words that always have their own counter and use no share."""

MAX_WORDS: Final = 100
"""Most reasons besides RESERVED in the counters of everything and of nodes; likewise grants, token types and kinds."""
REALM_WORDS: Final = 8
"""Reasons besides RESERVED that every realm can have in its own counters; likewise grants, token types and kinds."""
WORD_POOL: Final = 200
"""Further reasons of all realms together; likewise grants, token types and kinds."""
REALM_CLIENTS: Final = 16
"""Clients that every realm can make known. All realms together can make 2 * MAX_LABELS more known."""


@lru_cache(maxsize=65_536)
def _join(*parts: str) -> str:
    return "/".join(quote(part, safe=":") for part in parts)


@lru_cache(maxsize=65_536)
def split(field: str) -> tuple[str, ...]:
    """The parts from which a field or member was built."""
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
    """In labels: a realm, a client (realm and client_id), a node; or a word of a realm: grant, token, kind, reason.

    Format 1 has words without a realm, which are known to all realms.
    """
    return _join(dimension, *names)


def common_word(dimension: str, word: str) -> str:
    """In labels: a word in the counters of everything and of nodes."""
    return _join("all", dimension, word)


def share(member: str) -> str:
    """In shares: the group of a client or of a realm's word, by its member of labels: the dimension and the realm."""
    return member.rpartition("/")[0]


def refused(dimension: str, realm: str) -> str:
    """In shares: events that count under OTHER because the share of their realm has no room."""
    return _join("refused", dimension, realm)


def realm(name: str) -> str:
    """In the realms of an hour's ids: a realm; empty for events without one."""
    return _join(name)


# progress: consumed = counted + duplicates + ignored + dead, in events.
CONSUMED: Final = "consumed"
COUNTED: Final = "counted"
DUPLICATES: Final = "duplicates"
IGNORED: Final = "ignored"
LOST: Final = "lost"
"""In progress: offsets that retention deleted before they were read. Not part of consumed."""
UNTIMED: Final = "untimed"
"""In progress: records whose timestamp is not usable. They are also in consumed, and in the count of their result."""
FIRST_EVENT: Final = "first_event_ms"
LAST_EVENT: Final = "last_event_ms"
FIRST_RECORD: Final = "first_record_ms"
LAST_RECORD: Final = "last_record_ms"


def dead(reason: str) -> str:
    """In progress: dead letters by reason."""
    return _join("dead", reason)


UNKNOWN_TYPES: Final = "unknown_types"
"""In progress: number of unknown event types that have a field, at most MAX_UNKNOWN_TYPES."""
MAX_UNKNOWN_TYPES: Final = 100
"""Further unknown event types count together, under `unknown` of OTHER."""


def unknown(type_: str) -> str:
    """In progress: ignored elements by unknown event type; a part of IGNORED."""
    return _join("unknown", type_)


def overflowed(dimension: str) -> str:
    """In progress: events counted under OTHER because their label came after the limit."""
    return _join("overflowed", dimension)


# meta
def since(setting: str) -> str:
    """In meta: the position from which the present value of a setting holds, as an observation."""
    return _join("since", setting)


FORMAT: Final = "format"
"""In meta: the version of the layout."""

UNEXPECTED_ALLOWED: Final = "unexpected_allowed"
"""In meta: most unexpected records of the shard before its partition stops; ALLOWED_AT_FIRST if absent."""
ALLOWED_AT_FIRST: Final = 100

REMOVALS: Final = "removals"
"""In meta: number of steps that removed keys of realms. A worker whose cache is older must load the shard again.

`since(REMOVALS)` is the position at the last of them; a replay from before it counts the realm again.
"""

RESTORED: Final = "restored"
"""In meta: the snapshot from which the shard was restored."""

RESTORING: Final = 2**63 - 1
"""The position of a shard during its restore: no log reaches it, so no worker counts into a partial shard."""


# resent
def resent(topic_id: str, partition: int, reason: str) -> str:
    """In resent: partition of the dead-letter topic and reason; the topic id separates a recreated topic."""
    return _join(topic_id, str(partition), reason)


# written
FIRST: Final = "first_ms"
LAST: Final = "last_ms"

# imported: monthly figures of the whole deployment from elsewhere; a month (`2025-03`) and the figure's name.
ACTIVE: Final = "active"
SOURCE: Final = "source"


def imported(month: str, *names: str) -> str:
    """`names` is ACTIVE, SOURCE (the figures' source as text), or the parts of a counts field."""
    return _join(month, *names)


# ids: the other fields are hours since the Unix epoch, each with its number of ids.
EVICTED_BEFORE: Final = "given_up_before"
"""In ids: the first hour from which no id was evicted by the size limit."""
EXCESS: Final = "excess"


def excess(name: str) -> str:
    """In ids: EVICTED_BEFORE or an hour of the ids beyond their realm's share."""
    return _join(EXCESS, name)


# observed: REFUSED is the number of refused scripts, STOPPED a text; the other fields are "<number> <Unix ms>".
STOPPED: Final = "stopped"
"""In observed: why the worker that has the partition does not read it; empty if it does."""
REFUSED: Final = "refused"
REFUSED_MS: Final = "refused_ms"
"""In observed: time of the last refused script."""
END: Final = "end"
STABLE_END: Final = "stable_end"


def observation(value: int, at_ms: int) -> str:
    return f"{value} {at_ms}"


def split_observation(text: str) -> tuple[int, int]:
    value, at_ms = text.split(" ")
    return int(value), int(at_ms)


# floors of an OTP realm's rows: the other fields are statuses, each with its first row that is not deleted.
FREED_CHUNKS: Final = "freed"
"""In floors: number of deleted chunks of rows, counted from the first."""
