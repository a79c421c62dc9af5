"""Turns of the event loop: long computations pause often, so that no other request waits for them."""

from __future__ import annotations

import asyncio
import time
import traceback
from typing import Final
from weakref import WeakKeyDictionary

TURN_S: Final = 0.002
"""Longest work between two pauses. A pause costs about 20 microseconds, so this costs a hundredth of the time."""

_began = 0.0
"""Monotonic time of the last pause of any task."""
_queues = WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock]()
"""By event loop: the computations that wait for their next turn, first come first served."""


async def pause() -> None:
    """Let other tasks run if TURN_S has passed since the last pause of any task. Cheap enough to call for each row.

    The loop polls for requests between the turns of two computations, however many there are.
    """
    global _began
    if time.monotonic() - _began > TURN_S:
        async with _queues.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
            await asyncio.sleep(0)
        _began = time.monotonic()


def release_frames(error: BaseException) -> None:
    """Drop the local variables of the functions through which an error came, such as the users of a wide question.

    Errors and frames refer to each other, so that otherwise only the garbage collector, which runs seldom, frees them.
    """
    each: BaseException | None = error
    while each is not None:
        traceback.clear_frames(each.__traceback__)
        each = each.__cause__ or each.__context__
