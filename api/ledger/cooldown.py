"""After a store was found unreachable, a moment in which nobody else waits for it to be found so again."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

RETRY_S: Final = 1.0


class Respite:
    def __init__(self, steady: Callable[[], float]) -> None:
        """`steady` is never set back, as a wall clock may be: a store would count as away until that comes round."""
        self._steady = steady
        self._until = -math.inf

    @property
    def lasts(self) -> bool:
        return self._steady() < self._until

    def begin(self) -> None:
        self._until = self._steady() + RETRY_S
