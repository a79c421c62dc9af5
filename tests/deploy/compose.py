"""compose.yaml as values, and its folder with secrets."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[2]
COMPOSE: Final = ROOT / "deploy/compose"
MOUNTED: Final = "/run/secrets"


def stack() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((COMPOSE / "compose.yaml").read_text(encoding="utf-8"))
    return loaded


def prepared(folder: Path) -> Path:
    """The compose folder's copy in `folder`, with secrets made."""
    shutil.copytree(COMPOSE, folder / "compose", ignore=shutil.ignore_patterns("secrets", ".env"))
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
