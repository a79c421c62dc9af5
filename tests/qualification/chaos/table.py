"""The recorded runs as Markdown, for docs/qualification-runs.md: `python -m tests.qualification.chaos.table`."""

from __future__ import annotations

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from tests.qualification.chaos.faults import KINDS

RUNS: Final = Path(__file__).with_name("runs")


def recorded(arm: str) -> list[dict[str, Any]]:
    """The records of an arm's runs, by seed."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in RUNS.glob(f"{arm}-*.json")]
    return sorted(found, key=lambda record: int(record["seed"]))


def runs(records: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "| run | minutes | faults | events | lost | duplicated | other differences |"
    yield "|---|--:|--:|--:|--:|--:|--:|"
    for record in records:
        yield _row(f"{record['arm']}, seed {record['seed']}", record["minutes"], [record])
    if len(records) > 1:
        yield _row("together", round(sum(record["minutes"] for record in records), 1), records)


def _row(name: str, minutes: float, records: Sequence[dict[str, Any]]) -> str:
    sums = [sum(record[what] for record in records) for what in ("faults", "events")]
    sums += [sum(record["verdict"][what] for record in records) for what in ("lost", "duplicated", "differences")]
    return f"| {name} | {minutes} | {' | '.join(f'{number:,}' for number in sums)} |"


def faults(records: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Each kind: what it is, how often it came, and the seconds until every shard moved on."""
    times: Counter[str] = Counter()
    recovered: dict[str, list[float]] = defaultdict(list)
    for record in records:
        times.update(record["faults_by_kind"])
        for kind, seconds in record["recovery_seconds"].items():
            recovered[kind] += seconds
    yield "| fault | times | timed | median | at most |"
    yield "|---|--:|--:|--:|--:|"
    for kind in sorted(KINDS):
        held = sorted(recovered[kind])
        shown = f"{len(held)} | {statistics.median(held):.1f} s | {held[-1]:.1f} s" if held else "0 | – | –"
        yield f"| {KINDS[kind].shown} | {times[kind]} | {shown} |"


def main() -> None:
    worker = recorded("worker")
    arms = [record for arm in ("no-compare", "plain-faust") for record in recorded(arm)]
    print("\n".join([*runs(worker), "", *runs(arms), "", *faults(worker)]))  # noqa: T201


if __name__ == "__main__":
    main()
