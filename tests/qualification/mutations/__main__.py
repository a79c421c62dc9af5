"""Removes one guard at a time and runs the test that must notice: `make mutations`.

Exit status 0 only if every guard was missed by its test, and every text of a mutation was found.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import queue
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tests.qualification.mutations.catalogue import MUTATIONS
from tests.qualification.mutations.mutation import Mutation, StaleTextError
from tests.qualification.mutations.trees import ROOT, TEST_TIMEOUT_S, Outcome, Tree

CAUGHT: Final = "caught"
SURVIVED: Final = "survived"
NOT_FOUND: Final = "text not found"
ERROR: Final = "error"
LAST_LINES: Final = 30
TIMES: Final = 3.0
MORE_S: Final = 20.0
"""A test fails without the guard if it takes longer than TIMES its time with it, and MORE_S."""


@dataclass(frozen=True)
class Result:
    case: str
    why: str
    file: str
    test: str
    outcome: str
    seconds: float
    detail: str = ""
    """For people; empty if the mutation was caught."""


def main() -> int:
    options = _options()
    chosen = [
        mutation
        for mutation in MUTATIONS
        if not options.only or any(text in f"{mutation.case} {mutation.why} {mutation.file}" for text in options.only)
    ]
    began = time.monotonic()
    results = _run(chosen, options.jobs, unchecked=options.unchecked)
    if results is None:
        return 1
    print(_table(results))  # noqa: T201
    caught = sum(result.outcome == CAUGHT for result in results)
    minutes = (time.monotonic() - began) / 60
    print(f"{caught} of {len(results)} mutations caught, {minutes:.1f} minutes")  # noqa: T201
    if options.out:
        record = {"commit": _commit(), "machine": _machine(), "minutes": round(minutes, 1)}
        text = json.dumps(record | {"results": [asdict(result) for result in results]}, indent=1, ensure_ascii=False)
        options.out.write_text(text + "\n", encoding="utf-8")
    return int(caught < len(results))


def _run(chosen: Sequence[Mutation], jobs: int, *, unchecked: bool) -> list[Result] | None:
    """The results in order; None if a test fails with every guard in place."""
    with tempfile.TemporaryDirectory(prefix="authtally-mutations-") as folder, ThreadPoolExecutor(jobs) as pool:
        trees: queue.SimpleQueue[Tree] = queue.SimpleQueue()
        for number in range(jobs):
            trees.put(Tree(Path(folder) / str(number)))
        try:
            seconds = {} if unchecked else _run_unchanged(trees, pool, chosen, jobs)
            if seconds is None:
                return None
            limits = {test: TIMES * longest + MORE_S for test, longest in seconds.items()}
            return list(pool.map(lambda mutation: _try(trees, mutation, limits), chosen))
        except KeyboardInterrupt:
            # The running tests end first: their servers would stay.
            pool.shutdown(cancel_futures=True)
            raise


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make mutations", description=__doc__)
    parser.add_argument(
        "--only",
        nargs="+",
        default=(),
        metavar="TEXT",
        help="mutations with one of these texts in case, reason or file",
    )
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="mutations at the same time (2)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the record of the run to FILE")
    parser.add_argument("--unchecked", action="store_true", help="do not run the tests without a mutation first")
    return parser.parse_args()


def _run_unchanged(
    trees: queue.SimpleQueue[Tree], pool: ThreadPoolExecutor, chosen: Sequence[Mutation], jobs: int
) -> dict[str, float] | None:
    """The time of each test with every guard in place; None unless all pass: otherwise a failure shows nothing."""
    files: dict[str, set[str]] = {}
    for mutation in chosen:
        files.setdefault(mutation.test.partition("::")[0], set()).add(mutation.test)
    parts = [sorted(test for file in sorted(files)[number::jobs] for test in files[file]) for number in range(jobs)]

    def run(tests: Sequence[str]) -> Outcome:
        tree = trees.get()
        try:
            return tree.run(tests)
        finally:
            trees.put(tree)

    seconds: dict[str, float] = {}
    passed = True
    for outcome in pool.map(run, filter(None, parts)):
        seconds.update(outcome.seconds)
        if outcome.failed or outcome.error:
            passed = False
            print(outcome.output)  # noqa: T201
            print(f"without any mutation: {outcome.error or ', '.join(outcome.failed)}", file=sys.stderr)  # noqa: T201
    return seconds if passed else None


def _try(trees: queue.SimpleQueue[Tree], mutation: Mutation, limits: Mapping[str, float]) -> Result:
    limit_s = limits.get(mutation.test.partition("[")[0], TEST_TIMEOUT_S)
    tree, began = trees.get(), time.monotonic()
    outcome, detail = ERROR, ""
    try:
        with tree.mutated(mutation):
            found = tree.run([mutation.test], limit_s, stop_at_first=True)
    except StaleTextError as error:
        outcome, detail = NOT_FOUND, str(error)
    else:
        if found.failed:
            outcome = CAUGHT
        elif not found.error:
            outcome = SURVIVED
        else:
            detail = "\n".join([found.error, *found.output.splitlines()[-LAST_LINES:]])
    finally:
        trees.put(tree)
    seconds = round(time.monotonic() - began, 1)
    print(f"{outcome:9} {seconds:6.1f} s  {mutation.case}: {mutation.why}", flush=True)  # noqa: T201
    if detail:
        print(detail, flush=True)  # noqa: T201
    return Result(mutation.case, mutation.why, mutation.file, mutation.test, outcome, seconds, detail)


def _table(results: Sequence[Result]) -> str:
    lines = ["| case | guard | file | test | result | seconds |", "|---|---|---|---|---|--:|"]
    for result in results:
        test = result.test.removeprefix("tests/")
        lines.append(
            f"| {result.case} | {result.why} | `{result.file}` | `{test}` | {result.outcome} | {result.seconds:.1f} |"
        )
    return "\n".join(lines)


def _commit() -> str:
    found = subprocess.run(("git", "rev-parse", "--short", "HEAD"), cwd=ROOT, check=True, capture_output=True)
    return found.stdout.decode().strip()


def _machine() -> str:
    return f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main())
