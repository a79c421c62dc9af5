"""Signatures of webhook bodies, in the products' own headers."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import jwt

from api.auth.jwks import Jwks

MAX_SIGNATURE_BYTES: Final = 8192
HMAC_ALGORITHMS: Final = ("HS256", "HS384", "HS512")


class Signature(Protocol):
    """One product's signature. `header` is the name of the request header that carries it."""

    header: str

    async def verify(self, signature: str, body: bytes) -> bool:
        """Whether `signature` is valid for `body`. Raises UnavailableError if the signer's keys are unreachable."""


class HmacSha256:
    """HMAC-SHA256 of the body in hex, as both Keycloak listeners of `keycloak-events` send it."""

    header = "X-Keycloak-Signature"

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    async def verify(self, signature: str, body: bytes) -> bool:
        expected = hmac.new(self._secret, body, hashlib.sha256).hexdigest()
        # As bytes: compare_digest refuses texts that are not ASCII.
        return hmac.compare_digest(signature.lower().encode("utf-8", "surrogateescape"), expected.encode())


class BodyHashJwt:
    """A JWT whose claim `request_body_sha256` is the SHA-256 of the body in base64, as FusionAuth sends it.

    FusionAuth signs with an HMAC key, which is the secret (32 bytes or more), or with an RSA or EC key of its JWKS.
    """

    header = "X-FusionAuth-Signature-JWT"

    def __init__(self, secret: str, jwks: Callable[[], Jwks | None]) -> None:
        """`jwks` returns None while there is no JWKS."""
        self._secret = secret
        self._jwks = jwks

    async def verify(self, signature: str, body: bytes) -> bool:
        try:
            header = jwt.get_unverified_header(signature)
            claims = await self._claims(signature, header)
        except (jwt.PyJWTError, ValueError, OverflowError, RecursionError):
            return False
        expected = base64.b64encode(hashlib.sha256(body).digest())
        found = str(claims.get("request_body_sha256", ""))
        return hmac.compare_digest(found.encode("utf-8", "surrogateescape"), expected)

    async def _claims(self, signature: str, header: dict[str, Any]) -> dict[str, Any]:
        key: Any
        algorithms: Sequence[str]
        if header.get("alg") in HMAC_ALGORITHMS:
            if not self._secret:
                return {}
            # Kept apart from published keys, so that a public key can never serve as an HMAC secret.
            key, algorithms = self._secret, HMAC_ALGORITHMS
        else:
            jwks = self._jwks()
            signing_key = None if jwks is None else await jwks.key(header.get("kid"))
            if signing_key is None:
                return {}
            key, algorithms = signing_key
        options: Any = {"verify_iat": False, "verify_aud": False, "enforce_minimum_key_length": True}
        claims: dict[str, Any] = jwt.decode(signature, key, algorithms=list(algorithms), options=options)
        return claims
