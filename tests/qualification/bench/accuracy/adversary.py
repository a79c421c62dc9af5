"""An enemy who knows Redis's hash: 16,384 ids, one for each register, each of a rank that one in a billion has."""

from __future__ import annotations

import itertools
import math
from typing import Any, Final

import numpy as np

from schemas.ledger.accuracy import standard_error
from schemas.ledger.scopes import EVERYTHING
from tests.qualification.bench.accuracy.grid import MONTHS, OTHERS, ids, rmse
from tests.qualification.bench.accuracy.ledger import MONTH, NODE, one_shard
from tests.qualification.bench.accuracy.sketches import (
    MULTIPLIER,
    REDIS_HIGHEST,
    REDIS_LOG2M,
    REDIS_M,
    REDIS_SEED,
    SHIFT,
    U8,
    U64,
    before_last_block,
    murmur64a,
    ranks,
    rows,
)

RANK: Final = 30
HONEST: Final = 100_000
"""Users who are there before the crafted ids come."""
RUN: Final = 90_002
TRIES: Final = 1 << 17
LENGTH: Final = 16
INFLATION_GOAL: Final = 100
SIGMAS: Final = 3


def craft(seed: int = 1) -> list[str]:
    """Ids of 16 printable characters, one for each register, each of `RANK`.

    The first half is chosen, the second computed backwards from the hash wanted; one in some three thousand comes out
    printable, so all are found in seconds.
    """
    chance = np.random.default_rng(seed)
    found: dict[int, str] = {}
    # From below: bits that name the register, RANK - 1 zeros, a one; whatever stands above is free.
    free = 64 - REDIS_LOG2M - RANK
    while len(found) < REDIS_M:
        missing = np.setdiff1d(np.arange(REDIS_M), np.fromiter(found, np.int64, len(found)))
        places = np.resize(missing, TRIES).astype(np.uint64)
        above = chance.integers(0, 1 << free, TRIES, dtype=np.uint64)
        wanted = above << np.uint64(64 - free) | np.uint64(1 << REDIS_LOG2M + RANK - 1) | places
        first = chance.integers(ord("a"), ord("z") + 1, (TRIES, 8), dtype=np.uint8)
        last = before_last_block(_after(first), wanted)
        ascii_only = np.flatnonzero(last & np.uint64(0x8080808080808080) == 0)
        tails = last[ascii_only].astype("<u8").view(np.uint8).reshape(-1, 8)
        printable = ((tails > 32) & (tails < 127)).all(axis=1)
        for at, tail in zip(ascii_only[printable], tails[printable], strict=True):
            found.setdefault(int(places[at]), (first[at].tobytes() + tail.tobytes()).decode("ascii"))
    return [found[place] for place in sorted(found)]


def _after(first: U8) -> U64:
    """MurmurHash64A's state after the first of two blocks."""
    multiplier = np.uint64(MULTIPLIER)
    block = first.view("<u8")[:, 0].astype(np.uint64) * multiplier
    block ^= block >> SHIFT
    return (np.uint64(REDIS_SEED ^ (LENGTH * MULTIPLIER & (1 << 64) - 1)) ^ block * multiplier) * multiplier


async def run(redis_url: str, secrets: int) -> dict[str, Any]:
    """Crafted ids after honest users: a plain PFADD of ids beside ours under as many different secrets."""
    crafted = craft()
    hashes = murmur64a(rows(crafted), REDIS_SEED)
    if set(ranks(hashes, REDIS_LOG2M, REDIS_HIGHEST).tolist()) != {RANK} or len(set(crafted)) != REDIS_M:
        raise RuntimeError("void: the crafted ids are not what they should be")
    honest = ids(RUN, 0, HONEST)
    errors: dict[str, list[float]] = {MONTHS: [], OTHERS: []}
    plain = {}
    for number in range(secrets):
        async with one_shard(redis_url, f"secret of deployment {number}") as shard:
            await shard.begin()
            if not number:
                plain = await _plain(shard.client, honest, crafted)
            await shard.add(honest)
            before = {arm: (await shard.active(scope)).count for arm, scope in ((MONTHS, EVERYTHING), (OTHERS, NODE))}
            await shard.replay(crafted, itertools.repeat(5_000))
            for arm, scope in ((MONTHS, EVERYTHING), (OTHERS, NODE)):
                after = (await shard.active(scope)).count
                errors[arm].append(after / (HONEST + REDIS_M) - 1)
                if not number:
                    plain |= {f"{arm} before": before[arm], f"{arm} after": after}
    ours = [
        {
            "arm": arm,
            "secrets": secrets,
            "before": plain.pop(f"{arm} before"),
            "after": plain.pop(f"{arm} after"),
            "rmse": rmse(errors[arm]),
            "largest": max(map(abs, errors[arm])),
            "standard_error": standard_error(MONTH, scope),
            # An rmse of few runs scatters by 1/√(2 runs) of itself.
            "met": rmse(errors[arm]) <= standard_error(MONTH, scope) * (1 + SIGMAS / math.sqrt(2 * secrets))
            and max(map(abs, errors[arm])) <= (SIGMAS + 1) * standard_error(MONTH, scope),
        }
        for arm, scope in ((MONTHS, EVERYTHING), (OTHERS, NODE))
    ]
    inflation = plain["after"] / (HONEST + REDIS_M)
    return {
        "crafted": REDIS_M,
        "rank": RANK,
        "example": crafted[0],
        "users": HONEST + REDIS_M,
        "plain": {**plain, "inflation": inflation, "goal": INFLATION_GOAL, "met": inflation > INFLATION_GOAL},
        "ours": ours,
        "met": inflation > INFLATION_GOAL and all(arm["met"] for arm in ours),
    }


async def _plain(client: Any, honest: list[str], crafted: list[str]) -> dict[str, int]:
    """What a PFADD of the ids themselves counts, before and after."""
    counts = []
    for some in (honest, crafted):
        for start in range(0, len(some), 4_000):
            await client.pfadd("plain", *some[start : start + 4_000])
        counts.append(await client.pfcount("plain"))
    return dict(zip(("before", "after"), counts, strict=True))
