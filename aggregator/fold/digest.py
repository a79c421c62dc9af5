"""User ids become keyed digests before they leave the process; nothing turns them back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

PARTS: Final = 16
ELEMENT_BYTES: Final = 8


class Digest:
    """Keyed BLAKE2b (RFC 7693) of what comes from outside.

    A key makes crafted ids useless: Redis's own HyperLogLog hash and seed are public, so 16,384 ids chosen for them
    inflate an unkeyed count a hundredfold (Reviriego and Ting, 2020).
    """

    def __init__(self, secret: str) -> None:
        # Any length of secret to the 32 bytes that the keyed state takes. Copying a keyed state is cheaper than keying.
        key = hashlib.blake2b(secret.encode(), digest_size=32).digest()
        self._users = hashlib.blake2b(key=key, digest_size=16, person=b"authtally-user")
        self._ids = hashlib.blake2b(key=key, digest_size=ELEMENT_BYTES, person=b"authtally-id")
        self._clients = hashlib.blake2b(key=key, digest_size=ELEMENT_BYTES, person=b"authtally-client")

    def event_id(self, text: str) -> bytes:
        """What stands for an event's id: 64 bits."""
        state = self._ids.copy()
        state.update(text.encode())
        return state.digest()

    def holder(self, user_id: str) -> bytes:
        """What stands for whom an OTP token is assigned to: 64 bits, so that a million differ in all likelihood."""
        state = self._users.copy()
        state.update(user_id.encode())
        return state.digest()[:ELEMENT_BYTES]

    def client(self, realm: str, client_id: str) -> str:
        """What stands for a client in a sketch."""
        state = self._clients.copy()
        state.update(_length_prefixed(realm) + client_id.encode())
        return state.hexdigest()

    def users(self, users: Iterable[str], realm: str | None = None) -> list[list[str]]:
        """What stands for each user, by part 0…15: a signed 64-bit integer in decimals; the part is of other bits.

        Decimals, because Redis packs a set of integers to eight bytes each and moves them to a sketch as they are.
        With `realm`, equal ids of two realms are two users.
        """
        keyed = self._users
        if realm is not None:
            keyed = keyed.copy()
            keyed.update(_length_prefixed(realm))
        parts: list[list[str]] = [[] for _ in range(PARTS)]
        for user in users:
            state = keyed.copy()
            state.update(user.encode())
            digest = state.digest()
            element = int.from_bytes(digest[:ELEMENT_BYTES], "little", signed=True)
            parts[digest[ELEMENT_BYTES] % PARTS].append(str(element))
        return parts


def _length_prefixed(text: str) -> bytes:
    """The length first: ("ab", "c") and ("a", "bc") are two."""
    encoded = text.encode()
    return len(encoded).to_bytes(2, "big") + encoded
