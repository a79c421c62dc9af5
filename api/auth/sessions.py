"""Sessions: a token is verified once; then a random session id identifies its principal."""

from __future__ import annotations

import hashlib
import math
import re
import secrets
from typing import Final, NamedTuple

import msgspec
import structlog

from api.auth.principal import Principal
from api.http.errors import UnavailableError
from api.ledger.client import UNREACHABLE, Client
from api.metrics import REDIS_ERRORS
from schemas.ledger.keys import session
from schemas.time.clock import Clock

log = structlog.get_logger(__name__)

MAX_LOCAL: Final = 10_000
"""Most sessions of this process without a shared store. Beyond it the oldest ends."""
SESSION_ID_FORM: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


class Session(NamedTuple):
    """`expires_at` is Unix time."""

    id: str
    expires_at: float


class _StoredSession(msgspec.Struct, frozen=True, array_like=True):
    """The stored form of a session."""

    subject: str
    scopes: list[str]
    realms: list[str] | None
    expires_at: float


class Sessions:
    """Open sessions, in this process or in the shared Redis. Only digests of their ids are stored.

    While the shared store is unreachable, sessions can be neither opened nor read: UnavailableError.
    """

    def __init__(self, lifetime_s: float, prefix: str, clock: Clock, shared: Client | None) -> None:
        self._lifetime_s = lifetime_s
        self._prefix = prefix
        self._clock = clock
        self._shared = shared
        self._local: dict[str, tuple[bytes, float]] = {}
        """Packed session and its expiry by the monotonic clock, by key."""

    async def open(self, principal: Principal) -> Session:
        """Open a session of the principal. It expires with the token, if that is earlier.

        Raises UnavailableError.
        """
        now = self._clock.now()
        opened = Session(secrets.token_hex(32), min(now + self._lifetime_s, principal.expires_at))
        realms = None if principal.realms is None else sorted(principal.realms)
        packed = msgspec.json.encode(
            _StoredSession(principal.subject, sorted(principal.scopes), realms, opened.expires_at)
        )
        key = self._key(opened.id)
        if self._shared is not None:
            await self._run("SET", key, packed, "PXAT", math.ceil(opened.expires_at * 1000))
        else:
            while len(self._local) >= MAX_LOCAL:
                del self._local[next(iter(self._local))]
            self._local[key] = packed, self._clock.monotonic() + opened.expires_at - now
        return opened

    async def principal(self, session_id: str) -> Principal | None:
        """The session's principal; None if it is not open. Raises UnavailableError."""
        if not SESSION_ID_FORM.fullmatch(session_id):
            return None
        key = self._key(session_id)
        packed = self._held_here(key) if self._shared is None else await self._run("GET", key)
        if packed is None:
            return None
        stored = msgspec.json.decode(packed, type=_StoredSession)
        # The store's clock may differ from ours, so the stored expiry is checked too.
        if self._shared is not None and stored.expires_at <= self._clock.now():
            return None
        realms = None if stored.realms is None else frozenset(stored.realms)
        return Principal(stored.subject, frozenset(stored.scopes), realms, stored.expires_at)

    def _held_here(self, key: str) -> bytes | None:
        packed, ends = self._local.get(key, (None, 0.0))
        if packed is not None and ends <= self._clock.monotonic():
            del self._local[key]
            return None
        return packed

    async def drop(self, session_id: str) -> None:
        """End the session in every process; an unknown id has no effect. Raises UnavailableError."""
        if SESSION_ID_FORM.fullmatch(session_id):
            key = self._key(session_id)
            self._local.pop(key, None)
            if self._shared is not None:
                await self._run("DEL", key)

    async def _run(self, *command: str | bytes | int) -> bytes | None:
        assert self._shared is not None
        try:
            (reply,) = await self._shared.run([command])
        except UNREACHABLE as error:
            REDIS_ERRORS.labels("cache").inc()
            raise UnavailableError("Sessions cannot be read at the moment.") from error
        return reply if isinstance(reply, bytes) else None

    def _key(self, session_id: str) -> str:
        # A digest: a reader of the store cannot use it as a session id.
        return session(self._prefix, hashlib.sha256(session_id.encode()).hexdigest())
