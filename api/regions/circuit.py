"""The circuit of one peer: while it is open, no question waits for the peer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

FIRST_S: Final = 0.5
LONGEST_S: Final = 30.0


class Circuit:
    """Opens with each failure, longer each time. A probe in the background closes it after that time at the earliest.

    So a peer that answers probes but fails at questions stays open for most of the time, too.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._failures = 0
        self._until = -math.inf
        self._probed = True

    @property
    def is_open(self) -> bool:
        return not self._probed or self._monotonic() < self._until

    @property
    def wait_s(self) -> float:
        """The time until the next probe may close the circuit."""
        return max(0.0, self._until - self._monotonic())

    def record_failure(self) -> None:
        """Open, unless it is open already: the questions that were on their way together are one failure."""
        if self.is_open:
            return
        self._until = self._monotonic() + min(FIRST_S * 2**self._failures, LONGEST_S)
        self._failures = min(self._failures + 1, 16)
        self._probed = False

    def record_probe(self, *, answered: bool) -> None:
        if answered:
            self._probed = True
        elif self.is_open:
            self._until = max(self._until, self._monotonic() + FIRST_S)
        else:
            self.record_failure()

    def record_answer(self) -> None:
        """A question was answered: the next failure is the first one again."""
        self._failures = 0
