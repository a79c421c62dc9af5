"""The real nginx and the real Caddy as processes; the tests write what they serve."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from deploy.demo.servers import ServerProcess
from deploy.demo.servers.process import accepts

TEMPORARY: Final = "".join(
    f"{name}_temp_path temporary;\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
)
"""Folders of nginx below its own, since the system's are root's."""


def program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        pytest.skip(f"no `{name}` on PATH")
    return found


class ProxyServer(ServerProcess):
    name: str

    def __init__(self) -> None:
        self._program = program(self.name)
        super().__init__()

    def configuration(self) -> str:
        """What it serves: the inner part of nginx's http block, or the sites of a Caddyfile."""
        raise NotImplementedError

    def answers(self) -> bool:
        return accepts(self.port)


class NginxServer(ProxyServer):
    name = "nginx"

    def prepare(self) -> None:
        (self.folder / "nginx.conf").write_text(
            f"""
            daemon off; master_process off; pid nginx.pid; error_log stderr;
            events {{}}
            http {{
                access_log off; {TEMPORARY}
                {self.configuration()}
            }}
            """
        )

    def command(self) -> Sequence[str | Path]:
        return (self._program, "-p", self.folder, "-c", "nginx.conf", "-e", "stderr")


class CaddyServer(ProxyServer):
    name = "caddy"
    options: str = ""
    """More global options."""

    def prepare(self) -> None:
        (self.folder / "Caddyfile").write_text(
            f"""
            {{
                admin off
                {self.options}
            }}
            {self.configuration()}
            """
        )

    def command(self) -> Sequence[str | Path]:
        return (self._program, "run", "--config", "Caddyfile", "--adapter", "caddyfile")
