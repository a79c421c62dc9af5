"""The image's sources without a container engine; `make container` builds the image and runs it."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

import pytest

ROOT = Path(__file__).parents[2]
CONTAINER = ROOT / "deploy/container"
DOCKERFILE = CONTAINER / "Dockerfile"
COPIED: Final = re.compile(r"^COPY (?!--from)(.+) \S+$", re.MULTILINE)
TOOLS = Path(sys.executable).parent


def pins(lock: Path) -> dict[str, set[str]]:
    """Versions by package; a package may have several, for several Pythons."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([a-z0-9.-]+)(?:\[[a-z,]+\])?==(\S+)", lock.read_text(), re.MULTILINE):
        found.setdefault(name, set()).add(version)
    return found


def test_a_linter_finds_nothing() -> None:
    done = subprocess.run((TOOLS / "hadolint", DOCKERFILE), capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


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
    copied = [word for words in COPIED.findall(DOCKERFILE.read_text()) for word in words.split()]
    assert {Path(word).parts[0] for word in copied} == let_in
