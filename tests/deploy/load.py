"""Counts logins into a ledger as fast as one process can, until it is killed: `python -m tests.deploy.load URL 0|1`.

With 1 each event has an id, all of one hour: a string that grows large and changes with every range.
"""

from __future__ import annotations

import asyncio
import sys
from itertools import count

from schemas.ledger.keys import Shard
from tests.aggregator.counting import Counting
from tests.aggregator.logs import record

RANGE = 28
LATE_MS = 1_800_000_000_000


async def main(url: str, *, ids: bool) -> None:
    async with Counting(url, Shard("auth.logins", 3), exact_up_to=400, dedupe_max_ids=10_000_000) as counting:
        await counting.open()
        for start in count(0, RANGE):
            records = [
                record(
                    offset,
                    {"time": f"2026-11-{1 + offset % 28:02}T10:00:00Z", "user_id": f"user {offset % 5000}"}
                    | ({"id": f"event {offset}"} if ids else {}),
                    LATE_MS if ids else None,
                )
                for offset in range(start, start + RANGE)
            ]
            await counting.count(records, start, start + RANGE)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], ids=sys.argv[2] == "1"))
