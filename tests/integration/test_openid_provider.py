"""Tokens that a real OpenID provider issues: checked as JWTs, and by introspection with Gluu's documented commands."""

from __future__ import annotations

import base64
import json
import os
import shlex
import shutil
import subprocess
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote_plus, urlencode

import aiohttp
import pytest
from aiohttp import web
from playwright.async_api import expect

from api.app import build_app, build_runner
from api.settings.settings import ApiSettings
from deploy.demo.servers import Valkey
from deploy.demo.servers.process import HOST, accepts
from schemas.settings import read
from tests.api.conftest import Api, Clock
from tests.api.ledger_writer import open_ledger
from tests.dashboard.browsers import NAMES, chromium, executable
from tests.dashboard.queries import PageProbe, fresh
from tests.dashboard.site import Site
from tests.integration.api_process import ApiProcess
from tests.servers import JavaMissingError
from tests.servers.keycloak import Keycloak

# The first run on a machine fetches Keycloak.
pytestmark = pytest.mark.timeout(900)

REALM_FILE: Final = Path(__file__).with_name("authtally-realm.json")
REALM: Final = "authtally"
SECRETS: Final[dict[str, str]] = {
    client["clientId"]: client["secret"]
    for client in json.loads(REALM_FILE.read_text(encoding="utf-8"))["clients"]
    if not client["publicClient"]
}
API_CLIENT: Final = "statistics"
COLLECTOR: Final = "StatCollector"
ELSEWHERE: Final = "Elsewhere"

JANSSEN: Final = "/jans-auth/restv1/internal/stat"
GLUU: Final = "/oxauth/restv1/internal/stat"

# The commands as Gluu's document has them; <placeholders> are filled in.
GET_A_TOKEN: Final = (
    "curl -k -u '<StatCollector_Client_ID>:<StatCollector_Client_Secret>'"
    ' -d "grant_type=client_credentials&scope=jans_stat" <token_endpoint>'
)
GET_THE_METRICS: Final = (
    "curl --location --request GET '<server>/oxauth/restv1/internal/stat?month=<YEARMONTH>&format=openmetrics'"
    " --header 'Authorization: Bearer <access_token>'"
)
DOCUMENTED_OUTPUT: Final = """\
# HELP refresh_token Refresh Token
# TYPE refresh_token counter
refresh_token{month="202111",grantType="authorization_code",
} 0.0
refresh_token{month="202111",grantType="client_credentials",
} 0.0
# HELP id_token Id Token
# TYPE id_token counter
id_token{month="202111",grantType="authorization_code",
} 144.0
id_token{month="202111",grantType="client_credentials",
} 0.0
# HELP monthly_active_users Monthly active users
# TYPE monthly_active_users counter
monthly_active_users{month="202111",
} 2.0
# HELP access_token Access Token
# TYPE access_token counter
access_token{month="202111",grantType="authorization_code",
} 144.0
access_token{month="202111",grantType="client_credentials",
} 10.0
# HELP uma_token UMA Token
# TYPE uma_token counter
uma_token{month="202111",grantType="authorization_code",
} 0.0
uma_token{month="202111",grantType="client_credentials",
} 0.0
"""
ACCESS_TOKEN: Final = "JSON.parse(sessionStorage.getItem('authtally.session')).token"
NOVEMBER: Final = {
    "monthly_active_users": 2,
    "token_count_per_granttype": {
        "authorization_code": {"access_token": 144, "id_token": 144, "refresh_token": 0, "uma_token": 0},
        "client_credentials": {"access_token": 10, "id_token": 0, "refresh_token": 0, "uma_token": 0},
    },
}


@pytest.fixture(scope="module")
def keycloak() -> Iterator[Keycloak]:
    try:
        server = Keycloak([REALM_FILE])
    except JavaMissingError as missing:
        pytest.skip(str(missing))
    with server:
        yield server
    assert not accepts(server.port)
    assert not server.folder.exists()


@pytest.fixture(scope="module")
def store() -> Iterator[Valkey]:
    """Holds the month of Gluu's document."""
    with Valkey() as server:
        ledger = open_ledger(server.url)
        ledger.few_users("2021-11", range(2))
        ledger.tokens(
            "2021-11",
            {"authorization_code": {"access_token": 144, "id_token": 144}, "client_credentials": {"access_token": 10}},
        )
        yield server


def endpoint(keycloak: Keycloak, name: str) -> str:
    return f"{keycloak.issuer(REALM)}/protocol/openid-connect/{name}"


def settings_of_jwt(keycloak: Keycloak) -> dict[str, str]:
    return {
        "auth": "jwt",
        "auth_issuer": keycloak.issuer(REALM),
        "auth_audience": API_CLIENT,
        "auth_jwks_url": endpoint(keycloak, "certs"),
    }


def settings_of_introspection(keycloak: Keycloak) -> dict[str, str]:
    return {
        "auth": "introspection",
        "auth_introspection_url": endpoint(keycloak, "token/introspect"),
        "auth_client_id": API_CLIENT,
        "auth_client_secret": SECRETS[API_CLIENT],
    }


@pytest.fixture(scope="module")
def jwt_api(keycloak: Keycloak, store: Valkey) -> Iterator[ApiProcess]:
    with ApiProcess(redis_url=store.url, **settings_of_jwt(keycloak)) as api:
        yield api


@pytest.fixture(scope="module")
def introspecting_api(keycloak: Keycloak, store: Valkey) -> Iterator[ApiProcess]:
    with ApiProcess(redis_url=store.url, **settings_of_introspection(keycloak)) as api:
        yield api


def post(keycloak: Keycloak, name: str, client: str, **form: str) -> bytes:
    """Ask an endpoint of the provider as a client of its. Raises urllib.error.HTTPError."""
    credentials = f"{quote_plus(client)}:{quote_plus(SECRETS[client])}".encode()
    headers = {"Authorization": f"Basic {base64.b64encode(credentials).decode()}"}
    request = urllib.request.Request(endpoint(keycloak, name), urlencode(form).encode(), headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        body: bytes = answer.read()
        return body


def issued(keycloak: Keycloak, client: str = COLLECTOR, scope: str = "jans_stat") -> str:
    """A new access token by client credentials; with no scope, the provider gives the client's default ones."""
    scopes = {"scope": scope} if scope else {}
    answer = json.loads(post(keycloak, "token", client, grant_type="client_credentials", **scopes))
    assert answer["token_type"] == "Bearer"
    return str(answer["access_token"])


def revoke(keycloak: Keycloak, token: str) -> None:
    post(keycloak, "revoke", COLLECTOR, token=token)


def claims(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return found


def segment(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def test_a_jwt_with_the_scope_gets_in(keycloak: Keycloak, jwt_api: ApiProcess) -> None:
    token = issued(keycloak)
    assert (claims(token)["iss"], claims(token)["aud"]) == (keycloak.issuer(REALM), API_CLIENT)
    for path in (JANSSEN, GLUU):
        answer = jwt_api.get(f"{path}?month=202111", token)
        assert (answer.status, answer.json) == (200, {"response": {"202111": NOVEMBER}})


def with_the_scope_added(keycloak: Keycloak) -> str:
    token = issued(keycloak, scope="")
    head, _, signature = token.split(".")
    return f"{head}.{segment(claims(token) | {'scope': 'jans_stat'})}.{signature}"


def unsigned(keycloak: Keycloak) -> str:
    return f"{segment({'alg': 'none', 'typ': 'JWT'})}.{segment(claims(issued(keycloak)))}."


def with_the_signature_of_another(keycloak: Keycloak) -> str:
    return f"{issued(keycloak).rpartition('.')[0]}.{issued(keycloak).rpartition('.')[2]}"


class Refused(NamedTuple):
    token: Callable[[Keycloak], str]
    why: str


REFUSED_BY_EITHER: Final = [
    Refused(lambda keycloak: issued(keycloak, scope=""), "without the scope"),
    Refused(lambda keycloak: issued(keycloak, scope="jans_stat_extra"), "a scope that only begins like it"),
    Refused(lambda keycloak: issued(keycloak, ELSEWHERE), "for another audience"),
    Refused(with_the_scope_added, "the scope added after signing"),
    Refused(unsigned, "alg none"),
    Refused(with_the_signature_of_another, "the signature of another token"),
]


@pytest.mark.parametrize("case", REFUSED_BY_EITHER, ids=lambda case: case.why)
@pytest.mark.parametrize("path", [JANSSEN, GLUU])
def test_any_other_token_is_refused_by_either_way(
    keycloak: Keycloak, jwt_api: ApiProcess, introspecting_api: ApiProcess, path: str, case: Refused
) -> None:
    token = case.token(keycloak)
    for api in (jwt_api, introspecting_api):
        answer = api.get(f"{path}?month=202111", token)
        assert (answer.status, answer.json["error"]) == (401, "access_denied")
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="authtally"'


def run_as_documented(command: str, home: Path, **values: str) -> str:
    """What a documented command writes to its standard output, once its placeholders are filled in."""
    for name, value in values.items():
        assert f"<{name}>" in command
        command = command.replace(f"<{name}>", value)
    if shutil.which("curl") is None:
        pytest.skip("no `curl` on PATH")
    done = subprocess.run(
        shlex.split(command),
        env={"PATH": os.environ.get("PATH", os.defpath), "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_documented_commands_give_the_documented_output(
    keycloak: Keycloak, introspecting_api: ApiProcess, tmp_path: Path
) -> None:
    result = run_as_documented(
        GET_A_TOKEN,
        tmp_path,
        StatCollector_Client_ID=COLLECTOR,
        StatCollector_Client_Secret=SECRETS[COLLECTOR],
        token_endpoint=endpoint(keycloak, "token"),
    )
    output = run_as_documented(
        GET_THE_METRICS,
        tmp_path,
        server=f"http://{introspecting_api.address}",
        YEARMONTH="202111",
        access_token=json.loads(result)["access_token"],
    )
    # The document breaks its lines before the brace; families may come in any order.
    assert sorted(output.splitlines()) == sorted(DOCUMENTED_OUTPUT.replace(",\n}", ",}").splitlines())


def test_a_token_revoked_before_its_first_use_is_refused(keycloak: Keycloak, introspecting_api: ApiProcess) -> None:
    token = issued(keycloak)
    revoke(keycloak, token)
    assert introspecting_api.get(f"{GLUU}?month=202111", token).status == 401


@asynccontextmanager
async def served(clock: Clock, **settings: str) -> AsyncIterator[Api]:
    """The api in this process, so that its clock can be moved."""
    app = build_app(read(ApiSettings, _env_file=None, **settings), clock.handed)
    runner = build_runner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, 0).start()
        async with aiohttp.ClientSession() as session:
            yield Api(app, runner, session)
    finally:
        await runner.cleanup()


async def test_a_token_in_use_is_refused_at_most_a_minute_after_it_was_revoked(
    keycloak: Keycloak, store: Valkey
) -> None:
    clock = Clock()
    token = issued(keycloak)
    async with served(clock, redis_url=store.url, **settings_of_introspection(keycloak)) as api:
        for path in (JANSSEN, GLUU):
            assert (await api.get(f"{path}?month=202111", token)).status == 200
        revoke(keycloak, token)
        clock.now += 59.9
        for path in (JANSSEN, GLUU):
            assert (await api.get(f"{path}?month=202111", token)).status == 200, "the price of not asking each time"
        clock.now += 0.1
        for path in (JANSSEN, GLUU):
            assert (await api.get(f"{path}?month=202111", token)).status == 401


@pytest.mark.parametrize("settings", [settings_of_jwt, settings_of_introspection], ids=["jwt", "introspection"])
async def test_a_token_in_use_is_refused_once_it_has_expired(
    keycloak: Keycloak, store: Valkey, settings: Callable[[Keycloak], dict[str, str]]
) -> None:
    clock = Clock()
    token = issued(keycloak)
    expires = claims(token)["exp"]
    async with served(clock, redis_url=store.url, **settings(keycloak)) as api:
        # Checked half a minute before its end, so that the minute for which it may be remembered ends after it.
        clock.now = expires - 30
        assert (await api.get(f"{GLUU}?month=202111", token)).status == 200
        clock.now = expires - 0.1
        assert (await api.get(f"{GLUU}?month=202111", token)).status == 200
        clock.now = expires
        assert (await api.get(f"{GLUU}?month=202111", token)).status == 401


async def test_people_sign_in_to_the_dashboard(keycloak: Keycloak, store: Valkey) -> None:
    if executable() is None:
        pytest.skip(f"no {NAMES[0]} on PATH")
    settings: dict[str, Any] = {**settings_of_jwt(keycloak), "dashboard_client_id": "dashboard"}
    async with (
        Site(store.url, ahead_s=0, **settings) as site,
        chromium() as browser,
        fresh(browser, now=None) as context,
        PageProbe.opened(context, site) as looking,
    ):
        looking.origins.add(keycloak.url)
        page = looking.page
        board, form = page.locator("#board"), page.locator("#kc-form-login")
        await looking.go("/?range=7d")
        await page.get_by_role("button", name="Sign in at").click()
        await form.locator("#username").fill("ada")
        await form.locator("#password").fill("of Ada")
        await form.locator("#kc-login").click()
        await looking.drawn()
        await expect(board).to_be_visible()
        assert page.url == f"{site.url}/?range=7d"

        # A token that the api no longer takes is renewed without a word.
        first = await page.evaluate(ACCESS_TOKEN)
        await page.route("**/v1/overview*", lambda route: route.fulfill(status=401, body="{}"), times=1)
        async with page.expect_response(endpoint(keycloak, "token")):
            await page.locator("#range").select_option("30d")
        await looking.drawn()
        await expect(board).to_be_visible()
        second = await page.evaluate(ACCESS_TOKEN)
        assert second != first
        assert claims(second)["aud"] == API_CLIENT

        # Signing out ends the session at the provider too: it asks for the password again.
        await page.locator("#sign-out").click()
        await expect(page.locator("#sign-in")).to_be_visible()
        await expect(board).to_be_hidden()
        await page.wait_for_url(f"{site.url}/")
        await page.get_by_role("button", name="Sign in at").click()
        await expect(form.locator("#password")).to_be_visible()
