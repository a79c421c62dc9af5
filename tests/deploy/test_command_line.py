"""Commands tell every fault at once, by name, and start fast."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.command_line import main
from deploy.environment import known_names, unknown_names

KEY = "a key for tests, long enough"


@pytest.fixture(autouse=True)
def _nothing_else_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def test_check_prints_effective_values_with_secrets_masked() -> None:
    checked = CliRunner().invoke(
        main,
        ["worker", "--check"],
        env={"AUTHTALLY_USER_HASH_KEY": KEY, "AUTHTALLY_REDIS_URL": "redis://:hunter2@127.0.0.1/0"},
    )
    assert checked.exit_code == 0, checked.output
    assert "AUTHTALLY_USER_HASH_KEY=********" in checked.output
    assert "AUTHTALLY_REDIS_URL=redis://:********@127.0.0.1/0" in checked.output
    assert KEY not in checked.output
    assert "hunter2" not in checked.output


@pytest.mark.parametrize("arguments", [["worker", "--check"], ["worker"], ["positions", "show"]])
def test_all_faults_are_told_at_once(arguments: list[str]) -> None:
    refused = CliRunner().invoke(
        main, arguments, env={"AUTHTALLY_EXACT_UP_TO": "many", "AUTHTALLY_KAFKA_GRUOP": "x", "AUTHTALLY_NONSENSE": "x"}
    )
    assert refused.exit_code == 2
    told = {line.partition(":")[0]: line for line in refused.output.splitlines()}
    assert set(told) == {
        "AUTHTALLY_EXACT_UP_TO",
        "AUTHTALLY_USER_HASH_KEY",
        "AUTHTALLY_KAFKA_GRUOP",
        "AUTHTALLY_NONSENSE",
    }
    assert told["AUTHTALLY_USER_HASH_KEY"].endswith("is not set")
    assert told["AUTHTALLY_KAFKA_GRUOP"].endswith("did you mean AUTHTALLY_KAFKA_GROUP?")


def test_check_of_the_api_tells_its_faults() -> None:
    refused = CliRunner().invoke(main, ["api", "--check"], env={"AUTHTALLY_API_PORT": "99999999"})
    assert refused.exit_code == 2
    assert "AUTHTALLY_API_PORT" in refused.output
    assert "AUTHTALLY_AUTH" in refused.output


def test_a_misspelt_name_in_the_env_file_is_a_fault_too(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"AUTHTALLY_USER_HASH_KEY='{KEY}'\nAUTHTALLY_TIMEZOEN=Europe/Berlin\n")
    refused = CliRunner().invoke(main, ["worker", "--check"])
    assert refused.exit_code == 2
    assert refused.output == "AUTHTALLY_TIMEZOEN: no such setting; did you mean AUTHTALLY_TIMEZONE?\n"


def test_settings_of_the_other_service_are_known() -> None:
    assert unknown_names(["AUTHTALLY_API_PORT", "authtally_worker_port", "PATH"], known_names()) == []


def test_help_imports_no_service() -> None:
    code = (
        "import sys; from deploy.command_line import main; main(['--help'], standalone_mode=False);"
        "print(sorted(set(sys.modules) & {'aggregator', 'api', 'faust', 'aiohttp', 'redis', 'confluent_kafka'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
