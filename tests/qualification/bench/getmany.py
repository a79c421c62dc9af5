"""Arm: plain aiokafka, `getmany`, records dropped. The highest speed that the client allows."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import uvloop
from aiokafka import AIOKafkaConsumer

from tests.qualification.bench import sample
from tests.qualification.bench.measure import Stopwatch, report


async def consume(bootstrap: str, events: int, look: Callable[[str, list[Any]], object] = lambda _, __: None) -> None:
    """Read everything; `look` is given each batch and its topic."""
    consumer = AIOKafkaConsumer(
        sample.LOGINS, sample.TOKENS, bootstrap_servers=bootstrap, auto_offset_reset="earliest", group_id=None
    )
    await consumer.start()
    stopwatch = Stopwatch(os.getpid(), events)
    seen = 0
    try:
        while True:
            for tp, records in (await consumer.getmany(timeout_ms=1000)).items():
                look(tp.topic, records)
                seen += len(records)
            speed = stopwatch.saw(seen)
            if speed is not None:
                report(speed)
                return
    finally:
        await consumer.stop()


if __name__ == "__main__":
    uvloop.run(consume(sys.argv[1], int(sys.argv[2])))
