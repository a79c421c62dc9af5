"""A pause after a store was unreachable, in which other requests do not wait for it again."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

RETRY_S: Final = 1.0


class Cooldown:
    def __init__(self, monotonic: Callable[[], float]) -> None:
        """`monotonic` is never set back; a wall clock set back would prolong the pause."""
        self._monotonic = monotonic
        self._until = -math.inf

    @property
    def active(self) -> bool:
        return self._monotonic() < self._until

    def start(self) -> None:
        self._until = self._monotonic() + RETRY_S
