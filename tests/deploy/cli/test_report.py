"""`authtally report` shows what a running api answers, and says what to change when it answers nothing."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner

from deploy.cli.commands.report import QUESTIONS
from deploy.cli.main import main
from deploy.cli.report import QUESTIONS as ROUTES
from deploy.cli.report.tables import TABLES
from deploy.demo.servers import Valkey
from schemas.ledger import fields, keys
from schemas.ledger.keys import Shard, ShardKeys
from schemas.ledger.scopes import EVERYTHING, OTHER, Scope
from tests.api.ledger_writer import PREFIX, open_ledger
from tests.api.otp import state, write
from tests.api.sources import listed
from tests.integration.api_process import ApiProcess

TOKENS = {"reader": ["stats:read"], "stranger": ["jans_stat"]}
ACME = Scope("realm", ("acme",))
OTP_LOG = [
    state("2024-06-10T10:00:00Z", "1", "token_init", "acme", user_id="ada"),
    state("2024-06-11T10:00:00Z", "2", "token_init", "acme", "globex"),
    state("2024-06-12T10:00:00Z", "3", "token_init"),
]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An api before a ledger of June 2024; its URL."""
    folder = tmp_path_factory.mktemp("report")
    entries = [listed(name, scopes=scopes) for name, scopes in TOKENS.items()]
    (folder / "tokens.json").write_text(json.dumps(entries))
    with Valkey() as store:
        fill(store.url)
        asyncio.run(write(store.url, OTP_LOG, retain_days="forever"))
        settings = {"redis_url": store.url, "auth": "static", "auth_tokens_file": str(folder / "tokens.json")}
        with ApiProcess(**settings) as process:
            yield f"http://{process.address}"


def fill(url: str) -> None:
    ledger = open_ledger(url)
    ledger.few_users("2024-06-15", range(3))
    ledger.few_users("2024-06-14", range(2))
    ledger.few_users("2024-06", range(7))
    ledger.few_users("2024-06", range(4), scope=ACME)
    ledger.many_users("2024-05", range(20_000))
    ledger.tokens("2024-06", {"password": {"access_token": 1500}, "client_credentials": {"access_token": 40}})
    with redis.Redis.from_url(url) as client:
        shard = ShardKeys(PREFIX, Shard("auth.logins", 0))
        client.sadd(shard.labels, fields.label("realm", "acme"))
        for field, count in ((fields.LOGIN, 12), (fields.failed("locked"), 3), (fields.account("signup"), 2)):
            client.hset(shard.counts("2024-06", EVERYTHING), field, count)
        client.hset(shard.counts("2024-06", Scope("client", ("acme", OTHER))), fields.failed("locked"), 3)
        client.hset(shard.progress, mapping={"consumed": 1234, "counted": 1230, "duplicates": 4})
        client.hset(shard.progress, fields.FIRST_EVENT, int(datetime(2024, 5, 1, tzinfo=UTC).timestamp() * 1000))
        client.hset(keys.imported(PREFIX), mapping={"2024-04/active": 99, "2024-04/source": "the old system"})


def run(url: str, *arguments: str, token: str = "reader", **settings: str) -> Any:
    environment = {"AUTHTALLY_URL": url, "AUTHTALLY_TOKEN": token} | settings
    return CliRunner().invoke(main, ["report", *arguments], env=environment)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def rows_of(output: str) -> list[str]:
    return [" ".join(line.split()) for line in output.splitlines()]


def test_every_question_has_a_route_and_a_table() -> None:
    assert set(QUESTIONS) == set(ROUTES) == set(TABLES)


def test_the_overview_is_shown(api: str) -> None:
    done = run(api, "--date", "2024-06-15")
    assert done.exit_code == 0, done.output
    rows = rows_of(done.output)
    assert "daily active users 2024-06-15 3 exact 2 +50.0%" in rows
    assert any(row.startswith("2024-04 99 -") and row.endswith("imported from the old system") for row in rows)
    assert any(row.startswith("2024-06 7 exact 12 3 2 1,540") for row in rows)
    (may,) = (row for row in rows if row.startswith("2024-05"))
    assert "±0.20%" in may
    assert any(row.startswith("Largest month: ") and row.endswith("in 2024-05.") for row in rows)


SERIES = [
    pytest.param(
        ("active-users", "--granularity", "month", "--from", "2024-04-01", "--to", "2024-06-30"),
        ["2024-04 99 - imported from the old system", "2024-06 7 exact"],
        id="months",
    ),
    pytest.param(
        ("active-users", "--granularity", "month", "--from", "2024-06-01", "--to", "2024-06-30", "--group-by", "realm"),
        ["2024-06 acme 4 exact"],
        id="by realm",
    ),
    pytest.param(
        ("active-users", "--granularity", "week", "--from", "2024-06-10", "--to", "2024-06-16"),
        ["2024-W24 2024-06-10 2024-06-16 3 exact"],
        id="weeks",
    ),
    pytest.param(
        ("lifecycle", "--from", "2024-04-01", "--to", "2024-07-31", "--realm", "acme"),
        [
            "only realm acme",
            "period active new returning reactivated lapsed",
            "2024-05 0 - - - - no users before are known",
            "2024-06 4 4 0 0 0",
            "2024-07 0 0 0 0 4",
            "All figures are exact.",
            "new: Active in the period, and on no day between 2024-05-01 (the first counted day) and its start.",
        ],
        id="lifecycle of a realm",
    ),
    pytest.param(
        ("lifecycle", "--granularity", "week", "--from", "2024-06-10", "--to", "2024-06-20"),
        ["period from to active new returning reactivated lapsed", "2024-W25 2024-06-17 2024-06-23 0 0 0 0 3 ±<0.1%"],
        id="lifecycle by week",
    ),
    pytest.param(
        ("retention", "--from", "2024-06-01", "--to", "2024-08-31", "--cohort", "new", "--realm", "acme"),
        [
            "period users +1 +2",
            "2024-06 4 0.0 0.0",
            "2024-07 0 -",
            "2024-08 0",
            "Percent of the users that were new in each month that were active +1, +2, … months later.",
            "All figures are exact.",
        ],
        id="retention of new users",
    ),
    pytest.param(
        ("retention", "--from", "2023-07-01", "--to", "2024-06-30", "--ages", "7", "--realm", "acme"),
        ["period users +1 +2 +3 +4 +5 +6", "period users +7"],
        id="retention of many ages in several tables",
    ),
    pytest.param(
        ("logins", "--granularity", "month", "--from", "2024-06-01", "--to", "2024-06-30"),
        ["period succeeded failed", "2024-06 12 3"],
        id="logins",
    ),
    pytest.param(
        ("logins", "--granularity", "month", "--from", "2024-06-01", "--to", "2024-06-30", "--group-by", "client_id"),
        ["3 failed logins have an unknown client.", "2024-06 acme __other__ 0 3"],
        id="logins by client",
    ),
    pytest.param(
        ("tokens", "--granularity", "month", "--from", "2024-06-01", "--to", "2024-06-30", "--group-by", "grant_type"),
        ["period grant type tokens", "2024-06 password 1,500", "2024-06 client_credentials 40"],
        id="tokens",
    ),
    pytest.param(
        ("accounts", "--granularity", "month", "--from", "2024-06-01", "--to", "2024-06-30"),
        ["2024-06 2"],
        id="accounts",
    ),
    pytest.param(("m2m", "--month", "2024-06"), ["all 40 - - 40 -"], id="machines"),
    pytest.param(
        ("otp-tokens",),
        [
            "realm total active inactive assigned unassigned active&assigned active&unassigned inactive&assigned "
            "inactive&unassigned total users",
            "acme 2 2 0 1 1 1 1 0 0 1",
            "globex 1 1 0 0 1 0 1 0 0 0",
            "/:no realm:/ 1 1 0 0 1 0 1 0 0 0",
            "sum 4 4 0 1 3 1 3 0 0 1",
        ],
        id="otp tokens",
    ),
    pytest.param(
        ("otp-tokens", "--realm", "acme", "--from", "2024-06-10", "--to", "2024-06-11"),
        ["2024-06-10 acme 1 1 0 1 0 1 0 0 0 1", "2024-06-11 acme 2 2 0 1 1 1 1 0 0 1"],
        id="otp tokens by day",
    ),
    pytest.param(("pipeline",), ["1,237 consumed = 1,233 counted + 4 duplicates + 0 ignored + 0 dead."], id="pipeline"),
]


@pytest.mark.parametrize(("arguments", "lines"), SERIES)
def test_a_question_is_shown_as_a_table(api: str, arguments: tuple[str, ...], lines: list[str]) -> None:
    done = run(api, *arguments)
    assert done.exit_code == 0, done.output
    rows = rows_of(done.output)
    assert [line for line in lines if line not in rows] == [], done.output


def test_estimates_have_their_errors_and_bounds(api: str) -> None:
    months = ("--from", "2024-04-01", "--to", "2024-06-30")
    answer = json.loads(run(api, "lifecycle", *months, "--json").stdout)
    may, june = answer["items"][1:]
    output = rows_of(run(api, "lifecycle", *months).output)
    (row,) = (row for row in output if row.startswith("2024-05"))
    assert f"{may['active']['value']:,} ±{may['active']['standard_error']:.1%}" in row
    assert row.endswith("the month before was imported")
    assert june["new"]["fewer_than"] is not None, "the ledger has a figure too small for its error"
    (row,) = (row for row in output if row.startswith("2024-06"))
    assert f"<{june['new']['fewer_than']:,}" in row
    assert any(row.startswith("<N: fewer than N;") for row in output)
    assert "All figures are exact." not in output
    assert any(row.startswith("2024-04 99 - - - - imported from the old system") for row in output)
    assert not any(row.startswith("new: ") and "`history" in row for row in output)


def test_retention_shows_errors_in_points(api: str) -> None:
    months = ("--from", "2024-05-01", "--to", "2024-07-31")
    answer = json.loads(run(api, "retention", *months, "--json").stdout)
    rate = answer["items"][0]["ages"][0]["rate"]
    output = rows_of(run(api, "retention", *months).output)
    shown = f"{100 * rate['value']:.1f}±{100 * rate['value'] * rate['standard_error']:.1f}"
    assert any(row.startswith("2024-05") and shown in row for row in output)
    assert any(row.startswith("±: one standard error") for row in output)


def test_json_is_the_answer_as_it_is(api: str) -> None:
    done = run(api, "logins", "--granularity", "month", "--from", "2024-06-01", "--to", "2024-06-30", "--json")
    (month,) = json.loads(done.stdout)["items"]
    assert (month["period"], month["succeeded"], month["failed"]) == ("2024-06", 12, 3)


def test_the_token_may_come_from_a_file_and_the_url_from_the_call(api: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("reader\n")
    done = run("http://127.0.0.1:1", "pipeline", "--url", api + "/", "--token-file", "token", token="")
    assert done.exit_code == 0, done.output


REFUSALS = [
    pytest.param((), {"token": ""}, 1, "asks for a token: set AUTHTALLY_TOKEN or --token-file", id="no token"),
    pytest.param((), {"token": "nobody"}, 1, "does not accept the token: set AUTHTALLY_TOKEN", id="unknown token"),
    pytest.param((), {"token": "stranger"}, 1, "does not allow this token to read it", id="another scope"),
    pytest.param((), {"token": "a\nb"}, 1, "AUTHTALLY_TOKEN: is not a bearer token", id="a token of two lines"),
    pytest.param(("--token-file", "none"), {}, 1, "--token-file none: No such file", id="no token file"),
    pytest.param(
        ("logins", "--from", "2024-02-31"), {}, 2, "`from`: 2024-02-31 is not a day of the calendar", id="no such day"
    ),
    pytest.param(("logins", "2024.json"), {}, 2, "logins takes no FILE; a signed report", id="a file"),
    pytest.param(("logins", "--month", "2024-02"), {}, 2, "logins takes no --month; it takes --from", id="an option"),
    pytest.param(
        ("lifecycle", "--group-by", "realm"), {}, 2, "each item must be one of region", id="lifecycle by realm"
    ),
    pytest.param(("lifecycle", "--granularity", "day"), {}, 2, "one of week, month", id="lifecycle by day"),
    pytest.param(("retention", "--cohort", "old"), {}, 2, "`cohort`", id="no such cohort"),
    pytest.param(("retention", "--ages", "0"), {}, 2, "from 1 to 60", id="no ages"),
    pytest.param(("lifecycle", "--client-id", "web"), {}, 2, "USERS_BY", id="lifecycle of a client that is not kept"),
    pytest.param(("logins", "--group-by", "node"), {}, 2, "COUNTS_BY", id="not kept"),
    pytest.param(("--url", "ftp://x"), {}, 2, "must be the http:// or https:// URL", id="no url"),
    pytest.param(
        (), {"AUTHTALLY_URL": "x"}, 2, "AUTHTALLY_URL: 'x' must be the http:// or https:// URL", id="no url set"
    ),
    pytest.param((), {"AUTHTALLY_TOKNE": "x"}, 2, "did you mean AUTHTALLY_TOKEN?", id="a misspelt setting"),
]


@pytest.mark.parametrize(("arguments", "settings", "status", "why"), REFUSALS)
def test_what_is_refused_says_why(
    api: str, arguments: tuple[str, ...], settings: dict[str, str], status: int, why: str
) -> None:
    refused = run(api, *arguments, **settings)
    assert refused.exit_code == status, refused.output
    assert why in refused.output
    assert "Traceback" not in refused.output


class Other(BaseHTTPRequestHandler):
    """A server that is no api of ours: what it answers is in the path."""

    def do_GET(self) -> None:
        _, status, *rest = self.path.split("/")
        self.send_response(int(status))
        if status == "302":
            self.send_header("Location", "http://elsewhere.example/")
        if status == "503":
            self.send_header("Retry-After", "1" if "soon" in rest else "7")
        body = b'{"as_of":{}}' if "half" in rest else b"<html>"
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def other() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Other)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


STRANGE = [
    pytest.param("/200", "is not an api of authtally: its answer is no JSON object", id="a page"),
    pytest.param("/200/half", "returned an answer that this version cannot print", id="another version"),
    pytest.param("/302", "redirects to http://elsewhere.example/: use that address", id="a redirect"),
    pytest.param("/404", "has no /v1", id="no route"),
    pytest.param("/429", "too many requests", id="too often"),
    pytest.param("/503", "the ledger cannot be read now. Try again in 7 s.", id="no ledger"),
    pytest.param("/500", "answers with status 500", id="a fault"),
]


@pytest.mark.parametrize(("path", "why"), STRANGE)
def test_any_answer_of_a_server_is_reported(other: str, path: str, why: str) -> None:
    failed = run(other + path)
    assert failed.exit_code == 1
    assert why in failed.output


class Busy(Other):
    """Unavailable at first, as an api that has not merged a closed period in time."""

    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        self.path = "/503/soon" if self.asked < 3 else "/200/half"
        super().do_GET()


def test_a_short_pause_is_waited_for() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Busy) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        asked = run(f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
        thread.join()
    assert Busy.asked == 3
    assert "returned an answer that this version cannot print" in asked.output


def test_an_api_that_is_not_there_is_named() -> None:
    failed = run("http://127.0.0.1:1")
    assert failed.exit_code == 1
    assert "AUTHTALLY_URL: no answer from http://127.0.0.1:1: Connection refused" in failed.output
