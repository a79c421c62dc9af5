"""The page's files: compressed once and named by their content, so that browsers cache them without expiry."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from api import dashboard

TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
PAGE: Final = "index.html"
CHARTS: Final = "plotly.min.js"
"""The chart library. plotly is maintained, needs neither `eval` nor inline code, and its package has few dependencies.
The page fetches it after the figures, and once."""

STYLE_IDS: Final = re.compile(rb'getElementById\("([0-9a-f]{64})"\)\)\{var \w+=document\.createElement\("style"\)')
"""The code by which plotly.js adds style elements for maps, unless elements with these ids exist."""


@dataclass(frozen=True)
class Asset:
    """One file, stored compressed: nearly every client accepts gzip."""

    content_type: str
    packed: bytes
    digest: str

    @classmethod
    def of(cls, name: str, content: bytes) -> Asset:
        packed = gzip.compress(content, 6, mtime=0)
        return cls(TYPES[Path(name).suffix], packed, digest([content]))

    @cached_property
    def content(self) -> bytes:
        return gzip.decompress(self.packed)


@dataclass(frozen=True)
class Library:
    """The chart library, and the ids of the style elements that it would add."""

    asset: Asset
    style_ids: tuple[str, ...]


@cache
def own_files() -> Mapping[str, bytes]:
    """The page's own files by name."""
    folder = files(dashboard) / "static"
    return {
        path.name: path.read_bytes()
        for path in sorted(folder.iterdir(), key=lambda path: path.name)
        if Path(path.name).suffix in TYPES
    }


@cache
def packed_assets() -> Mapping[str, Asset]:
    """All files except the page itself, which refers to them."""
    return {name: Asset.of(name, content) for name, content in own_files().items() if name != PAGE}


@cache
def library() -> Library | None:
    """Read from the installed package without importing it; None if it is not installed. Takes about 0.2 s."""
    spec = find_spec("plotly")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(folder) / "package_data" / CHARTS
        if path.is_file():
            content = path.read_bytes()
            ids = tuple(found.decode() for found in STYLE_IDS.findall(content))
            return Library(Asset.of(CHARTS, content), ids)
    return None


def digest(contents: Iterable[bytes]) -> str:
    """A digest of these contents in this order."""
    state = hashlib.blake2b(digest_size=8)
    for content in contents:
        state.update(len(content).to_bytes(8))
        state.update(content)
    return state.hexdigest()
