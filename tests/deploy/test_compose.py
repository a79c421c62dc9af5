"""The Compose file without a container engine; `make container` runs it."""

from __future__ import annotations

import hashlib
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.cli.environment import unknown_names
from tests.deploy.compose import COMPOSE, prepared, secrets_of, stack
from tests.qualification.container.stack import SERVICES as RUN

STACK = stack()
SERVICES: dict[str, Any] = STACK["services"]
NOT_RUN = {"grafana"}
"""Debian has no package of it to stand in for its image."""
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
    assert all(port.startswith("${BIND:-127.0.0.1}:${") for port in service.get("ports", ()))
    assert re.search(r"_IMAGE:-(authtally|\S+:v?\d+\.\d+\.\d+)\}$", service["image"])


def test_commands_beside_its_env_file_accept_its_variables() -> None:
    variables = set(re.findall(r"\$\{(AUTHTALLY_\w+)", (COMPOSE / "compose.yaml").read_text()))
    assert variables
    assert unknown_names(variables, set()) == []


def test_make_container_runs_every_service_that_it_can() -> None:
    # `tools` runs by the operator's commands.
    assert set(SERVICES) == {*RUN, *NOT_RUN, "tools"}


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
