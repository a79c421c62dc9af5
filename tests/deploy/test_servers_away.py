"""A command whose Redis or Kafka is away, or refuses it, ends with one line and its documented status."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner, Result

from deploy.cli.main import main
from deploy.demo.servers import Valkey, create_topics, free_port
from deploy.demo.servers.process import HOST

PREFIX: Final = "AUTHTALLY_"
TOPICS: Final = ("auth.logins", "auth.dead-letter")

COMMANDS: Final = (
    "positions show",
    "positions reset auth.logins 0 --to earliest",
    "settings adopt",
    "dead-letters list",
    "dead-letters resend",
    "import-stat",
    "import-stat --remove 2025-01",
    "snapshot save FILE",
    "recount 2026-10",
    "report --sign KEY --month 2026-10",
)
OF_KAFKA: Final = ("positions show", "dead-letters list", "dead-letters resend", "recount 2026-10", "topics create")

AWAY: Final = {
    "alone": {"REDIS_URL": f"redis://{HOST}:1/0"},
    "cluster": {"REDIS_URL": f"redis://{HOST}:1/0", "REDIS_CLUSTER": "on"},
    "sentinel": {"REDIS_URL": f"redis://{HOST}:1,{HOST}:2/0", "REDIS_SENTINEL": "ledger"},
}


@pytest.fixture
def kafka(broker: str) -> str:
    from deploy.demo.servers.topics import admin

    there = admin(broker).list_topics(timeout=10).topics
    if missing := [topic for topic in TOPICS if topic not in there]:
        create_topics(broker, dict.fromkeys(missing, 1))
    return broker


def run(command: str, folder: Path, kafka: str, **settings: str) -> Result:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "report.key").write_bytes(key)
    (folder / "report.key").chmod(0o600)
    named = {"FILE": str(folder / "ledger.snapshot"), "KEY": str(folder / "report.key")}
    common = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka,
        "KAFKA_IDEMPOTENCE": "off",
        "TOPICS": "auth.logins=login",
        "USER_HASH_KEY": "a key of more than sixteen characters",
    }
    environment = {f"{PREFIX}{name}": value for name, value in (common | settings).items()}
    return CliRunner().invoke(main, [named.get(word, word) for word in command.split()], env=environment)


def fails_in_one_line(done: Result, setting: str) -> None:
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"Error: {PREFIX}{setting}"), line
    assert done.stdout == ""


@pytest.mark.parametrize("layout", AWAY)
@pytest.mark.parametrize("command", COMMANDS)
def test_redis_is_away(command: str, layout: str, kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fails_in_one_line(run(command, tmp_path, kafka, **AWAY[layout]), "REDIS_URL")


@pytest.mark.parametrize("command", COMMANDS)
def test_redis_refuses_the_password(command: str, kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Valkey(password="right") as store:
        fails_in_one_line(run(command, tmp_path, kafka, REDIS_URL=store.url.replace("right", "wrong")), "REDIS_URL")


@pytest.mark.parametrize("command", OF_KAFKA)
def test_kafka_is_away(command: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(command, tmp_path, f"{HOST}:{free_port()}", REDIS_URL=redis_url)
    fails_in_one_line(done, "KAFKA_BOOTSTRAP_SERVERS")


@pytest.mark.parametrize("layout", AWAY)
def test_the_doctor_reports_it_as_a_finding(
    layout: str, kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("doctor --service worker --json --timeout 3", tmp_path, kafka, **AWAY[layout])
    assert isinstance(done.exception, SystemExit), done.exception
    found = [each for each in json.loads(done.stdout)["findings"] if each["check"] == "redis.connection"]
    assert [(each["verdict"], each["subject"]) for each in found] == [("problem", f"{PREFIX}REDIS_URL")]
