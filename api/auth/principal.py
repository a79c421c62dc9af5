"""Who asks, as far as answers depend on it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple


class Principal(NamedTuple):
    """`realms` None sees everything; a set sees those realms, and their union where it asks for everything."""

    subject: str
    scopes: frozenset[str]
    realms: frozenset[str] | None = None
    expires_at: float = math.inf
    """Unix time from which the token is no longer good."""

    @classmethod
    def of(cls, claims: Mapping[str, Any], realms_claim: str) -> Principal:
        """From a JWT's claims or an introspection answer. Raises ValueError for claims of a wrong type."""
        expires = claims.get("exp", math.inf)
        if isinstance(expires, bool) or not isinstance(expires, int | float):
            raise ValueError("exp is no number")
        subject = claims.get("sub") or claims.get("client_id") or ""
        realms = claims.get(realms_claim)
        return cls(
            str(subject),
            _names(claims.get("scope", claims.get("scp", ""))),
            None if realms is None else _names(realms),
            float(expires),
        )


def _names(value: object) -> frozenset[str]:
    """Scopes come as `a b` (RFC 8693, RFC 7662) or as a list, by product; realms likewise."""
    if isinstance(value, str):
        return frozenset(value.split())
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return frozenset(value)
    raise ValueError("neither text nor a list of texts")
