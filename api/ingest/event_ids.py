"""Event ids of ingest: prefixed, so that no sender can use up the ids of another.

The prefix names the route, and for a sender that is limited to realms the event's realm with its length. Without the
length, id `b/0` of realm `acme` would be id `0` of realm `acme/b`. Ids from Kafka and files have no prefix, so an event
that arrives over HTTP and from Kafka counts twice.
"""

from __future__ import annotations

import hashlib
from typing import Final

from schemas.events import MAX_ID_BYTES

DIGEST_BYTES: Final = 32
MAX_PREFIX_BYTES: Final = 320
"""A route and a realm of the greatest length."""


def id_prefix(route: str, realm: str | None = None) -> str:
    """`http:auth0:*:` for a sender of all realms, `http:native:4:acme:` for a sender limited to realms."""
    return f"http:{route}:*:" if realm is None else f"http:{route}:{len(realm)}:{realm}:"


def prefixed_id(prefix: str, event_id: str) -> str:
    """The id as it is sent to Kafka. An id that would exceed the limit is replaced by its digest."""
    found = prefix + event_id
    if len(found) * 4 > MAX_ID_BYTES and len(found.encode()) > MAX_ID_BYTES:
        return f"{prefix}#{hashlib.blake2b(event_id.encode(), digest_size=DIGEST_BYTES).hexdigest()}"
    return found
