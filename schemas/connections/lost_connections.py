"""Connections that close while a client library writes to them, which it does not report as a connection error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


def is_lost_connection(error: RuntimeError | AttributeError) -> bool:
    """Whether uvloop raised it for a connection that the peer closed, or redis-py for one that it closed itself."""
    return "handler is closed" in str(error) or "'NoneType' object has no attribute 'write" in str(error)


@contextmanager
def raise_as(lost: Callable[[str], Exception]) -> Iterator[None]:
    """Convert such an error to `lost`, the library's own error for a lost connection."""
    try:
        yield
    except (RuntimeError, AttributeError) as error:
        if is_lost_connection(error):
            raise lost(str(error)) from error
        raise
