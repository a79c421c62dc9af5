"""Converts a body to records. Each element is accepted whole, ignored, or rejected with its index."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from api.ingest.errors import BadBodyError, ElementWarning, Rejection, TooLargeError
from api.ingest.event_ids import id_prefix, prefixed_id
from api.ingest.fast_path import decode_batch, raw_events
from api.ingest.records import Records
from schemas.adapters.elements import Adapter, Headers, count_unknown
from schemas.adapters.native import native
from schemas.events import Event, Login, OtpTokenState, RecordTime, TokenIssued
from schemas.outgoing import Outgoing, UnboundError, outgoing
from schemas.settings import PREFIX
from schemas.unknown_fields import UNKNOWN_FIELDS, describe

REALM: Final = "realm"
NO_TOPIC: Final = "no_topic"
TOO_OLD: Final = "too_old"
EXAMPLE: Final = '[{"type": "login", "time": "2026-11-20T12:00:00Z", "user_id": "7f9c24e5"}]'
UNKNOWN_FIELD: Final = "unknown_field"
MAX_WARNINGS: Final = 100
"""In one answer: a sender with a misspelt field has it in all its events."""
SEPARATORS: Final = 64
"""The maximum average of commas and line ends per element. Real elements have ten to forty."""


class Delivery(NamedTuple):
    """The result of converting one body, before anything is sent to Kafka."""

    records: Records
    accepted: int
    ignored: int
    rejections: list[Rejection]
    unknown: dict[str, int]
    """Ignored elements by unknown event type."""
    warnings: Sequence[ElementWarning] = ()


class Converter:
    """Converts bodies of one route to records of these topics.

    Events older than `max_age_days` are rejected; if `strict`, also events with unknown fields.
    """

    def __init__(
        self,
        route: str,
        topics: Mapping[type[Event], str],
        max_events: int,
        max_age_days: int,
        *,
        strict: bool = False,
    ) -> None:
        """`route` becomes part of the event ids."""
        self._route = route
        self._prefix = id_prefix(route)
        self._topics = topics
        self._max_events = max_events
        self._max_age_days = max_age_days
        self._strict = strict

    def convert(
        self, adapter: Adapter, body: bytes, headers: Headers, now_ms: int, realms: Collection[str] | None
    ) -> Delivery:
        """`realms` limits the sender; None is all realms. Raises TooLargeError, BadBodyError."""
        if adapter is native and realms is None:
            batch = decode_batch(body, now_ms, self._oldest(now_ms), self._prefix, self._topics)
            if batch is not None and (batch.exact or not self._strict):
                records = batch.records
                if len(records) > self._max_events:
                    raise self._too_many()
                warnings = () if batch.exact else _warnings(raw_events(body))
                return Delivery(records, len(records), 0, [], {}, warnings)
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
        topics, oldest, find_unknown = self._topics, self._oldest(now_ms), UNKNOWN_FIELDS.get(adapter)
        warnings: list[ElementWarning] = []
        outgoing_records: list[tuple[int, Outgoing]] = []
        rejections: list[Rejection] = []
        unknown: dict[str, int] = {}
        accepted = ignored = 0
        for element in elements:
            index, events = element.index, element.events
            if element.bad is not None:
                rejections.append(_rejection(index, element.bad.reason, element.bad.detail))
                continue
            if not events:
                ignored += 1
                if element.unknown is not None:
                    count_unknown(unknown, element.unknown)
                continue
            if any(event.time < oldest for event in events):
                rejections.append(_rejection(index, TOO_OLD, self._too_old()))
                continue
            fields: tuple[str, ...] = ()
            if find_unknown is not None and element.raw is not None and (self._strict or len(warnings) < MAX_WARNINGS):
                fields = find_unknown(element.raw)
            if fields and self._strict:
                detail = describe(fields, suggest=len(rejections) < MAX_WARNINGS)
                rejections.append(_rejection(index, UNKNOWN_FIELD, f"{detail} ({PREFIX}INGEST_STRICT)"))
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
                if fields:
                    warnings.append({"index": index, "detail": describe(fields)})
        return Delivery(Records.from_outgoing(outgoing_records), accepted, ignored, rejections, unknown, warnings)

    def _own(self, event: Event, realms: Collection[str] | None) -> Event:
        """The event with the sender's own id; without a node if it is limited to realms. Raises _OutsideRealmsError."""
        if realms is not None:
            check_realm(event, realms)
            if isinstance(event, (Login, TokenIssued)) and event.node is not None:
                # A node's figures, and the number of nodes that a shard knows, belong to all realms.
                event = msgspec.structs.replace(event, node=None)
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


def _warnings(raws: Iterable[msgspec.Raw]) -> list[ElementWarning]:
    """The first MAX_WARNINGS."""
    found = ((index, UNKNOWN_FIELDS[native](bytes(raw))) for index, raw in enumerate(raws))
    warned = ((index, unknown) for index, unknown in found if unknown)
    return [{"index": index, "detail": describe(unknown)} for index, unknown in islice(warned, MAX_WARNINGS)]


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
