"""Commands report every fault at once, by name, and start fast."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from deploy.cli.environment import known_names, unknown_names
from deploy.cli.main import main

ROOT = Path(__file__).parents[3]
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


@pytest.mark.parametrize("arguments", [["worker", "--check"], ["worker"], ["settings", "adopt"]])
def test_all_faults_are_reported_at_once(arguments: list[str]) -> None:
    refused = CliRunner().invoke(
        main, arguments, env={"AUTHTALLY_EXACT_UP_TO": "many", "AUTHTALLY_KAFKA_GRUOP": "x", "AUTHTALLY_NONSENSE": "x"}
    )
    assert refused.exit_code == 2
    result = {line.partition(":")[0]: line for line in refused.output.splitlines()}
    assert set(result) == {
        "AUTHTALLY_EXACT_UP_TO",
        "AUTHTALLY_USER_HASH_KEY",
        "AUTHTALLY_KAFKA_GRUOP",
        "AUTHTALLY_NONSENSE",
    }
    assert result["AUTHTALLY_USER_HASH_KEY"].endswith("make one with: openssl rand -hex 32")
    assert result["AUTHTALLY_KAFKA_GRUOP"].endswith("did you mean AUTHTALLY_KAFKA_GROUP?")


def test_check_of_the_api_reports_its_faults() -> None:
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
        "import sys; from deploy.cli.main import main; main(['--help'], standalone_mode=False);"
        "print(sorted(set(sys.modules) & {'aggregator', 'api', 'faust', 'aiohttp', 'redis', 'confluent_kafka'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def every_command() -> Iterator[tuple[str, click.Command]]:
    for name, command in main.commands.items():
        if isinstance(command, click.Group):
            yield from ((f"{name} {each}", under) for each, under in command.commands.items())
        else:
            yield name, command


COMMANDS = dict(every_command())
RUN_FOREVER = {"demo", "completion"}


def test_help_says_how_to_begin_and_what_each_command_is_for() -> None:
    result = CliRunner().invoke(main, ["--help"]).output
    for word in ("doctor", "worker", "api", "report", "AUTHTALLY_NAME=value", ".env", "--json", "130"):
        assert word in result
    lines = result.splitlines()
    titles = ["Run:", "Operate:", "Data:", "Read:", "Shell:"]
    assert [line for line in lines if line in titles] == titles
    assert "Other commands:" not in result
    for name in COMMANDS:
        assert any(line.startswith(f"  {name} ") for line in lines), name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_line_and_an_example(name: str) -> None:
    result = CliRunner().invoke(main, [*name.split(), "--help"]).output
    summary = COMMANDS[name].get_short_help_str(200)
    assert summary.endswith(".")
    assert re.search(rf"^ +(?:\S.*\| |eval \"\$\()?authtally {name}\b", result, re.MULTILINE), result


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - RUN_FOREVER))
def test_every_command_that_answers_does_so_as_json_too(name: str) -> None:
    assert any("--json" in parameter.opts for parameter in COMMANDS[name].params)


ERRORS = [
    # arguments, exit status, words of the error
    (["worker", "--check", "--json"], 2, "AUTHTALLY_USER_HASH_KEY: is not set"),
    (["api", "--check", "--json"], 2, "AUTHTALLY_AUTH"),
    (["settings", "adopt", "--json"], 2, "AUTHTALLY_USER_HASH_KEY: is not set"),
    (["publish", "--json", "nowhere.jsonl"], 1, "nowhere.jsonl: No such file or directory"),
    (["publish", "--json", "--format", "none", "-"], 2, "'none' is not one of native, login"),
    (["positions", "reset", "auth.logins", "--json"], 2, "Missing argument 'PARTITION'"),
    (["report", "--url", "http://127.0.0.1:1", "--json"], 1, "AUTHTALLY_URL: no answer"),
    (["worker", "--json"], 2, "--json is allowed only with --check"),
    (["doctor", "--json", "--backup-age", "old"], 2, "'old' is not a duration"),
    (["nonsense", "--json"], 2, "No such command 'nonsense'"),
]


@pytest.mark.parametrize(("arguments", "status", "words"), ERRORS, ids=[" ".join(case[0]) for case in ERRORS])
def test_an_error_is_one_json_document_where_json_was_asked_for(arguments: list[str], status: int, words: str) -> None:
    failed = CliRunner().invoke(main, arguments)
    result = json.loads(failed.stdout)
    assert words in result["error"]
    assert (failed.exit_code, result["exit_status"]) == (status, status)
    assert failed.stderr == ""


def test_every_fault_of_the_settings_stands_by_itself_in_json() -> None:
    failed = CliRunner().invoke(main, ["worker", "--check", "--json"], env={"AUTHTALLY_MAX_LABELS": "many"})
    names = {error.partition(":")[0] for error in json.loads(failed.stdout)["faults"]}
    assert names == {"AUTHTALLY_MAX_LABELS", "AUTHTALLY_USER_HASH_KEY"}


def test_effective_values_are_json_too_with_secrets_masked() -> None:
    checked = CliRunner().invoke(main, ["worker", "--check", "--json"], env={"AUTHTALLY_USER_HASH_KEY": KEY})
    result = json.loads(checked.stdout)["settings"]
    assert (result["AUTHTALLY_TIMEZONE"], result["AUTHTALLY_USER_HASH_KEY"]) == ("UTC", "********")


def test_a_printed_answer_is_not_followed_by_a_second_document(tmp_path: Path) -> None:
    (tmp_path / "past.csv").write_text("month,active_users\n2025-13,5\n")
    failed = CliRunner().invoke(main, ["import-stat", "--json", "past.csv"], env={"AUTHTALLY_USER_HASH_KEY": KEY})
    assert failed.exit_code == 1
    assert "2025-13" in json.loads(failed.stdout)["faults"][0]
    assert "nothing was imported" in failed.stderr


COMPLETIONS = [
    # what stands on the line, what bash offers
    (["pub"], {"publish"}),
    (["positions", ""], {"show", "reset", "allow-unexpected", "rebuild-index"}),
    (["publish", "--format", "key"], {"keycloak"}),
    (["positions", "reset", "auth."], {"auth.logins", "auth.accounts", "auth.otp-tokens", "auth.tokens"}),
    (["positions", "reset", "auth.logins", "0", "--to", "e"], {"earliest"}),
    (["dead-letters", "resend", "--reason", "impossible"], {"impossible_time"}),
    (["completion", ""], {"bash", "zsh", "fish"}),
    (["report", "act"], {"active-users"}),
]


def test_bash_completes_commands_formats_topics_and_reasons(tmp_path: Path) -> None:
    # The script calls the program by its name.
    (tmp_path / "authtally").write_text(f'#!/bin/sh\nexec {sys.executable} -m deploy.cli.main "$@"\n')
    (tmp_path / "authtally").chmod(0o755)
    script = ['eval "$(authtally completion bash)"', "complete -p authtally"]
    for words, _ in COMPLETIONS:
        line = " ".join(shlex.quote(word) for word in ("authtally", *words))
        script += [f"COMP_WORDS=({line}); COMP_CWORD={len(words)}; COMPREPLY=(); _authtally_completion authtally"]
        script += ['echo "${COMPREPLY[@]}"']
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ("bash", "-c", "\n".join(script)), capture_output=True, text=True, check=True, env=environment, timeout=120
    )
    first, *offered = done.stdout.splitlines()
    assert first.endswith("-F _authtally_completion authtally")
    assert [set(line.split()) for line in offered] == [expected for _, expected in COMPLETIONS]
    assert done.stderr == ""


@pytest.mark.parametrize(("shell", "word"), [("zsh", "#compdef authtally"), ("fish", "complete --no-files")])
def test_other_shells_get_scripts_too(shell: str, word: str) -> None:
    assert word in CliRunner().invoke(main, ["completion", shell]).output
