"""A file of settings that may change while the service runs: read again within a second, the last good one holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from schemas.settings import PREFIX
from schemas.time.clock import Clock

log = structlog.get_logger(__name__)

CHECK_INTERVAL_S: Final = 1.0
"""How old the last look at a file may be."""
MAX_BYTES: Final = 2**20


def read_bounded(path: Path) -> bytes:
    """Raises ValueError with a sentence that tells why it cannot be had."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise ValueError(f"{path} is longer than {MAX_BYTES} bytes")
    return content


class WatchedFile:
    """Hands a file's content to `on_content`, at once and after each change.

    `on_content` raises ValueError for what is wrong with it: at once that is the caller's, later it is logged.
    """

    def __init__(self, path: Path, setting: str, on_content: Callable[[bytes], None], clock: Clock) -> None:
        self._path = path
        self._setting = PREFIX + setting
        self._on_content = on_content
        self._clock = clock.monotonic
        self._checked_at = float("-inf")
        self._error = ""
        self._signature: tuple[int, ...] = ()
        self._read()

    def reload_if_changed(self) -> None:
        """Whether it has changed, at most once in LOOKED_S."""
        now = self._clock()
        if now - self._checked_at < CHECK_INTERVAL_S:
            return
        self._checked_at = now
        try:
            if self._read():
                self._error = ""
                log.info("file read again", setting=self._setting, path=str(self._path))
        except ValueError as error:
            if str(error) != self._error:
                self._error = str(error)
                log.warning("file left as it was read before", setting=self._setting, error=self._error)

    def _read(self) -> bool:
        """Whether there was something new. Raises ValueError."""
        try:
            found = self._path.stat()
        except OSError as error:
            raise ValueError(f"{self._path} cannot be read: {error.strerror}") from error
        signature = found.st_mtime_ns, found.st_size, found.st_ino
        if signature == self._signature:
            return False
        content = read_bounded(self._path)
        # After the reading: a file that could not be read is tried again. Before its judgement: a wrong one is not,
        # until it changes.
        self._signature = signature
        self._on_content(content)
        return True
