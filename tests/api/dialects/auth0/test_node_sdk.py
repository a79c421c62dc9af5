"""`/api/v2/stats` through Auth0's own SDKs for Node, unchanged and over TLS, which they insist on."""

from __future__ import annotations

import asyncio
import ssl
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import pytest
from aiohttp import web

from tests.api.conftest import Api
from tests.api.dialects.auth0.conftest import ROWS
from tests.api.ledger_writer import LedgerWriter
from tests.certificates import Authority
from tests.servers.auth0_node import ask, installed
from tests.servers.node import NodeMissingError

# The first run on a machine installs the packages.
pytestmark = pytest.mark.timeout(400)

SDKS: Final = ("current", "legacy")


class Ask(Protocol):
    async def __call__(self, token: str, call: str, **argument: str) -> dict[str, Any]: ...


@pytest.fixture(scope="module")
def folder() -> Path:
    try:
        return installed()
    except NodeMissingError as missing:
        pytest.skip(str(missing))


@pytest.fixture(params=SDKS)
async def client(request: pytest.FixtureRequest, folder: Path, api: Api, tmp_path: Path) -> Ask:
    """Asks the api through one of the SDKs."""
    authority = Authority(tmp_path)
    certificate = authority.sign("api")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.certificate, certificate.key)
    # Another address of the same api, as a proxy in front of it would have.
    await web.TCPSite(api.runner, "127.0.0.1", 0, ssl_context=context).start()
    port = api.runner.addresses[-1][1]

    async def ask_sdk(token: str, call: str, **argument: str) -> dict[str, Any]:
        ask_once = partial(ask, folder, authority.file, request.param, f"127.0.0.1:{port}", token, call, **argument)
        return await asyncio.to_thread(ask_once)

    return ask_sdk


@pytest.mark.usefixtures("november")
async def test_the_sdk_reads_both(client: Ask, ledger: LedgerWriter) -> None:
    ledger.few_users("2026-11-20", range(1234))
    count = (await client("good", "getActiveUsersCount"))["answer"]
    assert float(count) == 1234, "the legacy SDK types it as a number and gives the text"
    days = (await client("good", "getDaily", **{"from": "20261101", "to": "20261119"}))["answer"]
    assert days == list(ROWS.values())
    assert len((await client("good", "getDaily"))["answer"]) == 3


@pytest.mark.parametrize(
    ("token", "call", "argument", "status", "message"),
    [
        ("unknown", "getActiveUsersCount", {}, 401, "Invalid token"),
        ("other", "getDaily", {}, 403, "Insufficient scope, expected any of: read:stats"),
        (
            *("good", "getDaily", {"from": "20261120", "to": "20261119"}, 400),
            "'from' date cannot be greater than 'to' date.",
        ),
    ],
)
async def test_the_sdk_maps_refusals(
    client: Ask, token: str, call: str, argument: dict[str, str], status: int, message: str
) -> None:
    refused = await client(token, call, **argument)
    assert (refused["status"], refused["body"]["message"]) == (status, message)
