"""The OTP inventory in Redis: reads of the state that a fold needs, and the script's arguments for its changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, Final, Protocol

from msgspec import Struct

from aggregator.inventory.fold import DecodedEvent, unknown_holders, unknown_tokens
from aggregator.inventory.state import InventoryChanges, InventoryState
from schemas.ledger.inventory import (
    COUNTS_BYTES,
    DAY_BYTES,
    HEADER_BYTES,
    ROW_BYTES,
    ROWS_PER_CHUNK,
    pack_chunk_start,
    pack_token,
    unpack_token,
)
from schemas.ledger.keys import Shard, ShardKeys

FULL_CHUNK: Final = HEADER_BYTES + ROWS_PER_CHUNK * ROW_BYTES

# Each answer begins with the position, so that a state of another position is noticed.
READ_REALMS: Final = """
local found = {redis.call('GET', KEYS[1]) or ''}
for number = 2, #KEYS do
  found[number] = redis.call('HGETALL', KEYS[number])
end
return found
"""
READ_FIELDS: Final = """
local found = {redis.call('GET', KEYS[1]) or ''}
local fields = cmsgpack.unpack(ARGV[1])
for from = 1, #fields, 3900 do
  local values = redis.call('HMGET', KEYS[2], unpack(fields, from, math.min(from + 3899, #fields)))
  for number, value in ipairs(values) do
    found[from + number] = value
  end
end
return found
"""

_SHORT: Final = tuple(bytes((0xD9, size)) for size in range(256))


class ScriptReader(Protocol):
    """The part of the ledger that reads need."""

    def keys(self, shard: Shard) -> ShardKeys: ...
    async def read(self, script: str, key_names: Sequence[str], *arguments: bytes) -> list[Any]: ...


async def load_state(ledger: ScriptReader, shard: Shard, position: int) -> InventoryState | None:
    """Realms and their totals of a shard at `position`; None if it no longer stands there."""
    keys = ledger.keys(shard)
    key_names = [keys.position, keys.realms, keys.event_names, keys.totals, keys.reported]
    read_position, realms, event_names, totals, reported = await ledger.read(READ_REALMS, key_names)
    if read_position != b"%d" % position:
        return None
    return InventoryState(
        realms={name.decode(): int(number) for name, number in _pairs(realms)},
        event_names={name.decode(): int(number) for name, number in _pairs(event_names)},
        totals={int(number): packed for number, packed in _pairs(totals)},
        reported={int(number): int(bits) for number, bits in _pairs(reported)},
    )


async def load_needed(
    ledger: ScriptReader, shard: Shard, position: int, state: InventoryState, events: Sequence[DecodedEvent]
) -> bool:
    """Read everything that the fold of these events needs into `state`; False if the shard no longer stands there."""
    # Two steps: the tokens' last states contain the holders to read.
    return await _load_tokens(ledger, shard, position, state, unknown_tokens(events, state)) and await _load_holders(
        ledger, shard, position, state, unknown_holders(events, state)
    )


async def _load_tokens(
    ledger: ScriptReader, shard: Shard, position: int, state: InventoryState, serials: Sequence[str]
) -> bool:
    if not serials:
        return True
    keys = ledger.keys(shard)
    read_position, *values = await ledger.read(
        READ_FIELDS, [keys.position, keys.tokens], pack_strings([serial.encode() for serial in serials])
    )
    if read_position != b"%d" % position:
        return False
    for serial, packed in zip(serials, values, strict=True):
        state.tokens[serial] = None if packed is None else unpack_token(packed)
    return True


async def _load_holders(
    ledger: ScriptReader, shard: Shard, position: int, state: InventoryState, holders: Sequence[bytes]
) -> bool:
    if not holders:
        return True
    keys = ledger.keys(shard)
    read_position, *values = await ledger.read(READ_FIELDS, [keys.position, keys.holders], pack_strings(holders))
    if read_position != b"%d" % position:
        return False
    for holder, tokens in zip(holders, values, strict=True):
        state.holders[holder] = int(tokens or 0)
    return True


def pack_strings(items: Sequence[bytes]) -> bytes:
    """A MessagePack array of strings of arbitrary bytes: Redis's reader accepts them, msgspec cannot write them.

    One argument instead of thousands, which would take most of the worker's time to send.
    """
    short = _SHORT
    parts = [
        short[len(item)] + item if len(item) < 256 else b"\xdb" + len(item).to_bytes(4, "big") + item for item in items
    ]
    return b"\xdd" + len(items).to_bytes(4, "big") + b"".join(parts)


class InventoryAdditions(Struct):
    """The changes to an inventory as ledger.lua reads them: keys, and items of the blob, by their numbers from 1.

    The first three are flat, because a map for each write would cost the script more than the write.
    """

    hashes: list[int]
    """Per hash: key, first and last item of the fields and values to set, first and last item of the fields to delete.

    The last is before the first if there are none.
    """
    strings: list[int]
    """Per string: key, byte to write at, item, and 1 if the string is full with it, 2 if it was full before.

    A delete may have freed a string that was full, so a missing one is left alone.
    """
    rows: list[int]
    """Per sorted set: key, first and last item of its scores and members."""
    maxima: list[dict[str, Any]]
    """Per hash: its `key`, and a count by day in `days`; the larger count stays."""


def script_arguments(
    keys: ShardKeys, key: Callable[[str], int], changes: InventoryChanges
) -> tuple[InventoryAdditions, bytes]:
    """The additions of an inventory, and the blob of their items. `key` returns the number of a key by its name."""
    hashes: list[int] = []
    strings: list[int] = []
    rows: list[int] = []

    items: list[bytes] = []

    def append(more: Iterable[bytes]) -> tuple[int, int]:
        """The numbers, from 1, of the first and the last item; the last is before the first if there are none."""
        first = len(items) + 1
        items.extend(more)
        return first, len(items)

    def write_hash(name: str, fields: dict[bytes, bytes], drop: Sequence[bytes] = ()) -> None:
        if fields or drop:
            hashes.extend((key(name), *append(chain.from_iterable(fields.items())), *append(drop)))

    def write_string(name: str, at: int, packed: bytes, full: int = 0) -> None:
        strings.extend((key(name), at, append((packed,))[0], full))

    write_hash(keys.realms, _encoded(changes.realms))
    write_hash(keys.event_names, _encoded(changes.event_names))
    write_hash(keys.reported, {b"%d" % realm: b"%d" % bits for realm, bits in changes.reported.items()})
    write_hash(keys.totals, {b"%d" % realm: held for realm, held in changes.totals.items()})
    write_hash(keys.tokens, {serial.encode(): pack_token(token) for serial, token in changes.tokens.items()})
    kept = {holder: b"%d" % tokens for holder, tokens in changes.holders.items() if tokens}
    write_hash(keys.holders, kept, [holder for holder, tokens in changes.holders.items() if not tokens])
    for (realm, chunk), (at, packed) in changes.rows.items():
        # The counts of a row without its time are an update of the last row of an earlier range.
        full = 2 if len(packed) == COUNTS_BYTES else 1
        write_string(keys.rows(realm, chunk), at, bytes(packed), full if at + len(packed) == FULL_CHUNK else 0)
    for realm, starts in changes.chunk_starts.items():
        write_string(
            keys.chunk_starts(realm), min(starts) * HEADER_BYTES, b"".join(map(pack_chunk_start, starts.values()))
        )
    for (realm, year), days in changes.days.items():
        write_string(keys.days(realm, year), min(days) * DAY_BYTES, b"".join(days.values()))
    for group, more in changes.external_rows.items():
        rows.extend(
            (key(keys.external_rows(*group)), *append(part for row, at in more.items() for part in (b"%d" % at, row)))
        )
    maxima = [
        {"key": key(keys.external_days(*group)), "days": {str(day): count for day, count in more.items()}}
        for group, more in changes.external_days.items()
    ]
    return InventoryAdditions(hashes, strings, rows, maxima), pack_strings(items)


def _encoded(numbers: dict[str, int]) -> dict[bytes, bytes]:
    return {name.encode(): b"%d" % number for name, number in numbers.items()}


def _pairs(flat: list[bytes]) -> Iterable[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)
