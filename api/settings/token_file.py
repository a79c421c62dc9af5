"""The file of static tokens: SHA-256, subject, scopes and realms of each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from api.settings.watched_file import read_bounded


class TokenEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One element of the file."""

    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-fA-F]{64}$")]
    subject: str
    scopes: list[str]
    realms: list[str] | None = None


def read(path: Path) -> list[TokenEntry]:
    """The entries of a file. Raises ValueError with the error, never with the file's content."""
    return decode(path, read_bounded(path))


def decode(path: Path, content: bytes) -> list[TokenEntry]:
    try:
        entries = msgspec.json.decode(content, type=list[TokenEntry])
    except msgspec.DecodeError as error:
        raise ValueError(f"{path} is not a list of sha256, subject, scopes and realms: {error}") from error
    if not entries:
        raise ValueError(f"{path} contains no token")
    return entries
