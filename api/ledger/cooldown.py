"""A pause after a store was unreachable, in which other requests do not wait for it again."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

RETRY_S: Final = 1.0
TIMEOUTS: Final = 3
"""Timeouts or error replies in a row that start the pause: a single one concerns one request only."""


class Cooldown:
    def __init__(self, monotonic: Callable[[], float]) -> None:
        """`monotonic` is never set back; a wall clock set back would prolong the pause."""
        self._monotonic = monotonic
        self._until = -math.inf
        self._timeouts = 0

    @property
    def active(self) -> bool:
        return self._monotonic() < self._until

    def record_failure(self, error: BaseException) -> None:
        """Start the pause, for a timeout or an error reply only after TIMEOUTS of them.

        The subclasses of ResponseError concern the server: it is loading, a replica, or refuses our user.
        """
        self._timeouts += 1
        concerns_one = isinstance(error, RedisTimeoutError) or type(error) is ResponseError
        if not concerns_one or self._timeouts >= TIMEOUTS:
            self._until = self._monotonic() + RETRY_S

    def record_answer(self) -> None:
        """The store answered: earlier timeouts no longer count."""
        self._timeouts = 0
