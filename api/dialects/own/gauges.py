"""`/v1/metrics`: figures of today, this week and this month as Prometheus gauges, for alerts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from api.cache.cache import ResponseBody
from api.dialects.own import otp_tokens
from api.dialects.own.m2m import M2mQuestion, Usage
from api.dialects.own.overview import measures
from api.inventory.inventory import Inventory
from api.ledger.distinct_query import ActiveUsers
from api.ledger.imported import month_of
from api.ledger.retention import is_kept
from api.ledger.statistics import Counts, Statistics
from api.ledger.status import PipelineStatus
from schemas.ledger import fields
from schemas.ledger.periods import Month, Span, Week, day_key

PATH: Final = "/v1/metrics"
METRICS: Final = "text/plain; version=0.0.4; charset=utf-8"


class Gauge(NamedTuple):
    """A gauge, with the labels and value of each of its samples."""

    name: str
    documentation: str
    samples: list[tuple[dict[str, str], float]]

    @classmethod
    def of(cls, family: Metric) -> Gauge:
        return cls(
            family.name, family.documentation, [(dict(each.labels), float(each.value)) for each in family.samples]
        )


class GaugeFigures(NamedTuple):
    """`partial`: nothing is counted of a period."""

    gauges: list[Gauge]
    partial: bool


@dataclass(frozen=True)
class GaugesQuestion:
    """Gauges, not counters: tomorrow's value may be lower than today's."""

    now: datetime
    m2m: M2mQuestion | None
    """None if counters by client are not kept."""
    inventory: Inventory

    @property
    def is_wide(self) -> bool:
        return False

    @property
    def key(self) -> str:
        return f"{self.now.date()} {self.m2m.key if self.m2m else ''}"

    async def read(self, statistics: Statistics, realms: Collection[str] | None) -> GaugeFigures:
        scopes = statistics.scopes_of(realms)
        status = await statistics.pipeline_status()
        periods = _periods(self.now.date(), status)
        every = list(dict.fromkeys(key for keys in periods.values() for key in keys))
        imported = await statistics.imported(realms)
        held = await statistics.find_periods(every)
        counted = await statistics.users.count([held.distinct_query(keys, scopes) for keys in periods.values()])
        users = {
            name: active if (month := month_of(keys, imported)) is None else ActiveUsers(month.active, math.nan)
            for (name, keys), active in zip(periods.items(), counted, strict=True)
        }
        counts = await statistics.sum_counts(held, every, scopes)
        families = [
            *_user_gauges(users),
            *_event_gauges(
                {
                    name: [counts[key] for key in keys]
                    if (month := month_of(keys, imported)) is None
                    else [month.counts]
                    for name, keys in periods.items()
                }
            ),
        ]
        newest = GaugeMetricFamily("authtally_newest_event_timestamp_seconds", "Unix time of the newest counted event.")
        if status.newest_event_ms is not None:
            newest.add_metric([], status.newest_event_ms / 1000)
        families.append(newest)
        if self.m2m is not None and status.keeps_dimension("counts_by", "client"):
            families += await self._quotas(self.m2m, statistics, realms)
        families += await otp_tokens.gauges(self.inventory, status, realms)
        if realms is None:
            # Partitions contain events of all realms.
            families += _pipeline(status)
        return GaugeFigures([Gauge.of(family) for family in families], not set(every) <= {*held.shards, *imported})

    async def _quotas(
        self, m2m: M2mQuestion, statistics: Statistics, realms: Collection[str] | None
    ) -> list[GaugeMetricFamily]:
        """Gauges of the tenant and of clients with a quota: the number of other clients has no bound."""
        labels = ["scope", "realm", "client_id"]
        names = {
            "used": GaugeMetricFamily(
                "authtally_m2m_tokens", "Client-credentials access tokens issued this month.", labels=labels
            ),
            "projected": GaugeMetricFamily(
                "authtally_m2m_tokens_projected",
                "Projection of authtally_m2m_tokens to the month's end, at the present rate.",
                labels=labels,
            ),
            "limit": GaugeMetricFamily(
                "authtally_m2m_tokens_limit", "Tokens that the quota allows per month.", labels=labels
            ),
        }
        usage = await m2m.usage(statistics, realms)
        rows: list[tuple[list[str], Usage]] = [(["tenant", "", ""], usage.tenant)]
        rows += [
            (["client", *client], used) for client, used in sorted(usage.clients.items()) if used.limit is not None
        ]
        for values, used in rows:
            row = used.as_document(m2m.elapsed)
            for name, family in names.items():
                if row[name] is not None:
                    family.add_metric(values, row[name])
        return list(names.values())


def _periods(today: date, status: PipelineStatus) -> dict[str, list[str]]:
    """The period keys of day, week and month; if no days are kept, of the month alone."""
    week, month = Span(Week.of(today).span.first, today), Month.of(today)
    periods = {"day": [day_key(today)], "week": week.covering(today), "month": [month.key]}
    return {name: keys for name, keys in periods.items() if is_kept(keys, status, today)}


def _user_gauges(users: Mapping[str, ActiveUsers]) -> list[Metric]:
    active = GaugeMetricFamily(
        "authtally_active_users", "Distinct active users of the day, week or month so far.", labels=["period"]
    )
    error = GaugeMetricFamily(
        "authtally_active_users_standard_error_ratio",
        "Relative standard error of authtally_active_users; 0 is exact, NaN unknown (an imported month).",
        labels=["period"],
    )
    for period, figure in users.items():
        active.add_metric([period], figure.count)
        error.add_metric([period], figure.standard_error)
    return [active, error]


def _event_gauges(counts: Mapping[str, Sequence[Counts]]) -> list[Metric]:
    logins = GaugeMetricFamily(
        "authtally_logins", "Logins of the day, week or month so far, by outcome.", labels=["period", "outcome"]
    )
    tokens = GaugeMetricFamily(
        "authtally_tokens",
        "Tokens issued in the day, week or month so far, all grant and token types.",
        labels=["period"],
    )
    signups = GaugeMetricFamily("authtally_signups", "Sign-ups of the day, week or month so far.", labels=["period"])
    for period, period_counts in counts.items():
        sums = Counter[str]()
        for each in period_counts:
            sums.update(measures(each))
        logins.add_metric([period, "success"], sums["logins"])
        logins.add_metric([period, "failure"], sums["failed_logins"])
        tokens.add_metric([period], sums["tokens"])
        signups.add_metric([period], sums["signups"])
    return [logins, tokens, signups]


def _pipeline(status: PipelineStatus) -> list[Metric]:
    """Gauges of records that were not counted normally, by partition. Invalid ledger numbers are left out."""
    labels = ["topic", "partition"]
    untimed = GaugeMetricFamily(
        "authtally_pipeline_untimed_records", "Records without a usable Kafka timestamp.", labels=labels
    )
    unexpected = GaugeMetricFamily(
        "authtally_pipeline_unexpected_records", "Records not counted because of a defect.", labels=labels
    )
    allowed = GaugeMetricFamily(
        "authtally_pipeline_unexpected_allowed",
        "Number of unexpected records beyond which the partition stops.",
        labels=labels,
    )
    dead = GaugeMetricFamily(
        "authtally_pipeline_dead_letters", "Dead letters of all time, by reason.", labels=[*labels, "reason"]
    )
    for shard in status.shards:
        label_values = [shard.keys.shard.topic, str(shard.keys.shard.partition)]
        found = [
            (untimed, label_values, shard.counter(fields.UNTIMED)),
            (unexpected, label_values, shard.unexpected),
            (allowed, label_values, shard.unexpected_allowed),
            *((dead, [*label_values, reason], count) for reason, count in shard.dead.items()),
        ]
        for family, values, value in found:
            if value is not None:
                family.add_metric(values, value)
    return [untimed, unexpected, allowed, dead]


class _FixedCollector:
    def __init__(self, gauges: Iterable[Gauge]) -> None:
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        for gauge in self._gauges:
            family = Metric(gauge.name, gauge.documentation, "gauge")
            for labels, value in gauge.samples:
                family.add_sample(gauge.name, labels, value)
            yield family


def render(figures: GaugeFigures) -> ResponseBody:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_FixedCollector(figures.gauges))
    return ResponseBody(generate_latest(registry), METRICS)
