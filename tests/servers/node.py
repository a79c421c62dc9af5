"""Packages of the npm registry for tests, once per checkout; `package-lock.json` pins them with their hashes."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
LOCK: Final = ROOT / "tests" / "api" / "dialects" / "own" / "typescript" / "package-lock.json"
FOLDER: Final = ROOT / ".node"


class NodeMissingError(Exception):
    """Node.js or npm is not installed."""


def packages() -> Path:
    """The folder `node_modules`, downloaded if it is missing or older than the lock."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise NodeMissingError("no node and npm on PATH: tests/servers/install_test_servers.sh installs them")
    FOLDER.mkdir(exist_ok=True)
    installed, modules = FOLDER / "installed.json", FOLDER / "node_modules"
    with (FOLDER / "lock").open("w") as lock:
        # Test processes share the folder.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not installed.exists() or installed.read_bytes() != LOCK.read_bytes():
            for name in ("package.json", "package-lock.json"):
                shutil.copy(LOCK.with_name(name), FOLDER)
            subprocess.run((npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"), cwd=FOLDER, check=True)
            shutil.copy(LOCK, installed)
    return modules
