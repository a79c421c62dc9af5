"""Sessions of a LinOTP server: LinOTP itself is asked whether one is valid, and its consent is kept for a minute.

The request carries the session as LinOTP's clients send it: cookie `admin_session` and parameter `session`. LinOTP 2
and 3 only compare these two and leave the sign-in to their web server. So the caller's Basic header is passed on, and a
LinOTP that accepts an invented session without one is not believed.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

import orjson
import structlog
from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, hdrs, web

from api.auth.basic import Credentials, basic_credentials
from api.auth.principal import Principal
from api.cache.single_flight import SingleFlight
from api.http.bounded_read import read_at_most
from api.http.errors import UnavailableError
from schemas.settings import PREFIX
from schemas.time.clock import Clock

log = structlog.get_logger(__name__)

COOKIE: Final = "admin_session"
PATH: Final = "/system/getRealms"
"""A cheap question that every administrator may ask, and that LinOTP answers only in a session."""
VALID_S: Final = 60.0
"""Lifetime of a consent, and so the time for which an ended session is still accepted."""
MAX_REMEMBERED: Final = 1024
MAX_SESSION_CHARS: Final = 256
MAX_BYTES: Final = 1 << 20
MAX_QUESTIONS: Final = 16
"""Concurrent questions: invented sessions must not become a flood at LinOTP."""
TIMEOUT_S: Final = 1.5


class _Consent(NamedTuple):
    principal: Principal
    until: float


class LinotpSessions:
    """Asks LinOTP. Refusals are not remembered: anybody can invent endless sessions."""

    def __init__(self, url: str, scope: str, clock: Clock) -> None:
        self._url = url.rstrip("/") + PATH
        self._scopes = frozenset({scope})
        self._monotonic = clock.monotonic
        self._client: ClientSession | None = None
        self._consents: dict[bytes, _Consent] = {}
        """By a digest of session and Basic header, until a time of the monotonic clock."""
        self._questions = SingleFlight[Principal | None]()
        self._trusted_until = float("-inf")
        self._fault: str | None = None

    async def lifespan(self, _: web.Application) -> AsyncIterator[None]:
        async with ClientSession(
            timeout=ClientTimeout(total=TIMEOUT_S),
            connector=TCPConnector(limit=MAX_QUESTIONS),
            cookie_jar=DummyCookieJar(),
            trust_env=False,
        ) as self._client:
            yield
            await self._questions.close()

    async def principal(self, session_id: str, authorization: str | None) -> Principal | None:
        """The session's principal; None for a session that LinOTP does not accept. Raises UnavailableError.

        The subject is the user of the caller's Basic header, which LinOTP's web server has checked; otherwise empty.
        """
        if not _is_plain(session_id):
            return None
        credentials = basic_credentials(authorization)
        # A Digest header is valid for its own address only, so it cannot be passed on.
        passed_on = None if credentials is None else authorization
        key = hashlib.sha256(orjson.dumps((session_id, passed_on))).digest()
        consent = self._consents.pop(key, None)
        if consent is None or self._monotonic() >= consent.until:

            async def ask() -> Principal | None:
                return await self._ask(session_id, passed_on, credentials)

            principal = await self._questions.run(key.hex(), ask)
            if principal is None:
                return None
            consent = _Consent(principal, self._monotonic() + VALID_S)
        while len(self._consents) >= MAX_REMEMBERED:
            del self._consents[next(iter(self._consents))]
        self._consents[key] = consent
        return consent.principal

    async def _ask(
        self, session_id: str, authorization: str | None, credentials: Credentials | None
    ) -> Principal | None:
        try:
            if self._monotonic() >= self._trusted_until:
                if await self._accepts(secrets.token_hex(32), None):
                    raise ValueError("an invented session is accepted: LinOTP needs a web server that signs users in")
                self._trusted_until = self._monotonic() + VALID_S
            accepted = await self._accepts(session_id, authorization)
        except (ClientError, TimeoutError, ValueError, TypeError, LookupError) as error:
            detail = str(error) if isinstance(error, ValueError) else type(error).__name__
            if self._fault != detail:
                self._fault = detail
                log.warning("sessions of LinOTP not verified", setting=f"{PREFIX}LINOTP_URL", error=detail)
            raise UnavailableError("The session cannot be verified at the moment.") from error
        self._fault = None
        return Principal("" if credentials is None else credentials.user, self._scopes) if accepted else None

    async def _accepts(self, session_id: str, authorization: str | None) -> bool:
        """Raises ClientError, TimeoutError, or ValueError and others for an answer that LinOTP does not give."""
        assert self._client is not None
        headers = {hdrs.COOKIE: f"{COOKIE}={session_id}"}
        if authorization is not None:
            headers[hdrs.AUTHORIZATION] = authorization
        async with self._client.get(
            self._url, params={"session": session_id}, headers=headers, allow_redirects=False
        ) as response:
            if response.status in (401, 403):
                return False
            if response.status != 200:
                raise ValueError(f"status {response.status}")
            answer = orjson.loads(await read_at_most(response.content, MAX_BYTES))
        return answer["result"]["status"] is True


def _is_plain(session_id: str) -> bool:
    """Whether the session can stand in a cookie."""
    return 0 < len(session_id) <= MAX_SESSION_CHARS and session_id.isascii() and session_id.isalnum()
