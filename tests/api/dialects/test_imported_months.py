"""An imported month stands until it is removed, on every surface alike, whatever is counted here."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click.testing
import pytest
import redis
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from deploy.cli.main import main
from schemas.ledger import fields
from tests.api.conftest import Api, Clock, Serve
from tests.api.own_sample import query_api
from tests.api.sources import by_file, listed
from tests.api.worker import account, count, login, token

M2M = ("client_credentials", "access_token")
OCTOBER = {
    (fields.ACTIVE,): "900",
    (fields.SOURCE,): "old.csv",
    (fields.LOGIN,): "5000",
    ("token", *M2M): "70",
    ("token", "password", "id_token"): "8",
}
LATE = "2026-10-31T12:00:00Z"
"""Within the imported month: what a hostile or late sender adds to it."""
EVENTS = [
    login(LATE, "mallory", realm="acme", client_id="web"),
    token(LATE, *M2M, realm="acme", client_id="job"),
    account(LATE, "signup", realm="acme"),
    login("2026-11-20T12:00:00Z", "ada", realm="acme", client_id="web"),
]
ACTIVE = "/v1/active-users"
MONTH = "from=2026-10-01&to=2026-10-31"


@pytest.fixture
async def api(serve: Serve, redis_url: str, clock: Clock, tmp_path: Path) -> Api:
    """On 2026-11-20, with October imported, and with events of October counted too."""
    clock.now = datetime(2026, 11, 20, 13, tzinfo=UTC).timestamp()
    await count(redis_url, EVENTS)
    with redis.Redis.from_url(redis_url) as server:
        server.hset(
            "authtally:imported",
            mapping={fields.imported("2026-10", *names): value for names, value in OCTOBER.items()},
        )
        server.hset("authtally:imported", fields.imported("2026-09", fields.ACTIVE), 800)
    tokens = by_file(
        tmp_path,
        listed("all", scopes=["jans_stat", "stats:read", "metrics:read", "read:stats"]),
        listed("acme's", scopes=["jans_stat", "stats:read"], realms=["acme"]),
    )
    return await serve(redis_url=redis_url, cache_ttl_s=0, **tokens)


def month_rows(answer: Any) -> list[Any]:
    return [row for row in answer["items"] if row["period"] == "2026-10"]


async def test_the_products_answer_the_imported_month(api: Api) -> None:
    for path in ("/jans-auth/restv1/internal/stat", "/oxauth/restv1/internal/stat"):
        answer = await query_api(api, f"{path}?month=202610", "all")
        assert answer["response"]["202610"]["monthly_active_users"] == 900, path
        assert answer["response"]["202610"]["token_count_per_granttype"]["client_credentials"]["access_token"] == 70
    text = (await api.get("/jans-auth/restv1/internal/stat?month=202610&format=openmetrics", "all")).text
    assert 'monthly_active_users{month="202610"} 900.0' in text


@pytest.mark.parametrize(
    ("path", "figures", "why"),
    [
        (f"{ACTIVE}?granularity=month&{MONTH}", {"value": 900, "exact": False, "standard_error": None}, "a month"),
        (f"/v1/logins?granularity=month&{MONTH}", {"succeeded": 5000, "failed": None, "exact": False}, "logins"),
        (f"/v1/tokens?granularity=month&{MONTH}", {"tokens": 78, "exact": False}, "tokens"),
        (f"/v1/accounts?granularity=month&{MONTH}", {"events": None, "exact": False}, "unknown, not zero"),
    ],
)
async def test_series_by_month_name_the_source(api: Api, path: str, figures: dict[str, Any], why: str) -> None:
    (row,) = month_rows(await query_api(api, path, "all"))
    assert row | figures | {"imported": "old.csv"} == row, why


async def test_a_range_of_exactly_the_month_is_the_month(api: Api) -> None:
    (row,) = (await query_api(api, f"{ACTIVE}?granularity=range&{MONTH}", "all"))["items"]
    assert (row["value"], row["imported"]) == (900, "old.csv")


async def test_words_of_an_imported_month_are_its_own(api: Api) -> None:
    answer = await query_api(api, f"/v1/tokens?granularity=month&{MONTH}&group_by=grant_type", "all")
    assert {(row["grant_type"], row["tokens"], row["imported"]) for row in answer["items"]} == {
        ("client_credentials", 70, "old.csv"),
        ("password", 8, "old.csv"),
    }


async def test_the_overview_shows_it_in_every_place(api: Api) -> None:
    today = await query_api(api, "/v1/overview", "all")
    months = {row["month"]: row for row in today["months"]}
    october = months["2026-10"]
    assert (october["value"], october["logins"], october["tokens"], october["imported"]) == (900, 5000, 78, "old.csv")
    assert (october["failed_logins"], october["signups"]) == (None, None)
    assert months["2026-11"]["imported"] is None
    billing = {"average": 850.0, "months_averaged": 2, "maximum": 900, "maximum_month": "2026-10"}
    assert today["billing"] == billing
    at_end = await query_api(api, "/v1/overview?date=2026-10-31", "all")
    assert (at_end["mau"]["value"], at_end["mau"]["imported"]) == (900, "old.csv")
    assert at_end["mau"]["previous"]["value"] == 800
    assert at_end["activity"]["month"]["logins"] == {"value": 5000, "previous": None, "change": None}
    assert at_end["activity"]["month"]["signups"]["value"] is None
    assert at_end["activity"]["month"]["tokens_by_grant_type"] == {"client_credentials": 70, "password": 8}
    assert at_end["dau"]["value"] == 1, "days are not imported"


async def test_machine_tokens_of_the_whole_are_imported_and_those_of_clients_are_not(api: Api) -> None:
    answer = await query_api(api, "/v1/m2m?month=2026-10", "all")
    assert (answer["tenant"]["used"], answer["imported"]) == (70, "old.csv")
    assert [(row["client_id"], row["used"]) for row in answer["items"]] == [("job", 1)]
    unknown = await query_api(api, "/v1/m2m?month=2026-09", "all")
    assert (unknown["tenant"]["used"], unknown["tenant"]["projected"]) == (None, None)


async def test_gauges_show_it_too(api: Api, clock: Clock, redis_url: str) -> None:
    """An earlier release imported months that were not over."""
    with redis.Redis.from_url(redis_url) as server:
        server.hset("authtally:imported", fields.imported("2026-11", fields.ACTIVE), 700)
        server.hset("authtally:imported", fields.imported("2026-11", fields.LOGIN), 4000)
    text = (await api.get("/v1/metrics", "all")).text
    assert 'authtally_active_users{period="month"} 700.0' in text
    assert 'authtally_active_users_standard_error_ratio{period="month"} NaN' in text
    assert 'authtally_logins{outcome="success",period="month"} 4000.0' in text
    assert 'authtally_active_users{period="day"} 1.0' in text


async def test_a_realm_shows_what_was_counted_here(api: Api) -> None:
    for rest, bearer in (("", "acme's"), ("&realm=acme", "all")):
        (row,) = month_rows(await query_api(api, f"{ACTIVE}?granularity=month&{MONTH}{rest}", bearer))
        assert (row["value"], row.get("imported")) == (1, None)
    answer = await query_api(api, "/jans-auth/restv1/internal/stat?month=202610", "acme's")
    assert answer["response"]["202610"]["monthly_active_users"] == 1


async def test_an_imported_month_does_not_expire(api: Api, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as server:
        for tag in server.smembers("authtally:shards"):
            server.hset(f"authtally:{{{tag.decode()}}}:meta", "retain_months", 1)
    for path in (f"{ACTIVE}?granularity=month&from=2026-09-01&to=2026-09-30", "/v1/m2m?month=2026-09"):
        await query_api(api, path, "all")
    counted = await api.get(f"{ACTIVE}?granularity=month&from=2026-08-01&to=2026-08-31", "all")
    assert (counted.status, "RETAIN_MONTHS" in counted.json["detail"]) == (400, True)


class Commands:
    """The command line beside a running api: in a thread, since commands run event loops of their own."""

    def __init__(self, redis_url: str) -> None:
        self._environment = {
            "AUTHTALLY_REDIS_URL": redis_url,
            "AUTHTALLY_USER_HASH_KEY": "a key for tests, long enough",
        }

    async def run(self, *arguments: str) -> str:
        done = await asyncio.to_thread(click.testing.CliRunner().invoke, main, arguments, env=self._environment)
        assert done.exit_code == 0, done.output
        return done.stdout

    async def signed(self) -> Any:
        return json.loads(await self.run("report", "--sign", "report.key", "--month", "2026-10"))["signed"]


async def test_removing_it_brings_back_what_was_counted(
    api: Api, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "report.key").write_bytes(
        Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    commands = Commands(redis_url)
    before = await commands.signed()
    users = {"value": 900, "exact": False, "standard_error": None}
    assert (before["active_users"], before["imported_from"]) == (users, "old.csv")
    assert "answers use the imported figures" in await commands.run("import-stat")
    await commands.run("import-stat", "--remove", "2026-10")
    assert (await query_api(api, f"{ACTIVE}?granularity=month&{MONTH}", "all"))["items"][0]["value"] == 1
    after = await commands.signed()
    assert (after["active_users"]["value"], after["imported_from"]) == (1, None)
