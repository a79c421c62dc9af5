"""The two clocks of a process, passed to all code that uses time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Clock:
    """Seconds. An operator or NTP may set `now` back or forward at any time; `monotonic` never goes back.

    Use `now` for times shared with others: a token's expiry, a period, an expiry in a shared cache. Use `monotonic`
    for durations and expiries inside this process.
    """

    now: Callable[[], float] = time.time
    """Since the Unix epoch."""
    monotonic: Callable[[], float] = time.monotonic
    """Since an arbitrary moment."""


SYSTEM: Final = Clock()
