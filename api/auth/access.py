"""Who may ask: bearer tokens, verified by the ways that AUTH names, and remembered for a short while."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from api.auth.principal import Bearer
from api.cache.single_flight import SingleFlight
from api.http.errors import Malformed, NoScope, NotAuthorized, Unavailable
from api.metrics import ACCESS_REFUSALS
from schemas.clock import Clock

MAX_HEADER_BYTES: Final = 8192
REMEMBERED_S: Final = 60.0
"""How long a verified token is good without a second look: what a withdrawn one stays good for."""
MAX_REMEMBERED: Final = 1024
"""Tokens remembered at the same time; each can be 8 KB."""


class Way(Protocol):
    async def verify(self, token: str) -> Bearer | None:
        """Who bears the token, or None when it is not good. Raises Unavailable when that cannot be found out."""


class Access:
    """The ways in, tried in order; the first that knows a token decides who bears it.

    A token that one way could not look up and no other knows is not a bad one: that is Unavailable.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ways: Sequence[Way] = ()
        self._anybody = False
        self._remembered: dict[str, tuple[Bearer, float]] = {}
        """Until when by the monotonic clock: a wall clock set back would keep withdrawn tokens good."""
        self._verifications = SingleFlight[Bearer | None]()

    def open(self, ways: Sequence[Way], *, anybody: bool) -> None:
        """Before this, nobody is let in. `anybody` lets everybody in without a token."""
        self._ways = ways
        self._anybody = anybody

    async def bearer(self, authorization: str | None, scope: str) -> tuple[Bearer, float]:
        """Who asks, and until when (by the monotonic clock) that holds. Raises NotAuthorized, Unavailable."""
        if self._anybody:
            return Bearer("anybody", frozenset({scope})), float("inf")
        token = _token(authorization)
        remembered = self._remembered.get(token)
        if remembered is None or not self._holds(*remembered):
            remembered = await self._verified(token)
        # Membership in the list of scopes. The products look for the text anywhere in the joined scopes, by which
        # `jans_stat_extra` opens what `jans_stat` guards: no client needs that, so neither shape copies it.
        if scope not in remembered[0].scopes:
            raise _counted(NoScope(), "scope")
        return remembered

    async def close(self) -> None:
        await self._verifications.close()

    async def _verified(self, token: str) -> tuple[Bearer, float]:
        self._remembered.pop(token, None)
        try:
            bearer = await self._verifications.run(token, lambda: self._verify(token))
        except Unavailable:
            ACCESS_REFUSALS.labels("unverifiable").inc()
            raise
        if bearer is None:
            # Not remembered: anybody can make up tokens for ever, and one may be good a moment later.
            raise _counted(NotAuthorized(), "refused")
        remembered = bearer, self._clock.monotonic() + min(REMEMBERED_S, bearer.expires - self._clock.now())
        while len(self._remembered) >= MAX_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[token] = remembered
        return remembered

    def _holds(self, bearer: Bearer, until: float) -> bool:
        return self._clock.monotonic() < until and self._clock.now() < bearer.expires

    async def _verify(self, token: str) -> Bearer | None:
        unavailable: Unavailable | None = None
        for way in self._ways:
            try:
                bearer = await way.verify(token)
            except Unavailable as error:
                unavailable = error
            else:
                if bearer is not None:
                    return bearer
        if unavailable is not None:
            raise unavailable
        return None


def _token(authorization: str | None) -> str:
    if authorization is None:
        raise _counted(NotAuthorized(), "missing")
    if len(authorization) > MAX_HEADER_BYTES:
        raise _counted(NotAuthorized(), "oversize")
    scheme, _, token = authorization.partition(" ")
    token = token.strip()
    # Tokens are visible ASCII (RFC 6750 §2.1); aiohttp hands other bytes on as surrogates, which no digest takes.
    if scheme.lower() != "bearer" or not token or not token.isascii() or not token.isprintable() or " " in token:
        raise _counted(Malformed(), "refused")
    return token


def _counted(refusal: NotAuthorized, reason: str) -> NotAuthorized:
    """The reason is for our metrics only."""
    ACCESS_REFUSALS.labels(reason).inc()
    return refusal
