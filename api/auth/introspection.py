"""Verifies opaque tokens by introspection at their issuer (RFC 7662)."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote_plus

import orjson
import structlog
from aiohttp import ClientError, ClientSession, encode_basic_auth, hdrs

from api.auth.principal import Principal
from api.http.bounded_read import read_at_most
from api.http.errors import UnavailableError
from schemas.time.clock import Clock

log = structlog.get_logger(__name__)

MAX_BYTES: Final = 1 << 20


class Introspection:
    """Introspects as a client of the issuer. The scopes and realms of its answer are trusted."""

    def __init__(
        self,
        url: str,
        client_id: str,
        client_secret: str,
        realms_claim: str,
        session: ClientSession,
        clock: Clock,
    ) -> None:
        self._url = url
        # RFC 6749 §2.3.1: both are form-encoded before they are joined.
        self._headers = {hdrs.AUTHORIZATION: encode_basic_auth(quote_plus(client_id), quote_plus(client_secret))}
        self._realms_claim = realms_claim
        self._session = session
        self._clock = clock.now
        self._reachable = True

    async def verify(self, token: str) -> Principal | None:
        """The token's principal. Raises UnavailableError if the issuer does not answer, or not as RFC 7662 requires."""
        form = {"token": token, "token_type_hint": "access_token"}
        try:
            async with self._session.post(
                self._url, data=form, headers=self._headers, allow_redirects=False
            ) as response:
                if response.status != 200:
                    raise ValueError(f"status {response.status}")
                answer = orjson.loads(await read_at_most(response.content, MAX_BYTES))
            if answer.get("active") is not True:
                self._reachable = True
                return None
            principal = Principal.of(answer, self._realms_claim)
            not_before = float(answer.get("nbf", 0))
        except (ClientError, TimeoutError, ValueError, TypeError, AttributeError) as error:
            if self._reachable:
                self._reachable = False
                detail = str(error) if isinstance(error, ValueError) else type(error).__name__
                log.warning("tokens not introspected", setting="AUTHTALLY_AUTH_INTROSPECTION_URL", error=detail)
            raise UnavailableError("The token cannot be verified at the moment.") from error
        self._reachable = True
        return principal if not_before <= self._clock() < principal.expires_at else None
