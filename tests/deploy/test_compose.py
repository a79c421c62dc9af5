"""The Compose file without a container engine: by its schema, by our settings, and its services as processes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner

from deploy.cli.main import main
from deploy.demo.servers import Valkey, free_port
from deploy.demo.servers.process import HOST, start_child, stop_child, tail
from tests.conftest import wait_until
from tests.deploy.compose import COMPOSE, MOUNTED, elsewhere, mount, prepared, secrets_of, stack
from tests.servers import ApacheKafka, JavaMissingError

STACK = stack()
SERVICES: dict[str, Any] = STACK["services"]
OURS = ("topics", "worker", "api")
KAFKA = ("kafka",)
"""Its image writes its configuration and logs beside its programs when it starts."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("compose"))


def test_it_is_valid_by_the_schema_of_compose() -> None:
    tool = Path(sys.executable).with_name("check-jsonschema")
    done = subprocess.run(
        (tool, "--builtin-schema", "vendor.compose-spec", COMPOSE / "compose.yaml"),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout


def test_its_services_and_volumes_and_secrets_know_each_other() -> None:
    assert {each for service in SERVICES.values() for each in secrets_of(service).values()} == set(STACK["secrets"])
    volumes = [volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())]
    assert {volume for volume in volumes if not volume.startswith(".")} == set(STACK["volumes"])
    for volume in volumes:
        assert not volume.startswith(".") or (COMPOSE / volume).exists(), volume
    for service in SERVICES.values():
        assert set(service.get("depends_on", ())) <= set(SERVICES)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_do_little_harm(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.get("read_only", False) is (name not in KAFKA)
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    assert service["image"] == "authtally" or re.search(r":v?\d+\.\d+\.\d+$", service["image"])


@pytest.mark.parametrize("name", [name for name in SERVICES if name not in ("worker", "api")])
def test_a_service_has_a_healthcheck(name: str) -> None:
    # Worker and api have their image's.
    assert SERVICES[name]["healthcheck"]


def test_the_secrets_stay_when_they_are_made_again_and_are_shut_away(made: Path) -> None:
    folder = made / "secrets"

    def held() -> dict[str, str]:
        return {path.name: path.read_text() for path in folder.iterdir()}

    before = held()
    subprocess.run((made / "prepare.sh",), check=True, capture_output=True, timeout=60)
    assert held() == before
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {Path(each["file"]).name for each in STACK["secrets"].values()} <= set(before)
    words = [before[name].strip() for name in before if name.endswith(("_password", "_token", "_key"))]
    assert len(set(words)) == len(words)
    assert all(len(word) == 48 for word in words)


def test_redis_gets_digests_of_the_passwords(made: Path) -> None:
    acl = (made / "secrets/users.acl").read_text()
    for user in ("worker", "api", "operator"):
        password = (made / f"secrets/{user}_password").read_text().strip()
        assert password not in acl
        (line,) = [line for line in acl.splitlines() if line.startswith(f"user {user} ")]
        assert line.endswith(f" #{hashlib.sha256(password.encode()).hexdigest()}")


@pytest.mark.parametrize("name", ["worker", "api"])
def test_its_settings_are_taken(made: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    service = SERVICES[name]
    mounted = mount(service, made, tmp_path / "secrets", {})
    given = {key: elsewhere(value, {MOUNTED: str(mounted)}) for key, value in service["environment"].items()}
    shown = CliRunner().invoke(main, [*service["command"], "--check"], env=given)
    assert shown.exit_code == 0, shown.output
    assert f"AUTHTALLY_REDIS_URL=redis://{name}:********@valkey:6379/0" in shown.stdout
    assert "AUTHTALLY_KAFKA_BOOTSTRAP_SERVERS=kafka:9092" in shown.stdout


class Guarded(Valkey):
    """A store that refuses every command without authentication; that refusal is its answer."""

    def answers(self) -> bool:
        with redis.Redis(host=HOST, port=self.port) as client:
            try:
                return bool(client.ping())
            except redis.AuthenticationError:
                return True


class Ran:
    """What the Compose file describes, as processes of this machine: ports of our own, no containers."""

    def __init__(self, made: Path, folder: Path, stack: ExitStack) -> None:
        self.made, self.folder, self.stack = made, folder, stack
        self.api_port = free_port()
        self.valkey = stack.enter_context(Guarded(options=self._valkey_options()))
        try:
            kafka = ApacheKafka(properties=self._kafka_properties(), port=self.kafka_port)
        except JavaMissingError as missing:
            pytest.skip(str(missing))
        self.kafka = stack.enter_context(kafka)
        self.hosts = {"kafka:9092": self.kafka.address, "valkey:6379": self.valkey.address}

    def _valkey_options(self) -> list[str]:
        server, *options = SERVICES["valkey"]["command"]
        assert server == "valkey-server"
        return [elsewhere(option, {MOUNTED: str(self.made / "secrets")}) for option in options]

    def _kafka_properties(self) -> dict[str, str]:
        """As the image does it: `KAFKA_NODE_ID` is `node.id`."""
        self.kafka_port, controller, outside = (free_port() for _ in range(3))
        places = {"kafka:9093": f"127.0.0.1:{controller}", "kafka:9092": f"127.0.0.1:{self.kafka_port}"}
        places |= {"//:9092": f"//127.0.0.1:{self.kafka_port}", "//:9093": f"//127.0.0.1:{controller}"}
        places |= {"//:9094": f"//127.0.0.1:{outside}", "127.0.0.1:9094": f"127.0.0.1:{outside}"}
        given = SERVICES["kafka"]["environment"]
        named = {name.removeprefix("KAFKA_").lower().replace("_", "."): value for name, value in given.items()}
        del named["heap.opts"]
        return {name: elsewhere(value, places) for name, value in named.items()} | {
            "log.dirs": str(self.folder / "kafka")
        }

    def _environment(self, name: str) -> dict[str, str]:
        service = SERVICES[name]
        given = {key: elsewhere(value, self.hosts) for key, value in service["environment"].items()}
        mounted = mount(service, self.made, self.folder / name, self.hosts)
        given = {key: elsewhere(value, {MOUNTED: str(mounted)}) for key, value in given.items()}
        ports = {"AUTHTALLY_API_PORT": str(self.api_port), "AUTHTALLY_WORKER_PORT": "0"}
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder), **ports, **given}

    def run(self, name: str) -> None:
        """A one-shot, to its end."""
        done = subprocess.run(
            (sys.executable, "-m", "deploy.cli.main", *SERVICES[name]["command"]),
            env=self._environment(name) | {"PYTHONPATH": str(COMPOSE.parents[1])},
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr

    def start(self, name: str) -> None:
        log = self.folder / f"{name}.log"
        words = (sys.executable, "-m", "deploy.cli.main", *SERVICES[name]["command"])
        environment = self._environment(name) | {"PYTHONPATH": str(COMPOSE.parents[1])}
        process = start_child(words, log, self.folder, environment)
        self.stack.callback(lambda: stop_child(process, 20))

    def ask(self, path: str, token: str, body: bytes | None = None) -> Any:
        secret = (self.made / f"secrets/{token}_token").read_text().strip()
        headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.api_port}{path}", body, headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read())

    def answers(self) -> bool:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{self.api_port}/health/ready", timeout=2).close()
        except OSError:
            return False
        return True


@pytest.fixture
def ran(made: Path, tmp_path: Path) -> Iterator[Ran]:
    with ExitStack() as stack:
        yield Ran(made, tmp_path, stack)


@pytest.mark.apache_kafka
def test_an_event_goes_all_the_way_through_the_services_as_they_are_described(ran: Ran) -> None:
    ran.run("topics")
    ran.start("worker")
    ran.start("api")
    wait_until(ran.answers, 40, tail(ran.folder / "api.log"))
    now = datetime.now(UTC)
    event = {"type": "login", "time": now.isoformat(), "user_id": "alice", "realm": "acme"}
    assert ran.ask("/v1/events", "publisher", json.dumps(event).encode())["accepted"] == 1
    question = f"/v1/logins?granularity=month&from={now:%Y-%m}-01&to={now:%Y-%m-%d}"

    def counted() -> bool:
        items = ran.ask(question, "dashboard")["items"]
        return bool(items) and items[0]["succeeded"] == 1

    # Answers are kept for ten seconds.
    wait_until(counted, 60, tail(ran.folder / "worker.log"))
    client: Any = redis.Redis.from_url(ran.valkey.url)
    with pytest.raises(redis.AuthenticationError):
        client.get("anything")
    client.close()
