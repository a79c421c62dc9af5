"""Checks that the container's service is alive, worker or api: exit status 0 or 1, and one line with the reason."""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Final

PORTS: Final = {"AUTHTALLY_WORKER_PORT": "8090", "AUTHTALLY_API_PORT": "8080"}
TIMEOUT_S: Final = 3.0


def main(environment: Mapping[str, str]) -> int:
    """Try both services' ports: a container runs one of them, and the other port is closed."""
    result = []
    for name, default in PORTS.items():
        url = f"http://127.0.0.1:{environment.get(name) or default}/health/live"
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
                sys.stdout.write(answer.read(1000).decode())
                return 0
        except urllib.error.HTTPError as refusal:
            with refusal:
                result.append(f"{url}: {refusal.code} {refusal.read(1000).decode()}")
            break
        except OSError as error:
            result.append(f"{url}: {error}")
    sys.stdout.write("; ".join(result))
    return 1


if __name__ == "__main__":
    sys.exit(main(os.environ))
