"""Clocks that can be set: processes that are started with one read the time that a file names, by libfaketime."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

FAKETIME: Final = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
WAITS: Final = Path(__file__).with_name("waits.c")
NOTICED_S: Final = 3.0
"""How long libfaketime takes at most to read a changed file."""


class FalseClock:
    """Distance from the true time, in whole seconds, of all processes that run with `environment`.

    Without libfaketime or a C compiler `environment` is empty, and the clock cannot be set.
    """

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / f"{name}.clock"
        self._file.write_text("+0")
        self.environment: dict[str, str] = {}
        compiler = shutil.which("cc")
        if compiler is None or not FAKETIME.exists():
            return
        waits = folder / f"{name}.waits.so"
        subprocess.run((compiler, "-shared", "-fPIC", "-nostdlib", "-o", str(waits), str(WAITS)), check=True)
        self.environment = {
            "LD_PRELOAD": f"{waits} {FAKETIME}",
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_CACHE_DURATION": "1",
        }

    @property
    def can_be_set(self) -> bool:
        return bool(self.environment)

    def set(self, offset_s: int) -> None:
        """Set it that far from the true time; processes read it within NOTICED_S."""
        other = self._file.with_suffix(".new")
        other.write_text(f"{offset_s:+d}")
        os.replace(other, self._file)
