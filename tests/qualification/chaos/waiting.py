"""Waiting for a fact, outside of any test."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

POLL_S: Final = 0.05


class LateError(Exception):
    """What was waited for did not come."""


def wait_for(fact: Callable[[], object], timeout_s: float, what: str | Callable[[], str]) -> float:
    """Seconds until `fact()` was true. Raises LateError, with `what` as of then, when it is not within `timeout_s`."""
    began = time.monotonic()
    while not fact():
        if time.monotonic() - began > timeout_s:
            raise LateError(f"not within {timeout_s:g} s: {what if isinstance(what, str) else what()}")
        time.sleep(POLL_S)
    return time.monotonic() - began
