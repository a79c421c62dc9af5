"""Regions: stores, apis that are each other's peers, and a proxy between two of them that can lie, stall or go away."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
import redis
from aiohttp import web

from api.app import SERVICES, build_app, build_runner
from api.endpoint import Services
from api.settings.settings import ApiSettings
from deploy.demo.servers import Valkey
from schemas.settings import read
from tests.api.conftest import Api
from tests.api.sources import listed
from tests.conftest import wait_until_async

MIN_USERS: Final = 50
ATTEMPTS: Final = 200
SKETCH: Final = b"SFlMT"
"""How every sketch begins in base64: HYLL and the encoding."""
TOKENS: Final[Mapping[str, Mapping[str, Any]]] = {
    "all": {"scopes": ["stats:read", "metrics:read", "jans_stat", "read:stats"], "regions": ["*"]},
    "own": {"scopes": ["stats:read", "jans_stat"]},
    "eu-us": {"scopes": ["stats:read"], "regions": ["eu", "us"]},
    "us-only": {"scopes": ["stats:read", "sketches:read"], "regions": ["us"]},
    "acme": {"scopes": ["stats:read"], "regions": ["*"], "realms": ["acme"]},
    "acme-own": {"scopes": ["stats:read"], "realms": ["acme"]},
    "peer": {"scopes": ["sketches:read"]},
    "peer-acme": {"scopes": ["sketches:read"], "realms": ["acme"]},
}

Change = Callable[[dict[str, Any]], Any]


class Between:
    """A proxy before a region's api. It changes answers, delays them, or cuts connections."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.change: Change | None = None
        """Changes the decoded answer of an export, or of the identity."""
        self.delay_s = 0.0
        self.cut = False
        self.raw: bytes | None = None
        """Sent instead of the answer."""
        self.status = 200
        self.bodies: list[bytes] = []
        """The answers that went through."""
        self.url = ""

    async def forward(self, request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(self.delay_s)
        try:
            if not self.cut:
                return await self._forward(request)
        except (aiohttp.ClientConnectorError, ConnectionResetError):
            pass
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    async def _forward(self, request: web.Request) -> web.Response:
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                request.method,
                self.target + request.path_qs,
                data=await request.read(),
                headers={"Authorization": request.headers["Authorization"], "Content-Type": "application/json"},
            ) as answer,
        ):
            body = await answer.read()
            status = answer.status
        if self.change is not None and status == 200:
            document = json.loads(body)
            document = self.change(document) or document
            body = json.dumps(document).encode()
        self.bodies.append(body)
        return web.Response(body=self.raw or body, status=self.status if status == 200 else status)


class Region:
    """One region: its api, its store, and the proxy by which the others reach it."""

    def __init__(self, name: str, store: Valkey, api: Api, between: Between) -> None:
        self.name = name
        self.store = store
        self.api = api
        self.between = between

    @property
    def services(self) -> Services:
        return self.api.app[SERVICES]

    async def ask(self, path: str, token: str = "all") -> Any:
        """The decoded answer; its status must be 200, after a while on a machine under load."""
        for _ in range(ATTEMPTS):
            answer = await self.api.get(path, token)
            if answer.status != 503:
                break
        assert answer.status == 200, (path, answer.status, answer.body)
        return answer.json

    async def whole(self, path: str, token: str = "all") -> Any:
        """The answer to which every region has contributed in time: what was received stays for the next attempt."""
        for _ in range(ATTEMPTS):
            answer = await self.ask(path, token)
            if all(share["state"] == "current" for share in answer["regions"]):
                break
            await asyncio.sleep(0.1)
        return answer

    async def until(self, peer: str, state: str) -> dict[str, Any]:
        """The peer's entry of /v1/regions, once it has this state."""
        found: dict[str, Any] = {}

        async def reached() -> bool:
            answer = await self.ask("/v1/regions")
            found.update(next(item for item in answer["items"] if item["region"] == peer))
            return bool(found["state"] == state)

        for _ in range(400):
            if await reached():
                return found
            await asyncio.sleep(0.05)
        pytest.fail(f"{peer} is not {state}: {found}")


Start = Callable[..., Awaitable[dict[str, Region]]]


@pytest.fixture(scope="session")
def store_servers() -> Iterator[list[Valkey]]:
    with Valkey() as eu, Valkey() as us, Valkey() as ap:
        yield [eu, us, ap]


@pytest.fixture
def stores(store_servers: list[Valkey]) -> list[Valkey]:
    """Those of eu, us and ap, empty. A test fills them before it starts the apis."""
    for store in store_servers:
        with redis.Redis.from_url(store.url) as client:
            client.flushall()
    return store_servers


@pytest.fixture
async def start(stores: list[Valkey], tmp_path: Path) -> AsyncIterator[Start]:
    """Starts regions that are each other's peers; `given` are settings of all, `of` those of single regions."""
    async with AsyncExitStack() as stack:

        async def run(
            names: Iterable[str] = ("eu", "us"), of: Mapping[str, Mapping[str, Any]] | None = None, **given: Any
        ) -> dict[str, Region]:
            # They listen before any api starts, so that the first probe of each peer is answered.
            sockets = {name: stack.enter_context(socket.create_server(("127.0.0.1", 0))) for name in names}
            ports = {name: of.getsockname()[1] for name, of in sockets.items()}
            betweens = {name: await serve(stack, Between(f"http://127.0.0.1:{port}")) for name, port in ports.items()}
            tokens = write_tokens(tmp_path)
            regions = {}
            for name, store in zip(ports, stores, strict=False):
                peers = [
                    {"name": other, "url": betweens[other].url, "token_file": str(tmp_path / "peer.token")}
                    for other in ports
                    if other != name
                ]
                file = tmp_path / f"{name}.peers.json"
                file.write_text(json.dumps(peers))
                usual: dict[str, Any] = {
                    "auth": ("static",),
                    "auth_tokens_file": tokens,
                    "region": name,
                    "peers_file": file,
                    "region_users": "shared",
                    "region_min_users": MIN_USERS,
                    # The longest: the apis of all regions share this process with the test.
                    "region_timeout_s": 1.5,
                    "cache_ttl_s": 0,
                    "redis_url": store.url,
                }
                app = build_app(read(ApiSettings, **usual | given | dict((of or {}).get(name, {}))))
                runner = build_runner(app)
                await runner.setup()
                stack.push_async_callback(runner.cleanup)
                await web.SockSite(runner, sockets[name]).start()
                session = await stack.enter_async_context(aiohttp.ClientSession())
                regions[name] = Region(name, store, Api(app, runner, session), betweens[name])
            for region in regions.values():
                await wait_until_async(partial(has_met_its_peers, region), 60)
            return regions

        yield run


def has_met_its_peers(region: Region) -> bool:
    peers = region.services.regions.peers.values()
    return all(peer.state.identity and not peer.state.error and not peer.circuit.is_open for peer in peers)


async def serve(stack: AsyncExitStack, between: Between, tls: ssl.SSLContext | None = None) -> Between:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", between.forward)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    between.url = "http{}://{}:{}".format("" if tls is None else "s", *runner.addresses[0])
    return between


def write_tokens(folder: Path) -> Path:
    file = folder / "tokens.json"
    entries = [listed(name, **entry) for name, entry in TOKENS.items()]
    file.write_text(json.dumps(entries))
    (folder / "peer.token").write_text("peer\n")
    return file
