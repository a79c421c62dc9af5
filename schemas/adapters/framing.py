"""Splits records into elements: one JSON object, an array of objects, or one object per line (JSON Lines)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from schemas.adapters.elements import Adapter, Element, Headers, UnknownType
from schemas.events import BOM, REASONS, UNDECODABLE, BadRecordError, Event, RecordTime, undecodable

MAX_ELEMENTS: Final = 10_000
"""Most elements of a record: an array of this many 100-byte logs reaches Kafka's usual limit of 1 MB.

A record has one offset and is applied in one step; without this limit 1 MB of `[0,0,…` has half a million elements.
"""

ReadElement = Callable[[bytes, RecordTime], tuple[Event, ...] | UnknownType]
"""Converts one element, with its record's time, to checked events; to none if its type is ignored by name.

Raises BadRecordError, or what UNDECODABLE lists. The element may be any buffer that msgspec decodes.
"""

_ARRAY: Final = msgspec.json.Decoder(list[msgspec.Raw])
_ANYTHING: Final = msgspec.json.Decoder(msgspec.Raw)


def adapter(read: ReadElement) -> Adapter:
    """An adapter for a product whose records are JSON and need no headers."""

    def adapt(value: bytes | None, headers: Headers, at: RecordTime) -> list[Element]:
        return elements(read, value, at)

    return adapt


def elements(read: ReadElement, value: bytes | None, at: RecordTime) -> list[Element]:
    if value is None:
        return [bad_element(0, None, undecodable(None, None))]
    # Nearly all records are one valid object, so that is tried first; other framings only if it fails.
    try:
        return [_read_element(0, value, read(value, at))]
    except BadRecordError as bad:
        return [bad_element(0, value, bad)]
    except UNDECODABLE as error:
        if value.startswith(BOM):
            return _after_bom(read, value, at)
        try:
            parts = _split(value)
        except BadRecordError as bad:
            return [bad_element(0, value, bad)]
        if parts is None:
            return [bad_element(0, value, undecodable(value, error))]
    return [element(read, index, raw, at) for index, raw in enumerate(parts)]


def array_elements(read: ReadElement, value: bytes, array: bytes, at: RecordTime) -> list[Element]:
    """The elements of `array`, a JSON array inside of the record `value`."""
    try:
        parts = _split(array)
    except BadRecordError as bad:
        return [bad_element(0, value, bad)]
    return [element(read, index, raw, at) for index, raw in enumerate(parts or ())]


def _after_bom(read: ReadElement, value: bytes, at: RecordTime) -> list[Element]:
    without = value[len(BOM) :]
    if without.startswith(BOM):
        return [bad_element(0, value, BadRecordError("not_json", REASONS["not_json"]))]
    found = elements(read, without, at)
    # A dead letter of a whole record contains it unchanged, with its BOM.
    return [replace(one, raw=value) if one.raw is without else one for one in found]


def element(read: ReadElement, index: int, raw: bytes, at: RecordTime) -> Element:
    try:
        return _read_element(index, raw, read(raw, at))
    except BadRecordError as bad:
        return bad_element(index, raw, bad)
    except UNDECODABLE as error:
        return bad_element(index, raw, undecodable(raw, error))


def _read_element(index: int, raw: bytes, found: tuple[Event, ...] | UnknownType) -> Element:
    return Element(index, raw, found) if isinstance(found, tuple) else Element(index, raw, unknown=found.name)


def bad_element(index: int, raw: bytes | None, bad: BadRecordError) -> Element:
    # A traceback would keep its frames, and with them the record, in memory as long as the element.
    bad.__context__ = bad.__cause__ = None
    return Element(index, raw, (), bad.with_traceback(None))


def _split(value: bytes) -> Sequence[bytes] | None:
    """The elements of an array or of JSON Lines; None if `value` is neither. Raises BadRecordError for too many."""
    text = value.strip()
    if text.startswith(b"["):
        try:
            raws = _ARRAY.decode(text)
        except UNDECODABLE:
            return None
        _check_count(len(raws))
        return [bytes(raw) for raw in raws]
    if b"\n" not in text or _parses(text):
        # The line feeds, if any, come from pretty printing.
        return None
    found = [line for line in text.split(b"\n") if line.strip()]
    # One line with a complete object proves JSON Lines; lines that do not parse are bad elements.
    if not any(line.lstrip().startswith(b"{") and _parses(line) for line in found):
        return None
    _check_count(len(found))
    return found


def _parses(text: bytes) -> bool:
    try:
        _ANYTHING.decode(text)
    except UNDECODABLE:
        return False
    return True


def _check_count(number: int) -> None:
    if number > MAX_ELEMENTS:
        raise BadRecordError("too_long", f"the record has more than {MAX_ELEMENTS} elements")
