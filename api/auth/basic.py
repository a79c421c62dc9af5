"""Basic credentials (RFC 7617)."""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple


class Credentials(NamedTuple):
    user: str
    password: str


def basic_credentials(authorization: str | None) -> Credentials | None:
    """The credentials of a Basic header; None for another scheme, or a header that is not valid."""
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeError, ValueError):
        return None
    return Credentials(user, password) if colon else None
