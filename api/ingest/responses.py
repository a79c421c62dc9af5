"""Responses to ingest requests, and the metrics of their elements."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import orjson
from aiohttp import hdrs, web

from api.ingest.deliveries import Delivery, unacknowledged
from api.ingest.errors import AllRejectedError, UnacknowledgedError
from api.metrics import INGEST_ELEMENTS, INGEST_REJECTIONS

ACCEPTED_HEADERS: Final = {hdrs.CONTENT_TYPE: "application/json", hdrs.CACHE_CONTROL: "no-store"}
WAIT_FOR_KAFKA_S: Final = 5.0


class DeliveryResponses:
    """The responses of one ingest route."""

    def __init__(self, source: str, timeout_s: float) -> None:
        self._source = source
        self._timeout_s = timeout_s
        # Resolved once: a label lookup costs as much as an event.
        self._accepted, self._ignored, self._rejected, self._unacknowledged = (
            INGEST_ELEMENTS.labels(source, result) for result in ("accepted", "ignored", "rejected", "unacknowledged")
        )

    def respond(self, delivery: Delivery, undelivered: Mapping[tuple[str, int], str]) -> web.Response:
        """The 202. Raises AllRejectedError, UnacknowledgedError."""
        if delivery.ignored:
            self._ignored.inc(delivery.ignored)
        if delivery.rejections:
            self._rejected.inc(len(delivery.rejections))
            for rejection in delivery.rejections:
                INGEST_REJECTIONS.labels(self._source, rejection["reason"]).inc()
        if undelivered:
            raise self._unacknowledged_error(delivery, undelivered)
        if delivery.rejections and not delivery.accepted and not delivery.ignored:
            raise AllRejectedError("No event was accepted; `rejected` gives the reasons.", rejected=delivery.rejections)
        self._accepted.inc(delivery.accepted)
        document: dict[str, object] = {
            "accepted": delivery.accepted,
            "ignored": delivery.ignored,
            "rejected": delivery.rejections,
        }
        if delivery.unknown:
            document["unknown"] = delivery.unknown
        if delivery.warnings:
            document["warnings"] = delivery.warnings
        return web.Response(status=202, body=orjson.dumps(document), headers=ACCEPTED_HEADERS)

    def _unacknowledged_error(
        self, delivery: Delivery, undelivered: Mapping[tuple[str, int], str]
    ) -> UnacknowledgedError:
        missing = unacknowledged(delivery.records, undelivered)
        acknowledged = sorted(
            {index for indexes in delivery.records.element_of.values() for index in indexes}.difference(missing)
        )
        self._accepted.inc(len(acknowledged))
        self._unacknowledged.inc(len(missing))
        return UnacknowledgedError(
            f"Kafka did not acknowledge {len(missing)} of {delivery.accepted} events within {self._timeout_s:g} s. "
            "Send those in `unacknowledged` again; an event with an `id` counts once, however often it is sent.",
            wait_s=WAIT_FOR_KAFKA_S,
            accepted=len(acknowledged),
            ignored=delivery.ignored,
            rejected=delivery.rejections,
            acknowledged=acknowledged,
            unacknowledged=missing,
        )
