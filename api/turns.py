"""Turns of the event loop: long computations pause often, so that no other request waits for them."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable
from typing import Final, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

TURN_S: Final = 0.001
"""Longest work between two pauses. A pause costs about 30 microseconds, so this costs a thirtieth of the time."""
PASSES: Final = 3
"""Passes of the event loop in a pause: a cached answer needs three, from its request's arrival to its last byte."""

_began = 0.0
"""Monotonic time of the last pause of any task."""
_Queues = WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock]
_computations = _Queues()
"""By event loop: the computations that wait for their next turn, first come first served."""
_arrivals = _Queues()
"""The requests that wait for their first turn. They do not queue behind computations, which need many turns."""


async def pause() -> None:
    """Let other tasks run if TURN_S has passed since the last pause of any task. Cheap enough to call for each row.

    Between the turns of two computations, however many there are, the loop answers requests for cached answers.
    """
    if time.monotonic() - _began > TURN_S:
        await _next_turn(_computations)


async def arrive() -> None:
    """The same for a request that is not computed yet: many that arrive together start one after the other."""
    if time.monotonic() - _began > TURN_S:
        await _next_turn(_arrivals)


async def _next_turn(queues: _Queues) -> None:
    global _began
    async with queues.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
        for _ in range(PASSES):
            await asyncio.sleep(0)
    _began = time.monotonic()


async def freeing_locals(computation: Awaitable[T]) -> T:
    """The result of a computation. If it fails, its functions' local variables are dropped at once.

    These may be the users of a wide question. Errors and frames refer to each other, so that otherwise only the garbage
    collector, which runs seldom, frees them.
    """
    try:
        return await computation
    except BaseException as error:
        _clear_frames(error)
        raise


def _clear_frames(error: BaseException) -> None:
    each: BaseException | None = error
    while each is not None:
        traceback.clear_frames(each.__traceback__)
        each = each.__cause__ or each.__context__
