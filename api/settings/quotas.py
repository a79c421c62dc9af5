"""Monthly quotas of machine-to-machine tokens: a file that is read again after a change."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import msgspec

from api.settings.watched_file import WatchedFile, read_bounded
from schemas.decoding_errors import describe
from schemas.time.clock import SYSTEM, Clock

Limit = Annotated[int, msgspec.Meta(ge=1, le=10**15)]
Name = Annotated[str, msgspec.Meta(max_length=256)]


EXAMPLE: Final = '{"tenant": 5000, "clients": [{"realm": "customers", "client_id": "web", "limit": 1000}]}'


class ClientQuota(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Tokens per month of one client."""

    client_id: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    limit: Limit
    realm: Name = ""
    """Empty for clients without a realm."""


class Quotas(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`tenant` is the limit of the whole deployment; None means no limit."""

    tenant: Limit | None = None
    clients: tuple[ClientQuota, ...] = ()

    @property
    def by_client(self) -> dict[tuple[str, str], int]:
        return {(quota.realm, quota.client_id): quota.limit for quota in self.clients}


NO_QUOTAS: Final = Quotas()


def read(path: Path) -> Quotas:
    """The quotas of a file. Raises ValueError with the error and its place in the file."""
    return _decode(path, read_bounded(path))


def _decode(path: Path, content: bytes) -> Quotas:
    try:
        quotas = msgspec.json.decode(content, type=Quotas)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        fault = describe(error, content) if isinstance(error, msgspec.ValidationError) else str(error)
        raise ValueError(f"{path} is not an object with tenant and clients: {fault}; example: {EXAMPLE}") from error
    seen: set[tuple[str, str]] = set()
    for number, quota in enumerate(quotas.clients):
        if (quota.realm, quota.client_id) in seen:
            raise ValueError(f"{path}: clients[{number}] repeats a client: {quota.client_id}")
        seen.add((quota.realm, quota.client_id))
    return quotas


class QuotasFile:
    """The quotas of a file, reloaded within a second of a change. An invalid file is logged; the last valid one stays.

    Without a path there are no quotas.
    """

    def __init__(self, path: Path | None, clock: Clock = SYSTEM) -> None:
        self._quotas = NO_QUOTAS
        self.version = ""
        """Digest of the file; equal in processes with equal files."""
        self._file = None if path is None else WatchedFile(path, "QUOTAS_FILE", partial(self._load, path), clock)

    def current(self) -> Quotas:
        if self._file is not None:
            self._file.reload_if_changed()
        return self._quotas

    def _load(self, path: Path, content: bytes) -> None:
        self._quotas = _decode(path, content)
        self.version = hashlib.blake2b(content, digest_size=8).hexdigest()
