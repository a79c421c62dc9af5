"""Turns of the event loop: short requests pass between them, and what arrives together starts one after the other."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import Awaitable, Callable

import pytest

from api.turns import PASSES, TURN_S, arrive, freeing_locals, pause


def work() -> None:
    ends_at = time.monotonic() + 1.5 * TURN_S
    while time.monotonic() < ends_at:
        pass


@pytest.mark.parametrize("wait", [pause, arrive])
async def test_a_short_request_passes_between_two_turns(wait: Callable[[], Awaitable[None]]) -> None:
    turns, during = 0, list[int]()

    async def computation() -> None:
        nonlocal turns
        for _ in range(3):
            await wait()
            work()
            turns += 1

    async def short() -> None:
        for _ in range(5):
            before = turns
            # A cached answer: the request arrives, its handler starts, the answer is sent.
            for _ in range(PASSES):
                await asyncio.sleep(0)
            during.append(turns - before)
            await asyncio.sleep(TURN_S)

    work()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(20):
            tasks.create_task(computation())
        tasks.create_task(short())
    assert turns == 60
    assert max(during) <= 2, "not one turn of each computation"


async def test_an_arrival_does_not_queue_behind_computations() -> None:
    turns, waited = 0, -1

    async def computation() -> None:
        nonlocal turns
        for _ in range(3):
            await pause()
            work()
            turns += 1

    async def request() -> None:
        nonlocal waited
        work()
        before = turns
        await arrive()
        waited = turns - before

    work()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(20):
            tasks.create_task(computation())
        tasks.create_task(request())
    assert 0 <= waited <= 5


async def test_a_failed_computation_keeps_none_of_its_variables() -> None:
    class Users:
        pass

    kept: list[weakref.ref[Users]] = []

    async def read() -> None:
        users = Users()
        kept.append(weakref.ref(users))
        await asyncio.sleep(0)
        raise TimeoutError

    gc.disable()
    try:
        with pytest.raises(TimeoutError):
            await freeing_locals(read())
        assert kept[0]() is None
    finally:
        gc.enable()
