"""Copies of the source tree, each with a Python environment that imports the copy and never the checkout."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sysconfig
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from tests.qualification.mutations.mutation import Mutation

ROOT: Final = Path(__file__).parents[3]
DOWNLOADS: Final = (".kafka", ".keycloak")
"""Servers that tests download into the checkout; the copies use the same."""
TEST_TIMEOUT_S: Final = 300.0
RUN_TIMEOUT_S: Final = 3600


@dataclass(frozen=True)
class Outcome:
    """The result of some tests in one process of pytest."""

    failed: tuple[str, ...] = ()
    """Names of the tests that failed, not those that could not be set up."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """The longest time of each test function with its parameters, by node id without parameters."""
    error: str = ""
    """Why the tests were not all run; empty if they were."""
    output: str = ""


class Tree:
    """A copy of the source tree."""

    def __init__(self, folder: Path) -> None:
        self._root = folder / "tree"
        self._temporary = folder / "temporary"
        self._report = folder / "report.xml"
        _copy_sources(self._root)
        self._python = _make_environment(self._root)
        self._temporary.mkdir()

    @contextmanager
    def mutated(self, mutation: Mutation) -> Iterator[None]:
        """The tree without one guard. Raises StaleTextError."""
        file = self._root / mutation.file
        original = file.read_text(encoding="utf-8")
        file.write_text(mutation.text(self._root), encoding="utf-8")
        try:
            yield
        finally:
            file.write_text(original, encoding="utf-8")
            # Python compares time in seconds and size: both may be equal.
            for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*"):
                compiled.unlink()

    def run(self, tests: Sequence[str], timeout_s: float = TEST_TIMEOUT_S, *, stop_at_first: bool = False) -> Outcome:
        """Run tests by their node ids. A test that takes longer than `timeout_s` fails."""
        self._report.unlink(missing_ok=True)
        command = [
            *(str(self._python), "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider"),
            *("--timeout", str(timeout_s), "--junitxml", str(self._report), "-o", "junit_family=xunit1"),
            *(("-x",) if stop_at_first else ()),
            *tests,
        ]
        # With CI set a skipped test fails, so that the run without a mutation shows it.
        environment = {**os.environ, "CI": "1", "TMPDIR": str(self._temporary)}
        process = subprocess.Popen(
            command,
            cwd=self._root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=RUN_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            return Outcome(error=f"not finished after {RUN_TIMEOUT_S} s", output=output)
        finally:
            # What a killed worker or an interrupted test left.
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary.mkdir(exist_ok=True)
        if process.returncode not in (0, 1) or not self._report.exists():
            return Outcome(error=f"pytest ended with {process.returncode}", output=output)
        return _read_report(self._report, output)


def _copy_sources(root: Path) -> None:
    """Tracked and new files, without ignored ones."""
    command = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    for name in DOWNLOADS:
        if (ROOT / name).is_dir():
            (root / name).symlink_to(ROOT / name)


def _make_environment(root: Path) -> Path:
    """An environment whose packages are those of this one, except for the tree's own. Returns its Python."""
    folder = root / ".venv"
    venv.create(folder, symlinks=True)
    here = Path(sysconfig.get_path("purelib"))
    (packages,) = folder.glob("lib/python3.*/site-packages")
    # Python does not process the .pth files in a folder that a .pth file names: one of them would import the checkout.
    (packages / "tree.pth").write_text(f"{root}\n{here}\n")
    return folder / "bin" / "python"


def _read_report(report: Path, output: str) -> Outcome:
    failed, errors = list[str](), list[str]()
    seconds: dict[str, float] = {}
    # Written by pytest on this machine.
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('file')}::{case.get('name')}"
        function = name.partition("[")[0]
        seconds[function] = max(seconds.get(function, 0.0), float(case.get("time", "0")))
        if case.find("failure") is not None:
            failed.append(name)
        elif case.find("error") is not None:
            errors.append(name)
    error = f"not set up: {', '.join(errors)}" if errors and not failed else ""
    return Outcome(tuple(failed), seconds, error, output)
