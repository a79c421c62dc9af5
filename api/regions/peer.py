"""The api of another region: requests with deadline and size limit, its circuit, and whether it is refused."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import msgspec
import structlog
from aiohttp import ClientError, ClientSession, ClientSSLError, ClientTimeout, DummyCookieJar, TCPConnector, hdrs

from api.http.bounded_read import TooLongError, read_at_most
from api.ledger.client import UNREACHABLE
from api.metrics import PEER_REFUSED, PEER_REQUESTS, PEER_UP
from api.regions import wire
from api.regions.circuit import Circuit
from api.regions.identity import Refused
from api.regions.wire import Export, ExportRequest, Identity
from api.regions.wire_parts import InvalidAnswerError
from api.settings import peers_file
from api.settings.peers_file import PeerEntry
from api.settings.watched_file import WatchedFile
from schemas.time.clock import Clock

log = structlog.get_logger(__name__)

IDENTITY_PATH: Final = "/v1/region"
EXPORT_PATH: Final = "/v1/region/export"
IDS_PATH: Final = "/v1/region/ids"

MAX_IDENTITY_BYTES: Final = 2**20
MAX_EXPORT_BYTES: Final = 16 * 2**20
MAX_CONNECTIONS: Final = 8
KEEPALIVE_S: Final = 60.0
"""Longer than PROBE_S, so that a question finds an open connection: TLS over an ocean takes half a second."""
PROBE_S: Final = 10.0
"""Interval between two requests for the identity."""
PROBE_TIMEOUT_S: Final = 5.0
MIN_PROBE_S: Final = 0.25
REMOVED: Final = "removed"
"""The reason of a question that was on its way when its peer left the file."""

T = TypeVar("T")
Check = Callable[[str, Identity], Awaitable[Refused | None]]
"""Why a peer with this name and identity is refused. Raises one of UNREACHABLE."""


class PeerUnavailableError(Exception):
    """The peer gave no figures that may be used. `reason` is one word: timeout, connection, tls, status_503, …"""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class RefusedPeerError(PeerUnavailableError):
    """The peer answers, but its figures cannot be used."""


class PeerState(NamedTuple):
    """What is known of a peer. `error` is empty while it answers; `since` is Unix seconds, of the last change."""

    identity: Identity | None
    error: str
    refused: Refused | None
    since: float


class Peer:
    """One peer. A task probes it in the background, so that no question waits for a peer that is known to be dead."""

    def __init__(self, entry: PeerEntry, check: Check, clock: Clock) -> None:
        self.entry = entry
        self.name = entry.name
        self.url = entry.url.rstrip("/")
        self._check = check
        self._clock = clock
        self.circuit = Circuit(clock.monotonic)
        self.state = PeerState(None, "", None, clock.now())
        self._token = ""
        self._token_file = WatchedFile(
            Path(entry.token_file), f"PEERS_FILE, token_file of {entry.name}", self._take_token, clock
        )
        self._tls: ssl.SSLContext = peers_file.ssl_context(entry)
        self._session: ClientSession | None = None
        self._retired = False
        self._wake = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None

    def _take_token(self, content: bytes) -> None:
        self._token = peers_file.read_token(content)

    @property
    def is_available(self) -> bool:
        """Whether the last exchange succeeded, and its figures are used."""
        return not self.state.error and self.state.refused is None and not self.circuit.is_open

    async def start(self) -> None:
        self._session = ClientSession(
            connector=TCPConnector(ssl=self._tls, limit=MAX_CONNECTIONS, keepalive_timeout=KEEPALIVE_S),
            timeout=ClientTimeout(total=None),
            cookie_jar=DummyCookieJar(),
            trust_env=False,
            # A compressed answer could unpack to any size.
            auto_decompress=False,
            headers={hdrs.ACCEPT_ENCODING: "identity"},
        )
        self._watching = asyncio.create_task(self._watch())

    def wake(self) -> None:
        """Probe soon."""
        self._wake.set()

    def retire(self) -> None:
        """Answer no question from now on, and leave the metrics: the peer is no longer in the file."""
        self._retired = True
        PEER_UP.remove(self.name)
        if self.state.refused is not None:
            PEER_REFUSED.remove(self.name, self.state.refused.refusal)

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def export(self, request: ExportRequest, timeout_s: float) -> Export:
        """The checked answer. Raises PeerUnavailableError; one of UNREACHABLE if the own ledger cannot be read."""
        if self._retired:
            raise PeerUnavailableError(REMOVED)
        if self.state.refused is not None:
            PEER_REQUESTS.labels(self.name, "refused").inc()
            raise RefusedPeerError(self.state.refused.refusal)
        if self.circuit.is_open:
            PEER_REQUESTS.labels(self.name, "open").inc()
            raise PeerUnavailableError(self.state.error or "timeout")
        try:
            body = await self._send("POST", EXPORT_PATH, msgspec.json.encode(request), MAX_EXPORT_BYTES, timeout_s)
            export = self._decoded(partial(wire.read_export, body, request))
            await self._accept(export.identity)
            await self._checked_sketches(export)
        except RefusedPeerError:
            raise
        except PeerUnavailableError as error:
            self._record_failure(error.reason)
            raise
        self.circuit.record_answer()
        PEER_REQUESTS.labels(self.name, "ok").inc()
        return export

    def record_lie(self) -> None:
        """The sketches of an answer were not those of its numbers."""
        log.warning("answer of a peer not valid", peer=self.name, error="sketches do not fit their numbers of users")
        PEER_REQUESTS.labels(self.name, "invalid").inc()
        self._record_failure("invalid")

    async def _checked_sketches(self, export: Export) -> None:
        try:
            await wire.check_sketches(export)
        except InvalidAnswerError as error:
            raise self._invalid(error) from error

    async def _watch(self) -> None:
        """Probe at PROBE_S, and soon after a failure."""
        while True:
            await self._probe()
            self._wake.clear()
            pause_s = max(self.circuit.wait_s, MIN_PROBE_S) if self.circuit.is_open else PROBE_S
            try:
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()
                    await asyncio.sleep(max(self.circuit.wait_s, MIN_PROBE_S))
            except TimeoutError:
                pass

    async def _probe(self) -> None:
        try:
            body = await self._send("GET", IDENTITY_PATH, None, MAX_IDENTITY_BYTES, PROBE_TIMEOUT_S)
            await self._accept(self._decoded(partial(wire.read_identity, body)))
        except RefusedPeerError:
            self.circuit.record_probe(answered=True)
        except PeerUnavailableError as error:
            if self.state.refused is None:
                self._set_state(self.state._replace(error=error.reason))
            self.circuit.record_probe(answered=False)
        except UNREACHABLE:
            # The own ledger: its outage says nothing about the peer.
            pass
        else:
            self.circuit.record_probe(answered=True)

    async def _send(self, method: str, path: str, body: bytes | None, limit: int, timeout_s: float) -> bytes:
        """The body of a 200. Raises PeerUnavailableError."""
        assert self._session is not None
        self._token_file.reload_if_changed()
        headers = {hdrs.AUTHORIZATION: f"Bearer {self._token}"}
        if body is not None:
            headers[hdrs.CONTENT_TYPE] = "application/json"
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._session.request(
                    method, self.url + path, data=body, headers=headers, allow_redirects=False
                ) as response,
            ):
                if response.status != 200:
                    raise self._failed("status", f"status_{response.status}")
                return await read_at_most(response.content, limit)
        except TooLongError as error:
            raise self._failed("too_large") from error
        except TimeoutError as error:
            raise self._failed("timeout") from error
        except ClientSSLError as error:
            raise self._failed("connection", "tls") from error
        except (ClientError, OSError, ValueError) as error:
            # In TLS 1.3 a server refuses our certificate only after the handshake.
            raise self._failed("connection", "tls" if isinstance(error.__cause__, ssl.SSLError) else "") from error

    def _decoded(self, read: Callable[[], T]) -> T:
        try:
            return read()
        except InvalidAnswerError as error:
            raise self._invalid(error) from error

    def _invalid(self, error: InvalidAnswerError) -> PeerUnavailableError:
        log.warning("answer of a peer not valid", peer=self.name, error=str(error))
        return self._failed("invalid")

    def _failed(self, result: str, reason: str = "") -> PeerUnavailableError:
        PEER_REQUESTS.labels(self.name, result).inc()
        return PeerUnavailableError(reason or result)

    async def _accept(self, identity: Identity) -> None:
        """Raises PeerUnavailableError with the refusal."""
        if self._retired:
            raise PeerUnavailableError(REMOVED)
        refused = await self._check(self.name, identity)
        self._set_state(PeerState(identity, "", refused, self._clock.now()))
        if refused is not None:
            PEER_REQUESTS.labels(self.name, "refused").inc()
            raise RefusedPeerError(refused.refusal)

    def _record_failure(self, reason: str) -> None:
        if self.state.refused is None:
            self._set_state(self.state._replace(error=reason))
        self.circuit.record_failure(timeout=reason == "timeout")
        self._wake.set()

    def _set_state(self, state: PeerState) -> None:
        """Keep `since` of an unchanged state, and log a changed one."""
        if self._retired:
            return
        before = self.state
        unchanged = (state.error, state.refused) == (before.error, before.refused)
        self.state = state._replace(since=before.since if unchanged else self._clock.now())
        PEER_UP.labels(self.name).set(not state.error and state.refused is None)
        if before.refused is not None and before.refused != state.refused:
            PEER_REFUSED.labels(self.name, before.refused.refusal).set(0)
        if state.refused is not None:
            PEER_REFUSED.labels(self.name, state.refused.refusal).set(1)
        if unchanged:
            return
        if state.refused is not None:
            log.error("peer refused", peer=self.name, refusal=state.refused.refusal, detail=state.refused.detail)
        elif state.error:
            log.warning("peer unavailable", peer=self.name, error=state.error)
        else:
            log.info("peer available", peer=self.name)
