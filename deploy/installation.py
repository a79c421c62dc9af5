"""Checks at the start that our packages are ours: their names are common, so others may install the same ones."""

from __future__ import annotations

from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Final

PACKAGES: Final = ("aggregator", "api", "deploy", "schemas")
DISTRIBUTION: Final = "authtally"
CURE: Final = "install authtally into an environment of its own, by pipx or by python3 -m venv"


def foreign_packages(root: Path = Path(__file__).parents[1]) -> list[str]:
    """One line per package that is not ours, or into which another distribution has installed files.

    `root` is the folder of our packages.
    """
    lines = []
    for name in PACKAGES:
        found = _place_of(name)
        if found != root / name:
            lines.append(f"the package {name!r} is read from {found or 'nowhere'}, not from {root / name}")
    return lines or _intruders(root)


def _place_of(name: str) -> Path | None:
    spec = find_spec(name)
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0]) if places else None


def _intruders(root: Path) -> list[str]:
    """Other distributions in `root` whose files are in our packages; none where authtally runs from its source."""
    if not any(root.glob(f"{DISTRIBUTION}-*.dist-info")):
        return []
    lines = []
    for distribution in distributions(path=[str(root)]):
        if distribution.name == DISTRIBUTION:
            continue
        tops = {line.partition("/")[0] for line in (distribution.read_text("RECORD") or "").splitlines()}
        lines += [
            f"the distribution {distribution.name} has installed files into the package {name!r} of authtally"
            for name in PACKAGES
            if name in tops
        ]
    return lines
