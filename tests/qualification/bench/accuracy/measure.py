"""All accuracy figures as one plain value, made on real servers that are started and stopped here.

Ids, secrets and drawn registers are the same in every run, so the figures are too; only speeds differ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from deploy.demo.servers import Valkey
from tests.qualification.bench.accuracy import adversary, few, table
from tests.qualification.bench.accuracy.grid import (
    ARMS,
    DRAWN,
    GOALS,
    JAVA,
    MONTHS,
    ON_THE_WAY,
    OTHERS,
    Errors,
    Goal,
    draw,
    rank_of,
    ratio,
    real_runs,
    rmse,
)
from tests.qualification.bench.accuracy.ledger import one_shard
from tests.qualification.bench.accuracy.sketches import JAVA_BYTES

MILLION: Final = 1_000_000
ODD: Final = 0.001
"""A sample whose rmse ranks below this, or above one less this, is not of the distribution it is held against."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    runs: int
    """Real runs to 100,000 users."""
    million_runs: int
    ten_million_runs: int
    draws: int
    """Per number of users above."""
    users_per_server: int
    secrets: int
    """Deployments that the crafted ids meet."""


FULL: Final = Size(556, 20, 3, 2_000, MILLION, 20)
QUICK: Final = Size(40, 1, 0, 100, 50_000, 4)


async def measure(size: Size, say: Say, *, pipeline: bool = True) -> dict[str, Any]:
    """Everything; without `pipeline` all but the documents' table, which needs Apache Kafka.

    Raises RuntimeError, `void: …`, where a figure would not mean what it says.
    """
    errors = Errors()
    with Valkey() as store:
        async with one_shard(store.url) as shard:
            say(f"{size.runs} real runs to {ON_THE_WAY[-1]:,} users …")
            await real_runs(shard, range(size.runs), ON_THE_WAY, errors, package=True, say=_every(100, size.runs, say))
            for runs, users in ((size.million_runs, MILLION), (size.ten_million_runs, 10 * MILLION)):
                # Ids of their own: run numbers go on.
                first = 10_000 + users // MILLION * 1_000
                say(f"{runs} real runs to {users:,} users …")
                await real_runs(shard, range(first, first + runs), (users,), errors, package=False, say=lambda _: None)
            say("few users …")
            small = await few.run(shard, errors)
        say("an adversary …")
        crafted = await adversary.run(store.url, size.secrets)
        say(f"{size.draws} draws of each of {len(DRAWN)} numbers of users …")
        chance = np.random.default_rng(2026)
        for users in DRAWN:
            draw(chance, size.draws, users, errors)
        documents = None
        if pipeline:
            say(f"the documents' table, {table.SERVERS} servers of {size.users_per_server:,} users …")
            documents = await table.run(store, size.users_per_server, say)
    rows = _rows(errors)
    goals = [_goal(goal, rows) for goal in GOALS]
    checks = _checks(errors)
    return {
        "size": asdict(size),
        "documents": documents,
        "java_hll_bytes": JAVA_BYTES,
        "grid": rows,
        "goals": goals,
        "checks": checks,
        "sketches_equal_to_formula": errors.checked_sketches,
        "few": small,
        "adversary": crafted,
        "met": all(part["met"] for part in (*goals, *checks, small, crafted)),
    }


def _every(step: int, runs: int, say: Say) -> Callable[[int], None]:
    return lambda run: say(f"  {run + 1} of {runs}") if not (run + 1) % step else None


def _rows(errors: Errors) -> list[dict[str, Any]]:
    """One row a number of users: real where every run went there, else drawn."""
    rows = []
    for users in (*ON_THE_WAY, *(users for users in DRAWN if users > ON_THE_WAY[-1])):
        source, found = ("real", errors.real) if users <= ON_THE_WAY[-1] else ("drawn", errors.drawn)
        held = {arm: found[arm, users] for arm in ARMS if (arm, users) in found}
        rows.append(
            {
                "users": users,
                "way": source,
                "runs": len(held[JAVA]),
                "rmse": {arm: rmse(each) for arm, each in held.items()},
                "bias": {arm: float(np.mean(each)) for arm, each in held.items()},
                "ratio": {arm: ratio(held[arm], held[JAVA]) for arm in held if arm != JAVA},
            }
        )
    return rows


def _goal(goal: Goal, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Missed where a whole interval lies above the goal; `worst` is the row with the highest ratio."""
    asked = [(row["users"], *row["ratio"][goal.arm]) for row in rows if goal.least <= row["users"] <= goal.most]
    worst = max(asked, key=lambda found: found[1])
    return {
        **asdict(goal),
        "worst": dict(zip(("users", "ratio", "low", "high"), worst, strict=True)),
        "missed_at": [users for users, _, low, _ in asked if low > goal.ratio],
        "met": all(low <= goal.ratio for _, _, low, _ in asked),
    }


def _checks(errors: Errors) -> list[dict[str, Any]]:
    """What is drawn against what was run, and the model of java-hll against the figures that were published of it."""
    held = [
        (f"{arm}: real runs against draws, {users:,} users", errors.real[arm, users], errors.drawn[arm, users])
        for users in (ON_THE_WAY[-1], MILLION, 10 * MILLION)
        for arm in (MONTHS, OTHERS, JAVA)
        if errors.real[arm, users]
    ]
    union = table.DOCUMENTED[-1] / (10 * MILLION) - 1
    held += [
        ("java-hll: the documents' ten servers against draws", table.documented_errors(), errors.drawn[JAVA, MILLION]),
        ("java-hll: the documents' union against draws", [union], errors.drawn[JAVA, 10 * MILLION]),
    ]
    checks = []
    for name, found, drawn in held:
        rank = rank_of(found, drawn)
        checks.append(
            {
                "name": name,
                "runs": len(found),
                "rmse": rmse(found),
                "drawn_rmse": rmse(drawn),
                "rank": rank,
                # Of one run nothing is too near to the truth.
                "met": (rank >= ODD or len(found) == 1) and rank <= 1 - ODD,
            }
        )
    return checks
