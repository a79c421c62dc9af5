"""Keyed digests: the only form in which user and event ids reach Redis. Without the key no trial finds an id."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from schemas.user_ids import NORMALIZERS, Normalization

PARTS: Final = 16
ELEMENT_BYTES: Final = 8


class Digest:
    """Keyed BLAKE2b (RFC 7693) of ids from outside.

    Redis's HyperLogLog hash and seed are public: 16,384 ids chosen for them inflate an unkeyed count a hundredfold
    (Reviriego and Ting, 2020). The secret key makes such a choice impossible.
    """

    def __init__(self, secret: str, normalization: Normalization = "off") -> None:
        # A secret of any length becomes the 32 bytes of a BLAKE2b key. Copying a keyed state is cheaper than keying.
        key = hashlib.blake2b(secret.encode(), digest_size=32).digest()
        self._normalized = NORMALIZERS[normalization]
        self._users = hashlib.blake2b(key=key, digest_size=16, person=b"authtally-user")
        self._ids = hashlib.blake2b(key=key, digest_size=ELEMENT_BYTES, person=b"authtally-id")
        self._clients = hashlib.blake2b(key=key, digest_size=ELEMENT_BYTES, person=b"authtally-client")

    def event_id(self, text: str) -> bytes:
        """The digest of an event's id: 64 bits."""
        state = self._ids.copy()
        state.update(text.encode())
        return state.digest()

    def holder(self, user_id: str) -> bytes:
        """The digest of an OTP token's holder: 64 bits, so that a collision among a million is very unlikely."""
        state = self._users.copy()
        state.update(self._normalized(user_id).encode())
        return state.digest()[:ELEMENT_BYTES]

    def client(self, realm: str, client_id: str) -> str:
        """The digest of a client: its element in a sketch."""
        state = self._clients.copy()
        state.update(_length_prefixed(realm) + client_id.encode())
        return state.hexdigest()

    def users(self, users: Iterable[str], realm: str | None = None) -> list[list[str]]:
        """The users' digests by part 0…15: signed 64-bit integers in decimals; other bits of the hash select the part.

        Decimals, because Redis packs a set of integers into eight bytes each and adds them to a sketch unchanged.
        With `realm`, equal ids of two realms are two users.
        """
        keyed = self._users
        if realm is not None:
            keyed = keyed.copy()
            keyed.update(_length_prefixed(realm))
        parts: list[list[str]] = [[] for _ in range(PARTS)]
        # Ids that become equal here are added twice, which changes nothing.
        for user in users if self._normalized is NORMALIZERS["off"] else map(self._normalized, users):
            state = keyed.copy()
            state.update(user.encode())
            digest = state.digest()
            element = int.from_bytes(digest[:ELEMENT_BYTES], "little", signed=True)
            parts[digest[ELEMENT_BYTES] % PARTS].append(str(element))
        return parts


def _length_prefixed(text: str) -> bytes:
    """The text after its length, so that ("ab", "c") and ("a", "bc") differ."""
    encoded = text.encode()
    return len(encoded).to_bytes(2, "big") + encoded
