"""The last exports of peers, which stand in while a peer does not answer."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

from api.ledger.packed_values import PackedValues
from api.metrics import PEER_KEPT_BYTES
from schemas.time.clock import Clock

MAX_BYTES: Final = 128 * 2**20


class KeptExport(NamedTuple):
    """A part of an export, and the seconds since it was received."""

    value: Any
    age_s: float


class _Kept(NamedTuple):
    packed: bytes
    at: float
    """By the monotonic clock."""


class KeptExports:
    """Parts of exports by peer and name, at most MAX_BYTES in this process, evicting the oldest use.

    They have no digest of a user, because no export has. They are not written to any store.
    """

    def __init__(self, grace_s: float, clock: Clock, max_bytes: int = MAX_BYTES) -> None:
        self._grace_s = grace_s
        self._clock = clock.monotonic
        self._kept: PackedValues[tuple[str, str], _Kept] = PackedValues(max_bytes)

    @property
    def bytes(self) -> int:
        return self._kept.bytes

    def get(self, peer: str, name: str, kind: Any) -> KeptExport | None:
        """The part as `kind`; None if there is none, or if it is older than the grace period."""
        kept = self._kept.get((peer, name))
        if kept is None:
            return None
        age_s = self._clock() - kept.at
        if age_s > self._grace_s:
            self._kept.drop((peer, name))
            return None
        self._kept.use((peer, name))
        return KeptExport(msgspec.msgpack.decode(kept.packed, type=kind), age_s)

    def put(self, peer: str, name: str, value: Any) -> None:
        self._kept.put((peer, name), _Kept(msgspec.msgpack.encode(value), self._clock()))
        PEER_KEPT_BYTES.set(self.bytes)

    def forget(self, peer: str) -> None:
        """Drop everything of a peer that is refused or removed: its earlier exports do not stand in either."""
        for key in [key for key, _ in self._kept.items() if key[0] == peer]:
            self._kept.drop(key)
        PEER_KEPT_BYTES.set(self.bytes)
