"""`authtally report year`: twelve months, their average, maximum and peak day; as tables, JSON and a page for print."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner, Result
from playwright.async_api import async_playwright

from deploy.cli.main import main
from deploy.cli.report.year import Users, summary
from deploy.demo.servers import Valkey
from schemas.ledger import fields, keys
from schemas.ledger.keys import Shard, ShardKeys
from schemas.ledger.scopes import EVERYTHING, Scope
from tests.api.ledger_writer import PREFIX, open_ledger
from tests.api.sources import listed
from tests.dashboard.browsers import FLAGS, executable
from tests.integration.api_process import ApiProcess

LAST = "2024-06"
TOKENS = {"reader": None, "only-acme": ["acme"]}
HOSTILE = "<script>alert(1)</script>\"'&\u202e\x1b[2J"
USERS_OF_MONTH = {"2023-09": 4, "2023-12": 6, "2024-02": 8, "2024-05": 20_000, LAST: 7}
"""September is the first month counted; months between these have no key, so they have no figure."""
PEAK_DAY, SECOND_DAY = "2024-05-14", "2024-05-15"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An api with the months of USERS_OF_MONTH, one imported month, and 25 realms; its URL."""
    folder = tmp_path_factory.mktemp("year")
    entries = [
        listed(name, scopes=["stats:read"]) | ({} if realms is None else {"realms": realms})
        for name, realms in TOKENS.items()
    ]
    (folder / "tokens.json").write_text(json.dumps(entries))
    with Valkey() as store:
        fill(store.url)
        settings = {"redis_url": store.url, "auth": "static", "auth_tokens_file": str(folder / "tokens.json")}
        with ApiProcess(**settings) as process:
            yield f"http://{process.address}"


def fill(url: str) -> None:
    ledger = open_ledger(url)
    for month, users in USERS_OF_MONTH.items():
        if users > 4096:
            ledger.many_users(month, range(users))
        else:
            ledger.few_users(month, range(users))
    for day, users in ((PEAK_DAY, 9), (SECOND_DAY, 9), ("2024-06-01", 3)):
        ledger.few_users(day, range(users))
    shard = ShardKeys(PREFIX, Shard("auth.logins", 0))
    names = ["acme", HOSTILE, *(f"realm-{number:02}" for number in range(23))]
    with redis.Redis.from_url(url) as client:
        for place, name in enumerate(names):
            realm = Scope("realm", (name,))
            client.sadd(shard.labels, fields.label("realm", name))
            ledger.few_users(LAST, range(40 - place), scope=realm)
            ledger.few_users(PEAK_DAY, range(2), scope=realm)
        ledger.few_users("2024-05", range(10), scope=Scope("realm", ("acme",)))
        client.hset(shard.counts(LAST, EVERYTHING), mapping={fields.LOGIN: 12, fields.failed("locked"): 3})
        client.hset(keys.imported(PREFIX), mapping={"2023-08/active": 99, "2023-08/source": "the old system"})


def run(url: str, *arguments: object, token: str = "reader") -> Result:
    environment = {"AUTHTALLY_URL": url, "AUTHTALLY_TOKEN": token}
    return CliRunner().invoke(main, ["report", "year", *map(str, arguments)], env=environment)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def rows_of(output: str) -> list[str]:
    return [" ".join(line.split()) for line in output.splitlines()]


@pytest.fixture(scope="module")
def document(api: str) -> dict[str, Any]:
    done = run(api, "--month", LAST, "--json")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_average_maximum_and_peak_day_agree_with_the_months(document: dict[str, Any]) -> None:
    assert (document["from"], document["to"]) == ("2023-07-01", "2024-06-30")
    values = {row["month"]: row["value"] for row in document["months"]}
    assert len(values) == 12
    known = {month: value for month, value in values.items() if value is not None}
    assert known == {"2023-08": 99, **USERS_OF_MONTH, "2024-05": known["2024-05"]}
    assert abs(known["2024-05"] - 20_000) < 200
    found = document["summary"]
    assert (found["average"], found["months_averaged"]) == (round(sum(known.values()) / 6, 1), 6)
    assert found["maximum"]["period"] == "2024-05"
    assert 0 < found["maximum"]["standard_error"] < 0.01
    assert found["peak_day"] == {"period": PEAK_DAY, "value": 9, "exact": True, "standard_error": 0.0}


def test_realms_have_their_own_figures_and_the_smallest_are_counted(document: dict[str, Any]) -> None:
    assert len(document["realms"]) == 20
    assert document["realms_left_out"] == 5
    acme = document["realms"][0]
    assert acme["realm"] == "acme"
    # 10 in May, 40 in June, none in the other three months that were counted here; August was imported.
    assert (acme["summary"]["average"], acme["summary"]["months_averaged"]) == (10.0, 5)
    assert (acme["summary"]["maximum"]["value"], acme["summary"]["maximum"]["period"]) == (40, LAST)
    assert (acme["summary"]["peak_day"]["value"], acme["summary"]["peak_day"]["period"]) == (2, PEAK_DAY)


def test_tables_show_the_same(api: str) -> None:
    done = run(api, "--month", LAST)
    assert done.exit_code == 0, done.output
    rows = rows_of(done.output)
    assert "month users error logins failed logins sign-ups tokens" in rows
    assert "2023-08 99 - - - - - imported from the old system" in rows
    assert "2024-06 7 exact 12 3 0 0" in rows
    (everything,) = (row for row in rows if row.startswith("everything "))
    assert everything.endswith(f"9 exact {PEAK_DAY}")
    assert f"acme 10.0 5 40 exact {LAST} 2 exact {PEAK_DAY}" in rows
    assert "5 smaller realms are left out (--limit)." in rows
    assert "\x1b" not in done.output
    assert "\u202e" not in done.output


def test_a_token_of_one_realm_sees_that_realm_only(api: str) -> None:
    done = run(api, "--month", LAST, "--json", token="only-acme")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [row["realm"] for row in found["realms"]] == ["acme"]
    assert found["summary"]["maximum"]["value"] == 40


def test_one_realm_has_no_list_of_realms(api: str) -> None:
    found = json.loads(run(api, "--month", LAST, "--realm", "acme", "--json").stdout)
    assert (found["filters"], found["realms"]) == ({"realm": "acme"}, [])
    assert found["summary"]["maximum"]["value"] == 40


def test_the_default_is_the_last_complete_month(api: str) -> None:
    found = json.loads(run(api, "--json").stdout)
    months = [row["month"] for row in found["months"]]
    assert len(months) == 12
    assert not any(row["to_date"] for row in found["months"])
    assert found["made"][:7] > months[-1]


def test_days_that_are_no_longer_kept_are_a_note() -> None:
    with Valkey() as store:
        fill(store.url)
        with redis.Redis.from_url(store.url) as client:
            client.hset(ShardKeys(PREFIX, Shard("auth.logins", 0)).meta, "retain_days", 30)
        with ApiProcess(redis_url=store.url, auth="none") as process:
            done = run(f"http://{process.address}", "--month", LAST)
    assert done.exit_code == 0, done.output
    assert "no longer kept (RETAIN_DAYS)" in done.output
    assert re.search(r"^everything .*2024-05 +- +- +- *$", done.output, re.MULTILINE)


SUMMARIES = [
    pytest.param([("2024-01", None)], (), (None, 0, None), id="no figure at all"),
    pytest.param([("2024-01", 0)], ("2024-01",), (0.0, 1, "2024-01"), id="a month without users is a figure"),
    pytest.param([("2024-01", 5), ("2024-02", 9)], ("2024-01",), (5.0, 1, "2024-02"), id="a month to date"),
    pytest.param([("2024-01", 9), ("2024-02", 9)], ("2024-01", "2024-02"), (9.0, 2, "2024-02"), id="equal months"),
]


@pytest.mark.parametrize(("months", "over", "expected"), SUMMARIES)
def test_a_summary(
    months: list[tuple[str, int | None]], over: tuple[str, ...], expected: tuple[float | None, int, str | None]
) -> None:
    found = summary([Users(name, value, exact=True, standard_error=0.0) for name, value in months], over, None)
    assert (found.average, found.months_averaged, found.maximum and found.maximum.period) == expected


WRONG = [
    pytest.param(("--month", "June"), 2, "not a month in format YYYY-MM: 'June'"),
    pytest.param(("--month", "2026-13"), 2, "not a month in format YYYY-MM: '2026-13'"),
    pytest.param(("--month", "2000-11"), 2, "twelve months up to 2000-11 are not between 2000-01-01 and 2999-12-31"),
    pytest.param(("--limit", "many"), 2, "--limit"),
    pytest.param(("--granularity", "day"), 2, "year takes no --granularity; it takes --month, --limit, --realm"),
    pytest.param(("--html", "nowhere/x.html", "--month", LAST), 1, "nowhere/x.html: No such file or directory"),
    pytest.param(("--realm", "acme", "--node", "n1", "--month", LAST), 2, "node"),
]


@pytest.mark.parametrize(("arguments", "status", "why"), WRONG)
def test_a_wrong_call_names_the_option(api: str, arguments: tuple[str, ...], status: int, why: str) -> None:
    refused = run(api, *arguments)
    assert (refused.exit_code, why in refused.output) == (status, True), refused.output


def test_the_page_option_belongs_to_the_year(api: str) -> None:
    refused = CliRunner().invoke(main, ["report", "logins", "--html", "x.html"], env={"AUTHTALLY_URL": api})
    assert (refused.exit_code, "--html is an option of: report year" in refused.output) == (2, True)


async def test_the_page_is_one_sheet_of_a4_and_loads_nothing(api: str, tmp_path: Path) -> None:
    path = tmp_path / "year.html"
    done = await asyncio.to_thread(run, api, "--month", LAST, "--html", path)
    assert done.exit_code == 0, done.output
    text = path.read_text()
    assert "<script" not in text
    assert "\u202e" not in text
    assert not re.search(r"(src|href)=|url\(|@import", text)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable(), args=list(FLAGS))
        page = await browser.new_page()
        asked: list[str] = []
        problems: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        await page.goto(path.as_uri())
        realm = await page.locator("table").nth(1).locator("tbody th").nth(1).inner_text()
        months = await page.locator("table").nth(0).locator("tbody tr").count()
        sheet = await page.pdf(prefer_css_page_size=True)
        await browser.close()
    assert (asked, problems) == ([path.as_uri()], [])
    assert realm == HOSTILE.replace("\u202e", "\\u202e").replace("\x1b", "\\x1b")
    assert months == 12
    assert "2023-08 is imported from the old system." in text
    assert len(re.findall(rb"/Type\s*/Page\b", sheet)) == 1
    (box,) = set(re.findall(rb"/MediaBox\s*\[([\d. ]+)\]", sheet))
    assert [round(float(each)) for each in box.split()] == [0, 0, 595, 842]
