"""Verifies opaque tokens by introspection at their issuer (RFC 7662)."""

from __future__ import annotations

from functools import partial
from typing import Any, Final
from urllib.parse import quote_plus

import structlog
from aiohttp import ClientError, ClientSession, encode_basic_auth, hdrs

from api.auth.claims import AcceptedTokens, RefusedClaimsError, parse, principal_of
from api.auth.lookups import Lookups
from api.auth.principal import Principal
from api.http.bounded_read import read_at_most
from api.http.errors import UnavailableError
from schemas.time.clock import Clock

log = structlog.get_logger(__name__)

MAX_BYTES: Final = 1 << 20


class Introspection:
    """Introspects as a client of the issuer. Its answers must pass the same rules as a JWT's claims."""

    def __init__(
        self,
        url: str,
        client_id: str,
        client_secret: str,
        accepted: AcceptedTokens,
        lookups: Lookups,
        session: ClientSession,
        clock: Clock,
    ) -> None:
        self._url = url
        # RFC 6749 §2.3.1: both are form-encoded before they are joined.
        self._headers = {hdrs.AUTHORIZATION: encode_basic_auth(quote_plus(client_id), quote_plus(client_secret))}
        self._accepted = accepted
        self._lookups = lookups
        self._session = session
        self._clock = clock.now
        self._reachable = True

    async def verify(self, token: str, address: str) -> Principal | None:
        """The token's principal. Raises UnavailableError."""
        return await self._lookups.run(token, address, partial(self._introspect, token))

    async def _introspect(self, token: str) -> Principal | None:
        try:
            answer = await self._ask(token)
            self._reachable = True
            return principal_of(answer, self._accepted, self._clock()) if answer.get("active") is True else None
        except RefusedClaimsError:
            return None

    async def _ask(self, token: str) -> dict[str, Any]:
        """The issuer's answer. Raises RefusedClaimsError, UnavailableError."""
        form = {"token": token, "token_type_hint": "access_token"}
        try:
            async with self._session.post(
                self._url, data=form, headers=self._headers, allow_redirects=False
            ) as response:
                if response.status != 200:
                    raise ValueError(f"status {response.status}")
                return parse(await read_at_most(response.content, MAX_BYTES))
        except RefusedClaimsError:
            raise
        except (ClientError, TimeoutError, ValueError) as error:
            if self._reachable:
                self._reachable = False
                log.warning("tokens not introspected", setting="AUTHTALLY_AUTH_INTROSPECTION_URL", error=_reason(error))
            raise UnavailableError("The token cannot be verified at the moment.") from error


def _reason(error: Exception) -> str:
    """Never the text of a library's error: it can contain the URL or a part of the answer."""
    return str(error) if type(error) is ValueError else type(error).__name__
