"""Where merged periods are kept: in this process, and in the Redis of CACHE_REDIS_URL. Losing them costs time only."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec

from api.ledger.client import UNREACHABLE, Client
from api.ledger.packed_values import PackedValues
from api.metrics import MERGED_BYTES, MERGED_PERIODS, REDIS_ERRORS
from schemas.ledger import accuracy
from schemas.ledger.keys import answer
from schemas.time.clock import Clock

LAYOUT: Final = 1
TTL_S: Final = 86_400.0
DIGEST_BYTES: Final = 16
HEADER_BYTES: Final = 16
DENSE_BYTES: Final = HEADER_BYTES + accuracy.REGISTERS * 6 // 8


class MergedUsers(msgspec.Struct, frozen=True, array_like=True):
    """Distinct users of one period and scope in all shards."""

    count: int
    """Exact, or the estimate that PFCOUNT returns."""
    members: list[list[bytes]]
    """By part; empty if they are in `sketches`."""
    sketches: list[bytes]
    """By part; empty while the count is exact."""

    @property
    def parts(self) -> int:
        return len(self.sketches or self.members)

    @property
    def error(self) -> float:
        return accuracy.SKETCH_ERROR / self.parts**0.5 if self.sketches else 0.0

    @property
    def is_valid(self) -> bool:
        """Whether Redis may read the sketches. A malformed one could make it read or write beyond the string."""
        return all(map(is_sketch, self.sketches)) and all(
            member.removeprefix(b"-").isdigit() for part in self.members for member in part
        )


class MergedCounts(msgspec.Struct, frozen=True, array_like=True):
    """Counters by their field in Redis, summed over the shards."""

    counts: dict[str, int]

    @property
    def is_valid(self) -> bool:
        return True


Merged = MergedUsers | MergedCounts
M = TypeVar("M", MergedUsers, MergedCounts)

_encode: Final = msgspec.msgpack.Encoder().encode


class _Kept(msgspec.Struct, array_like=True):
    vector: bytes
    ends_at: float
    """Unix seconds."""
    packed: bytes


class MergedStore:
    """Merged periods by name, each with the digest of its vector: at most `max_bytes` here, evicting the oldest use.

    The shared store gets at most `max_bytes` from this process within TTL_S, because its questions choose what is kept.
    """

    def __init__(
        self, max_bytes: int, clock: Clock, shared: Client | None = None, prefix: str = "", release: str = ""
    ) -> None:
        """`release` is the version of the program: other releases may merge differently."""
        self._max_bytes = max_bytes
        self._clock = clock
        self._shared = shared
        self._prefix = prefix
        self._version = f"merged {LAYOUT} {release}"
        self._kept: PackedValues[str, _Kept] = PackedValues(max_bytes)
        self._sent_since, self._sent = clock.now(), 0

    async def users(self, wanted: Mapping[str, bytes]) -> dict[str, MergedUsers]:
        return await self._get(wanted, MergedUsers)

    async def counts(self, wanted: Mapping[str, bytes]) -> dict[str, MergedCounts]:
        return await self._get(wanted, MergedCounts)

    async def _get(self, wanted: Mapping[str, bytes], kind: type[M]) -> dict[str, M]:
        """What is kept under these names with these vectors."""
        found: dict[str, M] = {}
        missing = []
        for name, vector in wanted.items():
            kept = self._kept.get(name)
            if kept is None or kept.vector != vector or kept.ends_at <= self._clock.now():
                missing.append(name)
                continue
            self._kept.use(name)
            found[name] = msgspec.msgpack.decode(kept.packed, type=kind)
        for name, kept in (await self._read_shared(missing)).items():
            if kept.vector == wanted[name] and kept.ends_at > self._clock.now():
                try:
                    value = msgspec.msgpack.decode(kept.packed, type=kind)
                except msgspec.MsgspecError:
                    continue
                if value.is_valid:
                    found[name] = value
                    self._keep(name, kept)
        MERGED_PERIODS.labels("hit").inc(len(found))
        MERGED_PERIODS.labels("miss").inc(len(wanted) - len(found))
        return found

    async def put(self, name: str, vector: bytes, value: Merged) -> None:
        kept = _Kept(vector, self._clock.now() + TTL_S, _encode(value))
        self._keep(name, kept)
        if self._shared is None or not self._may_send(len(kept.packed)):
            return
        key = self._key(name)
        packed = _encode(kept)
        try:
            until_ms = int(kept.ends_at * 1000)
            await self._shared.run([("SET", key, _checksum(key, packed) + packed, "PXAT", until_ms)])
        except UNREACHABLE:
            REDIS_ERRORS.labels("cache").inc()

    async def _read_shared(self, names: list[str]) -> dict[str, _Kept]:
        if self._shared is None or not names:
            return {}
        asked = [self._key(name) for name in names]
        try:
            values = await self._shared.run([("GET", key) for key in asked])
        except UNREACHABLE:
            REDIS_ERRORS.labels("cache").inc()
            return {}
        found = {}
        for name, key, value in zip(names, asked, values, strict=True):
            if value is not None and value[:DIGEST_BYTES] == _checksum(key, value[DIGEST_BYTES:]):
                try:
                    found[name] = msgspec.msgpack.decode(value[DIGEST_BYTES:], type=_Kept)
                except msgspec.MsgspecError:
                    REDIS_ERRORS.labels("cache").inc()
        return found

    @property
    def bytes(self) -> int:
        return self._kept.bytes

    def _keep(self, name: str, kept: _Kept) -> None:
        self._kept.put(name, kept)
        MERGED_BYTES.set(self.bytes)

    def _may_send(self, more: int) -> bool:
        now = self._clock.now()
        if not 0 <= now - self._sent_since < TTL_S:
            self._sent_since, self._sent = now, 0
        self._sent += more
        return self._sent <= self._max_bytes

    def _key(self, name: str) -> str:
        return answer(self._prefix, hashlib.blake2b(f"{self._version} {name}".encode(), digest_size=16).hexdigest())


def is_sketch(text: bytes) -> bool:
    """Whether a string is a well-formed HyperLogLog of Redis, dense or sparse (format: comment in hyperloglog.c)."""
    if text[:4] != b"HYLL" or len(text) < HEADER_BYTES:
        return False
    if text[4] == 0:
        return len(text) == DENSE_BYTES
    return text[4] == 1 and _sparse_registers(text[HEADER_BYTES:]) == accuracy.REGISTERS


def _sparse_registers(opcodes: bytes) -> int:
    """The number of registers that the opcodes describe; -1 if the last one is cut off."""
    registers, at = 0, 0
    while at < len(opcodes):
        opcode = opcodes[at]
        if opcode & 0x80:  # VAL 1vvvvvxx: a run of 1 to 4 registers
            registers += (opcode & 0x03) + 1
        elif opcode & 0x40:  # XZERO 01xxxxxx yyyyyyyy
            if at + 1 == len(opcodes):
                return -1
            registers += ((opcode & 0x3F) << 8 | opcodes[at + 1]) + 1
            at += 1
        else:  # ZERO 00xxxxxx
            registers += opcode + 1
        at += 1
    return registers


def _checksum(key: str, value: bytes) -> bytes:
    """Detects damage; it is no proof of origin."""
    return hashlib.blake2b(value, digest_size=DIGEST_BYTES, key=key.encode()[-64:]).digest()
