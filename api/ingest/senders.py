"""Authentication of senders: a bearer token with the scope `events:write`, or the webhook's secret."""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from aiohttp import hdrs, web
from pydantic import SecretStr

from api.auth.access import ANYBODY, MAX_HEADER_BYTES, Access
from api.auth.principal import Principal

SCOPE: Final = "events:write"
SECRET_HEADER: Final = "X-Webhook-Secret"  # noqa: S105


class SenderAuth:
    """Authenticates the senders of one route. Without a secret only bearer tokens are accepted."""

    def __init__(self, source: str, secret: SecretStr | None, access: Access) -> None:
        self._webhook = Principal(f"webhook {source}", frozenset({SCOPE}))
        text = "" if secret is None else secret.get_secret_value()
        self._digest = _digest(text) if text else None
        self._access = access

    async def authenticate(self, request: web.Request) -> Principal:
        """Raises UnauthorizedError, InsufficientScopeError, UnavailableError."""
        authorization = request.headers.get(hdrs.AUTHORIZATION)
        if self._digest is not None:
            for candidate in (request.headers.get(SECRET_HEADER), authorization, _credentials(authorization)):
                if candidate is not None and len(candidate) <= MAX_HEADER_BYTES and self._is_secret(candidate):
                    return self._webhook
        return (await self._access.authenticate(authorization, SCOPE))[0]

    @staticmethod
    def share_of(principal: Principal, request: web.Request) -> str:
        """The name under which a request takes its sender's share; by address if all callers are one principal."""
        return f"address {request.remote}" if principal.subject == ANYBODY else f"subject {principal.subject}"

    def _is_secret(self, candidate: str) -> bool:
        # Digests: the comparison's duration reveals neither the secret's length nor a correct prefix.
        return self._digest is not None and hmac.compare_digest(_digest(candidate), self._digest)


def _credentials(authorization: str | None) -> str | None:
    scheme, _, credentials = (authorization or "").partition(" ")
    return credentials.strip() if scheme.lower() == "bearer" else None


def _digest(text: str) -> bytes:
    # Header bytes that are not UTF-8 arrive as surrogates.
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
