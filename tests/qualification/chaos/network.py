"""The proxy as a child process, and the connection to it."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from deploy.demo.servers.process import HOST, ServerProcess, accepts

CHECKOUT: Final = Path(__file__).parents[3]
CUTS: Final = ("request", "answer", "middle")


class Proxy(ServerProcess):
    """Passes everything on from each port of `lanes` to the port beside it."""

    name = "proxy"

    def __init__(self, folder: Path, lanes: Sequence[tuple[int, int]]) -> None:
        super().__init__(folder)
        self.lanes = lanes

    def command(self) -> Sequence[str | Path]:
        lanes = [f"{port}:{target}" for port, target in self.lanes]
        return (sys.executable, "-m", "tests.qualification.chaos.proxy", str(self.port), *lanes)

    def environment(self) -> dict[str, str]:
        return super().environment() | {"PYTHONPATH": str(CHECKOUT)}

    def answers(self) -> bool:
        return accepts(self.port)

    def move(self, port: int, target: int) -> None:
        """New connections to `port` go to another port; those that are open stay."""
        self._order(f"{port} to {target}")

    def cut(self, port: int, where: str, times: int = 1) -> int:
        """Cut that many of the next long requests through `port`; answers how many of the last order were left."""
        return self._order(f"{port} {where} {times}")

    def _order(self, line: str) -> int:
        with socket.create_connection((HOST, self.port), timeout=5) as control:
            control.sendall(f"{line}\n".encode())
            return int(control.makefile().readline())
