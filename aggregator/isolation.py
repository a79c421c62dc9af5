"""Isolation of unexpected records: a range is halved until the record on which its fold raises stands alone."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import structlog

from aggregator.fold.protocol import Fold
from aggregator.fold.range_delta import Record
from schemas.ledger.keys import Shard

log = structlog.get_logger(__name__)


class RangePieces:
    """The folds of what is left of a range, one piece after the other; true while anything is left."""

    def __init__(
        self, new_fold: Callable[[Sequence[Record], int], Fold[Any]], records: Sequence[Record], end: int
    ) -> None:
        """`new_fold` gets the records of a piece, and the offset after the piece."""
        self._new_fold = new_fold
        self._folds = [new_fold(records, end)]

    def __bool__(self) -> bool:
        return bool(self._folds)

    @property
    def current(self) -> Fold[Any]:
        return self._folds[-1]

    def isolate(self) -> Record | None:
        """The only record of the current piece; None if there were more, and the piece is halved."""
        records = self.current.records
        if len(records) == 1:
            return records[0]
        middle = len(records) // 2
        left, right = records[:middle], records[middle:]
        # The left half lies on top and is applied first: the right one needs its state.
        self._folds[-1:] = [self._new_fold(right, self.current.end), self._new_fold(left, right[0].offset)]
        return None

    def advance(self, position: int) -> None:
        """Everything before `position` is applied."""
        if position == self.current.end:
            self._folds.pop()
        else:
            self.current.advance(position)


def report_unexpected(shard: Shard, offset: int, error: Exception) -> None:
    """Log the defect that kept a record from being counted."""
    frames = [f"{Path(at.filename).name}:{at.lineno}:{at.name}" for at in traceback.extract_tb(error.__traceback__)]
    # Neither the message nor the value: both may contain user data.
    log.error("unexpected record", shard=shard.tag, offset=offset, error=type(error).__name__, frames=frames)
