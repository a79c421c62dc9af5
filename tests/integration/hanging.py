"""The worker with a defect, and with something that never ends when it stops. Run as a program with the kind of hang.

It fails on one record with an unexpected exception, as failing.py does.
"""

from __future__ import annotations

import asyncio
import ctypes
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from aggregator.__main__ import main
from aggregator.app import Worker
from aggregator.fold import event_fold
from aggregator.fold.event_fold import EventFold
from aggregator.kafka.consumer_thread import ConsumerThread
from tests.integration import failing

LONG_S: Final = 300


async def forever(*_: Any) -> None:
    await asyncio.Event().wait()


async def blocked(*_: Any) -> None:
    time.sleep(LONG_S)  # noqa: ASYNC251


async def with_the_lock(*_: Any) -> None:
    # PyDLL keeps the interpreter's lock: no other thread of Python runs.
    ctypes.PyDLL(None).sleep(LONG_S)


async def on_a_socket(*_: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        client.recv(1)


def a_thread_stays() -> None:
    threading.Thread(target=time.sleep, args=(LONG_S,)).start()


def never_folds() -> None:
    EventFold.load = forever  # type: ignore[method-assign, assignment]


def stop(how: Callable[..., Any]) -> Callable[[], None]:
    return lambda: setattr(Worker, "stop", how)


KINDS: Final[dict[str, Callable[[], None]]] = {
    "nothing": lambda: None,
    "awaits forever": stop(forever),
    "event loop blocked": stop(blocked),
    "interpreter lock kept": stop(with_the_lock),
    "socket that says nothing": stop(on_a_socket),
    "thread that is no daemon": a_thread_stays,
    "consumer's thread": lambda: setattr(ConsumerThread, "on_thread_stop", forever),
    "consumer's thread blocked": lambda: setattr(ConsumerThread, "on_thread_stop", blocked),
}

NEVER_FOLDS: Final = "a fold that never ends"

if __name__ == "__main__":
    event_fold.__dict__["fold"] = failing.defective
    (KINDS | {NEVER_FOLDS: never_folds})[sys.argv[1]]()
    main()
