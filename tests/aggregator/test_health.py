"""Liveness follows the poll loop, whatever Kafka and Redis do."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from asyncio import to_thread
from typing import Any

from aggregator.health import POLL_SILENCE_S, Health
from deploy.demo.servers import free_port
from deploy.demo.servers.process import HOST


async def test_a_worker_whose_poll_loop_is_silent_is_not_alive() -> None:
    port, now = free_port(), [100.0]
    health = Health(HOST, port, lambda: {"redis": ["no connection"]}, clock=lambda: now[0])
    await health.start()

    def ask() -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/health/live", timeout=5) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, json.load(refusal)

    try:
        now[0] += POLL_SILENCE_S - 1
        assert await to_thread(ask) == (200, {"alive": True, "polled_s_ago": POLL_SILENCE_S - 1})
        now[0] += 1
        assert await to_thread(ask) == (503, {"alive": False, "polled_s_ago": POLL_SILENCE_S})
        health.record_poll()
        assert await to_thread(ask) == (200, {"alive": True, "polled_s_ago": 0.0})
    finally:
        await health.stop()
