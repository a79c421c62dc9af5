"""The examples of `docs/publish-events.md`, each run as a program against a running api or Kafka."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

import pytest
import redis

from api.settings.settings import ApiSettings
from deploy.demo.servers import Valkey, create_topics
from schemas.events import Login, decode_native
from schemas.settings import read
from schemas.time.clock import Clock
from tests.api import in_thread
from tests.api.ingest.sending import NATIVE, key_of, records
from tests.servers import ApacheKafka, JavaMissingError, node
from tests.servers.apache_kafka import fetch_jars

EXAMPLES: Final = Path(__file__).parents[3] / "docs" / "examples"
TOPIC: Final = "auth.logins"
ID: Final = "shop:4711"
SKEW: Final = timedelta(seconds=1)
"""Some programs cut the time to seconds."""
TIMEOUT_S: Final = 500
"""Go compiles its own library first: 40 s of both cores if its cache is empty."""


class Example(NamedTuple):
    language: str
    over: str
    command: tuple[str, ...]


def found() -> Iterator[Example]:
    """Every example whose language is on this machine; the test servers' script installs all but Go."""
    for over in ("http", "kafka"):
        yield Example("python", over, (sys.executable, f"publish_{over}.py"))
        yield Example("javascript", over, ("node", f"publish_{over}.mjs"))
        yield Example("java", over, ("java", "--class-path", "KAFKA_JARS", f"Publish{over.capitalize()}.java"))
        if shutil.which("go") is not None:
            yield Example("go", over, ("go", "run", "-C", "go", f"./{over}"))
    yield Example("curl", "http", ("bash", "publish_http.sh"))


class Servers(NamedTuple):
    url: str
    kafka: str


@pytest.fixture(scope="module")
def servers(valkey: Valkey, apache_kafka_server: ApacheKafka) -> Iterator[Servers]:
    """An api with ingest, and Apache Kafka with the topic of logins."""
    with redis.Redis.from_url(valkey.url) as server:
        server.flushall()
    kafka = apache_kafka_server.address
    create_topics(kafka, {TOPIC: 3})
    settings = read(
        ApiSettings,
        redis_url=valkey.url,
        auth=("none",),
        auth_none_writes=True,
        ingest=True,
        kafka_bootstrap_servers=kafka,
        topics={TOPIC: "login"},
    )
    with in_thread.served(settings, Clock()) as (host, port):
        yield Servers(f"http://{host}:{port}", kafka)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the examples beside the packages that they import."""
    copied = tmp_path_factory.mktemp("examples")
    shutil.copytree(EXAMPLES, copied, dirs_exist_ok=True)
    try:
        (copied / "node_modules").symlink_to(node.install(node.CLIENTS) / "node_modules")
        (copied / "jars").symlink_to(fetch_jars())
    except (node.NodeMissingError, JavaMissingError) as missing:
        pytest.skip(str(missing))
    return copied


@pytest.mark.timeout(TIMEOUT_S + 60)
@pytest.mark.parametrize("example", list(found()), ids=lambda example: f"{example.language}-{example.over}")
def test_an_example_publishes_its_event(example: Example, servers: Servers, folder: Path) -> None:
    environment = os.environ | {
        "AUTHTALLY_URL": servers.url,
        "AUTHTALLY_TOKEN": "demo-token",
        "KAFKA": servers.kafka,
    }
    command = [each.replace("KAFKA_JARS", "jars/*") for each in example.command]
    before, began = len(records(servers.kafka, TOPIC)), datetime.now(UTC)
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    if example.over == "http":
        assert json.loads(done.stdout) == {"accepted": 1, "ignored": 0, "rejected": []}
    else:
        assert done.stdout.strip().endswith("acknowledged")
    sent = records(servers.kafka, TOPIC)
    assert len(sent) == before + 1
    event_id = NATIVE + ID if example.over == "http" else ID
    key = key_of(event_id) if example.over == "http" else ID.encode()
    alike = [record for record in sent if record.key == key]
    # Equal keys lie in one partition, whatever the language: there the id counts once.
    assert len({record.partition for record in alike}) == 1
    event = decode_native("login", json.dumps(alike[-1].value).encode())
    assert isinstance(event, Login)
    assert (event.id, event.user_id, event.realm) == (event_id, "ada", "acme")
    assert began - SKEW <= event.time <= datetime.now(UTC), "the present: ingest rejects old events"


def test_every_example_is_run() -> None:
    named = {word for example in found() for word in example.command}
    programs = {path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob("*") if path.is_file()}
    go = {f"go/{name}" for name in ("go.mod", "go.sum", "http/main.go", "kafka/main.go")}
    assert programs - named == go
