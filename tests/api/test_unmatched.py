"""Unknown paths and methods in the shape of their surface, and HEAD wherever GET is."""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

import aiohttp
import pytest
from aiohttp import hdrs

from tests.api.conftest import Api, Serve
from tests.api.ledger_writer import LedgerWriter

NOT_FOUND: Final = "There is no such path."
QUESTIONS: Final = "This path allows the methods GET, HEAD only."
FORMS: Final = "This path allows the methods GET, HEAD, POST only."


def problem(status: int, title: str, detail: str) -> dict[str, Any]:
    return {"type": "about:blank", "title": title, "status": status, "detail": detail}


def auth0(status: int, error: str, message: str, code: str) -> dict[str, Any]:
    return {"statusCode": status, "error": error, "message": message, "errorCode": code}


class Case(NamedTuple):
    method: str
    path: str
    status: int
    document: dict[str, Any]
    allow: str | None = None


STAT: Final = "/jans-auth/restv1/internal/stat"
CASES: Final = [
    Case("GET", "/jans-auth/x", 404, {"error": "not_found", "error_description": NOT_FOUND}),
    Case("GET", f"{STAT}/", 404, {"error": "not_found", "error_description": NOT_FOUND}),
    Case("PUT", STAT, 405, {"error": "method_not_allowed", "error_description": FORMS}, "GET, HEAD, POST"),
    Case("GET", "/oxauth", 404, {"error": "not_found", "error_description": NOT_FOUND}),
    Case(
        *("DELETE", "/oxauth/sys/health-check", 405),
        {"error": "method_not_allowed", "error_description": FORMS},
        "GET, HEAD, POST",
    ),
    Case("GET", "/api/v2/users", 404, auth0(404, "Not Found", NOT_FOUND, "not_found")),
    Case(
        *("POST", "/api/v2/stats/daily", 405),
        auth0(405, "Method Not Allowed", QUESTIONS, "method_not_allowed"),
        "GET, HEAD",
    ),
    Case("GET", "/v1/nothing", 404, problem(404, "Not Found", NOT_FOUND)),
    Case("POST", "/v1/overview", 405, problem(405, "Method Not Allowed", QUESTIONS), "GET, HEAD"),
    Case("GET", "/", 404, problem(404, "Not Found", NOT_FOUND)),
    Case("GET", "/jans-authx", 404, problem(404, "Not Found", NOT_FOUND)),
    Case("POST", "/metrics", 405, problem(405, "Method Not Allowed", QUESTIONS), "GET, HEAD"),
    Case("OPTIONS", "/v1/overview", 405, problem(405, "Method Not Allowed", QUESTIONS), "GET, HEAD"),
]


@pytest.fixture
async def api(serve: Serve, redis_url: str) -> Api:
    return await serve(redis_url=redis_url, dashboard=False)


async def ask(api: Api, method: str, path: str, **headers: str) -> tuple[int, Any, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, api.url + path, headers=headers) as response,
    ):
        body = await response.read()
        return response.status, response.headers, body


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.method} {case.path}")
async def test_errors_have_the_shape_of_the_surface(api: Api, case: Case) -> None:
    status, headers, body = await ask(api, case.method, case.path)
    assert (status, json.loads(body)) == (case.status, case.document)
    assert headers.get(hdrs.ALLOW) == case.allow
    assert "json" in headers[hdrs.CONTENT_TYPE]
    assert headers["X-Request-Id"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/reporting/status", "/reporting has no 'status', only show, period, maximum, delete_all, delete_before."),
        ("/admin/nothing", NOT_FOUND),
        ("/reporting", NOT_FOUND),
    ],
)
async def test_linotp_answers_an_unknown_path_in_its_envelope(api: Api, path: str, message: str) -> None:
    answer = await api.get(path)
    assert answer.status == 404
    assert answer.json["result"] == {"status": False, "error": {"code": -311, "message": message}}


async def test_the_source_shapes_have_their_own_text(serve: Serve, redis_url: str) -> None:
    api = await serve(redis_url=redis_url, janssen_shape="source")
    assert (
        await api.get("/jans-auth/x")
    ).text == '{\n    "error_description": "not_found",\n    "error": "not_found"\n}'


async def test_a_missing_file_of_the_dashboard_is_a_problem_document(serve: Serve, redis_url: str) -> None:
    api = await serve(redis_url=redis_url)
    answer = await api.get("/dashboard/0123456789abcdef/nothing.js")
    assert (answer.status, answer.json) == (404, problem(404, "Not Found", NOT_FOUND))
    assert "Content-Security-Policy" in answer.headers


QUERIES: Final = {
    STAT: "?month=202611",
    "/oxauth/restv1/internal/stat": "?month=202611",
    "/reporting/period": "?from=2026-11-01&to=2026-11-02",
}
CHANGING: Final = {"/reporting/delete_all", "/reporting/delete_before", "/admin/getsession", "/admin/dropsession"}
"""GET changes something: a HEAD would, too."""


async def test_head_is_answered_wherever_get_is(serve: Serve, redis_url: str, ledger: LedgerWriter) -> None:
    ledger.few_users("2026-11", range(3))
    api = await serve(redis_url=redis_url)
    paths = {
        route.resource.canonical
        for route in api.app.router.routes()
        if route.method == "GET" and route.resource is not None and "{" not in route.resource.canonical
    }
    assert len(paths) > 25
    for path in sorted(paths - {"/v1/live"}):
        status, headers, body = await ask(api, "HEAD", path + QUERIES.get(path, ""))
        if path in CHANGING:
            assert status == 405, path
            continue
        answer = await api.get(path + QUERIES.get(path, ""))
        assert (status, headers[hdrs.CONTENT_TYPE], body) == (answer.status, answer.headers[hdrs.CONTENT_TYPE], b"")
