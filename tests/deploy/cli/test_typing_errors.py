"""Typing errors in every command: the exit status, and a message that names the fault, what is allowed, and a cure."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import click
import pytest
from click.testing import CliRunner

from deploy.cli.main import main

KEY = {"AUTHTALLY_USER_HASH_KEY": "a key for tests, long enough"}
NOWHERE = {"AUTHTALLY_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "AUTHTALLY_REDIS_URL": "redis://127.0.0.1:1/0"}
BROKER = "AUTHTALLY_KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:1: 127.0.0.1:1: Connection refused"
COMMANDS = (
    "demo, worker, api, doctor, topics, positions, dead-letters, settings, realm, audit, publish, import-stat, "
    "snapshot, recount, report, completion"
)
NO_KEY = "AUTHTALLY_USER_HASH_KEY: is not set; allowed: a secret of at least 16 characters"


class Case(NamedTuple):
    """One call with a typing error."""

    call: str
    status: int
    text: str
    settings: dict[str, str] = {}  # noqa: RUF012
    """Settings in addition to NOWHERE."""


CASES = [
    Case("wroker", 2, f"No such command 'wroker'; allowed: {COMMANDS}; did you mean worker?"),
    Case("Report", 2, "did you mean report?"),
    Case("resend", 2, "did you mean dead-letters resend?"),
    Case("positions shwo", 2, "allowed: show, reset, allow-unexpected, rebuild-index; did you mean show?"),
    Case("snapshot resotre", 2, "allowed: save, show, restore, verify; did you mean restore?"),
    Case("topics creat", 2, "did you mean create?"),
    Case("settings adpot", 2, "did you mean adopt?"),
    Case("dead-letters lst", 2, "did you mean list?"),
    Case("demo --evnts 3", 2, "No such option --evnts; allowed: --events, --port"),
    Case("demo --evnts 3", 2, "did you mean --events?"),
    Case("demo --events 3", 2, "3 is not in the range x>=1000"),
    Case("demo --until yesterday", 2, "'yesterday' is not a time of RFC 3339, such as 2026-11-01T00:00:00Z"),
    Case("worker --chekc", 2, "did you mean --check?"),
    Case("worker", 2, NO_KEY),
    Case(
        "worker --check",
        2,
        "AUTHTALLY_TOPIC: no such setting; did you mean AUTHTALLY_TOPICS?",
        {"AUTHTALLY_TOPIC": "x"},
    ),
    Case("worker --json", 2, "--json is allowed only with --check"),
    Case("api --check", 2, "AUTHTALLY_AUTH: is not set; allowed: jwt, introspection, static, or several; or none"),
    Case("api --chekc", 2, "did you mean --check?"),
    Case("doctor --service wroker", 2, "'wroker' is not one of worker, api; did you mean worker?"),
    Case("doctor --backup-age soon", 2, "'soon' is not a duration"),
    Case("doctor --backups nowhere", 2, "Invalid value for --backups: nowhere: No such file or directory"),
    Case("doctor --timeout 0", 2, "0.0 is not in the range 0.1<=x<=120"),
    Case("topics create", 1, BROKER),
    Case("topics create --dry-run", 1, BROKER),
    Case("topics create --partitions 0", 2, "0 is not in the range 1<=x<=100000"),
    Case("positions show", 1, BROKER),
    Case("positions reset auth.logins 0", 2, "Missing option '--to'"),
    Case("positions reset auth.logins x --to latest", 2, "'x' is not a valid integer range"),
    Case("positions reset auth.logins 0 --to latest", 2, NO_KEY),
    Case("positions reset auth.logisn 0 --to latest", 2, "allowed: auth.logins, auth.tokens", KEY),
    Case("positions allow-unexpected auth.logins 0 -- -1", 2, "-1 is not in the range x>=0"),
    Case("positions allow-unexpected auth.logins 0 1", 1, "AUTHTALLY_REDIS_URL: no connection"),
    Case("positions rebuild-index auth.logins", 2, "either TOPIC PARTITION or --all"),
    Case("dead-letters list", 1, BROKER),
    Case("dead-letters resend --reason impossible-time", 2, "did you mean impossible_time?"),
    Case(
        "dead-letters resend --reason nope",
        2,
        "'nope' is not one of empty_value, not_json, not_an_object",
    ),
    Case("dead-letters resend --reason not_json", 1, BROKER),
    Case("settings adopt", 2, NO_KEY),
    Case("audit --lst 3", 2, "did you mean --last?"),
    Case("audit --last 0", 2, "0 is not in the range x>=1"),
    Case("audit", 1, "AUTHTALLY_REDIS_URL: no connection"),
    Case("realm remvoe acme", 2, "allowed: remove; did you mean remove?"),
    Case("realm remove", 2, "Missing argument 'REALM'"),
    Case("realm remove acme", 1, "AUTHTALLY_REDIS_URL: no connection"),
    Case("publish", 2, "Missing argument 'FILE|-'"),
    Case("publish nowhere.jsonl", 1, "nowhere.jsonl: No such file or directory"),
    Case("publish --format keyclock -", 2, "did you mean keycloak?"),
    Case("publish --format auth0 -", 2, "did you mean auth0-logs?"),
    Case("publish --dry-run .", 1, "Is a directory"),
    Case("import-stat", 1, "AUTHTALLY_REDIS_URL: no connection"),
    Case("import-stat nowhere.csv", 1, "nowhere.csv: No such file or directory"),
    Case("import-stat --remove 2026-99", 2, "'2026-99' is not a month; allowed: YYYY-MM or YYYYMM; example: 2025-03"),
    Case("import-stat past.csv --remove 2025-03", 2, "either FILE or --remove"),
    Case("snapshot save", 2, "Missing argument 'FILE'"),
    Case("snapshot save . --keep 0", 2, "0 is not in the range x>=1"),
    Case("snapshot save x --keep 3", 2, "--keep needs a folder instead of a file name, and x does not exist: create"),
    Case("snapshot save /dev/null --keep 3", 2, "and /dev/null is no folder"),
    Case("snapshot show nowhere", 1, "nowhere: No such file or directory"),
    Case("snapshot restore nowhere", 1, "nowhere: No such file or directory", KEY),
    Case("snapshot restore --yse nowhere", 2, "did you mean --yes?"),
    Case("snapshot verify", 2, "either FILE or --from-start"),
    Case("snapshot verify nowhere", 1, "nowhere: No such file or directory", KEY),
    Case("snapshot verify --from-start --scratch-url http://x", 2, "must be a redis://, rediss:// or unix:// URL", KEY),
    Case("recount 2026-13", 2, "'2026-13' is not a month; allowed: YYYY-MM; example: 2026-10"),
    Case("recount 2026-10", 1, BROKER),
    Case("report actve-users", 2, "did you mean active-users?"),
    Case("report --url ftp://x", 2, "Invalid value for --url: must be the http:// or https:// URL of an api"),
    Case("report --token-file nowhere", 1, "--token-file nowhere: No such file or directory"),
    Case("report --month 2026-10", 2, "overview takes no --month; it takes --date"),
    Case("report --url http://127.0.0.1:1", 1, "no answer from http://127.0.0.1:1: Connection refused"),
    Case("report verify", 2, "report verify takes FILE and --key KEYFILE, and no other option"),
    Case("report --sign nowhere", 1, "nowhere: No such file or directory"),
    Case("completion tcsh", 2, "'tcsh' is not one of bash, zsh, fish"),
]


@pytest.mark.parametrize("case", CASES, ids=[f"{case.call} {case.text[:20]}" for case in CASES])
def test_a_typing_error_is_named_with_its_cure(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, case.call.split(), env=NOWHERE | case.settings)
    assert case.text in done.output
    assert (done.exit_code, "Traceback" in done.output) == (case.status, False)
    assert done.exception is None or isinstance(done.exception, SystemExit)


def test_every_command_has_a_typing_error() -> None:
    every = set()
    for name, command in main.commands.items():
        every |= {f"{name} {each}" for each in command.commands} if isinstance(command, click.Group) else {name}
    assert {name for name in every if not any(f"{case.call} ".startswith(f"{name} ") for case in CASES)} == set()
