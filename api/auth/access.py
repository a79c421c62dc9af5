"""Who may ask: bearer tokens, verified by the ways that AUTH names, and remembered for a short while."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from api.auth.principal import Principal
from api.cache.single_flight import SingleFlight
from api.http.errors import InsufficientScopeError, MalformedTokenError, UnauthorizedError, UnavailableError
from api.metrics import ACCESS_REFUSALS
from schemas.time.clock import Clock

MAX_HEADER_BYTES: Final = 8192
TOKEN_CACHE_S: Final = 60.0
"""How long a verified token is good without a second look: what a withdrawn one stays good for."""
MAX_CACHED_TOKENS: Final = 1024
"""Tokens remembered at the same time; each can be 8 KB."""


class Authenticator(Protocol):
    async def verify(self, token: str) -> Principal | None:
        """Who bears the token, or None when it is not good. Raises UnavailableError when that cannot be found out."""


class Access:
    """The ways in, tried in order; the first that knows a token decides who bears it.

    A token that one way could not look up and no other knows is not a bad one: that is Unavailable.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._authenticators: Sequence[Authenticator] = ()
        self._open_access = False
        self._verified_tokens: dict[str, tuple[Principal, float]] = {}
        """Until when by the monotonic clock: a wall clock set back would keep withdrawn tokens good."""
        self._verifications = SingleFlight[Principal | None]()

    def configure(self, authenticators: Sequence[Authenticator], *, open_access: bool) -> None:
        """Before this, nobody is let in. `open_access` lets everybody in without a token."""
        self._authenticators = authenticators
        self._open_access = open_access

    async def authenticate(self, authorization: str | None, scope: str) -> tuple[Principal, float]:
        """Who asks, and until when (by the monotonic clock) that holds. Raises UnauthorizedError, UnavailableError."""
        if self._open_access:
            return Principal("anybody", frozenset({scope})), float("inf")
        token = _token(authorization)
        verified = self._verified_tokens.get(token)
        if verified is None or not self._holds(*verified):
            verified = await self._verify_new(token)
        # Membership in the list of scopes. The products look for the text anywhere in the joined scopes, by which
        # `jans_stat_extra` opens what `jans_stat` guards: no client needs that, so neither shape copies it.
        if scope not in verified[0].scopes:
            raise _with_reason(InsufficientScopeError(), "scope")
        return verified

    async def close(self) -> None:
        await self._verifications.close()

    async def _verify_new(self, token: str) -> tuple[Principal, float]:
        self._verified_tokens.pop(token, None)
        try:
            principal = await self._verifications.run(token, lambda: self._verify(token))
        except UnavailableError:
            ACCESS_REFUSALS.labels("unverifiable").inc()
            raise
        if principal is None:
            # Not remembered: anybody can make up tokens for ever, and one may be good a moment later.
            raise _with_reason(UnauthorizedError(), "refused")
        verified = principal, self._clock.monotonic() + min(TOKEN_CACHE_S, principal.expires_at - self._clock.now())
        while len(self._verified_tokens) >= MAX_CACHED_TOKENS:
            del self._verified_tokens[next(iter(self._verified_tokens))]
        self._verified_tokens[token] = verified
        return verified

    def _holds(self, principal: Principal, until: float) -> bool:
        return self._clock.monotonic() < until and self._clock.now() < principal.expires_at

    async def _verify(self, token: str) -> Principal | None:
        failure: UnavailableError | None = None
        for authenticator in self._authenticators:
            try:
                principal = await authenticator.verify(token)
            except UnavailableError as error:
                failure = error
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
    # Tokens are visible ASCII (RFC 6750 §2.1); aiohttp hands other bytes on as surrogates, which no digest takes.
    if scheme.lower() != "bearer" or not token or not token.isascii() or not token.isprintable() or " " in token:
        raise _with_reason(MalformedTokenError(), "refused")
    return token


def _with_reason(refusal: UnauthorizedError, reason: str) -> UnauthorizedError:
    """The reason is for our metrics only."""
    ACCESS_REFUSALS.labels(reason).inc()
    return refusal
