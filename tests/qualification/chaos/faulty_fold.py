"""The worker with a fold that raises on demand. Run as a program: `python FILE SWITCH`.

It raises ValueError for a record whose value contains MARK, as a defect of one version would, and MemoryError for any
record once the file SWITCH exists. Imports nothing of the tests: an older version of the worker may run in it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Final

FAULTY: Final = str(Path(__file__))
MARK: Final = b"raises in the fold"


def raising(fold: Callable[..., Any], switch: Path) -> Callable[..., Any]:
    """A fold that raises for marked records, and for all once `switch` exists."""

    def folds(name: str, records: Any, end: int, known: Any, *others: Any) -> Any:
        if switch.exists():
            raise MemoryError("on demand")
        for record in records:
            if record.value is not None and MARK in record.value and record.offset not in known.unexpected:
                raise ValueError("on demand")
        return fold(name, records, end, known, *others)

    return folds


def main(switch: Path) -> None:
    from aggregator.__main__ import main as work

    try:
        caller = import_module("aggregator.fold.event_fold")
    except ImportError:
        # An older version of the worker.
        caller = import_module("aggregator.counting")
    caller.__dict__["fold"] = raising(caller.__dict__["fold"], switch)
    work()


if __name__ == "__main__":
    main(Path(sys.argv.pop()))
