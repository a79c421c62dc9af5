"""Authentication of senders: a bearer token with the scope `events:write`, the webhook's secret, or its signature."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from typing import Final

from aiohttp import hdrs, web
from pydantic import SecretStr

from api.auth.access import ANYBODY, MAX_HEADER_BYTES, Access
from api.auth.basic import basic_credentials
from api.auth.principal import Principal
from api.http.client_address import caller_of
from api.http.errors import ForbiddenError, UnauthorizedError
from api.ingest.signatures import MAX_SIGNATURE_BYTES, Signature
from api.metrics import ACCESS_REFUSALS
from schemas.prefix import PREFIX

SCOPE: Final = "events:write"


class SenderAuth:
    """Authenticates the senders of one route. Without secret and signature only bearer tokens are accepted."""

    def __init__(
        self,
        source: str,
        secret: SecretStr | None,
        access: Access,
        *,
        open_to_all: bool,
        signature: Signature | None = None,
        secret_header: str = "",
    ) -> None:
        """`open_to_all`: whether AUTH=none lets everybody send. `secret_header` may have the secret, as it is."""
        self._webhook = Principal(f"webhook {source}", frozenset({SCOPE}))
        text = "" if secret is None else secret.get_secret_value()
        self._digest = _digest(text) if text else None
        self._access = access
        self._open_to_all = open_to_all
        self._signature = signature
        self._secret_header = secret_header

    async def authenticate(self, request: web.Request) -> Principal | None:
        """None if the signature of the body must decide.

        Raises UnauthorizedError, InsufficientScopeError, UnavailableError, ForbiddenError.
        """
        authorization = request.headers.get(hdrs.AUTHORIZATION)
        if self._digest is not None:
            for candidate in (request.headers.get(self._secret_header), *_credentials(authorization)):
                if candidate is not None and len(candidate) <= MAX_HEADER_BYTES and self._is_secret(candidate):
                    return self._webhook
        signed = self._signature is not None and self._signature.header in request.headers
        if signed and authorization is None:
            return None
        if self._access.open and not self._open_to_all:
            raise ForbiddenError(f"{PREFIX}AUTH=none allows no events; {PREFIX}AUTH_NONE_WRITES=on allows it.")
        try:
            return (await self._access.authenticate(authorization, SCOPE, request.remote))[0]
        except UnauthorizedError:
            if signed:
                return None
            raise

    async def authenticate_body(self, request: web.Request, body: bytes) -> Principal:
        """The webhook, if its signature of the body is valid. Raises UnauthorizedError, UnavailableError."""
        signature = "" if self._signature is None else request.headers.get(self._signature.header, "")
        valid = (
            self._signature is not None
            and len(signature) <= MAX_SIGNATURE_BYTES
            and await self._signature.verify(signature, body)
        )
        if not valid:
            ACCESS_REFUSALS.labels("signature").inc()
            raise UnauthorizedError
        return self._webhook

    @staticmethod
    def share_of(principal: Principal | None, request: web.Request) -> str:
        """The name under which a request takes its sender's share; by address if all callers are one principal.

        Bodies whose sender is not known yet are one sender: a flood of them leaves the others their room.
        """
        if principal is None:
            return "unverified"
        return f"address {caller_of(request)}" if principal.subject == ANYBODY else f"subject {principal.subject}"

    def _is_secret(self, candidate: str) -> bool:
        # Digests: the comparison's duration reveals neither the secret's length nor a correct prefix.
        return self._digest is not None and hmac.compare_digest(_digest(candidate), self._digest)


def _credentials(authorization: str | None) -> Iterator[str]:
    """What may be the secret: the whole header, a bearer's token, the password of Basic with any user."""
    if authorization is None:
        return
    yield authorization
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() == "bearer":
        yield token.strip()
    elif (basic := basic_credentials(authorization)) is not None:
        yield basic.password


def _digest(text: str) -> bytes:
    # Header bytes that are not UTF-8 arrive as surrogates.
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
