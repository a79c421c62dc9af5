"""Our own events (`schemas.events`): one on a topic bound to it, or any that carry their `type`."""

from __future__ import annotations

from typing import Final

import msgspec

from schemas.adapters.elements import Adapter
from schemas.adapters.framing import ReadElement, adapter
from schemas.adapters.timestamps import checked_utc
from schemas.events import ANY, Event, RecordTime, read_native


def _read(name: str) -> ReadElement:
    def read(raw: bytes, at: RecordTime) -> tuple[Event, ...]:
        event = read_native(name, raw)
        time = checked_utc(event.time, at)
        return (event if time is event.time else msgspec.structs.replace(event, time=time),)

    return read


native: Final = adapter(_read(ANY))
"""Events of any type, each naming its own; what `POST /v1/events` and `publish` take."""


def bound_to(name: str) -> Adapter:
    """Events of one type (a key of `schemas.events.EVENTS`), which `type` need not repeat."""
    return adapter(_read(name))
