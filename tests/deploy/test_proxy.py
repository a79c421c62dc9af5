"""deploy/proxy on the real nginx and the real Caddy: the statistics' routes come here, everything else does not."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
import yarl
from aiohttp import web

from api.app import build_app, build_runner
from api.dialects import auth0, gluu, janssen
from api.settings.settings import ApiSettings
from deploy.demo.servers.process import HOST
from tests.api.ledger_writer import LedgerWriter, open_ledger
from tests.api.sources import by_file, listed
from tests.certificates import Authority
from tests.deploy.proxy_servers import CaddyServer, NginxServer
from tests.deploy.tls_front import CaddyFront, NginxFront, TlsFront

PROXY: Final = Path(__file__).parents[2] / "deploy" / "proxy"
API: Final = "127.0.0.1:8080"
"""Where the snippets look for the api."""

OURS: Final = (
    "/jans-auth/restv1/internal/stat",
    "/oxauth/restv1/internal/stat",
    "/api/v2/stats/active-users",
    "/api/v2/stats/daily",
    "/reporting/show",
    "/reporting/period",
    "/reporting/maximum",
    "/reporting/delete_all",
    "/reporting/delete_before",
)
THEIRS: Final = (
    "/",
    "/jans-auth/",
    "/jans-auth/restv1/internal/stat/",
    "/jans-auth/restv1/internal/status",
    "/jans-auth/restv1/token",
    "/jans-auth/sys/health-check",
    "/oxauth/restv1/internal",
    "/oxauth/sys/health-check",
    "/api/v2/stats",
    "/api/v2/stats/monthly",
    "/api/v2/users",
    "/reporting",
    "/reporting/show/x",
    "/reporting/unknown",
    "/admin/getsession",
    "/metrics",
    "/v1/active-users",
    "/health/ready",
)


class Snippets:
    """Stands before both: the snippets as they are, except for the api's address."""

    def __init__(self, api: str, auth_server: str) -> None:
        super().__init__()
        self._api = api
        self._auth_server = auth_server

    def snippet(self, path: str) -> str:
        return (PROXY / path).read_text(encoding="utf-8").replace(API, self._api)


class Nginx(Snippets, NginxServer):
    def configuration(self) -> str:
        (self.folder / "snippets").mkdir()
        for path in (PROXY / "nginx").iterdir():
            (self.folder / "snippets" / path.name).write_text(self.snippet(f"nginx/{path.name}"))
        # Locations of the auth server that would take the routes if they could.
        return f"""
            include snippets/authtally-upstream.conf;
            server {{
                listen {self.address};
                location ^~ /jans-auth/ {{ proxy_pass http://{self._auth_server}; }}
                location ~ ^/(oxauth|api|reporting) {{ proxy_pass http://{self._auth_server}; }}
                location / {{ proxy_pass http://{self._auth_server}; }}
                include snippets/authtally-routes.conf;
            }}
        """


class Caddy(Snippets, CaddyServer):
    def configuration(self) -> str:
        (self.folder / "authtally.caddy").write_text(self.snippet("caddy/authtally.caddy"))
        return f"""
            import authtally.caddy
            http://{self.address} {{
                bind {HOST}
                handle /jans-auth/* {{
                    reverse_proxy {self._auth_server}
                }}
                reverse_proxy {self._auth_server}
                import authtally
            }}
        """


Proxy = Nginx | Caddy


async def listen(runner: web.AppRunner) -> str:
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    return "{}:{}".format(*runner.addresses[0])


class Recorder:
    """Answers everything, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str, Mapping[str, str]]] = []
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self.runner = web.AppRunner(app)

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked.append((request.method, request.raw_path, await request.text(), request.headers))
        return web.Response(text="recorded")


@pytest.fixture
async def api() -> AsyncIterator[Recorder]:
    recorder = Recorder()
    yield recorder
    await recorder.runner.cleanup()


@pytest.fixture
async def auth_server() -> AsyncIterator[Recorder]:
    recorder = Recorder()
    yield recorder
    await recorder.runner.cleanup()


both = pytest.mark.parametrize("proxy", [Nginx, Caddy], ids=lambda proxy: proxy.name)


@both
async def test_the_routes_come_here_and_all_else_goes_there(
    proxy: type[Proxy], api: Recorder, auth_server: Recorder
) -> None:
    with proxy(await listen(api.runner), await listen(auth_server.runner)) as server:
        async with aiohttp.ClientSession(f"http://{server.address}") as session:
            for path in (*OURS, *THEIRS):
                async with session.get(f"{path}?month=202611", allow_redirects=False) as response:
                    assert response.status == 200
    assert [path for _, path, _, _ in api.asked] == [f"{path}?month=202611" for path in OURS]
    assert [path for _, path, _, _ in auth_server.asked] == [f"{path}?month=202611" for path in THEIRS]


@both
async def test_a_question_arrives_as_it_was_asked(proxy: type[Proxy], api: Recorder, auth_server: Recorder) -> None:
    sent = {
        "Authorization": "Bearer a.b-c_d~e+f/g=",
        "X-Request-Id": "caller-7",
        "Accept": "application/json",
        "If-None-Match": '"a1"',
        "User-Agent": "collector",
        "Host": "auth.example",
    }
    query = "/jans-auth/restv1/internal/stat?month=202611+202612%20202701&format=%2520&empty="
    # Caddy answers for the hosts in its configuration.
    sent["Host"] = "auth.example" if proxy is Nginx else ""
    async with aiohttp.ClientSession() as session:
        with proxy(await listen(api.runner), await listen(auth_server.runner)) as server:
            sent["Host"] = sent["Host"] or server.address
            async with session.get(yarl.URL(f"http://{server.address}{query}", encoded=True), headers=sent) as response:
                assert response.status == 200
            form = "month=202611&format=openmetrics"
            headers = {"Content-Type": "application/x-www-form-urlencoded", "Host": sent["Host"]}
            url = f"http://{server.address}/oxauth/restv1/internal/stat"
            async with session.post(url, data=form, headers=headers) as response:
                assert response.status == 200
    (method, path, body, arrived), posted = api.asked
    assert (method, path, body) == ("GET", query, "")
    assert {name: arrived[name] for name in sent} == sent
    assert arrived["X-Forwarded-For"] == HOST
    assert arrived["X-Forwarded-Proto"] == "http"
    assert posted[:3] == ("POST", "/oxauth/restv1/internal/stat", form)
    assert auth_server.asked == []


@both
async def test_the_api_answers_behind_it(
    proxy: type[Proxy], auth_server: Recorder, redis_url: str, tmp_path: Path
) -> None:
    ledger: LedgerWriter = open_ledger(redis_url)
    ledger.few_users("2026-11", range(5))
    tokens = by_file(tmp_path, listed("good"))
    runner = build_runner(build_app(ApiSettings(**{"redis_url": redis_url} | tokens)))
    try:
        with proxy(await listen(runner), await listen(auth_server.runner)) as server:
            async with aiohttp.ClientSession(f"http://{server.address}") as session:
                path = f"{OURS[0]}?month=202611"
                headers = {"Authorization": "Bearer good", "X-Request-Id": "caller-7"}
                async with session.get(path, headers=headers) as response:
                    assert (await response.json())["response"]["202611"]["monthly_active_users"] == 5
                    assert response.headers["X-Request-Id"] == "caller-7"
                    etag = response.headers["ETag"]
                async with session.get(path, headers=headers | {"If-None-Match": etag}) as response:
                    assert response.status == 304
                async with session.get(path) as response:
                    assert response.status == 401
                    assert (await response.json())["error"] == "access_denied"
    finally:
        await runner.cleanup()


LIMITED: Final = "/api/v2/stats/daily"
"""A route with a limit by address for callers without a token."""


@both
@pytest.mark.parametrize("trusted", ["127.0.0.1", ""])
async def test_callers_share_no_allowance_if_the_proxy_is_trusted(
    proxy: type[Proxy], trusted: str, auth_server: Recorder, redis_url: str, tmp_path: Path
) -> None:
    limit = {"auth0_rate_limit": 2, "auth0_rate_per_s": 0.01, "trusted_proxies": trusted}
    settings: dict[str, Any] = {"redis_url": redis_url} | by_file(tmp_path, listed("good")) | limit
    runner = build_runner(build_app(ApiSettings(**settings)))
    try:
        with proxy(await listen(runner), await listen(auth_server.runner)) as server:

            async def ask(address: str, forwarded: str | None = None) -> int:
                headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
                connector = aiohttp.TCPConnector(local_addr=(address, 0))
                async with (
                    aiohttp.ClientSession(f"http://{server.address}", connector=connector) as session,
                    session.get(LIMITED, headers=headers) as response,
                ):
                    return response.status

            assert [await ask("127.0.0.2") for _ in range(3)] == [401, 401, 429]
            # Its own header gives a caller no other address.
            assert await ask("127.0.0.2", "192.0.2.9") == 429
            assert await ask("127.0.0.2", "127.0.0.1") == 429
            assert await ask("127.0.0.3") == (401 if trusted else 429)
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("front", [NginxFront, CaddyFront], ids=lambda front: front.name)
@pytest.mark.parametrize("trusted", ["127.0.0.1", "192.0.2.0/24"])
async def test_the_cookie_is_for_https_only_if_a_trusted_proxy_was_asked_over_tls(
    front: type[TlsFront], trusted: str, redis_url: str, tmp_path: Path
) -> None:
    tokens = by_file(tmp_path, listed("good") | {"scopes": ["reporting"]})
    runner = build_runner(build_app(ApiSettings(**{"redis_url": redis_url, "trusted_proxies": trusted} | tokens)))
    authority = Authority(tmp_path)
    certificate = authority.sign("front", front.host)
    trust = ssl.create_default_context(cafile=authority.file)
    try:
        with front(await listen(runner), certificate) as server:
            async with (
                aiohttp.ClientSession(headers={"Authorization": "Bearer good"}) as session,
                session.get(f"{server.url}/admin/getsession", ssl=trust) as response,
            ):
                assert response.status == 200
                assert bool(response.cookies["admin_session"]["secure"]) == (trusted == "127.0.0.1")
    finally:
        await runner.cleanup()


def test_every_route_of_a_product_is_in_both_but_its_health_check() -> None:
    without_auth: dict[str, Any] = {"auth": ("none",)}
    app = build_app(ApiSettings(**without_auth))
    products = tuple(dialect.PREFIX for dialect in (janssen, gluu, auth0))
    served = {resource.canonical for resource in app.router.resources()}
    taken = {
        path
        for path in served
        if path.startswith((*products, "/reporting/")) and not path.endswith(("/health-check", "}"))
    }
    assert taken <= set(OURS)
    for snippet in ("nginx/authtally-routes.conf", "caddy/authtally.caddy"):
        text = (PROXY / snippet).read_text(encoding="utf-8")
        assert set(re.findall(r"(?:location =|authtally_route) (/\S+)", text)) == set(OURS), snippet
