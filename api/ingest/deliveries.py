"""Converts a body to records. Each element is accepted whole, ignored, or rejected with its index."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import msgspec

from api.ingest.errors import BadBodyError, Rejection, TooLargeError
from api.ingest.event_ids import id_prefix, prefixed_id
from api.ingest.fast_path import decode_batch
from api.ingest.records import Records
from schemas.adapters.elements import Adapter, Headers
from schemas.adapters.native import native
from schemas.events import Event, OtpTokenState, RecordTime
from schemas.outgoing import Outgoing, UnboundError, outgoing
from schemas.settings import PREFIX

REALM: Final = "realm"
NO_TOPIC: Final = "no_topic"
TOO_OLD: Final = "too_old"
EXAMPLE: Final = '[{"type": "login", "time": "2026-11-20T12:00:00Z", "user_id": "7f9c24e5"}]'
SEPARATORS: Final = 64
"""The maximum average of commas and line ends per element. Real elements have ten to forty."""


class Delivery(NamedTuple):
    """The result of converting one body, before anything is sent to Kafka."""

    records: Records
    accepted: int
    ignored: int
    rejections: list[Rejection]


class Converter:
    """Converts bodies of one route to records of these topics. Events older than `max_age_days` are rejected."""

    def __init__(self, route: str, topics: Mapping[type[Event], str], max_events: int, max_age_days: int) -> None:
        """`route` becomes part of the event ids."""
        self._route = route
        self._prefix = id_prefix(route)
        self._topics = topics
        self._max_events = max_events
        self._max_age_days = max_age_days

    def convert(
        self, adapter: Adapter, body: bytes, headers: Headers, now_ms: int, realms: Collection[str] | None
    ) -> Delivery:
        """`realms` limits the sender; None is all realms. Raises TooLargeError, BadBodyError."""
        if adapter is native and realms is None:
            records = decode_batch(body, now_ms, self._oldest(now_ms), self._prefix, self._topics)
            if records is not None:
                if len(records) > self._max_events:
                    raise self._too_many()
                return Delivery(records, len(records), 0, [])
        return self._convert_each(adapter, body, headers, now_ms, realms)

    def _convert_each(
        self, adapter: Adapter, body: bytes, headers: Headers, now_ms: int, realms: Collection[str] | None
    ) -> Delivery:
        # Before decoding: a megabyte of `1,1,1,…` would become half a million elements, a hundred times its size.
        if body.count(b",") + body.count(b"\n") > self._max_events * SEPARATORS:
            raise self._too_many()
        elements = adapter(body, headers, RecordTime(now_ms))
        if not elements:
            raise BadBodyError(f"The body contains no event. Example: {EXAMPLE}")
        if len(elements) > self._max_events:
            raise self._too_many()
        topics, oldest = self._topics, self._oldest(now_ms)
        outgoing_records: list[tuple[int, Outgoing]] = []
        rejections: list[Rejection] = []
        accepted = ignored = 0
        for element in elements:
            index, events = element.index, element.events
            if element.bad is not None:
                rejections.append(_rejection(index, element.bad.reason, element.bad.detail))
                continue
            if not events:
                ignored += 1
                continue
            if any(event.time < oldest for event in events):
                rejections.append(_rejection(index, TOO_OLD, self._too_old()))
                continue
            try:
                events = tuple([self._own(event, realms) for event in events])
                # All events of an element or none: a partly sent element would go unnoticed.
                outgoing_records += [(index, outgoing(event, topics)) for event in events]
            except UnboundError as error:
                rejections.append(_rejection(index, NO_TOPIC, str(error)))
            except _OutsideRealmsError as error:
                rejections.append(_rejection(index, error.reason, str(error)))
            else:
                accepted += 1
        return Delivery(Records.from_outgoing(outgoing_records), accepted, ignored, rejections)

    def _own(self, event: Event, realms: Collection[str] | None) -> Event:
        """The event with an id of its sender's own. Raises _OutsideRealmsError."""
        if realms is not None:
            check_realm(event, realms)
        if event.id is None:
            return event
        prefix = self._prefix if realms is None else id_prefix(self._route, getattr(event, "realm", None))
        return msgspec.structs.replace(event, id=prefixed_id(prefix, event.id))

    def _oldest(self, now_ms: int) -> datetime:
        return datetime.fromtimestamp(now_ms / 1000, UTC) - timedelta(days=self._max_age_days)

    def _too_old(self) -> str:
        return (
            f"time is more than {self._max_age_days} days ago ({PREFIX}INGEST_MAX_AGE_DAYS); an operator can import "
            "older events with `authtally publish`"
        )

    def _too_many(self) -> TooLargeError:
        return TooLargeError(f"The body contains more than {self._max_events} events ({PREFIX}INGEST_MAX_EVENTS).")


class _OutsideRealmsError(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def _rejection(index: int, reason: str, detail: str) -> Rejection:
    return {"index": index, "reason": reason, "detail": detail}


def check_realm(event: Event, realms: Collection[str]) -> None:
    """Raises _OutsideRealmsError for an event that a sender limited to `realms` may not send."""
    if isinstance(event, OtpTokenState):
        # A serial has one state across all realms: this sender could move a token out of another realm.
        raise _OutsideRealmsError(REALM, "an OTP token state is accepted only with a token for all realms")
    if event.realm is None or event.realm not in realms:
        raise _OutsideRealmsError(REALM, "this token may not write to the event's realm")


def unacknowledged(records: Records, undelivered: Iterable[tuple[str, int]]) -> list[int]:
    """Indexes of the elements with an undelivered record; `undelivered` names records by topic and index."""
    return sorted({records.element_of[topic][index] for topic, index in undelivered})
