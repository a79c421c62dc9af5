"""Auth0's SDKs for Node, of the lock file in `auth0-node`."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final

from deploy.demo.servers.process import ServerError
from tests.servers import node

ANSWER_TIMEOUT_S: Final = 60


def installed() -> Path:
    """The folder of the client, with its packages. Raises NodeMissingError, ServerError."""
    return node.install(Path(__file__).with_name("auth0-node"), "client.mjs")


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
