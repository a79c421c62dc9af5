"""Requests for exports that are as large as allowed, repeat themselves, or arrive slowly."""

from __future__ import annotations

import asyncio
from datetime import date
from typing import Any

import pytest

from api.dialects.own import exports
from api.metrics import REDIS_ERRORS
from api.regions.peer import EXPORT_PATH
from deploy.demo.servers import Valkey
from tests.api.regions.conftest import Start
from tests.api.regions.test_threshold import export, logins
from tests.api.worker import count

DAYS = [date.fromordinal(739_000 + number).isoformat() for number in range(8_000)]
REPEATED: dict[str, Any] = {
    "unions": [{"periods": ["2026-10"] * 2, "scopes": ["all"] * 7_000}],
    "counts": {"periods": ["2026-10"] * 2, "scopes": ["all"] * 2},
    "times": ["2026-10-01"] * 500,
    "lifecycle": {"base": ["2026-08"] * 2, "periods": [["2026-09"], ["2026-10"] * 2], "scopes": ["all"] * 50},
    "retention": {"base": ["2026-08"] * 2, "periods": [["2026-10"] * 2], "max_age": 1, "scopes": ["all"] * 50},
}
ONCE: dict[str, Any] = {
    "unions": [{"periods": ["2026-10"], "scopes": ["all"]}],
    "counts": {"periods": ["2026-10"], "scopes": ["all"]},
    "times": ["2026-10-01"],
    "lifecycle": {"base": ["2026-08"], "periods": [["2026-09"], ["2026-10"]], "scopes": ["all"]},
    "retention": {"base": ["2026-08"], "periods": [["2026-10"]], "max_age": 1, "scopes": ["all"]},
}


async def test_what_a_request_may_have_is_answered(start: Start, stores: list[Valkey]) -> None:
    await count(stores[0].url, logins(range(20)))
    eu = (await start())["eu"]
    unions = [{"periods": DAYS[first : first + 500], "scopes": ["all"]} for first in range(0, len(DAYS), 500)]
    answer = await export(eu, {"unions": unions})
    assert (answer.status, len(answer.json["unions"])) == (200, len(unions))
    repeated, once = await export(eu, REPEATED), await export(eu, ONCE)
    assert (repeated.status, once.status) == (200, 200)
    assert {name: repeated.json[name] for name in ONCE} == {name: once.json[name] for name in ONCE}
    assert (await export(eu, {"times": ["2026-10-01\n"]})).status == 400


async def test_a_slow_body_is_no_failure_of_the_store(
    start: Start, stores: list[Valkey], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "BODY_TIMEOUT_S", 0.2)
    eu = (await start())["eu"]
    errors = REDIS_ERRORS.labels("ledger")._value.get()

    async def stalled() -> Any:
        yield b"{"
        await asyncio.sleep(60)

    async with eu.api._session.post(
        eu.api.url + EXPORT_PATH, data=stalled(), headers={"Authorization": "Bearer peer"}
    ) as response:
        assert response.status == 400
        assert "did not arrive within" in await response.text()
    assert REDIS_ERRORS.labels("ledger")._value.get() == errors
