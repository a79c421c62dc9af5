"""In CI a skipped test is a failed one; on a desk it is a skipped one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = """
import pytest

def test_skipped():
    pytest.skip("no such server here")

@pytest.mark.skip(reason="marked")
def test_marked(): ...

@pytest.mark.xfail(reason="known")
def test_known(): assert False
"""
MODULE = 'import pytest\n\npytest.skip("whole file", allow_module_level=True)\n'
HOOKS = "from tests.conftest import pytest_make_collect_report, pytest_runtest_makereport  # noqa: F401\n"


@pytest.mark.parametrize(
    ("ci", "file", "summary"),
    [
        ("", CASES, "2 skipped, 1 xfailed"),
        ("1", CASES, "1 failed, 1 xfailed, 1 error"),
        ("", MODULE, "1 skipped"),
        ("1", MODULE, "1 error"),
    ],
)
def test_a_skip_is_a_failure_in_ci_only(ci: str, file: str, summary: str, tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(HOOKS)
    (tmp_path / "test_cases.py").write_text(file)
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)],
        env={**os.environ, "CI": ci, "PYTHONPATH": str(root)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert summary in done.stdout.splitlines()[-1], done.stdout
