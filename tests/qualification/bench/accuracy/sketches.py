"""Other sketches' arithmetic, and ours, as formulas over registers: for the arms that have no server to ask.

Redis and Valkey (hyperloglog.c): 16,384 registers of MurmurHash64A, estimated after Ertl, "New cardinality estimation
algorithms for HyperLogLog sketches", 2017 (arXiv:1702.01284). java-hll (HLL.java, HLLUtil.java): a set of values to
`EXPLICIT_UP_TO`, then HyperLogLog as Flajolet et al. 2007 published it, linear counting below 2.5 m.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]
U8 = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

MULTIPLIER: Final = 0xC6A4A7935BD1E995
"""Of MurmurHash64A."""
SHIFT: Final = np.uint64(47)

REDIS_SEED: Final = 0xADC83B19
REDIS_LOG2M: Final = 14
REDIS_M: Final = 1 << REDIS_LOG2M
REDIS_HIGHEST: Final = 64 - REDIS_LOG2M + 1
ALPHA_INF: Final = 0.721347520444481703680

JAVA_LOG2M: Final = 15
JAVA_M: Final = 1 << JAVA_LOG2M
JAVA_HIGHEST: Final = 31
"""Five bits a register."""
JAVA_BYTES: Final = 3 + JAVA_M * 5 // 8
"""Serialised, as the documents show it: 20,483."""
EXPLICIT_UP_TO: Final = JAVA_M * 5 // 8 // 8
"""Values kept one by one, in `auto` mode: as many longs as the registers would take."""
JAVA_ALPHA: Final = 0.7213 / (1 + 1.079 / JAVA_M)
LINEAR_BELOW: Final = 2.5 * JAVA_M


def rows(texts: Sequence[str]) -> U8:
    """ASCII texts of one length as a matrix of bytes."""
    return np.frombuffer("".join(texts).encode("ascii"), np.uint8).reshape(len(texts), -1)


def murmur64a(texts: U8, seed: int) -> U64:
    """MurmurHash64A of each row."""
    count, length = texts.shape
    multiplier = np.uint64(MULTIPLIER)
    whole = length // 8
    blocks = np.ascontiguousarray(texts[:, : whole * 8]).view("<u8").astype(np.uint64, copy=False)
    hashes = np.full(count, seed ^ (length * MULTIPLIER & (1 << 64) - 1), np.uint64)
    for place in range(whole):
        block = blocks[:, place] * multiplier
        block ^= block >> SHIFT
        hashes = (hashes ^ block * multiplier) * multiplier
    if length % 8:
        rest = np.zeros((count, 8), np.uint8)
        rest[:, : length % 8] = texts[:, whole * 8 :]
        hashes = (hashes ^ rest.view("<u8")[:, 0]) * multiplier
    hashes ^= hashes >> SHIFT
    hashes *= multiplier
    hashes ^= hashes >> SHIFT
    return hashes


def before_last_block(last: U64, hashes: U64) -> U64:
    """The last eight bytes that make MurmurHash64A end in `hashes`, when its state before them is `last`.

    Every step of that hash can be undone, which is what makes it fit for nothing that an enemy can reach.
    """
    inverse = np.uint64(pow(MULTIPLIER, -1, 1 << 64))
    # x ^= x >> 47 undoes itself, since 2 * 47 > 64.
    found = hashes ^ hashes >> SHIFT
    found = found * inverse
    found ^= found >> SHIFT
    found = found * inverse ^ last
    found = found * inverse
    found ^= found >> SHIFT
    return found * inverse


def ranks(hashes: U64, log2m: int, highest: int) -> U8:
    """One more than the zeros below the lowest one of each hash, without the bits that name the register."""
    rest = hashes >> np.uint64(log2m) | np.uint64(1 << highest - 1)
    lowest = rest & (~rest + np.uint64(1))
    found: U8 = np.bitwise_count(lowest - np.uint64(1)) + np.uint8(1)
    return found


def raise_registers(registers: U8, hashes: U64, highest: int) -> None:
    """Add hashes to 2^b registers in place."""
    log2m = registers.size.bit_length() - 1
    places = (hashes & np.uint64(registers.size - 1)).astype(np.intp)
    np.maximum.at(registers, places, ranks(hashes, log2m, highest))


def redis_registers(value: bytes) -> U8:
    """The registers of a dense HyperLogLog as GET gives it: 16 bytes of header, then six bits a register."""
    bits = np.unpackbits(np.frombuffer(value, np.uint8, offset=16), bitorder="little")
    return np.packbits(bits[: REDIS_M * 6].reshape(REDIS_M, 6), axis=1, bitorder="little")[:, 0]


def redis_estimate(registers: U8) -> int:
    """What PFCOUNT answers."""
    histogram = np.bincount(registers, minlength=REDIS_HIGHEST + 1).tolist()
    total = REDIS_M * _tau((REDIS_M - histogram[REDIS_HIGHEST]) / REDIS_M)
    for count in histogram[REDIS_HIGHEST - 1 : 0 : -1]:
        total = (total + count) / 2
    total += REDIS_M * _sigma(histogram[0] / REDIS_M)
    return math.floor(ALPHA_INF * REDIS_M * REDIS_M / total + 0.5)


def _sigma(x: float) -> float:
    if x == 1:
        return math.inf
    power, total, before = 1.0, x, -1.0
    while total != before:
        x *= x
        before = total
        total += x * power
        power += power
    return total


def _tau(x: float) -> float:
    if x in (0, 1):
        return 0.0
    power, total, before = 1.0, 1 - x, -1.0
    while total != before:
        x = math.sqrt(x)
        before = total
        power /= 2
        total -= (1 - x) ** 2 * power
    return total / 3


def java_estimate(registers: U8, values: int) -> int:
    """What java-hll's `cardinality` answers after `values` distinct ones."""
    if values <= EXPLICIT_UP_TO:
        return values
    histogram = np.bincount(registers)
    raw = JAVA_ALPHA * JAVA_M**2 / float(np.ldexp(histogram.astype(float), -np.arange(histogram.size)).sum())
    zeros = int(histogram[0])
    # The correction for large ranges begins at 2^45 / 30.
    return math.ceil(JAVA_M * math.log(JAVA_M / zeros) if zeros and raw < LINEAR_BELOW else raw)


def draw_registers(chance: np.random.Generator, values: int, cells: int, highest: int) -> U8:
    """Registers after `values` distinct values, from their exact distribution.

    How many values meet in each register is multinomial. Independent Poisson counts are that, given their total; a
    mean a little low leaves some to throw one by one. The maximum of c geometric ranks has P(M ≤ r) = (1 - 2^-r)^c.
    """
    if values < 8 * cells:
        counts = np.bincount(chance.integers(0, cells, values), minlength=cells)
    else:
        thrown = values + 1
        while thrown > values:
            counts = chance.poisson((values - 6 * math.sqrt(values)) / cells, cells)
            thrown = int(counts.sum())
        counts += np.bincount(chance.integers(0, cells, values - thrown), minlength=cells)
    with np.errstate(divide="ignore"):
        # 1 - u^(1/c) of a uniform u; a register that nothing met gets 1, whose exponent makes rank 0.
        tails = -np.expm1(-chance.standard_exponential(cells) / counts)
    registers: U8 = np.minimum(1 - np.frexp(tails)[1], highest).astype(np.uint8)
    return registers
