"""What starts the pause after a failure of the store."""

from __future__ import annotations

import pytest
from redis.exceptions import BusyLoadingError, NoPermissionError, ReadOnlyError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from api.ledger.cooldown import TIMEOUTS, Cooldown


@pytest.mark.parametrize("error", [RedisTimeoutError(), ResponseError("too many results to unpack")])
def test_a_failure_of_one_question_does_not_stop_the_others(error: Exception) -> None:
    cooldown = Cooldown(lambda: 0.0)
    for _ in range(3):
        for _ in range(TIMEOUTS - 1):
            cooldown.record_failure(error)
        assert not cooldown.active
        cooldown.record_answer()
    for _ in range(TIMEOUTS):
        cooldown.record_failure(error)
    assert cooldown.active, "no question is answered"


@pytest.mark.parametrize("error", [RedisConnectionError(), BusyLoadingError(), ReadOnlyError(), NoPermissionError()])
def test_a_failure_of_the_server_starts_it_at_once(error: Exception) -> None:
    cooldown = Cooldown(lambda: 0.0)
    cooldown.record_failure(error)
    assert cooldown.active
