"""The worker with a defect: it fails on one record in a way that nobody foresaw. Run as a program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from aggregator import counting, fold
from aggregator.__main__ import main

FATAL: Final = b"what the defect is about"


def defective(name: str, records: Sequence[Any], *more: Any) -> Any:
    if any(record.value == FATAL for record in records):
        raise ZeroDivisionError
    return fold.fold(name, records, *more)


if __name__ == "__main__":
    counting.__dict__["fold"] = defective
    main()
