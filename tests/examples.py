"""The commands and printed answers of the documentation. `python -m tests.examples` writes the answers again.

A demo whose sample ends at a fixed instant answers them, in the order of the pages.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from deploy.cli import reference
from deploy.demo.servers import free_port

ROOT: Final = Path(__file__).parents[1]
END: Final = "2026-11-01T00:00:00Z"
DEMO_PORT: Final = ":8080/"
ANSWER: Final = r"((?:(?!```)[^\n]*\n)*)```"
CURL: Final = rf"^\$ (curl [^\n]*)\n{ANSWER}"


@contextmanager
def running_demo() -> Iterator[int]:
    """The port of the api of a demo that has counted its sample."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "deploy.cli.main", "demo", "--port", str(port), "--until", END],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        printed = []
        for line in process.stdout:
            printed.append(line)
            if line.startswith("  dashboard"):
                break
        else:
            raise AssertionError("".join(printed))
        yield port
    finally:
        process.terminate()
        process.wait(60)
        if process.stdout is not None:
            process.stdout.close()


BUSY_S: Final = 30.0
"""How long a question is repeated that misses the api's deadline on a busy machine."""
UNAVAILABLE: Final = re.compile(r'^503 |"status":503', re.MULTILINE)


def answer(port: int, command: str) -> str:
    """What `command` prints, asked of the demo at `port`."""
    assert DEMO_PORT in command
    line = command.replace(DEMO_PORT, f":{port}/")
    deadline = time.monotonic() + BUSY_S
    while True:
        printed = subprocess.run(("bash", "-c", line), capture_output=True, text=True, check=True, timeout=30).stdout
        if not UNAVAILABLE.search(printed) or time.monotonic() > deadline:
            return printed


def main() -> None:
    with running_demo() as port:
        for path in reference.pages():
            text = path.read_text(encoding="utf-8")

            def written(found: re.Match[str]) -> str:
                answered = answer(port, found[1]).rstrip("\n")
                return f"$ {found[1]}\n{answered}\n```" if answered else f"$ {found[1]}\n```"

            path.write_text(re.sub(CURL, written, text, flags=re.MULTILINE), encoding="utf-8")


if __name__ == "__main__":
    main()
