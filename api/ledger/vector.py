"""The state of closed periods in the shards: equal vectors mean equal content."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import msgspec

from schemas.ledger.keys import ShardKeys
from schemas.ledger.scopes import Scope

Unit = tuple[str, Scope]
"""A period and a scope."""

Slice = tuple[bytes, bytes, bytes]
"""Epoch, token and expiry of a period in one shard; empty if there is none, or while the shard is being restored."""


Tokens = tuple[bytes | None, bytes | None]
"""Epoch and token. Each change of position or expiry renews one of them too, so equal tokens mean an equal slice."""


class Vector(NamedTuple):
    """The state of a closed period in all shards of a ledger."""

    digest: bytes
    """Of the ledger's id and of all shards with their slices, also of those that do not hold the period."""
    held: Sequence[tuple[ShardKeys, Slice]]
    """The shards that hold it."""

    @classmethod
    def of(cls, ledger: bytes, shards: Iterable[tuple[ShardKeys, Slice]], held: Collection[ShardKeys]) -> Vector | None:
        """None if the period must not be merged: the ledger has no id, or a shard no epoch, or a restore is running."""
        found = list(shards)
        if not ledger or any(not slice_[0] for _, slice_ in found):
            return None
        holding = {shard.shard for shard in held}
        state = [(shard.shard.tag, *slice_, shard.shard in holding) for shard, slice_ in found]
        digest = hashlib.blake2b(msgspec.msgpack.encode((ledger, state)), digest_size=16).digest()
        return cls(digest, [(shard, slice_) for shard, slice_ in found if shard.shard in holding])

    @property
    def tokens(self) -> list[Tokens]:
        """Of the shards that hold the period; a missing token is None, as HMGET returns it."""
        return [(epoch or None, token or None) for _, (epoch, token, _) in self.held]
