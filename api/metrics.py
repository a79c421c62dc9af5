"""Metrics of the api process. Figures about users and tokens are answers, never metrics."""

from __future__ import annotations

from time import perf_counter
from typing import Final, NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

# These would add a second series to each counter and histogram, which Prometheus does not use.
disable_created_metrics()  # type: ignore[no-untyped-call]

REGISTRY: Final = CollectorRegistry()

REQUESTS: Final = Counter(
    "authtally_api_requests",
    "Answered requests by dialect and status class.",
    ["dialect", "status"],
    registry=REGISTRY,
)
REQUEST_SECONDS: Final = Histogram(
    "authtally_api_request_seconds",
    "Seconds from a request's headers to its answer, without answers from this process's cache; by route and class.",
    ["dialect", "route", "status"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2),
    registry=REGISTRY,
)
IN_FLIGHT: Final = Gauge(
    "authtally_api_requests_in_flight",
    "Requests in progress for which this process had no answer ready.",
    registry=REGISTRY,
)
CACHE_ANSWERS: Final = Counter(
    "authtally_api_cache_answers",
    "Answers by source: hit, shared, miss (computed), stale (Redis unreachable), none (no answer).",
    ["source"],
    registry=REGISTRY,
)
LIVE_LISTENERS: Final = Gauge("authtally_api_live_listeners", "Open streams of live figures.", registry=REGISTRY)
CACHE_BYTES: Final = Gauge("authtally_api_cache_bytes", "Bytes of answers cached in this process.", registry=REGISTRY)
MERGED_PERIODS: Final = Counter(
    "authtally_api_merged_periods",
    "Closed periods that questions needed merged over all shards: hit (kept) or miss (read from the shards).",
    ["result"],
    registry=REGISTRY,
)
MERGED_BYTES: Final = Gauge(
    "authtally_api_merged_bytes", "Bytes of merged closed periods kept in this process.", registry=REGISTRY
)
ACCESS_REFUSALS: Final = Counter(
    "authtally_api_access_refusals",
    "Requests refused by access control: missing, oversize, refused, scope, realms, regions, session, policy, "
    "signature, unverifiable.",
    ["reason"],
    registry=REGISTRY,
)
REDIS_ERRORS: Final = Counter(
    "authtally_api_redis_errors",
    "Failed exchanges with Redis by store: ledger or cache.",
    ["store"],
    registry=REGISTRY,
)
EXPORTS: Final = Counter(
    "authtally_api_exports",
    "Exports to other regions: sketches, number (too few users for sketches), ids (samples of event ids).",
    ["kind"],
    registry=REGISTRY,
)
PEER_REQUESTS: Final = Counter(
    "authtally_api_peer_requests",
    "Requests to the apis of other regions by result: ok, timeout, connection, status, invalid, too_large, refused, "
    "open (not sent, because the last ones failed).",
    ["peer", "result"],
    registry=REGISTRY,
)
PEER_UP: Final = Gauge(
    "authtally_api_peer_up",
    "1 if the last exchange with a region succeeded and its figures are used, else 0.",
    ["peer"],
    registry=REGISTRY,
)
PEER_REFUSED: Final = Gauge(
    "authtally_api_peer_refused",
    "1 while a region's figures are refused, by reason; without a series for a reason that never occurred.",
    ["peer", "refusal"],
    registry=REGISTRY,
)
PEER_STAND_INS: Final = Counter(
    "authtally_api_peer_stand_ins",
    "Answers over regions that used an earlier export of a region, or had none of it: stand_in, missing.",
    ["peer", "state"],
    registry=REGISTRY,
)
PEER_KEPT_BYTES: Final = Gauge(
    "authtally_api_peer_kept_bytes", "Bytes of exports of other regions kept in this process.", registry=REGISTRY
)
INGEST_ELEMENTS: Final = Counter(
    "authtally_ingest_elements",
    "Elements received over HTTP by ingest route and result: accepted, ignored, rejected, unacknowledged (by Kafka).",
    ["way", "result"],
    registry=REGISTRY,
)
INGEST_REJECTIONS: Final = Counter(
    "authtally_ingest_rejections",
    "Rejected elements by ingest route and reason: the reasons of dead letters, realm, no_topic, unknown_field.",
    ["way", "reason"],
    registry=REGISTRY,
)
INGEST_REFUSALS: Final = Counter(
    "authtally_ingest_refusals",
    "Refused requests with events by ingest route and cause: access, media, body, slow, too_large, in_flight, "
    "rate, all_bad, kafka.",
    ["way", "cause"],
    registry=REGISTRY,
)
INGEST_PRODUCE_SECONDS: Final = Histogram(
    "authtally_ingest_produce_seconds",
    "Seconds from passing a request's events to the producer until Kafka has acknowledged them or failed to.",
    buckets=(0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=REGISTRY,
)
INGEST_UNDELIVERED: Final = Counter(
    "authtally_ingest_undelivered_records",
    "Records that Kafka did not acknowledge, by the producer's error name.",
    ["error"],
    registry=REGISTRY,
)
INGEST_IN_FLIGHT_BYTES: Final = Gauge(
    "authtally_ingest_in_flight_bytes", "Bytes of bodies held until Kafka acknowledges their events.", registry=REGISTRY
)


class _RouteMetrics(NamedTuple):
    requests: Counter
    seconds: Histogram


class Requests:
    """Measures a dialect's requests other than Hits: number, duration, concurrency."""

    under_way = 0
    """The sum over all dialects. An integer, because a Gauge is slower."""

    def __init__(self, dialect: str) -> None:
        self._dialect = dialect
        self._by: dict[tuple[str, int], _RouteMetrics] = {}

    def begin(self) -> float:
        """The start time, which the caller must pass to `end`, even if the request fails."""
        Requests.under_way += 1
        return perf_counter()

    def end(self, began: float, route: str, status: int) -> None:
        """`route` is the registered one, because paths are outside input."""
        Requests.under_way -= 1
        by = route, status // 100
        route_metrics = self._by.get(by)
        if route_metrics is None:
            status_class = f"{by[1]}xx"
            route_metrics = self._by[by] = _RouteMetrics(
                REQUESTS.labels(self._dialect, status_class), REQUEST_SECONDS.labels(self._dialect, route, status_class)
            )
        route_metrics.requests.inc()
        route_metrics.seconds.observe(perf_counter() - began)


IN_FLIGHT.set_function(lambda: Requests.under_way)


class Hits:
    """Ready answers of a dialect. An integer, because a Counter's lock costs a tenth of such an answer.

    `settle` adds it to REQUESTS and CACHE_ANSWERS.
    """

    __slots__ = ("_answers", "_requests", "_settled", "count", "dialect")

    def __init__(self, dialect: str) -> None:
        self.dialect = dialect
        self.count = 0
        self._settled = 0
        self._requests = REQUESTS.labels(dialect, "2xx")
        self._answers = CACHE_ANSWERS.labels("hit")

    def settle(self) -> None:
        grown, self._settled = self.count - self._settled, self.count
        self._requests.inc(grown)
        self._answers.inc(grown)


# Counters begin at 0: `increase()` ignores the first increment of a series that appears with 1.
for store in ("ledger", "cache"):
    REDIS_ERRORS.labels(store)
for source in ("hit", "shared", "miss", "stale", "none"):
    CACHE_ANSWERS.labels(source)
BUILD: Final = Gauge(
    "authtally_api_build_info", "Always 1; the label is the running version.", ["version"], registry=REGISTRY
)
PROCESS: Final = ProcessCollector(registry=REGISTRY)
GARBAGE: Final = GCCollector(registry=REGISTRY)
