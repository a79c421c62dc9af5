"""Number of sketches over which users are spread, and the standard error of estimates.

Redis's HyperLogLog has m = 16,384 registers and a standard error of 1.04/√m = 0.81 % (Flajolet et al. 2007; Redis
documentation of PFCOUNT). Users are split by hash over k sketches, which divides the error of the sum by √k.
"""

from __future__ import annotations

import math
from typing import Final

from schemas.ledger.scopes import EVERYTHING, Scope

K_MONTHS: Final = 16
"""Sketches of a month of the whole deployment, the figure used for billing. 0.20 %, 197 KB dense."""
K_OTHERS: Final = 4
"""Sketches of a day, and of a month of one realm, client or node: 0.41 %, 49 KB dense."""

REGISTERS: Final = 16_384
"""Of one HyperLogLog of Redis."""
SKETCH_ERROR: Final = 1.04 / math.sqrt(REGISTERS)


def sketches(period: str, scope: Scope) -> int:
    """k of a period (`2026-11` or `2026-11-20`) and scope. Divides 16: a small set's part modulo k is its sketch."""
    return K_MONTHS if scope == EVERYTHING and len(period) == 7 else K_OTHERS


def standard_error(period: str, scope: Scope) -> float:
    """Relative standard error of one period's estimate, 0.002 for 0.2 %."""
    return SKETCH_ERROR / math.sqrt(sketches(period, scope))
