"""A native event on its way into Kafka: which topic, under which key, as which bytes. Ingest and `publish` share it."""

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
    """No topic of TOPICS carries this event; the text names the setting."""


class Outgoing(NamedTuple):
    topic: str
    key: bytes | None
    value: bytes


def topics_by_event(topics: Mapping[str, str]) -> dict[type[Event], str]:
    """Where each event goes: of several topics bound to it, the first. Adapter topics take no native event."""
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

    Equal ids must meet in one partition to be counted once, so the key is a digest of the id, which adapters build
    from source and id. An event without one has no key: nothing repeats it, and it may go to any partition. The state
    of an OTP token is keyed by its serial: who compacts such a topic keeps the latest state of each token.
    """
    topic = topics.get(type(event))
    if topic is None:
        raise unbound_error(type(event))
    key = None if event.id is None else hashlib.blake2b(event.id.encode(), digest_size=KEY_BYTES).digest()
    if isinstance(event, OtpTokenState):
        key = event.serial.encode()
    return Outgoing(topic, key, _encode(event))
