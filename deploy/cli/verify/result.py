"""The result of verifying one shard, as data, as JSON and as printed lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from deploy.cli.operations import show_table
from deploy.cli.terminal import echo
from deploy.cli.verify.compare import Difference
from schemas.ledger.keys import Shard

MOST: Final = 100
"""Largest number of printed differences per shard and kind."""
AGREES: Final = 0
DIFFERS: Final = 1
BY_CLOCK: Final = 3
"""Exit status if every difference may be due to the clock that took part in counting."""


@dataclass
class Verified:
    """The result for one shard."""

    shard: Shard
    position: int | None = None
    replayed: int = 0
    keys: int = 0
    obstacle: str = ""
    """The reason for which the shard cannot be verified."""
    untimed: int = 0
    """Replayed records without a usable timestamp, as the ledger counted them."""
    impossible: int = 0
    """Events with an impossible time, as the ledger counted them."""
    differences: list[Difference] = field(default_factory=list)
    more: int = 0
    """Number of differences beyond MOST."""
    by_clock: list[Difference] = field(default_factory=list)
    """Differences that may be due to the clock by which untimed records were judged."""
    more_by_clock: int = 0

    @property
    def status(self) -> int:
        if self.obstacle or self.differences:
            return DIFFERS
        return BY_CLOCK if self.by_clock else AGREES

    @property
    def verdict(self) -> str:
        if self.obstacle:
            return self.obstacle
        found, by_clock = len(self.differences) + self.more, len(self.by_clock) + self.more_by_clock
        result = f"{found} keys differ" if found else "agrees"
        if by_clock:
            result += f"; {by_clock} keys depend on the clock"
        return result

    def add(self, difference: Difference, *, by_clock: bool) -> None:
        shown = self.by_clock if by_clock else self.differences
        if len(shown) < MOST:
            shown.append(difference)
        elif by_clock:
            self.more_by_clock += 1
        else:
            self.more += 1

    def as_document(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "topic": self.shard.topic,
            "partition": self.shard.partition,
            "position": self.position,
            "replayed": self.replayed,
            "keys": self.keys,
            "verdict": self.verdict,
            "untimed": self.untimed,
            "impossible_times": self.impossible,
            "depends_on_clock": [difference._asdict() for difference in self.by_clock],
            "more_depend_on_clock": self.more_by_clock,
            "differences": [difference._asdict() for difference in self.differences],
            "more_differences": self.more,
        }


def status_of(found: Sequence[Verified]) -> int:
    """The exit status for all shards; DIFFERS if there is none."""
    statuses = {each.status for each in found}
    return DIFFERS if DIFFERS in statuses or not found else max(statuses)


def print_results(found: Sequence[Verified]) -> None:
    show_table(
        ("topic", "partition", "position", "replayed", "untimed", "keys", ""),
        (
            (
                *each.shard,
                "-" if each.position is None else each.position,
                each.replayed,
                each.untimed,
                f"{each.keys:,}",
                each.verdict,
            )
            for each in found
        ),
    )
    for each in found:
        _print_differences(each.shard, each.differences, each.more)
        if each.by_clock:
            echo(
                f"{each.shard.tag}: {each.untimed} records had no usable timestamp and were judged by the clock; "
                f"{each.impossible} events had an impossible time. These keys may differ for this reason only:"
            )
        _print_differences(each.shard, each.by_clock, each.more_by_clock)
    if not found:
        echo("The ledger has no shard of these TOPICS.")


def _print_differences(shard: Shard, differences: Sequence[Difference], more: int) -> None:
    for difference in differences:
        echo(f"{shard.tag} {difference.key}: {difference.detail}")
    if more:
        echo(f"{shard.tag}: and {more} more")
