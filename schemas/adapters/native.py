"""Our own events (`schemas.events`): one on a topic bound to it, or any that carry their `type`."""

from __future__ import annotations

from typing import Final

import msgspec

from schemas.adapters.elements import Adapter
from schemas.adapters.instants import in_utc
from schemas.adapters.layouts import Read, adapter
from schemas.events import DECODERS, Event, check

_ANY: Final = msgspec.json.Decoder(Event)


def _read(decoder: msgspec.json.Decoder[Event]) -> Read:
    def read(raw: bytes, record_ms: int) -> tuple[Event, ...]:
        event = decoder.decode(raw)
        check(event)
        time = in_utc(event.time, record_ms)
        return (event if time is event.time else msgspec.structs.replace(event, time=time),)

    return read


native: Final = adapter(_read(_ANY))
"""Events of any type, each naming its own; what `POST /v1/events` and `publish` take."""


def bound_to(name: str) -> Adapter:
    """Events of one type (a key of `schemas.events.EVENTS`), which `type` need not repeat."""
    return adapter(_read(DECODERS[name]))
