"""What the ledger decides after a run: what is lost, what is counted twice, what differs at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from schemas.ledger import fields
from schemas.ledger.keys import Shard, ShardKeys
from schemas.ledger.scopes import EVERYTHING
from tests.integration.expected_counts import differences
from tests.integration.publishing import Expected
from tests.integration.sites import PREFIX

SHOWN = 5


@dataclass(frozen=True)
class Verdict:
    """Of the events that the logs hold. `reported_lost` are those that a shard itself says it could not read."""

    lost: int
    duplicated: int
    reported_lost: int
    differences: int
    examples: list[str]

    def __add__(self, other: Verdict) -> Verdict:
        return Verdict(
            self.lost + other.lost,
            self.duplicated + other.duplicated,
            self.reported_lost + other.reported_lost,
            self.differences + other.differences,
            self.examples + other.examples,
        )

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def judge(client: Any, expected: Mapping[Shard, Expected], ends: Mapping[Shard, int]) -> Verdict:
    """Compare every key of the store. Every shard must have come to its log's end."""
    lost = duplicated = result = 0
    for shard, wanted in expected.items():
        shard_keys = ShardKeys(PREFIX, shard)
        progress = client.hgetall(shard_keys.progress)
        result += int(progress.get(fields.LOST, 0))
        held = sum(
            (_numbers(client.hgetall(shard_keys.counts(period, EVERYTHING))) for period in _months(wanted)),
            Counter({fields.CONSUMED: int(progress.get(fields.CONSUMED, 0))}),
        )
        due = sum(
            (wanted.counts[period, EVERYTHING] for period in _months(wanted)),
            Counter({fields.CONSUMED: wanted.progress[fields.CONSUMED]}),
        )
        # An event may add to several counters; as one event it is the most of them.
        lost += max((due - held).values(), default=0)
        duplicated += max((held - due).values(), default=0)
    found = differences(client, expected, ends)
    return Verdict(lost, duplicated, result, len(found), [line[:160] for line in found[:SHOWN]])


def judge_totals(held: Mapping[str, int], expected: Mapping[Shard, Expected]) -> Verdict:
    """Of an arm that keeps nothing but totals by outcome."""
    due: Counter[str] = Counter()
    for wanted in expected.values():
        for period in _months(wanted):
            due += wanted.counts[period, EVERYTHING]
    have = Counter(dict(held))
    lost, more = (due - have).total(), (have - due).total()
    lines = [f"{name}: holds {have[name]}, published {due[name]}" for name in sorted(due) if have[name] != due[name]]
    return Verdict(lost, more, 0, len(lines), lines[:SHOWN])


def _months(wanted: Expected) -> list[str]:
    return sorted({period for period, scope in wanted.counts if scope == EVERYTHING and len(period) == 7})


def _numbers(held: Mapping[str, str]) -> Counter[str]:
    return Counter({name: int(value) for name, value in held.items()})
