"""Packages of the npm registry for tests, once per checkout; a lock file pins their hashes and names no registry."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import Final

from deploy.demo.servers.process import ServerError

FOLDER: Final = Path(__file__).parents[2] / ".node"
INSTALL_TIMEOUT_S: Final = 300
CLIENTS: Final = Path(__file__).parents[1] / "api" / "dialects" / "own" / "typescript"
"""The lock file of the generated clients and of the JavaScript examples."""


class NodeMissingError(ServerError):
    """Node.js or npm is not installed."""


def install(sources: Path, *programs: str) -> Path:
    """A folder with `programs` and the packages of `package-lock.json` in `sources`.

    `npm ci` checks the hashes. Raises NodeMissingError, ServerError.
    """
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise NodeMissingError("no node and npm on PATH: tests/servers/install_test_servers.sh installs them")
    files = [sources / name for name in ("package.json", "package-lock.json", *programs)]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
    folder = FOLDER / digest
    installed = folder / "installed"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        # Test processes share the folder.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not installed.exists():
            for file in files:
                shutil.copy(file, folder)
            command = (npm, "ci", "--omit-lockfile-registry-resolved", "--ignore-scripts", "--no-audit", "--no-fund")
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False
            )
            if done.returncode:
                raise ServerError(f"{sources}: npm ci failed:\n{done.stdout}{done.stderr}")
            installed.touch()
    return folder
