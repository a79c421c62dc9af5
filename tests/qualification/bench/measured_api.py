"""`python -m tests.qualification.bench.measured_api FILE`: the api, which writes its costs to FILE at its end.

The costs are the longest callback of the event loop in CPU milliseconds and the process's peak memory in bytes. With
`--uvloop` it runs on the loop of production, which shows no callbacks, so that only the memory is measured. With
`--patient` no question is given up, so that a busy machine changes no cost.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from asyncio import events
from pathlib import Path
from typing import Any

import uvloop

from api.__main__ import main
from api.cache import cache
from api.ledger import client
from tests.qualification.bench.measure import peak

PATIENCE_S = 120.0

longest_s = 0.0
"""The longest callback since `listening`: start-up imports modules, and answers no one."""


def measure_callbacks() -> None:
    run = events.Handle._run

    def measured(handle: Any) -> None:
        global longest_s
        started = time.thread_time()
        run(handle)
        longest_s = max(longest_s, time.thread_time() - started)

    events.Handle._run = measured  # type: ignore[method-assign, assignment]


def restart_measurement(*_: object) -> None:
    global longest_s
    longest_s = 0.0


if __name__ == "__main__":
    import signal

    if "--uvloop" not in sys.argv:
        measure_callbacks()
        uvloop.run = asyncio.run  # type: ignore[assignment]
    if "--patient" in sys.argv:
        cache.DEADLINE_S = client.TIMEOUT_S = PATIENCE_S  # type: ignore[misc]
    signal.signal(signal.SIGUSR1, restart_measurement)
    status = main(())
    # Not `ru_maxrss`: a process inherits that of the one which started it.
    Path(sys.argv[1]).write_text(json.dumps({"callback_ms": longest_s * 1000, "peak_bytes": peak(os.getpid())}))
    sys.exit(status)
