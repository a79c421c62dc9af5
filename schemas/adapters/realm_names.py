"""Names for the realms of foreign records, some of which contain only the realm's id."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from schemas.adapters.elements import Adapter, Element, Headers
from schemas.events import Event, OtpTokenState, RecordTime


def naming_realms(adapter: Adapter, names: Mapping[str, str]) -> Adapter:
    """The adapter with each realm that is a key of `names` replaced by its value.

    The mapping is a setting and never learnt from records: otherwise figures would depend on the order of partitions.
    """
    if not names:
        return adapter

    def adapt(value: bytes | None, headers: Headers, at: RecordTime) -> list[Element]:
        return [_named(one, names) for one in adapter(value, headers, at)]

    return adapt


def _named(element: Element, names: Mapping[str, str]) -> Element:
    if not any(_name(event, names) for event in element.events):
        return element
    events = [replace(event, realm=name) if (name := _name(event, names)) else event for event in element.events]
    return replace(element, events=tuple(events))


def _name(event: Event, names: Mapping[str, str]) -> str | None:
    # A native state of an OTP token has several realms, by their names.
    if isinstance(event, OtpTokenState) or event.realm is None:
        return None
    return names.get(event.realm)
