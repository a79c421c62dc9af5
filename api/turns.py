"""Turns of the event loop: long computations pause often, so that no other request waits for them."""

from __future__ import annotations

import asyncio
import time
from typing import Final

TURN_S: Final = 0.005
"""Longest work between two pauses. A pause costs about 10 microseconds, so this costs a fifth of a percent."""

_began = 0.0
"""Monotonic time at which the running task had its last pause here, or another task had one later."""


async def pause() -> None:
    """Let other tasks run if TURN_S has passed since the last pause of any task. Cheap enough to call for each row."""
    global _began
    if time.monotonic() - _began > TURN_S:
        await asyncio.sleep(0)
        _began = time.monotonic()
