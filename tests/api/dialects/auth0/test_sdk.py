"""`/api/v2/stats` through Auth0's own SDK."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Final

import httpx
import pytest
from auth0.management import AsyncAuth0, Auth0, ManagementClient
from auth0.management.core.api_error import ApiError
from auth0.management.errors import BadRequestError, ForbiddenError, TooManyRequestsError, UnauthorizedError

from api.metrics import REGISTRY
from tests.api.conftest import Api, Clock, Serve
from tests.api.dialects.auth0.conftest import ROWS
from tests.api.ledger_writer import LedgerWriter
from tests.conftest import wait_until_async

ONCE: Final = {"max_retries": 0}


class PlainTransport(httpx.HTTPTransport):
    """For the client that knows https only: the same requests without TLS."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_with(scheme="http")
        return super().handle_request(request)


@pytest.fixture
def connections() -> Iterator[httpx.Client]:
    """Given to the SDK, which closes its own ones never."""
    with httpx.Client(transport=PlainTransport()) as client:
        yield client


@pytest.fixture
def sdk(api: Api, connections: httpx.Client) -> Callable[[str], Any]:
    return lambda token: Auth0(base_url=f"{api.url}/api/v2", token=token, httpx_client=connections)


@pytest.mark.usefixtures("november")
async def test_the_sdk_reads_both(api: Api, ledger: LedgerWriter, connections: httpx.Client) -> None:
    ledger.few_users("2026-11-20", range(1234))
    async with httpx.AsyncClient() as client:
        asynchronous = AsyncAuth0(base_url=f"{api.url}/api/v2", token="good", httpx_client=client)
        assert await asynchronous.stats.get_active_users_count() == 1234.0
        days = await asynchronous.stats.get_daily(from_="20261101", to="20261119")
        assert [day.model_dump() for day in days] == list(ROWS.values())
    synchronous = ManagementClient(domain=api.url.removeprefix("http://"), token="good", httpx_client=connections)
    assert await asyncio.to_thread(synchronous.stats.get_active_users_count) == 1234.0
    # The third is a day of activity without a login.
    assert [day.logins for day in await asyncio.to_thread(synchronous.stats.get_daily)] == [5, 10, 0]


@pytest.mark.parametrize(
    ("token", "call", "error", "message"),
    [
        ("unknown", "get_active_users_count", UnauthorizedError, "Invalid token"),
        ("unknown", "get_daily", UnauthorizedError, "Invalid token"),
        ("other", "get_active_users_count", ForbiddenError, "Insufficient scope"),
        ("other", "get_daily", ForbiddenError, "Insufficient scope"),
    ],
)
async def test_the_sdk_maps_refusals(
    sdk: Callable[[str], Any], token: str, call: str, error: type[ApiError], message: str
) -> None:
    with pytest.raises(error, match=message) as refused:
        await asyncio.to_thread(getattr(sdk(token).stats, call), request_options=ONCE)
    assert refused.value.headers["x-ratelimit-limit"] == "50"


async def test_the_sdk_maps_a_bad_question(sdk: Callable[[str], Any]) -> None:
    with pytest.raises(BadRequestError) as refused:
        await asyncio.to_thread(sdk("good").stats.get_daily, from_="20261120", to="20261119")
    assert refused.value.body["message"] == "'from' date cannot be greater than 'to' date."


def refusals() -> float:
    return REGISTRY.get_sample_value("authtally_api_requests_total", {"dialect": "auth0", "status": "4xx"}) or 0


async def test_the_sdk_waits_as_the_headers_say(
    serve: Serve, redis_url: str, clock: Clock, connections: httpx.Client
) -> None:
    api = await serve(redis_url=redis_url, auth0_rate_limit=1, auth0_rate_per_s=1)
    stats = Auth0(base_url=f"{api.url}/api/v2", token="any", httpx_client=connections).stats
    await asyncio.to_thread(stats.get_active_users_count)
    with pytest.raises(TooManyRequestsError) as refused:
        await asyncio.to_thread(stats.get_active_users_count, request_options=ONCE)
    assert refused.value.headers["retry-after"] == "1"
    refused_once = refusals()
    waiting = asyncio.create_task(asyncio.to_thread(stats.get_active_users_count))
    await wait_until_async(lambda: refusals() > refused_once)
    clock.now += 1
    assert await waiting == 0.0
