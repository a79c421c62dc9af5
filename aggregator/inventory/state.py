"""What a worker knows of a shard's OTP inventory, and what one range changes in it."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final

from aggregator.fold.range_delta import RangeDelta, ShardCache
from schemas.ledger.inventory import Token

MAX_CACHED: Final = 100_000
"""Serials and holders remembered per shard, 250 bytes each; when there are more all are dropped, to be read anew."""

_REALM: Final = struct.Struct("<I")

realm_bytes: Final = _REALM.pack


@dataclass(slots=True)
class InventoryChanges:
    """What one range changes, as what is to be stored: applied twice it would leave the same."""

    realms: dict[str, int] = field(default_factory=dict)
    """New ones."""
    event_names: dict[str, int] = field(default_factory=dict)
    """New ones."""
    totals: dict[int, bytes] = field(default_factory=dict)
    """By realm: its Figures, packed."""
    tokens: dict[str, Token] = field(default_factory=dict)
    holders: dict[bytes, int] = field(default_factory=dict)
    """Tokens by realm's number and user; 0 for a holder no more."""
    rows: dict[tuple[int, int], tuple[int, bytearray]] = field(default_factory=dict)
    """By realm and chunk: from which byte on, and what; a chunk from byte 0 on has its header."""
    chunk_starts: dict[int, dict[int, int]] = field(default_factory=dict)
    """By realm and chunk begun: where its first row stands."""
    days: dict[tuple[int, int], dict[int, bytes]] = field(default_factory=dict)
    """By realm and year: packed days that are over, by slot."""
    reported: dict[int, int] = field(default_factory=dict)
    """By realm: bits of the statuses of which rows are given."""
    external_rows: dict[tuple[int, int], dict[bytes, int]] = field(default_factory=dict)
    """By realm and status: rows, with their time."""
    external_days: dict[tuple[int, int], dict[int, int]] = field(default_factory=dict)
    """By realm and status: the maximum of the range's rows per day."""


@dataclass(slots=True)
class InventoryState:
    """The inventory as of a position, as far as it was looked at. A fold only reads it."""

    realms: dict[str, int]
    event_names: dict[str, int]
    totals: dict[int, bytes]
    """By realm: its Figures, packed: most are only passed on."""
    reported: dict[int, int]
    tokens: dict[str, Token | None] = field(default_factory=dict)
    """Serials looked at; None for one that was never seen."""
    holders: dict[bytes, int] = field(default_factory=dict)
    """Holders looked at, 0 for none."""

    def apply(self, changes: InventoryChanges) -> None:
        """Take over what a range changed, once it is applied."""
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
