"""Java servers: finding `java`, and fetching what a pom names by Maven, once per checkout."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from deploy.demo.servers.process import ServerError

FETCH_TIMEOUT_S: Final = 600


class JavaMissingError(ServerError):
    """Java, or Maven while something is still to be fetched, is not on this machine."""


def java() -> str:
    """The path of `java`. Raises JavaMissingError."""
    return _found("java", "no `java` on PATH: Java 17 or later is needed")


def fetched(pom: Path, folder: Path, make: Callable[[Path], Path]) -> Path:
    """`folder`, made unless it is there: `make` is given the artifacts of `pom` and answers what becomes the folder.

    Raises JavaMissingError, ServerError.
    """
    if folder.is_dir():
        return folder
    maven = _found("mvn", f"no `mvn` on PATH: it fetches what {pom.name} names")
    folder.parent.mkdir(exist_ok=True)
    # Made aside and renamed, so that an interrupted or a second fetch leaves no half of a folder.
    with tempfile.TemporaryDirectory(dir=folder.parent) as aside:
        artifacts = Path(aside) / "artifacts"
        command = (maven, "--batch-mode", "--quiet", "--file", str(pom), "dependency:copy-dependencies")
        run(
            f"Maven could not fetch what {pom.name} names",
            (*command, f"-DoutputDirectory={artifacts}", "-DincludeScope=runtime"),
            FETCH_TIMEOUT_S,
        )
        made = make(artifacts)
        if not folder.is_dir():
            made.rename(folder)
    return folder


def run(
    failure: str,
    command: Sequence[str],
    timeout_s: float,
    *,
    folder: Path | None = None,
    environment: dict[str, str] | None = None,
) -> None:
    """Run a command to its end. Raises ServerError with `failure` and the end of what it printed."""
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    if done.returncode:
        raise ServerError(f"{failure}:\n{(done.stdout + done.stderr)[-2000:]}")


def _found(program: str, otherwise: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise JavaMissingError(otherwise)
    return path
