"""What a sender is told when its body has been worked through, and what is counted of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import orjson
from aiohttp import hdrs, web

from api.ingest.deliveries import Delivery, unacknowledged
from api.ingest.errors import AllBad, Unacknowledged
from api.metrics import INGEST_ELEMENTS, INGEST_REJECTIONS

TAKEN: Final = {hdrs.CONTENT_TYPE: "application/json", hdrs.CACHE_CONTROL: "no-store"}
WAIT_FOR_KAFKA_S: Final = 5.0


class Answers:
    """Of one way in."""

    def __init__(self, way: str, timeout_s: float) -> None:
        self._way = way
        self._timeout_s = timeout_s
        # Looked up once: looking a label up costs as much as an event.
        self._accepted, self._ignored, self._rejected, self._unacknowledged = (
            INGEST_ELEMENTS.labels(way, result) for result in ("accepted", "ignored", "rejected", "unacknowledged")
        )

    def tell(self, delivery: Delivery, undelivered: Mapping[tuple[str, int], str]) -> web.Response:
        """The 202. Raises AllBad, Unacknowledged."""
        if delivery.ignored:
            self._ignored.inc(delivery.ignored)
        if delivery.rejections:
            self._rejected.inc(len(delivery.rejections))
            for rejection in delivery.rejections:
                INGEST_REJECTIONS.labels(self._way, rejection["reason"]).inc()
        if undelivered:
            raise self._refusal(delivery, undelivered)
        if delivery.rejections and not delivery.accepted and not delivery.ignored:
            raise AllBad("No event could be taken; `rejected` says why.", rejected=delivery.rejections)
        self._accepted.inc(delivery.accepted)
        told = {
            "accepted": delivery.accepted,
            "ignored": delivery.ignored,
            "rejected": delivery.rejections,
        }
        return web.Response(status=202, body=orjson.dumps(told), headers=TAKEN)

    def _refusal(self, delivery: Delivery, undelivered: Mapping[tuple[str, int], str]) -> Unacknowledged:
        missing = unacknowledged(delivery.records, undelivered)
        acknowledged = sorted({index for of in delivery.records.of.values() for index in of}.difference(missing))
        self._accepted.inc(len(acknowledged))
        self._unacknowledged.inc(len(missing))
        return Unacknowledged(
            f"Kafka did not acknowledge {len(missing)} of {delivery.accepted} events within {self._timeout_s:g} s. "
            "Send those in `unacknowledged` again; with an `id` each is counted once, however often it is sent.",
            wait_s=WAIT_FOR_KAFKA_S,
            accepted=len(acknowledged),
            ignored=delivery.ignored,
            rejected=delivery.rejections,
            acknowledged=acknowledged,
            unacknowledged=missing,
        )
