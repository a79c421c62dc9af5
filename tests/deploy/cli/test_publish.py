"""`authtally publish`: good elements of a file arrive converted, and bad ones are reported."""

from __future__ import annotations

import gzip
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.cli.commands.data import FORMATS
from schemas.adapters.registry import ADAPTERS
from tests.deploy.publishing import Kafka, login, written

NOON_MS = 1_767_225_600_123


def test_formats_are_the_adapters() -> None:
    assert set(FORMATS) == set(ADAPTERS)


def test_native_events_arrive_under_keys_of_their_ids(kafka: Kafka, tmp_path: Path) -> None:
    token = {"type": "token", "time": "2026-06-01T12:00:00Z", "grant_type": "password", "tokens": ["access_token"]}
    file = written(tmp_path / "events.jsonl", login("ada", id="a", realm="acme"), login("bob", id="b"), token)

    done = kafka.run(file, "--no-ids")

    assert done.exit_code == 0, done.output
    assert "Published 3 events from 3 elements" in done.stdout
    assert done.stderr == "", "no bar without a terminal"
    logins = kafka.sent("login")
    assert {(sent.event.user_id, sent.event.id, sent.event.realm) for sent in logins} == {
        ("ada", "a", "acme"),
        ("bob", "b", None),
    }
    assert len({sent.key for sent in logins}) == 2
    (issued,) = kafka.sent("token")
    assert (issued.key, issued.event.id, issued.event.tokens) == (None, None, ("access_token",))


def test_records_carry_the_time_of_sending(kafka: Kafka, tmp_path: Path) -> None:
    kafka.run(written(tmp_path / "old.jsonl", login("ada", time="2011-01-01T00:00:00Z")))
    (sent,) = kafka.sent("login")
    assert sent.event.time.year == 2011
    assert sent.timestamp > NOON_MS


def test_foreign_events_are_converted(kafka: Kafka, tmp_path: Path) -> None:
    def keycloak(number: int, kind: str, **details: str) -> dict[str, Any]:
        who = {"realmName": "shop", "clientId": "web", "userId": f"u{number}"}
        return {"id": f"k{number}", "time": NOON_MS, "type": kind, **who, "details": details}

    events = [
        keycloak(1, "LOGIN"),
        keycloak(2, "CODE_TO_TOKEN", grant_type="authorization_code", scope="openid"),
        keycloak(3, "UPDATE_PROFILE"),
    ]
    (tmp_path / "events.json.gz").write_bytes(gzip.compress(json.dumps(events, indent=2).encode()))

    done = kafka.run(str(tmp_path / "events.json.gz"), "--format", "keycloak", "--json")

    result = json.loads(done.stdout)
    assert (done.exit_code, result["events"], result["ignored"], result["rejected"]) == (0, 2, 1, {})
    assert [sent.event.user_id for sent in kafka.sent("login")] == ["u1"]
    assert [sent.event.grant_type for sent in kafka.sent("token")] == ["authorization_code"]


AUDITED = {"ip": "203.0.113.7", "timestamp": NOON_MS, "clientId": "web", "scope": "openid", "success": True}


def entry(message: str) -> str:
    """As the server's log4j2 configuration writes it."""
    return f"2026-01-01 00:00:00,123 INFO  [qtp1-17] [audit.ApplicationAuditLogger] (Logger.java:167) - {message}\n"


def test_the_audit_file_of_janssen_is_read_as_it_is_written(kafka: Kafka, tmp_path: Path) -> None:
    def pretty(action: str, username: str) -> str:
        return json.dumps(AUDITED | {"action": action, "username": username}, indent=2, separators=(",", " : "))

    text = entry(pretty("USER_AUTHORIZATION", 'a}\n{"')) + entry(pretty("TOKEN_REQUEST", "ada"))
    # Rotation cut a message off; the messages after it are whole.
    text += entry(pretty("USER_AUTHORIZATION", "cut")[:60]) + entry(pretty("CLIENT_READ", "x"))
    text += entry(json.dumps(AUDITED | {"action": "USER_AUTHORIZATION", "username": "bob"}))
    text += entry(pretty("ACTION_OF_2030", "x"))
    (tmp_path / "jans-auth_audit.log").write_text(text)

    done = kafka.run(str(tmp_path / "jans-auth_audit.log"), "--format", "janssen-audit", "--json")

    result = json.loads(done.stdout)
    assert (result["elements"], result["events"], result["ignored"]) == (6, 3, 2)
    assert result["unknown"] == {"ACTION_OF_2030": 1}
    (rejected,) = result["rejected"]["not_json"]["examples"]
    # Two messages of nine lines are before it.
    assert (rejected["line"], rejected["element"]) == (19, 2)
    assert sorted(sent.event.user_id for sent in kafka.sent("login")) == ['a}\n{"', "bob"]
    assert len(kafka.sent("token")) == 1

    with (tmp_path / "jans-auth_audit.log").open("a") as longer:
        longer.write(entry(pretty("USER_AUTHORIZATION", "eve")))
    again = kafka.run(str(tmp_path / "jans-auth_audit.log"), "--format", "janssen-audit", "--json")
    result = json.loads(again.stdout)
    assert (result["resumed_at_element"], result["events"], result["unknown"]) == (6, 4, {"ACTION_OF_2030": 1})
    assert sorted(sent.event.user_id for sent in kafka.sent("login")) == ['a}\n{"', "bob", "eve"]


BAD = ("not json", login("ada", id="x", time="1970-01-01T00:00:00Z"), {"type": "login"})


def test_rejected_elements_are_reported_and_written_and_the_rest_arrives(kafka: Kafka, tmp_path: Path) -> None:
    file = written(tmp_path / "events.jsonl", login("ada"), BAD[0], "", BAD[1], login("bob"), BAD[2])

    done = kafka.run(file, "--rejects", str(tmp_path / "bad.jsonl"))

    assert done.exit_code == 1
    assert "3 rejected" in done.output
    assert {sent.event.user_id for sent in kafka.sent("login")} == {"ada", "bob"}
    bad = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert [(each["line"], each["element"], each["reason"]) for each in bad] == [
        (2, 1, "not_json"),
        (4, 2, "impossible_time"),
        (6, 4, "missing_field"),
    ]
    assert bad[0]["value"] == "not json"
    assert all(each["detail"] for each in bad)


def test_a_dry_run_reports_all_of_it_and_sends_nothing(kafka: Kafka, tmp_path: Path) -> None:
    months = [login(f"u{number % 7}", time=f"2026-0{1 + number % 2}-01T00:30:00Z") for number in range(100)]
    refresh = {"type": "token", "time": "2026-03-01T00:00:00Z", "grant_type": "refresh_token", "tokens": ["a", "b"]}
    events = [*months, login("x", success=False), refresh | {"user_id": "r"}, refresh | {"grant_type": "password"}]
    file = written(tmp_path / "events.jsonl", *events, *BAD)

    done = kafka.run(file, "--dry-run", "--json", AUTHTALLY_TIMEZONE="America/New_York")

    assert done.exit_code == 1
    result = json.loads(done.stdout)
    assert result["rejected"]["not_json"] == {
        "count": 1,
        "examples": [{"line": 104, "element": 103, "detail": result["rejected"]["not_json"]["examples"][0]["detail"]}],
    }
    shown = {
        month: (row["active_users"], row["exact"], row["logins"], row["failed_logins"], row["tokens"])
        for month, row in result["months"].items()
    }
    assert shown == {
        "2025-12": (7, True, 50, 0, 0),
        "2026-01": (7, True, 50, 0, 0),
        "2026-02": (1, True, 0, 0, 4),
        "2026-06": (0, True, 0, 1, 0),
    }
    assert kafka.sent("login") == []
    assert not (tmp_path / "events.jsonl.published").exists()
    assert "2025-12" in kafka.run(file, "--dry-run", AUTHTALLY_TIMEZONE="America/New_York").output


def test_a_dry_run_warns_of_misspelt_fields(kafka: Kafka, tmp_path: Path) -> None:
    file = written(tmp_path / "events.jsonl", login("a"), *(login("b") | {"sucess": False} for _ in range(5)))
    result = json.loads(kafka.run(file, "--dry-run", "--json").stdout)
    examples = [{"line": line, "element": line - 1} for line in (2, 3, 4)]
    assert result["warnings"] == {"unknown field 'sucess', similar to 'success'": {"count": 5, "examples": examples}}
    assert result["events"] == 6, "unknown fields are allowed"
    text = kafka.run(file, "--dry-run").output
    assert "Warning: unknown field 'sucess', similar to 'success', in 5 elements (first lines: 2, 3, 4)." in text


@pytest.mark.parametrize(("setting", "users"), [("off", 4), ("nfc", 3), ("nfc-casefold", 2)])
def test_a_dry_run_counts_users_as_the_worker_would(kafka: Kafka, tmp_path: Path, setting: str, users: int) -> None:
    file = written(tmp_path / "events.jsonl", *map(login, ("Ada", "ada", "Jos\u00e9", "Jose\u0301")))
    done = kafka.run(file, "--dry-run", "--json", AUTHTALLY_USER_ID_NORMALIZE=setting)
    (month,) = json.loads(done.stdout)["months"].values()
    assert month["active_users"] == users


def test_a_dry_run_needs_no_kafka_and_estimates_many_users(kafka: Kafka, tmp_path: Path) -> None:
    file = written(tmp_path / "events.jsonl", *(login(f"user {number}") for number in range(20_000)))
    done = kafka.run(file, "--dry-run", "--json", AUTHTALLY_KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert done.exit_code == 0, done.output
    (month,) = json.loads(done.stdout)["months"].values()
    assert not month["exact"]
    assert abs(month["active_users"] / 20_000 - 1) < 4 * month["standard_error"]


TROUBLE = [
    pytest.param({"AUTHTALLY_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}, "AUTHTALLY_KAFKA_BOOTSTRAP_SERVERS", id="away"),
    pytest.param(
        {"AUTHTALLY_TOPICS": "nowhere.1=login"}, "Kafka has no topic nowhere.1 (AUTHTALLY_TOPICS)", id="topic"
    ),
    pytest.param({"AUTHTALLY_TOPICS": "a=token"}, "AUTHTALLY_TOPICS binds no topic to login", id="unbound"),
]


@pytest.mark.parametrize(("settings", "why"), TROUBLE)
def test_what_is_wrong_outside_is_named(
    kafka: Kafka, tmp_path: Path, settings: dict[str, Any], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.cli.publish.sending.STALL_TIMEOUT_S", 1.0)
    file = written(tmp_path / "events.jsonl", login("ada"))

    failed = kafka.run(file, **settings)

    assert failed.exit_code == 1
    assert why in failed.output
    assert "0 elements are acknowledged. Run the same command to continue." in failed.output
    assert kafka.run(file).exit_code == 0
    assert len(kafka.sent("login")) == 1


FILES = [
    pytest.param(("missing.jsonl",), "missing.jsonl: No such file", id="no input"),
    pytest.param(("events.jsonl", "--rejects", "no/where"), "--rejects no/where: No such file", id="rejects"),
    pytest.param(("events.jsonl", "--state", "no/where"), "name another file with --state", id="state"),
]


@pytest.mark.parametrize(("arguments", "why"), FILES)
def test_a_file_that_cannot_be_used_is_named(
    kafka: Kafka, tmp_path: Path, arguments: tuple[str, ...], why: str
) -> None:
    written(tmp_path / "events.jsonl", login("ada"))
    failed = kafka.run(*arguments)
    assert failed.exit_code == 1
    assert why in failed.output
    assert kafka.sent("login") == []


def test_a_terminal_shows_rate_and_time_left(kafka: Kafka, tmp_path: Path) -> None:
    file = written(tmp_path / "events.jsonl", *(login(f"u{number}") for number in range(20_000)))
    ours, theirs = pty.openpty()
    environment = kafka.child_environment | {"TERM": "xterm", "COLUMNS": "100"}
    command = (sys.executable, "-m", "deploy.cli.main", "publish", file)
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=theirs) as child:
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(ours, 65_536):
                shown += chunk
        except OSError:
            # How Linux ends a terminal whose other side has closed.
            pass
        finally:
            os.close(ours)
    assert child.returncode == 0
    assert b"publishing" in shown
    assert b"events/s" in shown


def test_idempotent_producing_is_the_default(apache_kafka: str, tmp_path: Path) -> None:
    kafka = Kafka(apache_kafka, tmp_path.name)
    file = written(tmp_path / "events.jsonl", *(login(f"u{number}") for number in range(1000)))
    done = kafka.run(file, AUTHTALLY_KAFKA_IDEMPOTENCE=None)
    assert done.exit_code == 0, done.output
    assert len(kafka.sent("login")) == 1000
