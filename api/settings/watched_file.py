"""A settings file that is read again within a second of a change; if it is invalid, the last valid one stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from schemas.settings import PREFIX
from schemas.time.clock import Clock

log = structlog.get_logger(__name__)

CHECK_INTERVAL_S: Final = 1.0
"""Seconds between two checks of a file."""
MAX_BYTES: Final = 2**20


def read_bounded(path: Path) -> bytes:
    """The content of a file. Raises ValueError if it cannot be read or is too long."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise ValueError(f"{path} is longer than {MAX_BYTES} bytes")
    return content


class WatchedFile:
    """Passes a file's content to `on_content`, in the constructor and after each change.

    `on_content` raises ValueError for an invalid file: the constructor raises it, later reads log it.
    """

    def __init__(
        self,
        path: Path,
        setting: str,
        on_content: Callable[[bytes], None],
        clock: Clock,
        *,
        retries: bool = False,
    ) -> None:
        """With `retries` an invalid content is passed again at each check: it depends on other files."""
        self._retries = retries
        self._path = path
        self._setting = PREFIX + setting
        self._on_content = on_content
        self._clock = clock.monotonic
        self._checked_at = float("-inf")
        self._error = ""
        self._signature: tuple[int, ...] = ()
        self._read()

    def reload_if_changed(self) -> None:
        """Read the file if it has changed; checks at most once in CHECK_INTERVAL_S."""
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
                log.warning("file not usable, last valid content stays", setting=self._setting, error=self._error)

    def _read(self) -> bool:
        """Read the file if it has changed; whether it has. Raises ValueError."""
        try:
            found = self._path.stat()
        except OSError as error:
            raise ValueError(f"{self._path} cannot be read: {error.strerror}") from error
        signature = found.st_mtime_ns, found.st_size, found.st_ino
        if signature == self._signature:
            return False
        content = read_bounded(self._path)
        # Set after the read, so an unreadable file is tried again; set before `on_content`, so an invalid file is not
        # read again until it changes.
        self._signature = () if self._retries else signature
        self._on_content(content)
        self._signature = signature
        return True
