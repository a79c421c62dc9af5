"""Auth0's SDKs for Node, installed from the lock file beside this module into the checkout's `.clients/`."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

from deploy.demo.servers.process import ServerError

SOURCES: Final = Path(__file__).with_name("auth0-node")
CLIENTS: Final = Path(__file__).parents[2] / ".clients"
INSTALL_TIMEOUT_S: Final = 300
ANSWER_TIMEOUT_S: Final = 60
FILES: Final = ("package.json", "package-lock.json", "client.mjs")


class NodeMissingError(ServerError):
    """Node or npm is not on this machine."""


def installed() -> Path:
    """The folder of the client, with its packages. Raises NodeMissingError, ServerError.

    `npm ci` installs the locked versions only and checks their hashes. The lock file names no registry.
    """
    for name in ("node", "npm"):
        if shutil.which(name) is None:
            raise NodeMissingError(f"no `{name}` on PATH")
    digest = hashlib.sha256(b"".join((SOURCES / name).read_bytes() for name in FILES)).hexdigest()[:16]
    folder = CLIENTS / f"auth0-{digest}"
    if folder.exists():
        return folder
    CLIENTS.mkdir(exist_ok=True)
    # Installed under another name, so that an installation that was cut off is not taken for a whole one.
    partial = CLIENTS / f"partial-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    for name in FILES:
        shutil.copy(SOURCES / name, partial)
    command = ("npm", "ci", "--omit-lockfile-registry-resolved", "--ignore-scripts", "--no-audit", "--no-fund")
    done = subprocess.run(command, cwd=partial, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False)
    if done.returncode:
        raise ServerError(f"Auth0's SDKs for Node could not be installed:\n{done.stdout}{done.stderr}")
    try:
        partial.rename(folder)
    except OSError:
        # Another process was faster.
        shutil.rmtree(partial)
    return folder


def ask(folder: Path, authority: Path, sdk: str, domain: str, token: str, call: str, **argument: str) -> dict[str, Any]:
    """One call of an SDK (`current` or `legacy`) over TLS: `answer`, or `error`, `status` and `body`."""
    done = subprocess.run(
        ("node", "client.mjs", sdk, domain, token, call, json.dumps(argument)),
        cwd=folder,
        env=os.environ | {"NODE_EXTRA_CA_CERTS": str(authority)},
        capture_output=True,
        text=True,
        timeout=ANSWER_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise ServerError(f"the client failed:\n{done.stdout}{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found
