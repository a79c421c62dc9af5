"""The worker with defects: certain records make its fold raise. Run as a program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from aggregator.__main__ import main
from aggregator.fold import event_fold, fold

UNEXPECTED: Final = b"a secret value"
OUT_OF_MEMORY: Final = b"more than there is"
DISK_FAILS: Final = b"an error of the machine"


def defective(name: str, records: Sequence[Any], end: int, known: Any, *more: Any) -> Any:
    for record in records:
        if record.offset in known.unexpected:
            continue
        if record.value == UNEXPECTED:
            raise ZeroDivisionError(record.value.decode())
        if record.value == OUT_OF_MEMORY:
            raise MemoryError
        if record.value == DISK_FAILS:
            raise OSError(record.value.decode())
    return fold.fold(name, records, end, known, *more)


if __name__ == "__main__":
    event_fold.__dict__["fold"] = defective
    main()
