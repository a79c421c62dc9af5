"""Topic, key and bytes of a native event that is sent to Kafka; shared by ingest and `publish`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from schemas.events import EVENTS, Event, OtpTokenState
from schemas.settings import PREFIX

KEY_BYTES: Final = 16

_NAMES: Final = {event: name for name, event in EVENTS.items()}
_encode: Final = msgspec.json.Encoder().encode


class UnboundError(Exception):
    """TOPICS binds no topic to this event; the text names the setting."""


class Outgoing(NamedTuple):
    topic: str
    key: bytes | None
    value: bytes


def topics_by_event(topics: Mapping[str, str]) -> dict[type[Event], str]:
    """The topic of each event: the first one bound to it. Topics of adapters take no native events."""
    found: dict[type[Event], str] = {}
    for topic, name in topics.items():
        if name in EVENTS:
            found.setdefault(EVENTS[name], topic)
    return found


def unbound_error(event: type[Event]) -> UnboundError:
    name = _NAMES[event]
    return UnboundError(f"{PREFIX}TOPICS binds no topic to {name}: add TOPIC={name}")


def outgoing(event: Event, topics: Mapping[type[Event], str]) -> Outgoing:
    """`topics` is that of `topics_by_event`. Raises UnboundError.

    Equal ids must reach one partition to be counted once, so the key is a digest of the id, which adapters build
    from source and id. An event without an id has no key and may go to any partition. The state of an OTP token is
    keyed by its serial, so a compacted topic keeps the latest state of each token.
    """
    topic = topics.get(type(event))
    if topic is None:
        raise unbound_error(type(event))
    key = None if event.id is None else hashlib.blake2b(event.id.encode(), digest_size=KEY_BYTES).digest()
    if isinstance(event, OtpTokenState):
        key = event.serial.encode()
    return Outgoing(topic, key, _encode(event))
