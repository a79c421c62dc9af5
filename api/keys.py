"""Redis keys that the api writes. The ledger's own are in schemas/keys.py, and the api only reads those.

| key | Redis type | lives | holds |
|---|---|---|---|
| temporary | HyperLogLog | TEMPORARY_MS, deleted at once in the usual case | one part of one question's union |
| answer | string | until its grace is over | a finished answer, in the database of CACHE_REDIS_URL |
"""

from __future__ import annotations

from typing import Final

TEMPORARY_MS: Final = 5_000
"""Longer than any question may take, short enough that a killed api leaves nothing for the operator to find."""


def temporary(prefix: str, question: str, name: str) -> str:
    """All of one question's carry its hash tag: one Cluster slot, so that PFCOUNT can read them together."""
    return f"{prefix}temporary:{{{question}}}:{name}"


def answer(prefix: str, digest: str) -> str:
    return f"{prefix}answer:{digest}"
