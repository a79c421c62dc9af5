"""Arm: aiohttp and confluent-kafka and nothing else: sends each line of a body as it is, answers when Kafka has them.

Run by its path: it needs no package of ours.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import uvloop
from aiohttp import web
from confluent_kafka import Producer

POLL_S = 0.001


# Where a line's id stands: the key, so that records spread over partitions as in the other arm.
KEY = slice(-18, -2)


async def serve(port: int, path: str, properties: dict[str, Any], topic: str) -> None:
    producer: Any = Producer(properties)
    loop = asyncio.get_running_loop()

    async def take(request: web.Request) -> web.Response:
        lines = (await request.read()).split(b"\n")
        left, done = len(lines), loop.create_future()

        def result(error: Any, _: Any) -> None:
            nonlocal left
            left -= 1
            if error is not None:
                sys.exit(f"void: {error}")
            if not left:
                done.set_result(None)

        for line in lines:
            producer.produce(topic, line, line[KEY], on_delivery=result)
        await done
        return web.Response(status=202, body=b'{"accepted":%d}' % len(lines), content_type="application/json")

    async def poll() -> None:
        while True:
            producer.poll(0)
            await asyncio.sleep(POLL_S)

    app = web.Application()
    app.add_routes([web.post(path, take)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
    await poll()


if __name__ == "__main__":
    # A JSON file of path, the producer's properties and the topic.
    config = json.loads(Path(sys.argv[2]).read_text())
    uvloop.run(serve(int(sys.argv[1]), config["path"], config["properties"], config["topic"]))
