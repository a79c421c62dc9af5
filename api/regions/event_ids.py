"""A sample of the event ids of an hour, by which two regions find out whether one topic is counted in both.

The smallest digests of two sets are a fair sample of both (bottom-k sketch, Cohen and Kaplan 2007): equal sets have
equal samples, and sets without a common id share none.
"""

from __future__ import annotations

import heapq
import sys
from array import array
from typing import Final, NamedTuple

from api.ledger.client import Command
from api.ledger.ledger_statistics import LedgerStatistics
from api.ledger.status import HeldIds as HeldIds
from api.ledger.status import integer, is_date
from api.regions.wire import SMALLEST_IDS
from api.turns import pause
from schemas.ledger import fields

HOUR_S: Final = 3_600
ID_BYTES: Final = 8
MAX_BYTES: Final = 2**20
"""Most bytes of ids read of one shard: 131,072 ids, the first ones of the hour."""
AT_ONCE: Final = 8
"""Most shards whose ids are read together."""


class Sample(NamedTuple):
    """`hour` in hours since 1970, by record time; None if the ledger has no ids."""

    hour: int | None
    ids: int
    smallest: list[str]


async def sample(statistics: LedgerStatistics, hour: int | None, now: float) -> Sample:
    """The sample of an hour; without one of the last hour with ids that is over, or else of the newest."""
    shards = await statistics.shards()
    hours: dict[int, int] = {}
    for found in await statistics.run([("HGETALL", shard.ids) for shard in shards]):
        for name, count in found.items():
            number = integer(fields.split(name.decode(errors="replace"))[0])
            if number is not None and is_date(number * HOUR_S * 1000):
                hours[number] = hours.get(number, 0) + (integer(count.decode(errors="replace")) or 0)
    if hour is None:
        over = [number for number in hours if number < int(now) // HOUR_S]
        hour = max(over or hours, default=None)
    if hour is None or hour not in hours:
        return Sample(hour, 0, [])
    smallest: list[int] = []
    commands: list[Command] = [("GETRANGE", shard.ids_of(hour), 0, MAX_BYTES - 1) for shard in shards]
    for at in range(0, len(commands), AT_ONCE):
        for packed in await statistics.run(commands[at : at + AT_ONCE]):
            await pause()
            digests = array("Q", packed[: len(packed) // ID_BYTES * ID_BYTES])
            if sys.byteorder == "little":
                # Both regions must have one order, so the first byte is the highest.
                digests.byteswap()
            smallest = heapq.nsmallest(SMALLEST_IDS, {*smallest, *heapq.nsmallest(SMALLEST_IDS, digests)})
    return Sample(hour, hours[hour], [f"{digest:016x}" for digest in smallest])
