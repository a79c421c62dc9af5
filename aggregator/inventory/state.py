"""The worker's copy of a shard's OTP inventory, and the changes of one range."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final

from aggregator.fold.range_delta import RangeDelta, ShardCache
from schemas.ledger.inventory import Token

MAX_CACHED: Final = 100_000
"""Serials and holders cached per shard, 250 bytes each. Cleared when full; frequent ones re-enter quickly."""

_REALM: Final = struct.Struct("<I")

realm_bytes: Final = _REALM.pack


@dataclass(slots=True)
class InventoryChanges:
    """The changes of one range as new values: applying them twice gives the same state."""

    realms: dict[str, int] = field(default_factory=dict)
    """Numbers of new realms."""
    event_names: dict[str, int] = field(default_factory=dict)
    """Numbers of new event names."""
    totals: dict[int, bytes] = field(default_factory=dict)
    """By realm: its RealmTotals, packed."""
    tokens: dict[str, Token] = field(default_factory=dict)
    holders: dict[bytes, int] = field(default_factory=dict)
    """Number of tokens by realm number and user digest; 0 deletes the holder."""
    rows: dict[tuple[int, int], tuple[int, bytearray]] = field(default_factory=dict)
    """By realm and chunk: the byte to write at, and the bytes; those at byte 0 begin with the chunk's header."""
    chunk_starts: dict[int, dict[int, int]] = field(default_factory=dict)
    """By realm and new chunk: the position in time of its first row, microseconds."""
    days: dict[tuple[int, int], dict[int, bytes]] = field(default_factory=dict)
    """By realm and year: packed days that have ended, by slot."""
    reported: dict[int, int] = field(default_factory=dict)
    """By realm: a bit per status that has external rows."""
    external_rows: dict[tuple[int, int], dict[bytes, int]] = field(default_factory=dict)
    """By realm and status: packed rows with their time, microseconds."""
    external_days: dict[tuple[int, int], dict[int, int]] = field(default_factory=dict)
    """By realm and status: the maximum of the range's rows by day."""


@dataclass(slots=True)
class InventoryState:
    """The inventory at a position, as far as it is loaded. A fold only reads it."""

    realms: dict[str, int]
    event_names: dict[str, int]
    totals: dict[int, bytes]
    """By realm: its RealmTotals, packed, because most are never unpacked."""
    reported: dict[int, int]
    tokens: dict[str, Token | None] = field(default_factory=dict)
    """The last states of loaded serials; None for an unknown serial."""
    holders: dict[bytes, int] = field(default_factory=dict)
    """The numbers of tokens of loaded holders; 0 for an unknown holder."""

    def apply(self, changes: InventoryChanges) -> None:
        """Take over the changes of an applied range."""
        self.realms |= changes.realms
        self.event_names |= changes.event_names
        self.totals |= changes.totals
        self.reported |= changes.reported
        if len(self.tokens) + len(self.holders) > MAX_CACHED:
            self.tokens.clear()
            self.holders.clear()
        self.tokens |= changes.tokens
        self.holders |= changes.holders


@dataclass(slots=True)
class InventoryDelta(RangeDelta):
    """The additions to a shard of the OTP inventory."""

    inventory: InventoryChanges = field(default_factory=InventoryChanges)


@dataclass(slots=True)
class InventoryCache(ShardCache):
    """The cache of a shard of the OTP inventory."""

    inventory: InventoryState | None = None
    """None until it is loaded."""

    def update(self, delta: RangeDelta) -> None:
        # Without arguments, super() fails in a dataclass with slots, which is made twice.
        ShardCache.update(self, delta)
        if self.inventory is not None and isinstance(delta, InventoryDelta):
            self.inventory.apply(delta.inventory)
