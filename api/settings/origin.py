"""Web origins (RFC 6454), as a Content-Security-Policy names them."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
"""Contains no character that can end a directive of a policy."""


def origin_of(url: str) -> str:
    """The origin of an HTTP URL, such as `https://login.example.com`; empty for other URLs, or one with a user."""
    parts = urlsplit(url)
    known = parts.scheme in ("http", "https") and HOST.fullmatch(parts.netloc)
    return f"{parts.scheme}://{parts.netloc.lower()}" if known else ""
