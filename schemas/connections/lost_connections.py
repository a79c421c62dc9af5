"""Connections that end while a client library writes to them, and are not told as lost by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


def is_lost_connection(error: RuntimeError | AttributeError) -> bool:
    """Whether it is uvloop's for writing to what the other side has closed, or redis-py's for what it closed itself."""
    return "handler is closed" in str(error) or "'NoneType' object has no attribute 'write" in str(error)


@contextmanager
def raise_as(lost: Callable[[str], Exception]) -> Iterator[None]:
    """Raise the library's own error for a lost connection where it should have done so itself."""
    try:
        yield
    except (RuntimeError, AttributeError) as error:
        if is_lost_connection(error):
            raise lost(str(error)) from error
        raise
