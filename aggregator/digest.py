"""User ids become keyed digests before they leave the process; nothing turns them back."""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

ELEMENT_BYTES: Final = 8


class Element(NamedTuple):
    """What stands for a user: `text`, a signed 64-bit integer in decimals, and `part`, 0…15, from other bits.

    Decimals, because Redis packs a set of integers to eight bytes each, and moves them to a sketch as they are.
    """

    text: str
    part: int


class UserDigest:
    """Keyed BLAKE2b (RFC 7693) of user ids.

    A key makes crafted ids useless: Redis's own HyperLogLog hash and seed are public, so 16,384 ids chosen for them
    inflate an unkeyed count a hundredfold (Reviriego and Ting, 2020).
    """

    def __init__(self, secret: str) -> None:
        # Any length of secret to the 32 bytes that the keyed state takes. Copying a keyed state is cheaper than keying.
        key = hashlib.blake2b(secret.encode(), digest_size=32).digest()
        self._keyed = hashlib.blake2b(key=key, digest_size=16, person=b"authtally-user")

    def element(self, user_id: str, realm: str | None = None) -> Element:
        """The element of a user; of a user in `realm` when given, so that equal names in two realms differ."""
        state = self._keyed.copy()
        if realm is not None:
            name = realm.encode()
            # The length first: ("ab", "c") and ("a", "bc") are two users.
            state.update(len(name).to_bytes(2, "big") + name)
        state.update(user_id.encode())
        digest = state.digest()
        return Element(str(int.from_bytes(digest[:ELEMENT_BYTES], "little", signed=True)), digest[ELEMENT_BYTES] & 15)
