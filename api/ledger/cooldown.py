"""After a store was found unreachable, a moment in which nobody else waits for it to be found so again."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

RETRY_S: Final = 1.0


class Cooldown:
    def __init__(self, monotonic: Callable[[], float]) -> None:
        """`monotonic` is never set back, as a wall clock may be: a store would count as away until that comes round."""
        self._monotonic = monotonic
        self._until = -math.inf

    @property
    def active(self) -> bool:
        return self._monotonic() < self._until

    def start(self) -> None:
        self._until = self._monotonic() + RETRY_S
