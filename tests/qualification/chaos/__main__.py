"""`python -m tests.qualification.chaos --seed 7 --minutes 10 --out FILE`.

One run, a line per fault, its record at the end.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
from pathlib import Path
from typing import Any

from tests.qualification.chaos.arms import ARMS
from tests.qualification.chaos.faults import KINDS
from tests.qualification.chaos.fleet import is_fixed
from tests.qualification.chaos.run import Order, run


def sound(record: dict[str, Any]) -> bool:
    """Whether a run shows no loss, no double, and nothing else amiss."""
    verdict = record["verdict"]
    return not any(
        (
            *(verdict[name] for name in ("lost", "duplicated", "reported_lost", "differences")),
            *(record[name] for name in ("late", "kafka_or_producer_wrong", "dead_letters_missing")),
            record.get("dead_letters_not_due"),
            record["api"]["wrong"],
        )
    )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.qualification.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="same seed, same choices")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--faults", type=int, default=1_000_000, help="end after so many")
    parser.add_argument("--events", type=int, default=100_000_000, help="end after so many")
    parser.add_argument("--rate", type=int, default=20_000, help="events per second")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--kinds", default=",".join(sorted(KINDS)), help="of faults, separated by commas")
    parser.add_argument("--arm", choices=("worker", *ARMS), default="worker", help="what counts")
    parser.add_argument(
        "--older", default="", help="a tag, or seven or more digits of a commit: the version that runs beside this one"
    )
    parser.add_argument("--logs", type=Path, help="a new folder for what the workers wrote")
    parser.add_argument("--out", type=Path, help="where the record goes")
    given = parser.parse_args(arguments)
    kinds = given.kinds.split(",")
    if unknown := set(kinds) - set(KINDS):
        parser.error(f"no such faults: {', '.join(sorted(unknown))}; there are {', '.join(sorted(KINDS))}")
    if given.older and not is_fixed(given.older):
        parser.error(f"--older {given.older}: another run must find the same version; give a tag or a commit")
    order = Order(
        seed=given.seed,
        minutes=given.minutes,
        arm=given.arm,
        faults=given.faults,
        events=given.events,
        events_per_s=given.rate,
        kinds=kinds,
        older=given.older,
        workers=given.workers,
        logs=given.logs,
    )
    # So that what a run leaves on disk goes with it then too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    record = run(order, lambda line: print(line, flush=True))  # noqa: T201
    text = json.dumps(record, indent=1, ensure_ascii=False)
    if given.out:
        given.out.write_text(text + "\n", encoding="utf-8")
    shown = {name: value for name, value in record.items() if name != "log"}
    print(json.dumps(shown, indent=1, ensure_ascii=False))  # noqa: T201
    return 0 if sound(record) == (given.arm == "worker") else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
