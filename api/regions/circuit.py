"""The circuit of one peer: while it is open, no question waits for the peer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

TIMEOUTS: Final = 3
FIRST_S: Final = 0.5
LONGEST_S: Final = 30.0


class Circuit:
    """Opens at TIMEOUTS timeouts without an answer in between, or at once at another failure: one slow answer concerns
    one question only. A probe in the background closes it after a time, which grows until a question is answered; till
    then one more failure opens it again. So a peer that answers probes but no question is open for most of the time.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._failures = 0
        self._timeouts = 0
        self._until = -math.inf
        self._probed = True

    @property
    def is_open(self) -> bool:
        return not self._probed or self._monotonic() < self._until

    @property
    def wait_s(self) -> float:
        """The time until the next probe may close the circuit."""
        return max(0.0, self._until - self._monotonic())

    def record_failure(self, *, timeout: bool = False) -> None:
        """Open, unless it is open already: the questions that were on their way together are one failure."""
        if self.is_open:
            return
        self._timeouts += timeout
        if timeout and not self._failures and self._timeouts < TIMEOUTS:
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
        self._failures = self._timeouts = 0
