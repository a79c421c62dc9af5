"""deploy/proxy on the real nginx and the real Caddy: the statistics' routes come here, everything else does not."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
import yarl
from aiohttp import web

from api.app import build_app, build_runner
from api.dialects import auth0, gluu, janssen
from api.settings.settings import ApiSettings
from deploy.demo.servers import ServerProcess
from deploy.demo.servers.process import HOST, accepts
from tests.api.ledger_writer import LedgerWriter, open_ledger
from tests.api.sources import by_file, listed

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


TEMPORARY: Final = "".join(
    f"{name}_temp_path temporary;\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
)
"""Folders of nginx below its own, since the system's are root's."""


def program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        pytest.skip(f"no `{name}` on PATH")
    return found


class Proxy(ServerProcess):
    """Stands before both: the snippets as they are, but for where the api listens."""

    def __init__(self, api: str, auth_server: str) -> None:
        self._program = program(self.name)
        super().__init__()
        self._api = api
        self._auth_server = auth_server

    def snippet(self, path: str) -> str:
        return (PROXY / path).read_text(encoding="utf-8").replace(API, self._api)

    def answers(self) -> bool:
        return accepts(self.port)


class Nginx(Proxy):
    name = "nginx"

    def prepare(self) -> None:
        (self.folder / "snippets").mkdir()
        for path in (PROXY / "nginx").iterdir():
            (self.folder / "snippets" / path.name).write_text(self.snippet(f"nginx/{path.name}"))
        # Locations of the auth server that would take the routes if they could.
        (self.folder / "nginx.conf").write_text(
            f"""
            daemon off; master_process off; pid nginx.pid; error_log stderr;
            events {{}}
            http {{
                access_log off; {TEMPORARY}
                include snippets/authtally-upstream.conf;
                server {{
                    listen {self.address};
                    location ^~ /jans-auth/ {{ proxy_pass http://{self._auth_server}; }}
                    location ~ ^/(oxauth|api|reporting) {{ proxy_pass http://{self._auth_server}; }}
                    location / {{ proxy_pass http://{self._auth_server}; }}
                    include snippets/authtally-routes.conf;
                }}
            }}
            """
        )

    def command(self) -> Sequence[str | Path]:
        return (self._program, "-p", self.folder, "-c", "nginx.conf", "-e", "stderr")


class Caddy(Proxy):
    name = "caddy"

    def prepare(self) -> None:
        (self.folder / "authtally.caddy").write_text(self.snippet("caddy/authtally.caddy"))
        (self.folder / "Caddyfile").write_text(
            f"""
            {{
                admin off
            }}
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
        )

    def command(self) -> Sequence[str | Path]:
        return (self._program, "run", "--config", "Caddyfile", "--adapter", "caddyfile")


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
