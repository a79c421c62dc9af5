"""Sessions: a bearer is looked at once, and then known for a while by a random text that only its client has."""

from __future__ import annotations

import hashlib
import math
import re
import secrets
from typing import Final, NamedTuple

import msgspec
import structlog

from api.auth.principal import Bearer
from api.http.errors import Unavailable
from api.ledger.client import UNREACHABLE, Client
from api.metrics import REDIS_ERRORS
from schemas.clock import Clock
from schemas.ledger.keys import session

log = structlog.get_logger(__name__)

MAX_HERE: Final = 10_000
"""Sessions of this process where none are shared. Beyond it the oldest ends."""
WRITTEN: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


class Session(NamedTuple):
    """`expires` is Unix time."""

    id: str
    expires: float


class _Known(msgspec.Struct, frozen=True, array_like=True):
    """A session as it is stored."""

    subject: str
    scopes: list[str]
    realms: list[str] | None
    expires: float


class Sessions:
    """Open sessions: in this process, or in the Redis that api processes share. Only digests of their ids are kept.

    Where the shared store does not answer, no session is known and none can be had: Unavailable.
    """

    def __init__(self, lifetime_s: float, prefix: str, clock: Clock, shared: Client | None) -> None:
        self._lifetime_s = lifetime_s
        self._prefix = prefix
        self._clock = clock
        self._shared = shared
        self._here: dict[str, tuple[bytes, float]] = {}
        """With the end by the monotonic clock."""

    async def open(self, bearer: Bearer) -> Session:
        """A new session of the bearer's. It ends with the bearer's token, if that ends first. Raises Unavailable."""
        now = self._clock.now()
        opened = Session(secrets.token_hex(32), min(now + self._lifetime_s, bearer.expires))
        realms = None if bearer.realms is None else sorted(bearer.realms)
        packed = msgspec.json.encode(_Known(bearer.subject, sorted(bearer.scopes), realms, opened.expires))
        key = self._key(opened.id)
        if self._shared is not None:
            await self._ask("SET", key, packed, "PXAT", math.ceil(opened.expires * 1000))
        else:
            while len(self._here) >= MAX_HERE:
                del self._here[next(iter(self._here))]
            self._here[key] = packed, self._clock.monotonic() + opened.expires - now
        return opened

    async def bearer(self, session_id: str) -> Bearer | None:
        """Who opened it; None where it is not open. Raises Unavailable."""
        if not WRITTEN.fullmatch(session_id):
            return None
        key = self._key(session_id)
        packed = self._held_here(key) if self._shared is None else await self._ask("GET", key)
        if packed is None:
            return None
        known = msgspec.json.decode(packed, type=_Known)
        # A store's clock may differ from ours: a shared session says itself when it ends.
        if self._shared is not None and known.expires <= self._clock.now():
            return None
        realms = None if known.realms is None else frozenset(known.realms)
        return Bearer(known.subject, frozenset(known.scopes), realms, known.expires)

    def _held_here(self, key: str) -> bytes | None:
        packed, ends = self._here.get(key, (None, 0.0))
        if packed is not None and ends <= self._clock.monotonic():
            del self._here[key]
            return None
        return packed

    async def drop(self, session_id: str) -> None:
        """Ends it, in every process; one that is not open is left as it is. Raises Unavailable."""
        if WRITTEN.fullmatch(session_id):
            key = self._key(session_id)
            self._here.pop(key, None)
            if self._shared is not None:
                await self._ask("DEL", key)

    async def _ask(self, *command: str | bytes | int) -> bytes | None:
        assert self._shared is not None
        try:
            (reply,) = await self._shared.run([command])
        except UNREACHABLE as error:
            REDIS_ERRORS.labels("cache").inc()
            raise Unavailable("Sessions cannot be looked up at the moment.") from error
        return reply if isinstance(reply, bytes) else None

    def _key(self, session_id: str) -> str:
        # Whoever can read the store has no session by that.
        return session(self._prefix, hashlib.sha256(session_id.encode()).hexdigest())
