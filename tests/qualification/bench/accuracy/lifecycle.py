"""`python -m tests.qualification.bench.accuracy.lifecycle`: how often the figures' intervals contain the truth.

Simulates sites of 10 to a million users and computes every figure of `/v1/lifecycle` and `/v1/retention` by the
product's functions. Also compares the calculated standard errors with those of repeated simulations. Ends with 1 when a
goal is missed. The full run takes about four minutes of one core.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from api.ledger.lifecycle_figures import Figure
from tests.qualification.bench.accuracy.simulated_sites import (
    CURRENT,
    EARLIER,
    LATER,
    PREVIOUS,
    Groups,
    Sketches,
    Truth,
    figures,
    random_groups,
)

NORMAL_95: Final = 1.96
COVERAGE: Final = (0.93, 0.97)
"""The goal for intervals of `value` ± 1.96 standard errors."""
BELOW: Final = 0.95
"""The goal for the share of upper bounds that are above the truth."""
RATIO: Final = (0.9, 1.1)
"""The goal for the observed standard error, divided by the calculated one."""
SITES: Final = {4: 6000, 16: 6000}
TRIALS: Final = {4: 400, 16: 200}

SCENARIOS: Final[list[tuple[str, int, Groups]]] = [
    (
        "month, 2 M ever, 10,000 new",
        16,
        {
            EARLIER: 1_500_000,
            EARLIER | PREVIOUS: 290_000,
            EARLIER | PREVIOUS | CURRENT: 150_000,
            EARLIER | PREVIOUS | CURRENT | LATER: 50_000,
            CURRENT: 6_000,
            CURRENT | LATER: 4_000,
        },
    ),
    (
        "month, 2 M ever, 50,000 reactivated",
        16,
        {
            EARLIER: 1_400_000,
            EARLIER | PREVIOUS: 290_000,
            EARLIER | PREVIOUS | CURRENT | LATER: 200_000,
            EARLIER | CURRENT: 50_000,
            CURRENT: 30_000,
            CURRENT | LATER: 30_000,
        },
    ),
    (
        "realm, 200,000 ever, 2,000 new",
        4,
        {
            EARLIER: 150_000,
            EARLIER | PREVIOUS: 30_000,
            EARLIER | PREVIOUS | CURRENT: 8_000,
            EARLIER | PREVIOUS | CURRENT | LATER: 10_000,
            CURRENT: 1_000,
            CURRENT | LATER: 1_000,
        },
    ),
    (
        "realm, months of 20,000, 4,000 in both",
        4,
        {PREVIOUS: 14_000, PREVIOUS | EARLIER: 2_000, PREVIOUS | CURRENT | LATER: 4_000, CURRENT: 16_000},
    ),
    (
        "week, 2 M ever, 30,000 new",
        4,
        {
            EARLIER: 1_700_000,
            EARLIER | PREVIOUS: 100_000,
            EARLIER | PREVIOUS | CURRENT | LATER: 200_000,
            EARLIER | CURRENT: 60_000,
            CURRENT: 15_000,
            CURRENT | LATER: 15_000,
        },
    ),
]


class Outcome(NamedTuple):
    """A figure that was compared with the truth."""

    deviation: float | None
    """In standard errors; None for an upper bound."""
    error: float
    """Standard error in users; of a rate as its number."""
    right: bool
    """Whether the interval or the bound contains the truth."""


def outcome(truth: Truth) -> Outcome | None:
    """None for a figure that is certain or unknown."""
    figure = truth.figure
    if figure.value is None:
        bound = figure.fewer_than if isinstance(figure, Figure) else figure.less_than
        certain = isinstance(figure, Figure) or bound != 1
        return None if bound is None else Outcome(None, 0.0, truth.number < bound or not certain)
    if not figure.standard_error:
        return None
    error = figure.value * figure.standard_error
    deviation = (figure.value - truth.number) / error
    return Outcome(deviation, error, abs(deviation) <= NORMAL_95)


def simulate(parts: int, sites: int, seed: int, regions: int = 1) -> dict[str, list[Outcome]]:
    """The outcomes of random sites, by figure. Rates are compared only where their `retained` is shown.

    Each site has so many regions, whose users are separate.
    """
    chance = np.random.default_rng(seed)
    found: dict[str, list[Outcome]] = defaultdict(list)
    for _ in range(sites):
        sketches, groups = [], []
        for _ in range(regions):
            groups.append(random_groups(chance))
            sketches.append(Sketches(chance, groups[-1], parts))
        for truth in figures(sketches, groups):
            judged = outcome(truth)
            if judged is not None:
                found[truth.name].append(judged)
    return found


def summary(parts: int, outcomes: dict[str, list[Outcome]]) -> Iterator[dict[str, Any]]:
    """Shares of right intervals and bounds. An error below one user is a rare whole number, so it has its own share."""
    for name, all_of in outcomes.items():
        shown = [each for each in all_of if each.deviation is not None]
        bounds = [each for each in all_of if each.deviation is None]
        counted = [each for each in shown if each.error >= 1 or name.startswith("rate")]
        yield {
            "parts": parts,
            "figure": name,
            "shown": len(shown),
            "coverage": _share(shown),
            "of_more_than_a_user": len(counted),
            "coverage_of_more_than_a_user": _share(counted),
            "bounds": len(bounds),
            "below": _share(bounds),
        }


def _share(outcomes: list[Outcome]) -> float | None:
    return round(sum(each.right for each in outcomes) / len(outcomes), 4) if outcomes else None


def errors(seed: int, trials: dict[int, int]) -> Iterator[dict[str, Any]]:
    """Observed and calculated standard errors of fixed sites."""
    for name, parts, groups in SCENARIOS:
        chance = np.random.default_rng(seed)
        deviations: dict[str, list[float]] = defaultdict(list)
        calculated: dict[str, list[float]] = defaultdict(list)
        for _ in range(trials[parts]):
            for truth in figures([Sketches(chance, groups, parts)], [groups]):
                figure = truth.figure
                if figure.value is not None and figure.standard_error:
                    deviations[truth.name].append(figure.value - truth.number)
                    calculated[truth.name].append(figure.value * figure.standard_error)
        for figure_name, found in deviations.items():
            # A figure that is hidden in some trials would be judged by its high estimates.
            if len(found) == trials[parts]:
                observed, expected = float(np.std(found)), float(np.mean(calculated[figure_name]))
                yield {
                    "site": name,
                    "figure": figure_name,
                    "trials": len(found),
                    "observed": float(f"{observed:.4g}"),
                    "calculated": float(f"{expected:.4g}"),
                    "ratio": round(observed / expected, 3),
                }


def missed(rows: list[dict[str, Any]], compared: list[dict[str, Any]], slack: float = 0.0) -> list[str]:
    """The goals that are missed by more than `slack`."""
    found = []
    for row in rows:
        name = f"{row['figure']}, {row['parts']} parts"
        if not COVERAGE[0] - slack <= row["coverage_of_more_than_a_user"] <= COVERAGE[1] + slack:
            found.append(f"{name}: {row['coverage_of_more_than_a_user']:.1%} of the intervals contain the truth")
        if row["below"] is not None and row["below"] < BELOW:
            found.append(f"{name}: {row['below']:.1%} of the bounds are above the truth")
    found += [
        f"{row['figure']} of {row['site']}: ratio {row['ratio']}"
        for row in compared
        if not RATIO[0] <= row["ratio"] <= RATIO[1]
    ]
    return found


def show(rows: list[dict[str, Any]], console: Console) -> None:
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*map(str, row.values()))
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.qualification.bench.accuracy.lifecycle", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="write the figures here as JSON")
    given = parser.parse_args()
    began = time.process_time()
    rows = [row for parts, sites in SITES.items() for row in summary(parts, simulate(parts, sites, given.seed))]
    compared = list(errors(given.seed, TRIALS))
    console = Console(soft_wrap=True)
    show(rows, console)
    show(compared, console)
    not_met = missed(rows, compared)
    console.print(f"{time.process_time() - began:.0f} s of CPU time", *not_met, sep="\n")
    if given.out:
        given.out.write_text(json.dumps({"coverage": rows, "errors": compared, "missed": not_met}, indent=1) + "\n")
    sys.exit(1 if not_met else 0)


if __name__ == "__main__":
    main()
