"""Each statement of the products' documents is answered as its row says."""

from __future__ import annotations

import ast
import asyncio
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner

from deploy.cli.main import main
from schemas.ledger.keys import Shard
from tests.api.conftest import Clock, Serve
from tests.api.dialects.auth0.conftest import counted
from tests.api.documents import janssen
from tests.api.documents.page import DOCUMENTS, PAGE, rendered
from tests.api.documents.statement import Statement, contains
from tests.api.ledger_writer import LedgerWriter, open_ledger
from tests.api.otp import COUNTS, Event, given, state, write
from tests.api.sources import by_file, listed

ROOT: Final = Path(__file__).parents[3]
NOW: Final = {"auth0": datetime(2026, 11, 20, 13, 30, tzinfo=UTC), "linotp": datetime(2026, 11, 20, tzinfo=UTC)}


def rows() -> Iterator[object]:
    for name, (_, statements) in DOCUMENTS.items():
        for number, statement in enumerate(statements, 1):
            yield pytest.param(name, statement, id=f"{name}-{number}")


async def fill(world: str, url: str, folder: Path) -> None:
    """The data behind a document's samples."""
    ledger = open_ledger(url)
    if world == "janssen":
        await asyncio.to_thread(import_sample, url, folder)
        for month, users in (("2021-08", 5), ("2021-09", 7), ("2022-01", 9), ("2022-02", 4)):
            ledger.few_users(month, range(users))
        ledger.tokens("2022-01", {"password": {"access_token": 3}})
    elif world == "servers":
        for server in range(10):
            ledger.few_users("2023-03", range(server * 10, server * 10 + 10), Shard("auth.logins", server))
    elif world == "gluu":
        ledger.few_users("2021-11", range(2))
        ledger.tokens(
            "2021-11",
            {"authorization_code": {"access_token": 144, "id_token": 144}, "client_credentials": {"access_token": 10}},
        )
    elif world == "auth0":
        await asyncio.to_thread(auth0_days, url, ledger)
    else:
        await write(url, OTP[world], STATES if world == "states" else COUNTS)


STATES: Final = Shard("auth.otp-tokens", 0)


def import_sample(url: str, folder: Path) -> None:
    path = folder / "past.json"
    path.write_text(json.dumps(janssen.SAMPLE), encoding="utf-8")
    environment = {"AUTHTALLY_REDIS_URL": url, "AUTHTALLY_USER_HASH_KEY": "a key for tests, long enough"}
    done = CliRunner().invoke(main, ["import-stat", str(path)], env=environment)
    assert done.exit_code == 0, done.output


def auth0_days(url: str, ledger: LedgerWriter) -> None:
    ledger.few_users("2026-11-20", range(4))
    counted(url, "2026-11-17", {"login": 5, "signup": 2, "leaked_password": 1})
    counted(url, "2026-11-19", {"login": 10, "signup": 1})


def many(number: int, day: str, realm: str, status: str) -> Iterator[Event]:
    for count in range(number):
        yield given(f"{day}T{count // 60:02}:{count % 60:02}:00Z", realm, status, count)


AT: Final = "2016-07-25T13:27:47Z"
LATER: Final = "2022-04-10T00:00:00Z"
OTP: Final[dict[str, Sequence[Event]]] = {
    "linotp": [
        given(AT, "realm1", "active", 132, "token_tokenrealm"),
        given(AT, "realm1", "total", 150, "token_tokenrealm"),
        given("2016-07-25T13:27:54Z", "realm2", "active", 300, "token_tokenrealm"),
        *many(27, "2016-07-26", "realm2", "total"),
    ],
    "pairs": [
        given("2016-07-26T11:37:58Z", "realm1", "unassigned&active", 11, "token_enable"),
        given("2016-07-26T13:00:10Z", "realm1", "unassigned&active", 12, "token_init"),
        *many(4, "2016-07-27", "realm1", "unassigned&active"),
        given("2016-07-27T00:00:00Z", "realm1", "total", 5),
    ],
    "states": [
        state("2016-07-25T10:00:00Z", "1", "token_init", "realm1"),
        state("2016-07-25T10:00:01Z", "2", "token_init", "realm1", user_id="ada"),
        state("2016-07-25T10:00:02Z", "3", "token_init", "realm1", active=False),
        state("2016-07-25T10:00:03Z", "3", "token_disable", "realm1", active=False),
        state("2016-07-25T10:00:04Z", "4", "token_init"),
    ],
    "maxima": [
        *(
            given(AT, "realm1", status, count)
            for status, count in (("total", 270), ("unassigned", 15), ("inactive", 25))
        ),
        given(AT, "realm2", "total", 178),
    ],
    "period": [
        *(
            given(time, realm, status, count)
            for time, realm, count in (
                (LATER, "users", 6),
                ("2022-06-01T00:00:00Z", "admin", 2),
                (LATER, "realm2_user", 1),
            )
            for status in ("active", "assigned", "active&assigned")
        ),
    ],
    # 586 rows, 432 of them of realm1, 157 of `total`, 18 of `inactive`, 68 of `active` in realm1.
    "deletes": [
        *many(100, "2016-07-20", "realm1", "total"),
        *many(68, "2016-07-20", "realm1", "active"),
        *many(18, "2016-07-27", "realm1", "inactive"),
        *many(246, "2016-07-27", "realm1", "assigned"),
        *many(57, "2016-07-20", "realm2", "total"),
        *many(97, "2016-07-27", "realm2", "assigned"),
    ],
}


@pytest.mark.parametrize(("document", "statement"), list(rows()))
async def test_a_statement_holds(
    serve: Serve, redis_url: str, clock: Clock, tmp_path: Path, document: str, statement: Statement
) -> None:
    if statement.proof:
        assert not statement.path
        assert_proof(statement.proof)
        return
    clock.now = NOW[document].timestamp() if document in NOW else clock.now
    await fill(statement.world or document, redis_url, tmp_path)
    access = (
        {}
        if document == "linotp"
        else tokens(tmp_path, document, str(statement.settings.get("stat_scope", "jans_stat")))
    )
    api = await serve(**{"redis_url": redis_url, **access, **statement.settings})
    token = statement.token if access else None
    answer = await (
        api.get(statement.path, token) if statement.form is None else api.post(statement.path, statement.form)
    )
    assert answer.status == statement.status, answer.text
    assert statement.json is None or contains(answer.json, statement.json), answer.text
    for part in statement.says:
        assert part in answer.text
    for name, part in statement.headers.items():
        assert part in answer.headers[name]


def tokens(folder: Path, document: str, stat_scope: str) -> dict[str, object]:
    """`reader` has the default scope of the document; `other` has `stat_scope` if that is another, else a third."""
    default = "read:stats" if document == "auth0" else "jans_stat"
    scopes = [default] if stat_scope == "jans_stat" else ["reporting"]
    return by_file(
        folder,
        *(listed(name, scopes=scopes) for name in ("reader", janssen.BEARER)),
        listed("other", scopes=["reporting" if stat_scope == "jans_stat" else stat_scope]),
    )


def assert_proof(proof: str) -> None:
    """The test exists."""
    path, _, name = proof.partition("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    names = {each.name for each in ast.walk(tree) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert name in names, proof


def test_the_page_has_every_row() -> None:
    assert PAGE.read_text(encoding="utf-8") == rendered(), "run `make docs`"


def test_a_verdict_other_than_as_documented_has_a_reason() -> None:
    for _, statements in DOCUMENTS.values():
        for statement in statements:
            assert bool(statement.why) == (statement.verdict != "as documented"), statement.text
            assert statement.proof or statement.json is not None or statement.says, statement.text
