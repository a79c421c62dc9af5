"""Tokens that prove that a shard's period is unchanged: equal tokens mean equal users and counters.

A token is random and stands for one call of one script. A counter would not do: a store that loses its last writes goes
back, and the same number then stands for other content.
"""

from __future__ import annotations

import secrets
from typing import Final

EPOCH: Final = "epoch"
"""In changes: the token of the last change that is not a range. A period without a token has not changed since."""


def new_token() -> str:
    """64 random bits as text."""
    return secrets.token_hex(8)
