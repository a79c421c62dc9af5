"""An issuer's signing keys by `kid`, from its JWKS (RFC 7517)."""

from __future__ import annotations

import asyncio
from typing import Any, Final, NamedTuple

import jwt
import orjson
import structlog
from aiohttp import ClientError, ClientSession

from api.http.bounded_read import read_at_most
from api.http.errors import UnavailableError
from schemas.time.clock import Clock

log = structlog.get_logger(__name__)

UNKNOWN_KID_INTERVAL_S: Final = 30.0
"""Minimum interval between fetches for unknown kids: otherwise anyone could make us flood the issuer."""
EMPTY_INTERVAL_S: Final = 1.0
"""Minimum interval between fetches while there are no keys at all."""
REFRESH_S: Final = 600.0
"""Age at which keys are fetched again even if the kid is known, so that revoked keys disappear."""
MAX_AGE_S: Final = 86_400.0
"""Age at which keys that could not be refreshed are dropped."""

MAX_BYTES: Final = 1 << 20

ALGORITHMS: Final = {
    ("RSA", None): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
"""Allowed algorithms of a key by kty and crv. Asymmetric only: with HMAC the published key would be the secret."""


class SigningKey(NamedTuple):
    key: Any
    algorithms: tuple[str, ...]


def signing_key(jwk: dict[str, Any]) -> SigningKey | None:
    """The key of a JWK for one of ALGORITHMS; None for others (encryption keys, secrets, unknown types)."""
    if jwk.get("use", "sig") != "sig":
        return None
    algorithms = ALGORITHMS.get((str(jwk.get("kty")), jwk.get("crv")), ())
    if "alg" in jwk:
        algorithms = tuple(name for name in algorithms if name == jwk["alg"])
    if not algorithms:
        return None
    try:
        return SigningKey(jwt.PyJWK(jwk, algorithms[0]).key, algorithms)
    except jwt.PyJWTError:
        return None


class Jwks:
    """Keys by kid. One fetch at a time; a known kid never waits for a fetch."""

    def __init__(
        self, url: str, session: ClientSession, clock: Clock, setting: str = "AUTHTALLY_AUTH_JWKS_URL"
    ) -> None:
        """`setting` is the name of the setting that contains `url`, for the log."""
        self._url = url
        self._setting = setting
        self._session = session
        self._clock = clock.monotonic
        self._keys: dict[str | None, SigningKey] = {}
        self._fetched = self._tried = float("-inf")
        self._failed = False
        self._fetching: asyncio.Task[None] | None = None

    async def key(self, kid: str | None) -> SigningKey | None:
        """The key; None if the issuer has no such key. Raises UnavailableError if the issuer cannot be reached.

        A token without a kid is accepted only if the issuer has exactly one key.
        """
        age = self._clock() - self._fetched
        if age >= MAX_AGE_S:
            self._keys = {}
        found = self._find(kid)
        if found is not None and age < REFRESH_S:
            return found
        fetching = self._fetch_if_due()
        if found is None and fetching is not None:
            await asyncio.shield(fetching)
            found = self._find(kid)
        if found is None and self._failed:
            raise UnavailableError("The token cannot be verified at the moment.")
        return found

    async def close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)

    def _find(self, kid: str | None) -> SigningKey | None:
        if kid is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(kid)

    def _fetch_if_due(self) -> asyncio.Task[None] | None:
        """The running or a new fetch; None if the last fetch was too recent."""
        distance = UNKNOWN_KID_INTERVAL_S if self._keys else EMPTY_INTERVAL_S
        if self._fetching is None and self._clock() - self._tried >= distance:
            self._tried = self._clock()
            self._fetching = asyncio.create_task(self._fetch())
            self._fetching.add_done_callback(self._on_fetched)
        return self._fetching

    def _on_fetched(self, _: asyncio.Task[None]) -> None:
        self._fetching = None

    async def _fetch(self) -> None:
        """Replace the keys; keep them if the issuer does not answer."""
        try:
            async with self._session.get(self._url, allow_redirects=False) as response:
                if response.status != 200:
                    raise ValueError(f"status {response.status}")
                published = orjson.loads(await read_at_most(response.content, MAX_BYTES))["keys"]
            self._keys = {jwk.get("kid"): key for jwk in published if (key := signing_key(jwk)) is not None}
        except (ClientError, TimeoutError, ValueError, TypeError, KeyError, AttributeError) as error:
            self._failed = True
            log.warning("keys not fetched", setting=self._setting, error=type(error).__name__)
            return
        self._fetched = self._tried
        self._failed = False
