"""A real LinOTP's history through both feeds: every question that it was asked is answered as it answered.

The table of differences that stay is in docs/api/linotp.md.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from tests.api.conftest import Answer, Api, Clock, Serve
from tests.api.dialects.linotp import recordings
from tests.api.otp import REPORT, write, written
from tests.api.sources import by_file, listed

ANSWERS = recordings.answers()
NAMES = [f"{number} {one['path']} {urlencode(one['params'])}" for number, one in enumerate(ANSWERS)]

REALMS_UNORDERED = {18, 21, 22, 23, 30, 31, 35}
"""Answers that list realms: LinOTP takes them from a set, so their order differs between its own processes."""


@pytest.fixture(autouse=True)
def now(clock: Clock) -> None:
    clock.now = datetime.fromisoformat(recordings.NOW).timestamp()


async def recorded_history(redis_url: str, feed: str) -> None:
    if feed == "rows":
        await write(redis_url, recordings.table_rows(), REPORT)
    else:
        await write(redis_url, recordings.events())


async def serve_recorded(serve: Serve, redis_url: str, folder: Path, *policies: str, **settings: Any) -> Api:
    path = written(folder, recordings.RECORDING_POLICY, *policies)
    more = {"linotp_shape": "source", "linotp_realms": recordings.REALMS, "reporting_policy_file": path}
    return await serve(redis_url=redis_url, **more, **settings)


async def ask(api: Api, method: str, path: str, params: dict[str, str], token: str | None = None) -> Answer:
    query = urlencode(params, quote_via=quote)
    if method == "GET":
        return await api.get(f"/reporting/{path}?{query}", token)
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with api._session.post(f"{api.url}/reporting/{path}", data=params, headers=headers) as response:
        return Answer(response, await response.read())


def content(body: str) -> Any:
    """An answer with realms in one order."""
    if not body.startswith("{"):
        return body
    answer = json.loads(body)
    value = answer["result"].get("value")
    if isinstance(value, dict) and "realms" in value:
        value["realms"].sort(key=lambda realm: realm["name"])
    return answer


async def test_rows_of_the_table_are_returned_as_by_linotp(serve: Serve, redis_url: str, tmp_path: Path) -> None:
    await recorded_history(redis_url, "rows")
    api = await serve_recorded(serve, redis_url, tmp_path)
    differing = set()
    for number, asked in enumerate(ANSWERS):
        answer = await ask(api, asked["method"], asked["path"], asked["params"])
        assert (answer.status, answer.headers["Content-Type"]) == (asked["status"], asked["content_type"]), NAMES[
            number
        ]
        assert content(answer.text) == content(asked["body"]), NAMES[number]
        if answer.text != asked["body"]:
            differing.add(number)
    assert differing <= REALMS_UNORDERED
    assert len(ANSWERS) - len(REALMS_UNORDERED) == 30


def left_by_copy(row: dict[str, Any]) -> bool:
    """LinOTP writes no row for the realm that a token leaves by `token_copyTokenUser`; here each realm has its row."""
    return (row["event"], row["realm"]) == ("token_copyTokenUser", "realm1")


MORE_BEYOND_THE_PAGE = {12: 10, 13: 1}
"""By answer: such rows on other pages than the one that was asked for."""


def by_event(answer: Any, number: int) -> Any:
    """Rows at the time of their event, in one order, without those that LinOTP does not write."""
    if isinstance(answer, dict) and isinstance(answer["result"].get("value"), list):
        result, detail = answer["result"], answer["detail"]
        rows = [recordings.with_event_time(row) for row in result["value"] if not left_by_copy(row)]
        more = len(result["value"]) - len(rows)
        result["value"] = sorted(rows, key=lambda row: tuple(map(str, row.values())))
        result["queried"] -= more
        if number in MORE_BEYOND_THE_PAGE:
            assert not more
            detail["report_rows"] -= MORE_BEYOND_THE_PAGE[number]
        else:
            detail["report_rows"] -= more
            detail["pagesize"] -= more
    return answer


async def test_events_are_returned_as_by_linotp(serve: Serve, redis_url: str, tmp_path: Path) -> None:
    await recorded_history(redis_url, "events")
    api = await serve_recorded(serve, redis_url, tmp_path)
    for number, asked in enumerate(ANSWERS):
        answer = await ask(api, asked["method"], asked["path"], asked["params"])
        assert answer.status == asked["status"], NAMES[number]
        expected = content(asked["body"])
        if isinstance(expected, dict) and isinstance(expected["result"].get("value"), list):
            rows = expected["result"]["value"]
            assert not any(map(left_by_copy, rows))
            rows[:] = sorted(map(recordings.with_event_time, rows), key=lambda row: tuple(map(str, row.values())))
        assert by_event(content(answer.text), number) == expected, NAMES[number]


POLICIES = recordings.policies()


@pytest.mark.parametrize("feed", ["rows", "events"])
@pytest.mark.parametrize("number", range(len(POLICIES)))
async def test_an_export_admits_and_refuses_as_in_linotp(
    serve: Serve, redis_url: str, tmp_path: Path, number: int, feed: str
) -> None:
    await recorded_history(redis_url, feed)
    sources = by_file(tmp_path, *(listed(user, scopes=["reporting"]) for user in ("ada", "admin")))
    api = await serve_recorded(serve, redis_url, tmp_path, POLICIES[number]["policies"], **sources)
    asked = POLICIES[number]["answers"]
    assert len(asked) == 16
    for user, method, path, params, status, expected in asked:
        answer = await ask(api, method, path, params, user)
        assert answer.status == status
        result = answer.json["result"]
        where = f"{user} {path} {params}"
        if "error" in expected:
            assert (result["status"], result["error"]) == (False, {"code": 410, "message": expected["error"]}), where
        elif "value" in expected:
            assert result["value"] == expected["value"], where
        else:
            assert summary(path, result["value"], feed) == expected, where


def summary(path: str, value: Any, feed: str) -> dict[str, Any]:
    if path == "show":
        rows = [row for row in value if feed == "rows" or not left_by_copy(row)]
        return {"rows": len(rows), "realms": sorted({row["realm"] for row in rows})}
    realms = value if path == "maximum" else [realm["name"] for realm in value["realms"]]
    return {"realms": sorted(realms)}
