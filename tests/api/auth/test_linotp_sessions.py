"""Sessions of LinOTP's own /admin/getsession, and scripts that sign in with Basic authentication."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from api.auth.linotp_sessions import MAX_REMEMBERED
from tests.api.auth.test_sessions import ask, cookie_of
from tests.api.conftest import Answer, Api, Clock, Serve
from tests.api.otp import policy, written
from tests.api.sources import by_file, listed

SESSION = "6c9f" * 16
ASKED = "/reporting/maximum"


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class Linotp:
    """The other party. `sessions` are those that it accepts; with `passwords` its web server signs users in.

    Like LinOTP 2 behind such a web server, it accepts any session of a user who is signed in. `answer` replaces its
    answer.
    """

    def __init__(self) -> None:
        self.sessions = {SESSION}
        self.passwords: dict[str, str] = {}
        self.everything = False
        self.answer: web.Response | None = None
        self.questions: list[str] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        session = request.query.get("session", "")
        self.questions.append(session)
        if self.answer is not None:
            return web.Response(body=self.answer.body, status=self.answer.status, headers=self.answer.headers)
        signed_in = request.headers.get("Authorization") in {basic(*each) for each in self.passwords.items()}
        agree = bool(session) and request.cookies.get("admin_session") == session
        if not (agree and (self.everything or signed_in or session in self.sessions)):
            return web.Response(status=401, text="You have no valid session!")
        return web.json_response({"jsonrpc": "2.0802", "result": {"status": True, "value": {}}, "id": 0})


@pytest.fixture
async def linotp() -> AsyncIterator[Linotp]:
    server = Linotp()
    app = web.Application()
    app.add_routes([web.get("/system/getRealms", server.handle)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = "http://{}:{}".format(*runner.addresses[0])
    yield server
    await runner.cleanup()


@pytest.fixture
def bearers(tmp_path: Path) -> dict[str, object]:
    return by_file(tmp_path, listed("s3cret", scopes=["reporting"]), listed("reader", scopes=["stats:read"]))


@pytest.fixture
async def api(serve: Serve, redis_url: str, bearers: dict[str, object], linotp: Linotp) -> Api:
    return await serve(redis_url=redis_url, linotp_url=linotp.url + "/", **bearers)


def good(answer: Answer) -> bool:
    return answer.status == 200 and bool(answer.json["result"]["status"])


async def test_a_session_of_linotp_is_good_here(api: Api, linotp: Linotp) -> None:
    assert good(await ask(api, SESSION, SESSION))
    assert linotp.questions[-1] == SESSION


@pytest.mark.parametrize(
    ("cookie", "session", "why"),
    [
        ("0" * 64, "0" * 64, "LinOTP does not know it"),
        (SESSION, "0" * 64, "cookie and parameter differ"),
        (SESSION, None, "no parameter"),
        (None, SESSION, "no cookie"),
        ("a%3bb", "a%3bb", "no session at all"),
        ("f" * 300, "f" * 300, "too long"),
    ],
)
async def test_other_sessions_are_refused(
    api: Api, linotp: Linotp, cookie: str | None, session: str | None, why: str
) -> None:
    assert (await ask(api, cookie, session)).status == 401, why
    assert SESSION not in linotp.questions, why


async def test_without_the_setting_linotp_is_not_asked(
    serve: Serve, redis_url: str, bearers: dict[str, object], linotp: Linotp
) -> None:
    api = await serve(redis_url=redis_url, **bearers)
    assert (await ask(api, SESSION, SESSION)).status == 401
    assert linotp.questions == []


async def test_a_consent_is_remembered_for_a_minute_of_the_monotonic_clock(
    api: Api, linotp: Linotp, clock: Clock
) -> None:
    assert good(await ask(api, SESSION, SESSION))
    asked = len(linotp.questions)
    linotp.sessions.clear()
    clock.now += 59
    clock.step(-3600)
    assert good(await ask(api, SESSION, SESSION))
    assert len(linotp.questions) == asked
    clock.now += 2
    assert (await ask(api, SESSION, SESSION)).status == 401
    linotp.sessions.add(SESSION)
    assert good(await ask(api, SESSION, SESSION)), "a refusal is not remembered"


async def test_concurrent_requests_of_a_session_are_one_question(api: Api, linotp: Linotp) -> None:
    answers = await asyncio.gather(*(ask(api, SESSION, SESSION) for _ in range(20)))
    assert all(map(good, answers))
    assert linotp.questions.count(SESSION) == 1


async def test_what_is_remembered_is_bounded(api: Api, linotp: Linotp) -> None:
    linotp.sessions |= {f"{number:064}" for number in range(MAX_REMEMBERED)}
    assert good(await ask(api, SESSION, SESSION))
    for number in range(MAX_REMEMBERED):
        assert good(await ask(api, f"{number:064}", f"{number:064}"))
    assert good(await ask(api, SESSION, SESSION))
    assert linotp.questions.count(SESSION) == 2


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (web.Response(status=500), "a fault"),
        (web.Response(status=302, headers={"Location": "/"}), "a redirect"),
        (web.Response(status=404), "another server"),
        (web.Response(text="<html>"), "a page"),
        (web.Response(text="[]"), "another answer"),
        (web.Response(text="x" * (1 << 21)), "too long"),
    ],
)
async def test_an_answer_that_is_none_is_a_503(
    api: Api, linotp: Linotp, answer: web.Response, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    linotp.answer = answer
    for _ in range(3):
        assert (await ask(api, SESSION, SESSION)).status == 503, why
    said = capsys.readouterr().out
    assert said.count("sessions of LinOTP not verified") == 1
    assert "AUTHTALLY_LINOTP_URL" in said
    assert SESSION not in said
    linotp.answer = None
    assert good(await ask(api, SESSION, SESSION))


async def test_an_unreachable_linotp_is_a_503(serve: Serve, redis_url: str, bearers: dict[str, object]) -> None:
    api = await serve(redis_url=redis_url, linotp_url="http://127.0.0.1:9", **bearers)
    assert (await ask(api, SESSION, SESSION)).status == 503
    assert good(await api.get(ASKED, "s3cret")), "tokens need no LinOTP"


async def test_a_linotp_that_accepts_any_session_is_not_believed(
    api: Api, linotp: Linotp, capsys: pytest.CaptureFixture[str]
) -> None:
    """LinOTP 2 without its web server only compares cookie and parameter: anybody can invent both."""
    linotp.everything = True
    assert (await ask(api, SESSION, SESSION)).status == 503
    assert "an invented session is accepted" in capsys.readouterr().out


async def test_the_users_own_sign_in_is_passed_on_and_names_the_user(
    serve: Serve, redis_url: str, tmp_path: Path, bearers: dict[str, object], linotp: Linotp
) -> None:
    linotp.sessions.clear()
    linotp.passwords = {"ada": "pw", "bob": "pw"}
    path = written(tmp_path, policy("reporting.access", "maximum", user="ada"))
    api = await serve(redis_url=redis_url, linotp_url=linotp.url, reporting_policy_file=path, **bearers)

    async def code(authorization: str) -> int:
        headers = {"Cookie": f"admin_session={SESSION}", "Authorization": authorization}
        answer = await api.get(f"{ASKED}?session={SESSION}", headers=headers)
        return 0 if good(answer) else answer.json["result"]["error"]["code"] if answer.status == 200 else answer.status

    assert await code(basic("ada", "pw")) == 0
    assert await code(basic("bob", "pw")) == 410, "signed in, but no policy names him"
    assert await code(basic("ada", "wrong")) == 401, "a consent is for one password"
    assert await code('Digest username="ada", uri="/admin/getsession"') == 401, "valid for its own address only"


async def test_basic_authentication_with_a_token_as_password_opens_a_session(api: Api, linotp: Linotp) -> None:
    answer = await api.get("/admin/getsession", headers={"Authorization": basic("admin", "s3cret")})
    assert good(answer)
    session = cookie_of(answer)
    # Clients send the header with every request.
    headers = {"Cookie": f"admin_session={session}", "Authorization": basic("admin", "s3cret")}
    assert good(await api.get(f"{ASKED}?session={session}", headers=headers))
    assert linotp.questions == []


@pytest.mark.parametrize(
    ("authorization", "status", "why"),
    [
        (basic("admin", "wrong"), 401, "no token"),
        (basic("s3cret", ""), 401, "the token is the password"),
        ("Basic !!!", 401, "not base64"),
        ("Basic " + base64.b64encode(b"\xff:x").decode(), 401, "not UTF-8"),
        ("Basic " + base64.b64encode(b"admin").decode(), 401, "without a password"),
        (basic("admin", "reader"), 200, "a token without the scope: LinOTP's own error"),
    ],
)
async def test_bad_credentials_open_none(api: Api, authorization: str, status: int, why: str) -> None:
    answer = await api.get("/admin/getsession", headers={"Authorization": authorization})
    assert (answer.status, good(answer)) == (status, False), why
    assert "Set-Cookie" not in answer.headers
    if status == 401:
        assert 'Basic realm="authtally"' in answer.headers["WWW-Authenticate"], "so that clients offer theirs"


async def test_basic_alone_is_no_session(api: Api) -> None:
    assert (await api.get(ASKED, headers={"Authorization": basic("admin", "s3cret")})).status == 401


@pytest.mark.parametrize("method", ["--basic", "--anyauth"])
async def test_a_script_with_curl_signs_in(api: Api, tmp_path: Path, method: str) -> None:
    jar = tmp_path / "jar"

    async def curl(path: str) -> str:
        command = ("curl", "-s", method, "-u", "admin:s3cret", "-b", jar, "-c", jar, api.url + path)
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        answer, _ = await asyncio.wait_for(process.communicate(), 60)
        return answer.decode()

    assert '"value": true' in await curl("/admin/getsession")
    session = jar.read_text().split()[-1]
    assert '"status": true' in await curl(f"/reporting/show?session={session}")
