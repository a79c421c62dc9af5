"""Packed values in this process, bounded in bytes."""

from __future__ import annotations

from collections.abc import Hashable, ItemsView
from typing import Final, Generic, Protocol, TypeVar

OVERHEAD_BYTES: Final = 512
"""Of a value's key and objects, beside what is packed."""


class Packed(Protocol):
    @property
    def packed(self) -> bytes: ...


K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=Packed)


class PackedValues(Generic[K, V]):
    """Values by key, at most `max_bytes`, evicting the oldest use."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._values: dict[K, V] = {}
        self.bytes = 0
        self.get = self._values.get

    def items(self) -> ItemsView[K, V]:
        return self._values.items()

    def use(self, key: K) -> None:
        """Make this the newest use: eviction begins with the oldest."""
        self._values[key] = self._values.pop(key)

    def put(self, key: K, value: V) -> None:
        self.drop(key)
        self._values[key] = value
        self.bytes += len(value.packed) + OVERHEAD_BYTES
        while self.bytes > self._max_bytes:
            self.drop(next(iter(self._values)))

    def drop(self, key: K) -> None:
        value = self._values.pop(key, None)
        if value is not None:
            self.bytes -= len(value.packed) + OVERHEAD_BYTES
