"""Sessions: a token is verified once; then a random session id identifies its principal."""

from __future__ import annotations

import hashlib
import math
import re
import secrets
from typing import Any, Final, NamedTuple

import msgspec
import structlog

from api.auth.principal import Principal
from api.http.errors import UnavailableError
from api.ledger.client import UNREACHABLE, Client, Command
from api.metrics import REDIS_ERRORS
from schemas.ledger.keys import session, sessions_of
from schemas.time.clock import Clock

log = structlog.get_logger(__name__)

MAX_LOCAL: Final = 10_000
"""Most sessions of this process without a shared store. Beyond it the oldest of the subject with most ends."""
MAX_PER_SUBJECT: Final = 100
"""Most sessions of one subject. Beyond it its own oldest ends, so that no subject can end another's."""
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
        self._local = _LocalSessions(clock)

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
        owner = _digest("\0".join(principal.owner))
        if self._shared is not None:
            await self._open_shared(key, packed, owner, math.ceil(opened.expires_at * 1000))
        else:
            self._local.add(key, packed, owner, self._clock.monotonic() + opened.expires_at - now)
        return opened

    async def _open_shared(self, key: str, packed: bytes, owner: str, until_ms: int) -> None:
        """Registers the session before it opens: after a crash between, the register has one key too many."""
        register = sessions_of(self._prefix, owner)
        replies = await self._run(
            ("ZREMRANGEBYSCORE", register, "-inf", int(self._clock.now() * 1000)),
            ("ZADD", register, until_ms, key),
            # The longest session decides; `GT` needs a time to compare with.
            ("PEXPIREAT", register, until_ms, "NX"),
            ("PEXPIREAT", register, until_ms, "GT"),
            ("ZRANGE", register, 0, -MAX_PER_SUBJECT - 1),
            ("ZREMRANGEBYRANK", register, 0, -MAX_PER_SUBJECT - 1),
            ("SET", key, packed, "PXAT", until_ms),
        )
        ending = replies[4]
        if ending:
            await self._run(*(("DEL", each) for each in ending))

    async def principal(self, session_id: str) -> Principal | None:
        """The session's principal; None if it is not open. Raises UnavailableError."""
        if not SESSION_ID_FORM.fullmatch(session_id):
            return None
        key = self._key(session_id)
        packed = self._local.get(key) if self._shared is None else (await self._run(("GET", key)))[0]
        if not isinstance(packed, bytes):
            return None
        stored = msgspec.json.decode(packed, type=_StoredSession)
        # The store's clock may differ from ours, so the stored expiry is checked too.
        if self._shared is not None and stored.expires_at <= self._clock.now():
            return None
        realms = None if stored.realms is None else frozenset(stored.realms)
        return Principal(stored.subject, frozenset(stored.scopes), realms, stored.expires_at)

    async def drop(self, session_id: str) -> None:
        """End the session in every process; an unknown id has no effect. Raises UnavailableError."""
        if SESSION_ID_FORM.fullmatch(session_id):
            key = self._key(session_id)
            self._local.drop(key)
            if self._shared is not None:
                await self._run(("DEL", key))

    async def _run(self, *commands: Command) -> list[Any]:
        assert self._shared is not None
        try:
            return await self._shared.run(commands)
        except UNREACHABLE as error:
            REDIS_ERRORS.labels("cache").inc()
            raise UnavailableError("Sessions cannot be read at the moment.") from error

    def _key(self, session_id: str) -> str:
        # A digest: a reader of the store cannot use it as a session id.
        return session(self._prefix, _digest(session_id))


class _LocalSession(NamedTuple):
    packed: bytes
    owner: str
    until: float
    """By the monotonic clock."""


class _LocalSessions:
    """Sessions of this process, by key."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock.monotonic
        self._sessions: dict[str, _LocalSession] = {}
        self._keys_of: dict[str, dict[str, None]] = {}
        """Keys by owner, oldest first."""

    def add(self, key: str, packed: bytes, owner: str, until: float) -> None:
        if len(self._sessions) >= MAX_LOCAL:
            now = self._clock()
            for expired in [key for key, session in self._sessions.items() if session.until <= now]:
                self.drop(expired)
        if len(self._keys_of.get(owner, ())) >= MAX_PER_SUBJECT:
            self.drop(next(iter(self._keys_of[owner])))
        elif len(self._sessions) >= MAX_LOCAL:
            largest = max(self._keys_of, key=lambda owner: len(self._keys_of[owner]))
            self.drop(next(iter(self._keys_of[largest])))
        self._sessions[key] = _LocalSession(packed, owner, until)
        self._keys_of.setdefault(owner, {})[key] = None

    def get(self, key: str) -> bytes | None:
        found = self._sessions.get(key)
        if found is not None and found.until <= self._clock():
            self.drop(key)
            return None
        return None if found is None else found.packed

    def drop(self, key: str) -> None:
        found = self._sessions.pop(key, None)
        if found is not None:
            del self._keys_of[found.owner][key]
            if not self._keys_of[found.owner]:
                del self._keys_of[found.owner]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
