"""`python -m tests.qualification.bench.accuracy`: measure, print, write JSON and SVG.

Ends with 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import sys
from pathlib import Path

from rich.console import Console

from tests.qualification.bench.accuracy.chart import draw
from tests.qualification.bench.accuracy.measure import FULL, QUICK, measure
from tests.qualification.bench.accuracy.show import show


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.qualification.bench.accuracy", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer runs and users: about a minute")
    parser.add_argument("--runs", type=int, help=f"real runs to 100,000 users (default {FULL.runs})")
    parser.add_argument("--draws", type=int, help=f"draws per number of users above (default {FULL.draws})")
    parser.add_argument("--without-pipeline", action="store_true", help="leave the documents' table out: no Kafka")
    parser.add_argument("--out", type=Path, default=Path("bench-accuracy.json"), help="figures; the curves lie beside")
    given = parser.parse_args()
    size = QUICK if given.quick else FULL
    size = dataclasses.replace(size, runs=given.runs or size.runs, draws=given.draws or size.draws)

    console = Console(soft_wrap=True)
    found = asyncio.run(measure(size, console.print, pipeline=not given.without_pipeline))
    show(found, console)
    given.out.write_text(json.dumps(found, indent=2))
    draw(found["grid"], given.out.with_suffix(".svg"))
    console.print(f"written: {given.out}, {given.out.with_suffix('.svg')}")
    sys.exit(0 if found["met"] else 1)


if __name__ == "__main__":
    main()
