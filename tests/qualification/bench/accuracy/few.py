"""Few users: counted one by one, what a user takes, what becoming many changes, and how the log was cut."""

from __future__ import annotations

import itertools
import random
from typing import Any, Final

from schemas.ledger.accuracy import standard_error
from schemas.ledger.scopes import EVERYTHING
from tests.qualification.bench.accuracy.grid import EXACT_UP_TO, MONTHS, OTHERS, Errors, ids, rmse
from tests.qualification.bench.accuracy.ledger import MONTH, NODE, OneShard

SIZES: Final = (1, 16, 64, 256, 512, 1_024, 2_048, 3_000, EXACT_UP_TO)
LEAST: Final = 256
"""Below so many users the sixteen keys themselves, 50 bytes each, weigh more than who is in them."""
CUT_USERS: Final = 6_000
CUTTINGS: Final = ("1", "7", "97", "1,000", "5,000", "by chance", "one piece")
RUN: Final = 90_001
"""Ids apart from the grid's."""


async def run(shard: OneShard, errors: Errors) -> dict[str, Any]:
    """`errors` are the grid's: the step from exact to estimated is measured in its real runs."""
    sizes = await _sizes(shard)
    promotion = await _promotion(shard)
    jumps = _jumps(errors)
    answers, same = await _cuttings(shard)
    return {
        "sizes": sizes,
        "promotion": promotion,
        "jumps": jumps,
        "cuttings": answers,
        "same_for_any_cutting": same,
        "met": same
        and promotion["met"]
        and all(size["exact"] for size in sizes)
        and all(8 <= size["memory_per_user"] <= 16 for size in sizes if size["users"] >= LEAST)
        and all(jump["met"] for jump in jumps),
    }


async def _sizes(shard: OneShard) -> list[dict[str, Any]]:
    await shard.begin()
    found, before = [], 0
    for users in SIZES:
        await shard.add(ids(RUN, before, users))
        before = users
        answer = await shard.active(EVERYTHING)
        integers, encodings = await shard.small_bytes(EVERYTHING)
        found.append(
            {
                "users": users,
                "exact": answer.count == users and answer.standard_error == 0,
                "encodings": sorted(encodings),
                "bytes": integers,
                "bytes_per_user": integers / users,
                "memory": (memory := await shard.bytes_of(EVERYTHING)),
                "memory_per_user": memory / users,
            }
        )
    return found


async def _promotion(shard: OneShard) -> dict[str, Any]:
    """One user more: in a range that is refused nothing moves, in one that is applied all of them move at once."""
    more = ids(RUN, EXACT_UP_TO, EXACT_UP_TO + 1)
    before = shard.contents()
    refused = await shard.add_from_elsewhere(more) and shard.contents() == before
    await shard.add(more)
    left, _ = await shard.small_bytes(EVERYTHING)
    answer = await shard.active(EVERYTHING)
    return {
        "refused_range_moves_nothing": refused,
        "bytes_left_in_sets": left,
        "memory": await shard.bytes_of(EVERYTHING),
        "count": answer.count,
        "standard_error": answer.standard_error,
        "met": refused and not left and answer.standard_error > 0,
    }


def _jumps(errors: Errors) -> list[dict[str, Any]]:
    """One user more than are exact: the answer moves by the estimate's error, which must not exceed the stated one."""
    found = []
    for arm, scope in ((MONTHS, EVERYTHING), (OTHERS, NODE)):
        # One user more is no error.
        jumps = errors.real[arm, EXACT_UP_TO + 1]
        stated = standard_error(MONTH, scope)
        found.append(
            {
                "arm": arm,
                "runs": len(jumps),
                "rmse": rmse(jumps),
                "largest": max(map(abs, jumps)),
                "standard_error": stated,
                "met": rmse(jumps) <= stated,
            }
        )
    return found


async def _cuttings(shard: OneShard) -> tuple[list[dict[str, Any]], bool]:
    """The same log in ranges of other lengths: fold, script and answer, and all that the store holds."""
    users = ids(RUN, 0, CUT_USERS)
    answers, states = [], []
    for name in CUTTINGS:
        chance = random.Random(3)
        cuts = {
            "by chance": (chance.randint(1, 900) for _ in itertools.count()),
            "one piece": itertools.repeat(CUT_USERS),
        }.get(name) or itertools.repeat(int(name.replace(",", "")))
        await shard.begin()
        await shard.replay(users, cuts)
        months, others = await shard.active(EVERYTHING), await shard.active(NODE)
        answers.append({"ranges_of": name, MONTHS: months.count, OTHERS: others.count})
        states.append(shard.contents())
    return answers, all(state == states[0] for state in states)
