"""What every authentication method implements."""

from __future__ import annotations

from typing import Protocol

from api.auth.principal import Principal


class RefusedTokenError(Exception):
    """The token belongs to this authenticator and is not valid, so no other may accept it."""


class Authenticator(Protocol):
    async def verify(self, token: str, address: str) -> Principal | None:
        """The token's principal; None for a token that this authenticator does not know.

        `address` is the caller's. Raises RefusedTokenError; UnavailableError if the issuer is unreachable, or if too
        many tokens are being verified.
        """
