"""The signed report of a month over two regions, and answers of a running api by region in the terminal."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
from click.testing import CliRunner, Result

from deploy.cli.main import main
from deploy.demo.servers import Valkey
from schemas.ledger import keys
from tests.api.sources import listed
from tests.api.worker import count, login
from tests.integration.api_process import ApiProcess

MONTH = "2026-10"
TOKENS = {
    "peer": {"scopes": ["sketches:read"]},
    "all": {"scopes": ["stats:read"], "regions": ["*"]},
    "own": {"scopes": ["stats:read"]},
}
EU, US = range(300), range(200, 500)


class Two(NamedTuple):
    """The store of eu, where reports are signed, and the api of us."""

    own: str
    other: str
    us: ApiProcess
    folder: Path

    def run(self, *arguments: object, **settings: str) -> Result:
        given = {
            "redis_url": self.own,
            "auth": "static",
            "auth_tokens_file": str(self.folder / "tokens.json"),
            "region": "eu",
            "region_users": "shared",
            "region_min_users": "50",
            "peers_file": str(self.folder / "peers.json"),
        } | settings
        environment = {f"AUTHTALLY_{name.upper()}": value for name, value in given.items()}
        return CliRunner().invoke(main, ["report", *map(str, arguments)], env=environment)

    def sign(self, *arguments: object, **settings: str) -> Result:
        return self.run("--sign", self.folder / "report.key", "--month", MONTH, *arguments, **settings)

    def report(self, url: str, *arguments: str, token: str = "all") -> Result:
        environment = {"AUTHTALLY_URL": url, "AUTHTALLY_TOKEN": token}
        return CliRunner().invoke(main, ["report", *arguments], env=environment)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    folder = tmp_path_factory.mktemp("regions")
    entries = [listed(name, **entry) for name, entry in TOKENS.items()]
    (folder / "tokens.json").write_text(json.dumps(entries))
    (folder / "peer.token").write_text("peer")
    key = folder / "report.key"
    subprocess.run(("openssl", "genpkey", "-algorithm", "ed25519", "-out", key), check=True)
    subprocess.run(("openssl", "pkey", "-in", key, "-pubout", "-out", folder / "report.pub"), check=True)
    with Valkey() as own, Valkey() as other:
        for store, users, realm in ((own, EU, "acme"), (other, US, "globex")):
            events = [login(f"2026-10-{1 + user % 28:02}T10:00:00Z", f"user-{user}", realm=realm) for user in users]
            events += [login("2026-09-05T10:00:00Z", f"user-{user}", realm=realm) for user in range(20)]
            asyncio.run(count(store.url, events))
        (folder / "back.json").write_text(json.dumps([peer(folder, "eu", "http://127.0.0.1:1")]))
        with ApiProcess(
            redis_url=other.url,
            auth="static",
            auth_tokens_file=str(folder / "tokens.json"),
            region="us",
            region_users="shared",
            region_min_users="50",
            peers_file=str(folder / "back.json"),
        ) as us:
            (folder / "peers.json").write_text(json.dumps([peer(folder, "us", f"http://{us.address}")]))
            (folder / "away.json").write_text(json.dumps([peer(folder, "us", "http://127.0.0.1:1")]))
            yield Two(own.url, other.url, us, folder)


def peer(folder: Path, name: str, url: str) -> dict[str, str]:
    return {"name": name, "url": url, "token_file": str(folder / "peer.token")}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def signed(done: Result) -> dict[str, Any]:
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)["signed"]
    return found


def test_it_has_the_figures_of_all_and_of_each_with_ledger_and_positions(two: Two) -> None:
    found = signed(two.sign("--region", "all"))
    assert (found["version"], found["complete"], found["region_users"]) == (2, True, "shared")
    users = found["active_users"]
    assert abs(users["value"] - 500) <= 20
    assert 0 < float(users["standard_error"]) < 0.01
    assert found["logins"]["succeeded"] == len(EU) + len(US)
    eu, us = found["regions"]
    for region, name, store in ((eu, "eu", two.own), (us, "us", two.other)):
        with redis.Redis.from_url(store, decode_responses=True) as client:
            positions = {
                shard.rpartition("-")[0] + shard.rpartition("-")[2]: int(client.get(f"authtally:{{{shard}}}:position"))
                for shard in client.smembers(keys.shards("authtally:"))
            }
        assert region["region"] == name
        assert region["ledger"]
        assert (region["complete"], region["state"], region["united"]) == (True, "current", True)
        assert {row["topic"] + str(row["partition"]): row["offset"] for row in region["positions"]} == positions
        assert region["figures"]["active_users"] == {"value": 300, "exact": True, "standard_error": "0.000000"}
    assert eu["ledger"] != us["ledger"]
    assert [row["realm"] for row in us["figures"]["realms"]] == ["globex"]
    assert [row["realm"] for row in found["realms"]] == ["acme", "globex"]


def test_it_is_verified_and_shown(two: Two, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    assert two.sign("--region", "all", "--output", path).exit_code == 0
    done = CliRunner().invoke(main, ["report", "verify", str(path), "--key", str(two.folder / "report.pub")])
    assert done.exit_code == 0, done.output
    rows = [" ".join(line.split()) for line in done.output.splitlines()]
    assert "eu 300 exact 300 0 0" in rows
    assert "us 300 exact 300 0 0" in rows
    assert any(row.startswith("Region us: ledger ") and row.endswith(", current.") for row in rows)
    assert any(row.startswith("us auth.logins 0 ") for row in rows)


def test_a_missing_region_is_refused_unless_the_flag_says_so(two: Two, tmp_path: Path) -> None:
    away = {"peers_file": str(two.folder / "away.json")}
    refused = two.sign("--region", "all", **away)
    assert refused.exit_code == 1
    assert "2026-10: not complete: region us is missing (connection)" in refused.output
    assert "sign with --incomplete" in refused.output
    path = tmp_path / "report.json"
    assert two.sign("--region", "all", "--incomplete", "--output", path, **away).exit_code == 0
    found = json.loads(path.read_text())["signed"]
    assert found["complete"] is False
    us = found["regions"][1]
    assert (us["state"], us["reason"], us["figures"]) == ("missing", "connection", None)
    assert found["active_users"]["value"] == 300
    done = CliRunner().invoke(main, ["report", "verify", str(path), "--key", str(two.folder / "report.pub")])
    assert "NOT COMPLETE: it was signed with --incomplete." in done.output


def test_an_imported_month_of_a_region_is_refused(two: Two) -> None:
    name = keys.imported("authtally:")
    with redis.Redis.from_url(two.own) as client:
        client.hset(name, mapping={f"{MONTH}/active": 9, f"{MONTH}/source": "the old system"})
        try:
            refused = two.sign("--region", "all")
        finally:
            client.delete(name)
    assert refused.exit_code == 1
    assert "region eu imported this month" in refused.output


def test_users_below_the_threshold_are_an_upper_bound(two: Two) -> None:
    found = signed(two.run("--sign", two.folder / "report.key", "--month", "2026-09", "--region", "all"))
    assert found["complete"] is True
    assert found["active_users"] == {"value": 40, "exact": False, "standard_error": None}
    assert [region["united"] for region in found["regions"]] == [True, False]


def test_one_region_has_its_ledger_too(two: Two) -> None:
    found = signed(two.sign())
    assert found["version"] == 1
    assert found["ledger"]
    assert found["labels_complete"] is True
    one = signed(two.sign("--region", "us"))
    assert [region["region"] for region in one["regions"]] == ["us"]
    assert one["active_users"]["value"] == 300


WRONG = [
    pytest.param(("--region", "ap"), {}, 2, "'ap' is no region; the regions are eu, us"),
    pytest.param(("--incomplete",), {}, 2, "--incomplete needs --region"),
    pytest.param(("--region", "all", "--realm", "acme"), {}, 2, "takes --month, --region, --incomplete and --output"),
]


@pytest.mark.parametrize(("arguments", "settings", "status", "why"), WRONG)
def test_a_wrong_call_says_what_is_wrong(
    two: Two, arguments: tuple[str, ...], settings: dict[str, str], status: int, why: str
) -> None:
    refused = two.sign(*arguments, **settings)
    assert (refused.exit_code, why in refused.output) == (status, True), refused.output


def test_without_regions_there_is_nothing_to_unite(two: Two) -> None:
    environment = {
        "AUTHTALLY_REDIS_URL": two.own,
        "AUTHTALLY_AUTH": "static",
        "AUTHTALLY_AUTH_TOKENS_FILE": str(two.folder / "tokens.json"),
    }
    arguments = ["report", "--sign", str(two.folder / "report.key"), "--region", "all"]
    refused = CliRunner().invoke(main, arguments, env=environment)
    assert (refused.exit_code, "AUTHTALLY_REGION is not set" in refused.output) == (2, True), refused.output


def test_incomplete_belongs_to_signed_reports(two: Two) -> None:
    refused = two.run("logins", "--incomplete")
    assert (refused.exit_code, "--incomplete is an option of" in refused.output) == (2, True)


def test_answers_by_region_name_the_missing_one(two: Two) -> None:
    """The api of us cannot reach eu."""
    span = ("--granularity", "month", "--from", "2026-10-01", "--to", "2026-10-31")
    url = f"http://{two.us.address}"
    done = two.report(url, "active-users", *span, "--group-by", "region")
    assert done.exit_code == 0, done.output
    rows = [" ".join(line.split()) for line in done.output.splitlines()]
    assert "2026-10 us 300 exact" in rows
    assert "Region eu is missing (connection): the figures are those of the others." in rows
    lifecycle = ("--from", "2026-10-01", "--to", "2026-10-31", "--group-by", "region")
    done = two.report(url, "lifecycle", *lifecycle)
    assert done.exit_code == 0, done.output
    rows = [" ".join(line.split()) for line in done.output.splitlines()]
    assert "region period active new returning reactivated lapsed" in rows
    assert "us 2026-10 300 300 0 0 20" in rows
    assert "eu 2026-10 0 - - - - no users before are known" in rows
    assert "First days: us 2026-09-05 (the first counted day)." in rows
    done = two.report(url, "retention", "--from", "2026-09-01", *lifecycle[2:])
    rows = [" ".join(line.split()) for line in done.output.splitlines()]
    assert {"region period users +1", "us 2026-09 20 0.0", "us 2026-10 300"} <= {*rows}
    assert two.report(url, "logins", *span, "--region", "us").exit_code == 0
    refused = two.report(url, "logins", *span, "--region", "eu", token="own")
    assert (refused.exit_code, "sees no region eu" in refused.output) == (2, True), refused.output


def test_the_year_says_which_region_is_missing(two: Two) -> None:
    done = two.report(f"http://{two.us.address}", "year", "--month", MONTH, "--region", "all", "--html", "year.html")
    assert done.exit_code == 0, done.output
    assert "Region eu is missing" in done.output
    assert "Region eu is missing" in Path("year.html").read_text()
