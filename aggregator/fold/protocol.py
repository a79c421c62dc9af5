"""The interface between counting.py and the folds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from aggregator.fold.range_delta import RangeDelta, Record, ShardCache

CacheT_contra = TypeVar("CacheT_contra", bound=ShardCache, contravariant=True)


class Fold(Protocol[CacheT_contra]):
    """Folds one piece of a range, delta by delta: `load`, then `fold`, then `advance` once the delta is applied.

    `load` and `fold` raise whatever a record makes them raise.
    """

    @property
    def records(self) -> Sequence[Record]:
        """The records that are not applied yet."""

    @property
    def end(self) -> int:
        """The offset after the piece."""

    async def load(self, start: int, cache: CacheT_contra) -> bool:
        """Read into `cache` what the fold needs from the store. False if the shard no longer stands at `start`."""

    def fold(self, cache: CacheT_contra) -> RangeDelta:
        """The next delta. Pure; must follow `load`."""

    async def read_ahead(self) -> None:
        """Prepare the next delta while the store applies this one. Never raises."""

    def advance(self, position: int) -> None:
        """Forget the records before `position`: they are applied."""
