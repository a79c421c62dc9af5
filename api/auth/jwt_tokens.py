"""Verifies JWTs (RFC 7519, RFC 9068) locally by the issuer's keys."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import jwt
from jwt.utils import base64url_decode

from api.auth.authenticator import RefusedTokenError
from api.auth.claims import AcceptedTokens, RefusedClaimsError, parse, principal_of
from api.auth.jwks import Jwks
from api.auth.principal import Principal
from schemas.time.clock import Clock

REQUIRED: Final = ("exp", "iss", "aud")
TYPES: Final = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})
"""Accepted `typ` of the header (RFC 9068 §4); without it the claims decide."""


JWS: Final = jwt.PyJWS(options={"enforce_minimum_key_length": True})
"""Verifies signatures only; the claims are checked by the rules that introspection shares."""


class _Jws(NamedTuple):
    header: dict[str, Any]
    claims: dict[str, Any]


class JwtTokens:
    """JWTs of one issuer. Tokens of the issuer that are not valid are refused for every authenticator."""

    def __init__(self, jwks: Jwks, accepted: AcceptedTokens, clock: Clock) -> None:
        self._jwks = jwks
        self._accepted = accepted
        self._clock = clock.now

    async def verify(self, token: str, address: str) -> Principal | None:
        """The token's principal; None for tokens that are no JWT, or that name another issuer.

        Raises RefusedTokenError, UnavailableError.
        """
        try:
            found = _unverified(token)
            if found is None or found.claims.get("iss", self._accepted.issuer) != self._accepted.issuer:
                return None
            return await self._verify(token, found.header)
        except (jwt.PyJWTError, ValueError, OverflowError, RecursionError) as error:
            raise RefusedTokenError from error

    async def _verify(self, token: str, header: dict[str, Any]) -> Principal:
        typ = header.get("typ", "JWT")
        if not isinstance(typ, str) or typ.lower() not in TYPES:
            raise RefusedClaimsError("typ is not that of an access token")
        key = await self._jwks.key(jwt.get_unverified_header(token).get("kid"))
        if key is None:
            raise RefusedTokenError
        # The algorithms come from the key, never from the token; `none` and HMAC are in no key's list.
        signed = JWS.decode(token, key.key, algorithms=list(key.algorithms))
        return principal_of(parse(signed), self._accepted, self._clock(), REQUIRED)


def _unverified(token: str) -> _Jws | None:
    """Header and claims of a signed token; None for other tokens. Raises ValueError for a malformed one."""
    parts = token.split(".")
    try:
        header = parse(base64url_decode(parts[0]))
    except RefusedClaimsError:
        raise
    except ValueError:
        return None
    if "alg" not in header or "enc" in header:
        return None
    return _Jws(header, parse(base64url_decode(parts[1]) if len(parts) > 1 else b""))
