"""Slots for the ranges that are counted at the same time; they have nothing to do with the slots of Redis Cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


class Slot:
    """One of a semaphore's slots; other ranges may use it while this one waits for Kafka."""

    def __init__(self, slots: asyncio.Semaphore) -> None:
        self._slots = slots
        self._held = False

    async def acquire(self) -> None:
        """Safe to call while it is held."""
        if not self._held:
            await self._slots.acquire()
            self._held = True

    def release(self) -> None:
        """Safe to call while it is not held."""
        if self._held:
            self._held = False
            self._slots.release()

    async def released_during(self, waiting: Awaitable[T]) -> T:
        """Release the slot, await something that may take forever, and acquire the slot again."""
        self.release()
        result = await waiting
        await self.acquire()
        return result
