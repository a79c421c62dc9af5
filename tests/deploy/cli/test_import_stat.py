"""`authtally import-stat`: past figures get into the ledger as a whole or not at all, and never over others unasked."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner

from deploy.cli import imported_months
from deploy.cli.main import main
from schemas.ledger.keys import Shard, ShardKeys, imported, shards

PREFIX = "t:"
TWO = "month,active_users,logins,password/access_token\n2025-03,5,70,9\n2025-04,6,,\n"


class Store:
    def __init__(self, url: str, folder: Path) -> None:
        self.folder = folder
        self.redis: Any = redis.Redis.from_url(url, decode_responses=True)
        self.environment = {
            "AUTHTALLY_REDIS_URL": url,
            "AUTHTALLY_KEY_PREFIX": PREFIX,
            "AUTHTALLY_USER_HASH_KEY": "a key for tests, long enough",
        }

    @property
    def held(self) -> dict[str, str]:
        found: dict[str, str] = self.redis.hgetall(imported(PREFIX))
        return found

    def run(self, *arguments: str, given: str | None = None, **settings: str) -> Any:
        environment = self.environment | settings
        return CliRunner().invoke(main, ["import-stat", *arguments], input=given, env=environment)

    def bring(self, text: str, *arguments: str) -> Any:
        (self.folder / "past.csv").write_text(text)
        return self.run(str(self.folder / "past.csv"), *arguments)

    def count(self, month: str, expires: float) -> None:
        shard = Shard("auth.logins", 3)
        self.redis.sadd(shards(PREFIX), shard.tag)
        self.redis.zadd(ShardKeys(PREFIX, shard).index, {month: expires})


@pytest.fixture
def store(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    return Store(redis_url, tmp_path)


IMPORTED = {
    "2025-03/active": "5",
    "2025-03/source": "past.csv",
    "2025-03/login": "70",
    "2025-03/token/password/access_token": "9",
    "2025-04/active": "6",
    "2025-04/source": "past.csv",
}


def test_figures_are_written_as_the_api_reads_them(store: Store) -> None:
    done = store.bring(TWO)
    assert done.exit_code == 0, done.output
    assert "Imported 2 months from past.csv." in done.output
    assert store.held == IMPORTED


def test_a_dry_run_shows_and_writes_nothing(store: Store) -> None:
    done = store.bring(TWO, "--dry-run")
    assert done.exit_code == 0, done.output
    rows = [line.split() for line in done.output.splitlines()]
    assert ["2025-03", "5", "70", "9"] in rows
    assert ["2025-04", "6", "-", "-"] in rows
    assert "Dry run: nothing was changed." in done.output
    assert store.held == {}


def test_an_answer_comes_by_standard_input_and_its_source_is_named(store: Store) -> None:
    answer = {"response": {"202503": {"monthly_active_users": 5, "token_count_per_granttype": {}}}}
    done = store.run("-", "--source", "Janssen", "--json", given=json.dumps(answer))
    assert done.exit_code == 0, done.output
    month = {"month": "2025-03", "active_users": 5, "logins": None, "tokens": {}, "source": "Janssen", "held": None}
    assert json.loads(done.stdout) == {"months": [month], "refused": [], "written": True}
    assert store.held == {"2025-03/active": "5", "2025-03/source": "Janssen"}


def test_one_bad_row_keeps_all_out(store: Store) -> None:
    refused = store.bring(TWO + "2025-05,many,,\n2025-06,,,\n")
    assert refused.exit_code == 1
    assert "past.csv: line 4: active_users: not a whole number: 'many'" in refused.output
    assert "past.csv: line 5: active_users: not a whole number: ''" in refused.output
    assert "nothing was imported" in refused.output
    assert store.held == {}


def test_an_imported_month_gives_way_only_to_replace(store: Store) -> None:
    store.bring(TWO)
    other = "month,active_users\n2025-03,8\n2025-05,9\n"

    refused = store.bring(other, "--source", "again")
    assert refused.exit_code == 1
    assert "2025-03: already imported; use --replace to import anyway. Nothing was changed" in refused.output
    assert "imported from past.csv" in refused.output
    assert store.held == IMPORTED

    assert store.bring(other, "--source", "again", "--replace").exit_code == 0
    # Nothing of the old figures stays behind.
    assert store.held == {
        "2025-03/active": "8",
        "2025-03/source": "again",
        "2025-04/active": "6",
        "2025-04/source": "past.csv",
        "2025-05/active": "9",
        "2025-05/source": "again",
    }


@pytest.mark.parametrize(("expires", "held"), [(math.inf, True), (4e9, True), (1e9, False)])
def test_a_month_of_which_events_were_counted_needs_instead(store: Store, expires: float, held: bool) -> None:
    store.count("2025-04", expires)
    first = store.bring(TWO)
    assert (first.exit_code, store.held == {}) == ((1, True) if held else (0, False))
    if held:
        assert "2025-04: the ledger has counted events of it; use --instead to import anyway" in first.output
        refused = json.loads(store.bring(TWO, "--replace", "--json").stdout)
        assert (refused["refused"], refused["written"]) == (["2025-04"], False)
        assert store.bring(TWO, "--instead").exit_code == 0
        assert store.held == IMPORTED
        assert "answers use the imported figures; events were counted too" in store.run().output
        again = store.bring(TWO)
        assert "2025-03, 2025-04: already imported; use --replace" in again.output
        assert "2025-04: the ledger has counted events of it; use --instead" in again.output
        assert store.bring(TWO, "--replace", "--instead").exit_code == 0


def test_a_month_that_is_not_over_is_refused(store: Store) -> None:
    present = datetime.now(UTC)
    refused = store.bring(f"month,active_users\n{present:%Y-%m},5\n2999-01,5\n", "--instead", "--replace")
    assert refused.exit_code == 1
    assert f"line 2: month {present:%Y-%m} is not over; only months before {present:%Y-%m} are" in refused.output
    assert "line 3: month 2999-01 is not over" in refused.output
    assert store.held == {}


def test_months_are_listed_and_removed(store: Store) -> None:
    assert "Nothing is imported." in store.run().output
    store.bring(TWO)
    rows = [line.split() for line in store.run().output.splitlines()]
    assert ["2025-03", "5", "70", "9", "past.csv"] in rows
    listed = json.loads(store.run("--json").stdout)["months"]
    assert [(row["month"], row["active_users"], row["counted_here"]) for row in listed] == [
        ("2025-03", 5, False),
        ("2025-04", 6, False),
    ]

    dry = store.run("--remove", "202503", "--remove", "2025-07", "--dry-run")
    assert "2025-07 was not imported." in dry.output
    assert "Dry run: 2025-03 would be removed." in dry.output
    assert store.held == IMPORTED

    done = store.run("--remove", "202503", "--remove", "2025-07", "--json")
    assert json.loads(done.stdout) == {"removed": ["2025-03"], "not_imported": ["2025-07"], "written": True}
    assert store.held == {"2025-04/active": "6", "2025-04/source": "past.csv"}


def test_many_months_and_grants_fit_in_one_step(store: Store) -> None:
    columns = [f"grant {number}/access_token" for number in range(100)]
    rows = [f"20{year:02}-{month:02},1" + ",2" * 100 for year in range(25) for month in range(1, 13)]
    done = store.bring("\n".join([",".join(["month", "active_users", *columns]), *rows]))
    assert done.exit_code == 0, done.output
    assert len(store.held) == 300 * 102
    again = store.bring("\n".join([",".join(["month", "active_users"]), *(row[:9] for row in rows)]), "--replace")
    assert again.exit_code == 0, again.output
    assert len(store.held) == 300 * 2


def test_a_cluster_takes_it_in_one_step_too(
    cluster: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "past.csv").write_text(TWO)
    store = Store(cluster, tmp_path)
    settings = {"AUTHTALLY_REDIS_CLUSTER": "on"}
    assert store.run("past.csv", **settings).exit_code == 0
    assert store.run("past.csv", **settings).exit_code == 1
    rows = [line.split() for line in store.run(**settings).output.splitlines()]
    assert ["2025-03", "5", "70", "9", "past.csv"] in rows
    assert "Removed 2025-03" in store.run("--remove", "2025-03", **settings).output


def test_a_cluster_puts_back_what_it_wrote_over_a_month_that_was_counted_meanwhile(
    cluster: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "past.csv").write_text(TWO)
    store = Store(cluster, tmp_path)
    store.redis = redis.RedisCluster.from_url(cluster, decode_responses=True)
    store.redis.flushall(target_nodes=redis.RedisCluster.PRIMARIES)
    settings = {"AUTHTALLY_REDIS_CLUSTER": "on"}
    assert store.run("past.csv", **settings).exit_code == 0
    before = store.held
    assert before == IMPORTED
    (tmp_path / "past.csv").write_text("month,active_users\n2025-03,8\n2025-05,9\n")
    read = imported_months.read_held
    reads = []

    async def counted_after_the_first_read(*given: Any) -> Any:
        held = await read(*given)
        reads.append(held)
        if len(reads) == 1:
            store.count("2025-05", math.inf)
        return held

    monkeypatch.setattr(imported_months, "read_held", counted_after_the_first_read)
    refused = store.run("past.csv", "--replace", **settings)
    assert len(reads) == 2
    assert refused.exit_code == 1
    assert "2025-05: a worker counted events of it meanwhile; nothing was changed" in refused.output
    assert store.held == before


WRONG = [
    pytest.param(("missing.csv",), "missing.csv: No such file", 1, id="no file"),
    pytest.param(("--remove", "March"), "'March' is not a month", 2, id="no month"),
    pytest.param(("past.csv", "--remove", "2025-03"), "either FILE or --remove", 2, id="both"),
    pytest.param(("past.csv", "--source", "a\nb"), "--source", 2, id="a source of two lines"),
]


@pytest.mark.parametrize(("arguments", "why", "status"), WRONG)
def test_wrong_calls_are_refused(store: Store, arguments: tuple[str, ...], why: str, status: int) -> None:
    (store.folder / "past.csv").write_text(TWO)
    refused = store.run(*arguments)
    assert refused.exit_code == status
    assert why in refused.output
    assert store.held == {}


def test_a_store_that_is_gone_is_named(store: Store) -> None:
    (store.folder / "past.csv").write_text(TWO)
    failed = store.run("past.csv", AUTHTALLY_REDIS_URL="redis://127.0.0.1:1/0")
    assert failed.exit_code == 1
    assert "AUTHTALLY_REDIS_URL: no connection" in failed.output
