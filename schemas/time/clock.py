"""The two clocks of a process, handed in wherever time is used."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Clock:
    """Seconds. An operator or NTP may set `now` back or forward at any time; `monotonic` only ever runs on.

    `now` is for what the outside compares too: a token's expiry, a period, an expiry in a shared cache. Durations and
    expiries inside this process go by `monotonic`.
    """

    now: Callable[[], float] = time.time
    """Since the Unix epoch."""
    monotonic: Callable[[], float] = time.monotonic
    """Since any moment."""


SYSTEM: Final = Clock()
