"""User ids that differ only in case or in their Unicode form, as USER_ID_NORMALIZE makes them one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal
from unicodedata import normalize

Normalization = Literal["off", "nfc", "nfc-casefold"]


def _unchanged(user_id: str) -> str:
    return user_id


def _composed(user_id: str) -> str:
    # ASCII has one form only, and most ids are ASCII.
    return user_id if user_id.isascii() else normalize("NFC", user_id)


def _caseless(user_id: str) -> str:
    """Unicode's canonical caseless matching (The Unicode Standard, D145), composed again."""
    if user_id.isascii():
        return user_id.lower()
    return normalize("NFC", normalize("NFD", user_id).casefold())


NORMALIZERS: Final[dict[str, Callable[[str], str]]] = {"off": _unchanged, "nfc": _composed, "nfc-casefold": _caseless}
"""Pure functions by the setting's values; applying one twice changes nothing more."""
