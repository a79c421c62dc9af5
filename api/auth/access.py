"""Authenticates bearer tokens by the methods of AUTH, and caches verified tokens for TOKEN_CACHE_S."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from api.auth.authenticator import Authenticator, RefusedTokenError
from api.auth.principal import Principal
from api.cache.single_flight import SingleFlight
from api.http.errors import (
    ForbiddenError,
    InsufficientScopeError,
    MalformedTokenError,
    UnauthorizedError,
    UnavailableError,
)
from api.metrics import ACCESS_REFUSALS
from schemas.time.clock import Clock

ANYBODY: Final = "anybody"
"""The subject of every caller under `AUTH=none`."""
MAX_HEADER_BYTES: Final = 8192
TOKEN_CACHE_S: Final = 60.0
"""Lifetime of a cached verification, and so the time for which a revoked token is still accepted."""
MAX_CACHED_TOKENS: Final = 1024
"""Most cached tokens; each can have 8 KB."""


class Access:
    """The authenticators, tried in order; the first that accepts a token returns its principal.

    If an authenticator is unreachable and no other accepts the token, the answer is 503, not 401.
    """

    def __init__(self, clock: Clock, region: str = "") -> None:
        """`region` is the name of this api's region; empty without regions."""
        self._clock = clock
        self._region = region
        self._authenticators: Sequence[Authenticator] = ()
        self.open = False
        """Whether everybody is answered (AUTH=none)."""
        self._verified_tokens: dict[str, tuple[Principal, float]] = {}
        """Expiry by the monotonic clock: after a wall clock is set back, revoked tokens would stay valid."""
        self._verifications = SingleFlight[Principal | None]()

    def configure(self, authenticators: Sequence[Authenticator], *, open_access: bool) -> None:
        """Set the authenticators; before this call every token is refused. `open_access` needs no tokens."""
        self._authenticators = authenticators
        self.open = open_access

    async def authenticate(self, authorization: str | None, scope: str, address: str | None) -> tuple[Principal, float]:
        """The principal, and its expiry by the monotonic clock. `address` is the caller's.

        Raises UnauthorizedError, UnavailableError, ForbiddenError for a token of other regions.
        """
        if self.open:
            return Principal(ANYBODY, frozenset({scope})), float("inf")
        token = _token(authorization)
        verified = self._verified_tokens.get(token)
        if verified is None or not self._holds(*verified):
            verified = await self._verify_new(token, address or "")
        # Exact membership in the list of scopes. The products search the joined scopes for the text, so that
        # `jans_stat_extra` also grants `jans_stat`; no client needs that, so neither shape copies it.
        if scope not in verified[0].scopes:
            raise _with_reason(InsufficientScopeError(), "scope")
        if self._region and not verified[0].sees_region(self._region, self._region):
            ACCESS_REFUSALS.labels("regions").inc()
            raise ForbiddenError(f"This token is not for region {self._region}.")
        return verified

    async def close(self) -> None:
        await self._verifications.close()

    async def _verify_new(self, token: str, address: str) -> tuple[Principal, float]:
        self._verified_tokens.pop(token, None)
        try:
            principal = await self._verifications.run(token, lambda: self._verify(token, address))
        except UnavailableError:
            ACCESS_REFUSALS.labels("unverifiable").inc()
            raise
        if principal is None:
            # Not cached here: anyone can invent endless tokens, and most are refused without a request to the issuer.
            raise _with_reason(UnauthorizedError(), "refused")
        verified = principal, self._clock.monotonic() + min(TOKEN_CACHE_S, principal.expires_at - self._clock.now())
        while len(self._verified_tokens) >= MAX_CACHED_TOKENS:
            del self._verified_tokens[next(iter(self._verified_tokens))]
        self._verified_tokens[token] = verified
        return verified

    def _holds(self, principal: Principal, until: float) -> bool:
        return self._clock.monotonic() < until and self._clock.now() < principal.expires_at

    async def _verify(self, token: str, address: str) -> Principal | None:
        failure: UnavailableError | None = None
        for authenticator in self._authenticators:
            try:
                principal = await authenticator.verify(token, address)
            except UnavailableError as error:
                failure = error
            except RefusedTokenError:
                return None
            else:
                if principal is not None:
                    return principal
        if failure is not None:
            raise failure
        return None


def _token(authorization: str | None) -> str:
    if authorization is None:
        raise _with_reason(UnauthorizedError(), "missing")
    if len(authorization) > MAX_HEADER_BYTES:
        raise _with_reason(UnauthorizedError(), "oversize")
    scheme, _, token = authorization.partition(" ")
    token = token.strip()
    # Tokens are visible ASCII (RFC 6750 §2.1); aiohttp passes other bytes as surrogates, which cannot be encoded.
    if scheme.lower() != "bearer" or not token or not token.isascii() or not token.isprintable() or " " in token:
        raise _with_reason(MalformedTokenError(), "refused")
    return token


def _with_reason(refusal: UnauthorizedError, reason: str) -> UnauthorizedError:
    """Count the refusal by `reason`, which only metrics show."""
    ACCESS_REFUSALS.labels(reason).inc()
    return refusal
