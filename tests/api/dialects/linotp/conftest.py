"""An api for LinOTP's clients, in both shapes, with the tokens of two realms."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from tests.api.conftest import Api, Clock, Serve
from tests.api.otp import state, write

NOW = "2016-07-27T12:00:00Z"
LOG = [
    state("2016-07-25T13:27:47Z", "1", "token_init", "realm1"),
    state("2016-07-25T13:27:47Z", "2", "token_init", "realm1", user_id="ada"),
    state("2016-07-25T13:27:54Z", "3", "token_tokenrealm", "realm2", "realm1"),
    state("2016-07-26T11:37:58Z", "1", "token_disable", "realm1", active=False),
    state("2016-07-26T13:00:10Z", "4", "token_init"),
]
NONE = "/:no realm:/"


@pytest.fixture(autouse=True)
def now(clock: Clock) -> None:
    clock.now = datetime.fromisoformat(NOW).timestamp()


@pytest.fixture
async def api(serve: Serve, redis_url: str) -> Api:
    await write(redis_url, LOG)
    return await serve(redis_url=redis_url)


@pytest.fixture
async def source(serve: Serve, redis_url: str) -> Api:
    await write(redis_url, LOG)
    return await serve(redis_url=redis_url, linotp_shape="source")


def error(answer: Any) -> tuple[int, str]:
    assert answer.status == 200, answer.text
    assert answer.json["result"]["status"] is False
    found = answer.json["result"]["error"]
    return found["code"], found["message"]
