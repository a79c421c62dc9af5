"""Fields of our own events that no event has: mostly misspelt ones, whose default then counts.

A login with `"sucess": false` is a successful one. Unknown fields are allowed, so this only finds them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import msgspec
from msgspec import Raw

from schemas.adapters.cloudevents import Data, cloudevents
from schemas.adapters.elements import Adapter
from schemas.adapters.native import native
from schemas.events import BOM, EVENTS, UNDECODABLE
from schemas.suggestions import closest

MAX_NAMES: Final = 5
MAX_NAME_CHARS: Final = 64
TYPE: Final = "type"

_OBJECT: Final = msgspec.json.Decoder(dict[str, Raw])
_TEXT: Final = msgspec.json.Decoder(str)
_KNOWN: Final = {name: frozenset(event.__struct_fields__) | {TYPE} for name, event in EVENTS.items()}
_KNOWN_NAMES: Final = sorted(frozenset[str]().union(*_KNOWN.values()))
_KNOWN_DATA: Final = frozenset(Data.__struct_fields__)


def _native_fields(raw: bytes) -> tuple[str, ...]:
    """The unknown fields of an event with its `type`; none for other bytes."""
    try:
        fields = _OBJECT.decode(raw.removeprefix(BOM))
        known = _KNOWN.get(_TEXT.decode(fields[TYPE]))
    except (*UNDECODABLE, KeyError):
        return ()
    return () if known is None else _unknown(fields, known)


def _cloud_event_fields(raw: bytes) -> tuple[str, ...]:
    """Those of the data: an envelope may have extension attributes. In binary mode `raw` is the data itself."""
    try:
        fields = _OBJECT.decode(raw.removeprefix(BOM))
        if "specversion" in fields:
            fields = _OBJECT.decode(fields["data"])
    except (*UNDECODABLE, KeyError):
        return ()
    return _unknown(fields, _KNOWN_DATA)


UNKNOWN_FIELDS: Final[dict[Adapter, Callable[[bytes], tuple[str, ...]]]] = {
    native: _native_fields,
    cloudevents: _cloud_event_fields,
}
"""By adapter. Products' own records have fields that we do not read."""


def _unknown(fields: Iterable[str], known: frozenset[str]) -> tuple[str, ...]:
    return tuple(name[:MAX_NAME_CHARS] for name in fields if name not in known)[:MAX_NAMES]


def describe(unknown: Iterable[str], *, suggest: bool = True) -> str:
    """One line for the sender; it has names, never values. A suggestion takes 0.1 ms per name."""
    parts = []
    for name in unknown:
        similar = closest(name, _KNOWN_NAMES) if suggest else ""
        parts.append(f"unknown field {name!r}" + (f", similar to {similar!r}" if similar else ""))
    return "; ".join(parts)
