"""What others wrote comes by its hash, is listed, and what we wrote has been looked over."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
LOCKS = sorted(
    path
    for folder in (ROOT, ROOT / "deploy" / "container", ROOT / "tests" / "bench" / "peers")
    for path in folder.glob("*.lock")
)
REQUIREMENT = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==([^\s;\\]+)")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: str(lock.relative_to(ROOT)))
def test_whatever_is_installed_is_named_by_version_and_hash(lock: Path) -> None:
    text = re.sub(r"(?m)^ *#.*\n?", "", lock.read_text())
    requirements = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    assert requirements
    for line in requirements:
        assert REQUIREMENT.match(line), line[:100]
        assert "--hash=sha256:" in line, line[:100]


def test_every_way_to_install_asks_for_the_hashes() -> None:
    for path in ("Makefile", "deploy/container/Dockerfile"):
        installs = [line for line in (ROOT / path).read_text().splitlines() if "pip" in line and " install " in line]
        assert installs
        assert all("--require-hashes" in line or "--no-deps" in line for line in installs), path


def test_the_bill_of_materials_lists_all_of_an_image(tmp_path: Path) -> None:
    lock, result = ROOT / "deploy" / "container" / "runtime.lock", tmp_path / "sbom.json"
    words = ("requirements", "--pyproject", "pyproject.toml", "--output-reproducible", "--output-file", str(result))
    done = run(str(BIN / "cyclonedx-py"), *words, str(lock))
    assert done.returncode == 0, done.stderr
    bill = json.loads(result.read_text())
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "authtally")
    locked = {found.groups() for line in lock.read_text().splitlines() if (found := REQUIREMENT.match(line))}
    assert {(one["name"], one["version"]) for one in bill["components"]} == locked
    assert all(one["externalReferences"][0]["hashes"] for one in bill["components"])


def test_bandit_finds_nothing_that_is_not_explained() -> None:
    rooms = ("aggregator", "api", "deploy", "schemas")
    done = run(str(BIN / "bandit"), "--quiet", "--configfile", "pyproject.toml", "--recursive", *rooms)
    assert done.returncode == 0, done.stdout
