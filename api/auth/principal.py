"""The authenticated caller, as far as answers depend on it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple


class Principal(NamedTuple):
    """`realms` None sees everything; a set sees only those realms, and their union instead of everything."""

    subject: str
    scopes: frozenset[str]
    realms: frozenset[str] | None = None
    expires_at: float = math.inf
    """Unix time at which the token expires."""

    @classmethod
    def of(cls, claims: Mapping[str, Any], realms_claim: str) -> Principal:
        """From a JWT's claims or an introspection answer. Raises ValueError for claims of a wrong type."""
        expires = claims.get("exp", math.inf)
        if isinstance(expires, bool) or not isinstance(expires, int | float):
            raise ValueError("exp is not a number")
        subject = claims.get("sub") or claims.get("client_id") or ""
        realms = claims.get(realms_claim)
        return cls(
            str(subject),
            _names(claims.get("scope", claims.get("scp", ""))),
            None if realms is None else _names(realms),
            float(expires),
        )


def _names(value: object) -> frozenset[str]:
    """Scopes or realms, as text `a b` (RFC 8693, RFC 7662) or as a list, depending on the product."""
    if isinstance(value, str):
        return frozenset(value.split())
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return frozenset(value)
    raise ValueError("neither a string nor a list of strings")
