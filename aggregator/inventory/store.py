"""The OTP inventory between its store and the worker: what a range needs of it is read, what it changes is laid out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Final, Protocol

from aggregator.inventory.fold import Told, unknown_holders, unknown_tokens
from aggregator.inventory.state import Changes, Stock
from schemas.ledger.inventory import (
    DAY_BYTES,
    HEADER_BYTES,
    ROW_BYTES,
    ROWS_PER_CHUNK,
    pack_place,
    pack_token,
    unpack_token,
)
from schemas.ledger.keys import Shard, ShardKeys

FULL_CHUNK: Final = HEADER_BYTES + ROWS_PER_CHUNK * ROW_BYTES

# Each is answered with the position, so that it is known what the answer is of.
LOOK_AT_REALMS: Final = """
local found = {redis.call('GET', KEYS[1]) or ''}
for number = 2, #KEYS do
  found[number] = redis.call('HGETALL', KEYS[number])
end
return found
"""
LOOK_AT_FIELDS: Final = """
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


class Asks(Protocol):
    """The ledger, as far as reading needs it."""

    def keys(self, shard: Shard) -> ShardKeys: ...
    async def ask(self, script: str, named: Sequence[str], *arguments: bytes) -> list[Any]: ...


async def stock(ledger: Asks, shard: Shard, position: int) -> Stock | None:
    """Realms and what they count, of a shard that stands at `position`; None when it stands elsewhere by now."""
    of = ledger.keys(shard)
    named = [of.position, of.realms, of.names, of.figures, of.reported]
    at, realms, names, figures, reported = await ledger.ask(LOOK_AT_REALMS, named)
    if at != b"%d" % position:
        return None
    return Stock(
        realms={name.decode(): int(number) for name, number in _pairs(realms)},
        names={name.decode(): int(number) for name, number in _pairs(names)},
        figures={int(number): packed for number, packed in _pairs(figures)},
        reported={int(number): int(bits) for number, bits in _pairs(reported)},
    )


async def complete(ledger: Asks, shard: Shard, position: int, held: Stock, told: Sequence[Told]) -> bool:
    """Read into a stock whatever folding these events needs; False when the shard stands elsewhere by now."""
    # Two steps: the tokens' last states say whom they were assigned to.
    return await _learn_tokens(ledger, shard, position, held, unknown_tokens(told, held)) and await _learn_holders(
        ledger, shard, position, held, unknown_holders(told, held)
    )


async def _learn_tokens(ledger: Asks, shard: Shard, position: int, held: Stock, serials: Sequence[str]) -> bool:
    if not serials:
        return True
    of = ledger.keys(shard)
    at, *found = await ledger.ask(
        LOOK_AT_FIELDS, [of.position, of.tokens], raw([serial.encode() for serial in serials])
    )
    if at != b"%d" % position:
        return False
    for serial, packed in zip(serials, found, strict=True):
        held.tokens[serial] = None if packed is None else unpack_token(packed)
    return True


async def _learn_holders(ledger: Asks, shard: Shard, position: int, held: Stock, holders: Sequence[bytes]) -> bool:
    if not holders:
        return True
    of = ledger.keys(shard)
    at, *found = await ledger.ask(LOOK_AT_FIELDS, [of.position, of.holders], raw(holders))
    if at != b"%d" % position:
        return False
    for holder, tokens in zip(holders, found, strict=True):
        held.holders[holder] = int(tokens or 0)
    return True


def raw(items: Sequence[bytes]) -> bytes:
    """A MessagePack array of strings of any bytes, which Redis's reader takes and writers of text do not make.

    One argument instead of thousands: packing each of them would be most of the worker's time.
    """
    short = _SHORT
    parts = [
        short[len(item)] + item if len(item) < 256 else b"\xdb" + len(item).to_bytes(4, "big") + item for item in items
    ]
    return b"\xdd" + len(items).to_bytes(4, "big") + b"".join(parts)


def additions(of: ShardKeys, named: list[str], blobs: list[bytes], changes: Changes) -> dict[str, Any]:
    """What the ledger's script is to store. Adds its keys to `named`, and to `blobs` what it is made of."""
    # Flat lists of numbers: a map for each would cost the script more than what it is to do.
    hashes: list[int] = []
    strings: list[int] = []
    rows: list[int] = []

    def key(name: str) -> int:
        named.append(name)
        return len(named)

    items: list[bytes] = []

    def give(more: Iterable[bytes]) -> tuple[int, int]:
        """The numbers, from 1, of the first and the last one; the last is before the first where there are none."""
        first = len(items) + 1
        items.extend(more)
        return first, len(items)

    def store(name: str, fields: dict[bytes, bytes], drop: Sequence[bytes] = ()) -> None:
        if fields or drop:
            hashes.extend((key(name), *give(chain.from_iterable(fields.items())), *give(drop)))

    def put(name: str, at: int, packed: bytes, *, seal: bool = False) -> None:
        strings.extend((key(name), at, give((packed,))[0], int(seal)))

    store(of.realms, _texts(changes.realms))
    store(of.names, _texts(changes.names))
    store(of.reported, {b"%d" % realm: b"%d" % bits for realm, bits in changes.reported.items()})
    store(of.figures, {b"%d" % realm: held for realm, held in changes.figures.items()})
    store(of.tokens, {serial.encode(): pack_token(token) for serial, token in changes.tokens.items()})
    kept = {holder: b"%d" % tokens for holder, tokens in changes.holders.items() if tokens}
    store(of.holders, kept, [holder for holder, tokens in changes.holders.items() if not tokens])
    for (realm, chunk), (at, packed) in changes.rows.items():
        put(of.rows(realm, chunk), at, bytes(packed), seal=at + len(packed) == FULL_CHUNK)
    for realm, places in changes.places.items():
        put(of.places(realm), min(places) * HEADER_BYTES, b"".join(map(pack_place, places.values())))
    for (realm, year), days in changes.days.items():
        put(of.days(realm, year), min(days) * DAY_BYTES, b"".join(days.values()))
    for where, more in changes.given.items():
        rows.extend((key(of.given(*where)), *give(part for row, at in more.items() for part in (b"%d" % at, row))))
    maxima = [
        {"key": key(of.given_days(*where)), "days": {str(day): count for day, count in more.items()}}
        for where, more in changes.given_days.items()
    ]
    blobs.append(raw(items))
    return {"hashes": hashes, "strings": strings, "rows": rows, "maxima": maxima}


def _texts(numbers: dict[str, int]) -> dict[bytes, bytes]:
    return {name.encode(): b"%d" % number for name, number in numbers.items()}


def _pairs(flat: list[bytes]) -> Iterable[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)
