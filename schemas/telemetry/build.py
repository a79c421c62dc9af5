"""Which version of the project runs."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from typing import Final

RELEASED: Final = "2026-11-01"
"""The day of the last release. A clock before it is wrong; the release procedure sets it."""


@lru_cache(maxsize=1)
def version() -> str:
    """As installed; `0` where it runs from a folder that was never installed."""
    try:
        return installed("authtally")
    except PackageNotFoundError:
        return "0"
