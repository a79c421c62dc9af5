"""Parses a Redis URL that names several Sentinels, for any client library."""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

SENTINEL_PORT: Final = 26_379


class SentinelUrl(NamedTuple):
    """Addresses of the Sentinels, and the credentials for the data nodes (not for the Sentinels)."""

    sentinels: tuple[tuple[str, int], ...]
    username: str | None
    password: str | None
    db: int
    tls: bool


def parse_sentinel_url(url: str) -> SentinelUrl:
    """Parse `redis://user:password@host:port,host:port/0`. Raises ValueError if a port or the database is no number."""
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    addresses = []
    for address in hosts.split(","):
        host, colon, port = address.strip().rpartition(":")
        addresses.append((host.strip("[]"), int(port)) if colon else (port, SENTINEL_PORT))
    return SentinelUrl(
        tuple(addresses),
        unquote(user) or None,
        unquote(password) or None,
        int(parts.path.strip("/") or 0),
        parts.scheme == "rediss",
    )
