"""The page's files as they are sent: packed once, named by their content, so that browsers keep them for good."""

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
"""The library of charts. Of what the Python registry carries, plotly is the one that draws without `eval` or inline
code, is kept up, and whose package needs nothing heavy; it is fetched after the figures, and then never again."""

STYLE_IDS: Final = re.compile(rb'getElementById\("([0-9a-f]{64})"\)\)\{var \w+=document\.createElement\("style"\)')
"""Where plotly.js would add style elements for maps, unless elements of these ids are there already."""


@dataclass(frozen=True)
class Asset:
    """One file, kept packed; nearly every client takes it so."""

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
    """The library of charts, and the ids of style elements that it would add."""

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
    """All but the page itself, which names them."""
    return {name: Asset.of(name, content) for name, content in own_files().items() if name != PAGE}


@cache
def library() -> Library | None:
    """Read from the installed package, which is not imported; None where it is not there. Takes some 0.2 s."""
    spec = find_spec("plotly")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(folder) / "package_data" / CHARTS
        if path.is_file():
            content = path.read_bytes()
            ids = tuple(found.decode() for found in STYLE_IDS.findall(content))
            return Library(Asset.of(CHARTS, content), ids)
    return None


def digest(contents: Iterable[bytes]) -> str:
    """Names contents, in order."""
    state = hashlib.blake2b(digest_size=8)
    for content in contents:
        state.update(len(content).to_bytes(8))
        state.update(content)
    return state.hexdigest()
