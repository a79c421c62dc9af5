"""compose.yaml as values, and its files and secrets where a container would find them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[2]
COMPOSE: Final = ROOT / "deploy/compose"
MOUNTED: Final = "/run/secrets"


def interpolated(text: str) -> str:
    """`${NAME:-default}` with nothing set. Any other form raises."""
    plain = re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", text)
    if "${" in plain:
        raise ValueError("a variable without a default")
    return plain


def stack() -> dict[str, Any]:
    lines = (COMPOSE / "compose.yaml").read_text(encoding="utf-8").splitlines()
    loaded: dict[str, Any] = yaml.safe_load(interpolated("\n".join(line for line in lines if line.lstrip()[:1] != "#")))
    return loaded


def prepared(folder: Path) -> Path:
    """The compose folder's copy in `folder`, with secrets made."""
    shutil.copytree(COMPOSE, folder / "compose", ignore=shutil.ignore_patterns("secrets"))
    shutil.copytree(ROOT / "deploy/redis", folder / "redis")
    subprocess.run((folder / "compose/prepare.sh",), check=True, capture_output=True, timeout=60)
    return folder / "compose"


def secrets_of(service: Mapping[str, Any]) -> dict[str, str]:
    """The stack's secrets that a service gets, by where they are mounted."""
    found = {}
    for given in service.get("secrets", ()):
        source, target = (given, given) if isinstance(given, str) else (given["source"], given["target"])
        found[target if target.startswith("/") else f"{MOUNTED}/{target}"] = source
    return found


def mount(service: Mapping[str, Any], made: Path, folder: Path, hosts: Mapping[str, str]) -> Path:
    """`/run/secrets` of a service as a folder, with other addresses in the place of its network's names."""
    folder.mkdir()
    files = stack()["secrets"]
    for target, source in secrets_of(service).items():
        text = (made / files[source]["file"]).read_text(encoding="utf-8")
        (folder / Path(target).name).write_text(elsewhere(text, hosts), encoding="utf-8")
    return folder


def elsewhere(text: str, hosts: Mapping[str, str]) -> str:
    """`kafka:9092` as an address of this machine."""
    for host, address in hosts.items():
        text = text.replace(host, address)
    return text
