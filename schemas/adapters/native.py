"""Our own events (`schemas.events`): of one type on a topic bound to it, or of any type with a `type` field."""

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
"""Events of any type, each with its `type`, for `POST /v1/events` and `publish`."""


def bound_to(name: str) -> Adapter:
    """Events of one type (a key of `schemas.events.EVENTS`); their field `type` is optional."""
    return adapter(_read(name))
