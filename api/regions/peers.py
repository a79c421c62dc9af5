"""The peers of PEERS_FILE: they follow the file while the api runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import structlog

from api.regions.peer import Check, Peer
from api.settings import peers_file
from api.settings.watched_file import CHECK_INTERVAL_S, WatchedFile
from schemas.connections.urls import is_in_the_clear
from schemas.settings import PREFIX
from schemas.time.clock import Clock

log = structlog.get_logger(__name__)


class Peers:
    """By name in the order of the file, which is read again after a change. An invalid one is logged; the last valid
    one stays. A peer whose entry changed is a new one. The constructor raises ValueError.
    """

    def __init__(self, path: Path | None, own: str, check: Check, forget: Callable[[str], None], clock: Clock) -> None:
        """`own` is the name of the own region. `forget` drops what is known of a peer that is no longer asked."""
        self._own = own
        self._check = check
        self._forget = forget
        self._clock = clock
        self.by_name: dict[str, Peer] = {}
        self._running: list[Peer] = []
        self._following: asyncio.Task[None] | None = None
        self._file = None
        if path is not None:
            # Tried again: a token file or certificate that it names may follow it.
            self._file = WatchedFile(path, "PEERS_FILE", partial(self._load, path), clock, retries=True)

    async def start(self) -> None:
        await self._apply()
        if self._file is not None:
            self._following = asyncio.create_task(self._follow())

    async def close(self) -> None:
        if self._following is not None:
            self._following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._following
        await asyncio.gather(*(peer.close() for peer in self._running))

    async def _follow(self) -> None:
        """Also without questions, so that a removed peer is asked nothing more."""
        assert self._file is not None
        while True:
            await asyncio.sleep(CHECK_INTERVAL_S)
            self._file.reload_if_changed()
            await self._apply()

    def _load(self, path: Path, content: bytes) -> None:
        """Raises ValueError; then the peers are the same as before."""
        entries = peers_file.decode(path, content, self._own)
        before = {peer.entry: peer for peer in self.by_name.values()}
        self.by_name = {entry.name: before.get(entry) or Peer(entry, self._check, self._clock) for entry in entries}

    async def _apply(self) -> None:
        """Start new peers, and close those that are no longer in the file."""
        peers = [*self.by_name.values()]
        gone = [peer for peer in self._running if peer not in peers]
        new = [peer for peer in peers if peer not in self._running]
        if not gone and not new:
            return
        self._running = peers
        for peer in gone:
            peer.retire()
            self._forget(peer.name)
        for peer in new:
            if is_in_the_clear(peer.url):
                log.warning(
                    "asked in the clear, so answers can be forged",
                    setting=f"{PREFIX}PEERS_FILE",
                    peer=peer.name,
                    use="https",
                )
            # It does not wait: no question finds a peer that is not started.
            await peer.start()
        for peer in peers:
            # A refusal may have been due to a peer that is gone.
            peer.wake()
        await asyncio.gather(*(peer.close() for peer in gone))
