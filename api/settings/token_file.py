"""The file of static tokens: SHA-256, subject, scopes, realms and regions of each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import msgspec

from api.settings.watched_file import read_bounded
from schemas.decoding_errors import describe
from schemas.suggestions import did_you_mean

SCOPES: Final = ("stats:read", "metrics:read", "events:write", "read:stats", "reporting", "sketches:read")
"""The scopes that routes require. STAT_SCOPE is one more."""
EXAMPLE: Final = '[{"sha256": "<sha256 of the token, hex>", "subject": "dashboard", "scopes": ["stats:read"]}]'


class TokenEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One element of the file."""

    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-fA-F]{64}$")]
    subject: str
    scopes: list[str]
    realms: list[str] | None = None
    regions: list[str] | None = None


def read(path: Path) -> list[TokenEntry]:
    """The entries of a file. Raises ValueError with the error, never with the file's content."""
    return decode(path, read_bounded(path))


def check_scopes(path: Path, stat_scope: str) -> None:
    """Raises ValueError for a scope that no route requires, which is a misspelt one."""
    known = (*SCOPES, stat_scope)
    for number, entry in enumerate(read(path)):
        for scope in entry.scopes:
            if scope not in known:
                raise ValueError(
                    f"{path}: `[{number}].scopes` has {scope!r}, which no route requires; "
                    f"allowed: {', '.join(known)}{did_you_mean(scope, known)}"
                )


def decode(path: Path, content: bytes) -> list[TokenEntry]:
    try:
        entries = msgspec.json.decode(content, type=list[TokenEntry])
    except msgspec.DecodeError as error:
        fault = describe(error, content) if isinstance(error, msgspec.ValidationError) else str(error)
        raise ValueError(f"{path} is not a list of tokens: {fault}; example: {EXAMPLE}") from error
    if not entries:
        raise ValueError(f"{path} contains no token")
    return entries
