"""Verifies JWTs (RFC 7519, RFC 9068) locally by the issuer's keys."""

from __future__ import annotations

import json
from typing import Any

import jwt
from jwt.utils import base64url_decode

from api.auth.jwks import Jwks
from api.auth.principal import Principal
from schemas.time.clock import Clock


class JwtTokens:
    """JWTs of one issuer for one audience."""

    def __init__(self, jwks: Jwks, issuer: str, audience: str, realms_claim: str, clock: Clock) -> None:
        self._jwks = jwks
        self._issuer = issuer
        self._audience = audience
        self._realms_claim = realms_claim
        self._clock = clock.now

    async def verify(self, token: str) -> Principal | None:
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            key = await self._jwks.key(kid)
            if key is None:
                return None
            _reject_duplicate_names(token)
            # The algorithms come from the key, never from the token; `none` and HMAC are in no key's list.
            claims: dict[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=list(key.algorithms),
                issuer=self._issuer,
                audience=self._audience,
                # `iat` is not verified: clocks that differ by a second are no reason to refuse.
                options={"require": ["exp", "iss", "aud"], "verify_iat": False, "enforce_minimum_key_length": True},
            )
            principal = Principal.of(claims, self._realms_claim)
        except (jwt.PyJWTError, ValueError, OverflowError, RecursionError):
            return None
        return principal if principal.expires_at > self._clock() else None


def _reject_duplicate_names(token: str) -> None:
    """Raise ValueError for duplicate names (RFC 7515 §4, RFC 7519 §4), because parsers differ in which value they use.

    Raises RecursionError for JSON that is nested too deeply.
    """
    for part in token.split(".")[:2]:
        json.loads(base64url_decode(part), object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice")
    return found
