"""The version of the project that runs."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from typing import Final

RELEASED: Final = "2026-11-01"
"""The date of the last release, set by the release procedure. A clock that shows an earlier date is wrong."""


@lru_cache(maxsize=1)
def version() -> str:
    """The installed version; `0` if it runs from a folder that was never installed."""
    try:
        return installed("authtally")
    except PackageNotFoundError:
        return "0"
