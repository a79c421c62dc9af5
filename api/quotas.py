"""How many machine-to-machine tokens a month may see: a file, read again when it has changed."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import msgspec
import structlog

log = structlog.get_logger(__name__)

LOOKED_S: Final = 1.0
"""How old the last look at the file may be."""
MAX_BYTES: Final = 2**20

Limit = Annotated[int, msgspec.Meta(ge=1, le=10**15)]
Name = Annotated[str, msgspec.Meta(max_length=256)]


class ClientQuota(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Tokens a month of one client."""

    client_id: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    limit: Limit
    realm: Name = ""
    """"" is the realm of clients without one."""


class Quotas(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`tenant` is of the whole deployment; None is no limit."""

    tenant: Limit | None = None
    clients: tuple[ClientQuota, ...] = ()

    @property
    def by_client(self) -> dict[tuple[str, str], int]:
        return {(quota.realm, quota.client_id): quota.limit for quota in self.clients}


NONE: Final = Quotas()


def read(path: Path) -> Quotas:
    """Raises ValueError with a sentence that tells what is wrong with the file, and where in it."""
    return _decoded(path, _bytes(path))


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise ValueError(f"{path} is longer than {MAX_BYTES} bytes")
    return content


def _decoded(path: Path, content: bytes) -> Quotas:
    try:
        quotas = msgspec.json.decode(content, type=Quotas)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no object of tenant and clients: {error}") from error
    seen: set[tuple[str, str]] = set()
    for number, quota in enumerate(quotas.clients):
        if (quota.realm, quota.client_id) in seen:
            raise ValueError(f"{path}: clients[{number}] limits a client that is limited before: {quota.client_id}")
        seen.add((quota.realm, quota.client_id))
    return quotas


class QuotasFile:
    """The quotas of a file. A change counts within a second; one that is wrong is logged, and the last good one holds.

    Without a path there are no quotas.
    """

    def __init__(self, path: Path | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._quotas = NONE
        self._stamp: tuple[int, int, int] | None = None
        self._looked = float("-inf")
        self._trouble = ""
        self.version = ""
        """Names what the quotas say: equal in processes whose files are."""
        if path is not None:
            self._stamp = _stamp(path)
            self._take(_bytes(path))

    def current(self) -> Quotas:
        now = self._clock()
        if self._path is not None and not 0 <= now - self._looked < LOOKED_S:
            self._looked = now
            try:
                stamp = _stamp(self._path)
                if stamp != self._stamp:
                    self._stamp = stamp
                    self._take(_bytes(self._path))
                    log.info("quotas read again", path=str(self._path))
                self._trouble = ""
            except (ValueError, OSError) as error:
                if str(error) != self._trouble:
                    self._trouble = str(error)
                    log.warning("quotas left as they were", setting="AUTHTALLY_QUOTAS_FILE", error=self._trouble)
        return self._quotas

    def _take(self, content: bytes) -> None:
        assert self._path is not None
        self._quotas = _decoded(self._path, content)
        self.version = hashlib.blake2b(content, digest_size=8).hexdigest()


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino
