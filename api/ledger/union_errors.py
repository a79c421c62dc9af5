"""Errors of sums and differences of union estimates, such as the users of two periods less those of one of them.

Estimates of overlapping sets err together, because the users that they share fill the same registers. The covariance of
two estimates follows from three numbers: both sizes and that of the overlap. Hence every sum has its own error.

Derivation. A register of a set with x users per register is at most r with probability F(r) = exp(-x / 2^r) (Flajolet
et al. 2007; the number of users of a register is taken as Poisson). With an overlap of z users per register two sets
have F(r, s) = F(r) F(s) exp(z / 2^max(r, s)). Redis computes the estimate as c / Z. Z is a sum over the registers: a
register r > 0 adds 2^-r, and the empty ones add sigma(share of empty registers) (Ertl 2017, "New cardinality estimation
algorithms for HyperLogLog sketches", algorithm 6; `hllCount` in hyperloglog.c). To first order the error of an estimate
is therefore a sum over the registers of h(r), with h(0) = sigma'(share) and h(r) = 2^-r. The covariance of two sums is
that of one register, by Abel's summation over r, times the registers. The overlap is subtracted, because the number of
users is not random.
`python -m tests.qualification.bench.accuracy.lifecycle` compares it with simulated sketches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Final, NamedTuple

from schemas.ledger.accuracy import REGISTERS

ALPHA: Final = 0.5 / math.log(2)
"""The estimate is ALPHA registers² / Z."""
HIGHEST: Final = 51
"""The highest register value: 64 bits of hash less 14, plus one."""
NEGLIGIBLE: Final = 300.0
"""exp(-NEGLIGIBLE) is nothing beside any other number here."""

_POWERS: Final = [2.0**-rank for rank in range(HIGHEST + 1)]


def covariance(parts: int, size: float, other: float, overlap: float) -> float:
    """Covariance of the estimates of two sets that are spread over `parts` sketches, in users²."""
    registers = REGISTERS * parts
    if overlap <= 0:
        return 0.0
    x, y, z = size / registers, other / registers, overlap / registers
    left, right = _profile(x), _profile(y)
    total = before = 0.0
    for rank in range(max(0, math.floor(math.log2(z / NEGLIGIBLE))), HIGHEST):
        product = left[rank] * right[rank]
        exponent = z * _POWERS[rank]
        if exponent < NEGLIGIBLE:
            total += math.expm1(exponent) * (product - before)
        before = product
    return max(0.0, x * y / ALPHA**2 * total * (size * other) / registers - overlap)


def variance(
    parts: int,
    coefficients: Sequence[float],
    sizes: Sequence[float],
    overlaps: Sequence[float],
    rounded: Sequence[float],
) -> float:
    """Variance of the sum of `coefficients` times estimates, in users².

    `overlaps` has the overlap of each pair, in the order (0, 1), (0, 2), … (1, 2), …. The store rounds the estimate of
    each part to a whole number. `rounded` has by set the number of parts in which its rounding differs from that of the
    set from which it is subtracted: no more than the users by whom they differ.
    """
    total = shift = 0.0
    pairs = iter(overlaps)
    for number, (factor, size, differing) in enumerate(zip(coefficients, sizes, rounded, strict=True)):
        rounding = _rounding(size / parts)
        shift += factor * parts * rounding.shift
        total += factor * factor * (covariance(parts, size, size, size) + rounding.variance * min(parts, differing))
        for later in range(number + 1, len(sizes)):
            total += 2 * factor * coefficients[later] * covariance(parts, size, sizes[later], next(pairs))
    return max(0.0, total) + shift * shift


class _Rounding(NamedTuple):
    shift: float
    """The mean change."""
    variance: float


def _rounding(users: float) -> _Rounding:
    """The change of the estimate of one part, with so many users, by rounding to a whole number.

    While users are few, the estimate is a whole number, of registers in use, plus users² / (2 registers) for those that
    share one. This fraction is the same in all parts; it becomes random as the parts differ in their users.
    """
    shared = users * users / (2 * REGISTERS)
    spread = users**1.5 / REGISTERS
    same = math.exp(-2 * (math.pi * spread) ** 2) if spread < 1 else 0.0
    return _Rounding((round(shared) - shared) * same, (1 - same) / 12)


@lru_cache(maxsize=4096)
def _profile(x: float) -> tuple[float, ...]:
    """By rank r: the sum of (h(s) - h(s + 1)) F(s) over s up to r, for x users per register."""
    values = [_sigma_slope(math.exp(-x)), *_POWERS[1:]]
    return tuple(
        accumulate(
            (values[rank] - values[rank + 1]) * math.exp(-min(x * _POWERS[rank], 2 * NEGLIGIBLE))
            for rank in range(HIGHEST)
        )
    )


def _sigma_slope(share: float) -> float:
    """The derivative of sigma(x) = x + the sum of 2^(i-1) x^(2^i) over i = 1, 2, …."""
    slope, power, factor = 1.0, share, 1.0
    while True:
        # `power` is share^(2^i - 1), and the factor 2^i 2^(i-1).
        factor *= 2
        term = factor * factor / 2 * power
        slope += term
        if term < 1e-12 * slope:
            return slope
        power *= power * share
